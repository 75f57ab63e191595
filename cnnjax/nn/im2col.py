"""Convolution as shifted slices and one matrix product; its gradient is plain autodiff's."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import jax.numpy as jnp
from jax import Array, lax

Pairs = tuple[tuple[int, int], tuple[int, int]]

# The split form wins unless it moves more than the joint one: its pieces are larger (measured: a
# step of the MNIST convnet, whose second layer moves as much in both, takes 9 % less).
_SPLIT_BELOW = 1.1


def im2col_conv(
    x: Array, kernel: Array, strides: tuple[int, int], pads: Pairs, dilation: tuple[int, int]
) -> Array:
    """Convolution by im2col (Chellapilla et al. 2006), in the form that moves less memory.

    Jointly, the product's left side holds all kh * kw slices of the input. Split, it holds the kw
    slices along the width, the product has kh * F columns, and their slices along the height are
    summed up: for large kernels and many channels a fraction of the memory.

    Args:
        x: [N, H, W, C].
        kernel: [kh, kw, C, F].
        strides, dilation: (rows, columns).
        pads: ((top, bottom), (left, right)).

    Returns:
        [N, H', W', F].
    """
    kh, kw, channels, filters = kernel.shape
    height = x.shape[1]
    if not isinstance(height, int):  # exported for any size
        return _joint(x, kernel, strides, pads, dilation)
    out_height = height + sum(pads[0]) - dilation[0] * (kh - 1)
    split = height * (kw * channels + kh * filters)
    joint = out_height * (kh * kw * channels + filters)
    if strides == (1, 1) and split < _SPLIT_BELOW * joint:
        return _split(x, kernel, pads, dilation)
    return _joint(x, kernel, strides, pads, dilation)


def _joint(x: Array, kernel: Array, strides: tuple, pads: Pairs, dilation: tuple) -> Array:
    kh, kw, channels, filters = kernel.shape
    patches = shifted_slices(x, (kh, kw), strides, pads, dilation)
    columns = patches[0] if len(patches) == 1 else jnp.concatenate(patches, axis=-1)
    # A plain matrix product: XLA's CPU matmul is some 10 % faster on two axes than on four.
    product = columns.reshape(-1, kh * kw * channels) @ kernel.reshape(-1, filters)
    return product.reshape(*columns.shape[:3], filters)


def _split(x: Array, kernel: Array, pads: Pairs, dilation: tuple) -> Array:
    kh, kw, channels, filters = kernel.shape
    (top, bottom), across = pads
    slices = shifted_slices(x, (1, kw), (1, 1), ((0, 0), across), dilation)
    columns = jnp.concatenate(slices, axis=-1)
    matrix = kernel.transpose(1, 2, 0, 3).reshape(kw * channels, kh * filters)
    product = columns.reshape(-1, kw * channels) @ matrix
    product = product.reshape(*columns.shape[:3], kh * filters)
    parts = []
    for a in range(kh):
        above, below = top - a * dilation[0], bottom - (kh - 1 - a) * dilation[0]
        part = product[..., a * filters : (a + 1) * filters]
        # Rows of padding are zero in the product too; negative padding cuts rows off.
        parts.append(
            lax.pad(
                part,
                jnp.zeros((), x.dtype),
                ((0, 0, 0), (above, below, 0), (0, 0, 0), (0, 0, 0)),
            )
        )
    return functools.reduce(jnp.add, parts)


def shifted_slices(
    x: Array,
    kernel_size: Sequence[int],
    strides: Sequence[int],
    pads: Pairs,
    dilation: Sequence[int],
) -> list[Array]:
    """The kh * kw shifted, strided views of x, each [N, H', W', C], row by row of the kernel."""
    if any(map(any, pads)):
        x = lax.pad(
            x, jnp.zeros((), x.dtype), ((0, 0, 0), *((a, b, 0) for a, b in pads), (0, 0, 0))
        )
    n, height, width, channels = x.shape
    (kh, kw), (sh, sw), (dh, dw) = kernel_size, strides, dilation
    out_h, out_w = output_size((height, width), kernel_size, strides, ((0, 0), (0, 0)), dilation)
    return [
        lax.slice(
            x,
            (0, a * dh, b * dw, 0),
            (n, a * dh + (out_h - 1) * sh + 1, b * dw + (out_w - 1) * sw + 1, channels),
            (1, sh, sw, 1),
        )
        for a in range(kh)
        for b in range(kw)
    ]


def output_size(
    size: Sequence[int],
    kernel_size: Sequence[int],
    strides: Sequence[int],
    pads: Pairs,
    dilation: Sequence[int],
) -> tuple[int, int]:
    """How many places of a kernel there are: `floor((n + pad - d (k - 1) - 1) / s) + 1`.

    >>> output_size((7, 8), (3, 3), (2, 2), ((0, 0), (1, 1)), (1, 1))
    (3, 4)
    """
    rows, columns = (
        (n + sum(pad) - d * (k - 1) - 1) // s + 1
        for n, k, s, pad, d in zip(size, kernel_size, strides, pads, dilation, strict=True)
    )
    return rows, columns
