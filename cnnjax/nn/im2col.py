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

# Of the first layer: with more channels a slice's runs in memory are long enough as they are.
_FEW_CHANNELS = 4
# What copying a number into a column costs, in multiplications of the product (measured by
# benchmarks/conv_engines.py: some 2.5 ns, where the product takes .015 ns a multiplication and
# addition).
_COPY = 140


def im2col_conv(
    x: Array, kernel: Array, strides: tuple[int, int], pads: Pairs, dilation: tuple[int, int]
) -> Array:
    """Convolution by im2col (Chellapilla et al. 2006), in the form that moves less memory.

    Jointly, the product's left side holds all kh * kw slices of the input. Split, it holds the kw
    slices along the width, the product has kh * F columns, and their slices along the height are
    summed up: for large kernels and many channels a fraction of the memory. Images of few channels
    are folded before: see `folded_conv`. There a number that is not finite spoils its neighbours
    too.

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
    if (together := fold_size(x, kernel, strides, pads, dilation)) > 1:
        return folded_conv(x, kernel, strides, pads, dilation, together)
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


def fold_size(x: Array, kernel: Array, strides: tuple, pads: Pairs, dilation: tuple) -> int:
    """How many neighbouring outputs to compute as one; 1 where folding does not pay."""
    kh, kw, channels, filters = kernel.shape
    if channels > _FEW_CHANNELS or dilation[1] > 1 or not isinstance(x.shape[2], int):
        return 1
    width = output_size(x.shape[1:3], (kh, kw), strides, pads, dilation)[1]

    def cost(together: int) -> float:
        """Of a row of outputs: copies and products in proportion to the columns of the input."""
        blocks, size = -(-width // together), together * strides[1]
        columns = kw if together == 1 else -(-(size - strides[1] + kw) // size) * size
        return blocks * columns * (together * filters + _COPY)

    return min((1, 2, 4, 8), key=cost)


def folded_conv(
    x: Array, kernel: Array, strides: tuple, pads: Pairs, dilation: tuple, together: int
) -> Array:
    """Some neighbouring columns of the image as the channels of one, of the outputs likewise.

    A slice of one channel is copied into the columns of the product number by number, which takes
    longer than the product. Folded, it has several times as many channels, of which the kernel
    leaves some out: for every output within a block it stands at another place, between zeros. So
    there are more products and fewer, longer copies.
    """
    kh, kw, channels, filters = kernel.shape
    height, width = output_size(x.shape[1:3], (kh, kw), strides, pads, dilation)
    step, size = strides[1], together * strides[1]
    blocks, taps = -(-width // together), -(-(size - step + kw) // size)
    left, columns = pads[1][0], (blocks + taps - 1) * size
    beside = columns - left - x.shape[2]  # negative where the last columns meet no kernel
    padded = lax.pad(
        x, jnp.zeros((), x.dtype), ((0, 0, 0), (*pads[0], 0), (left, beside, 0), (0, 0, 0))
    )
    folded = padded.reshape(*padded.shape[:2], columns // size, size * channels)
    places = [(i * step, taps * size - kw - i * step) for i in range(together)]
    placed = [jnp.pad(kernel, ((0, 0), place, (0, 0), (0, 0))) for place in places]
    joined = jnp.stack(placed, axis=3).reshape(kh, taps, size * channels, together * filters)
    outputs = _joint(folded, joined, (strides[0], 1), ((0, 0), (0, 0)), (dilation[0], 1))
    return outputs.reshape(x.shape[0], height, blocks * together, filters)[:, :, :width]


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
