"""Pooling with a gradient that is fast on CPUs."""

from __future__ import annotations

import functools

import jax.numpy as jnp
import numpy as np
from flax import linen
from jax import Array, lax

from cnnjax.nn.conv import Padding, as_pair, resolve_padding
from cnnjax.nn.matmul import shifted_slices


def max_pool(
    inputs: Array,
    pool_size: int | tuple[int, int] = 2,
    strides: int | tuple[int, int] | None = None,
    padding: Padding = "valid",
) -> Array:
    """Maximum over windows, NHWC.

    Windows that tile the image (strides = pool_size, no padding) are compared as strided slices
    through a reshape, whose gradient costs a fraction of select-and-scatter. Either way the
    gradient of a tie goes to its first value, and NaN wins.

    Args:
        inputs: [N, H, W, C], floating.
        pool_size: one size or (rows, columns).
        strides: None takes pool_size.
        padding: "valid", "same" or ((top, bottom), (left, right)); padding never wins.

    Returns:
        [N, H', W', C].

    >>> import jax.numpy as jnp
    >>> max_pool(jnp.arange(16.0).reshape(1, 4, 4, 1)).reshape(-1).tolist()
    [5.0, 7.0, 13.0, 15.0]
    """
    window, strides = _window(pool_size, strides)
    pads = resolve_padding(padding, inputs.shape[1:3], window, strides)
    if window == strides and not any(map(any, pads)):
        return functools.reduce(_larger, _tiles(inputs, window))
    if all(w <= s for w, s in zip(window, strides, strict=True)):
        # Not through reduce_window either, which on CPUs loses NaN where windows do not overlap.
        lowest = jnp.array(-jnp.inf, inputs.dtype)
        padded = lax.pad(inputs, lowest, ((0, 0, 0), *((a, b, 0) for a, b in pads), (0, 0, 0)))
        slices = shifted_slices(padded, window, strides, ((0, 0), (0, 0)), (1, 1))
        return functools.reduce(_larger, slices)
    return lax.reduce_window(
        inputs,
        np.array(-np.inf, inputs.dtype),  # a constant: of a traced value no gradient is known
        lax.max,
        (1, *window, 1),
        (1, *strides, 1),
        ((0, 0), *pads, (0, 0)),
    )


def average_pool(
    inputs: Array,
    pool_size: int | tuple[int, int] = 2,
    strides: int | tuple[int, int] | None = None,
    padding: Padding = "valid",
) -> Array:
    """Mean over windows, NHWC; padding counts neither in the sum nor in the number, as in Keras.

    Args:
        inputs: [N, H, W, C], floating.
        pool_size, strides, padding: as in `max_pool`.

    Returns:
        [N, H', W', C], of the inputs' dtype; half precision is summed in float32.

    Raises:
        ValueError: if the inputs are not floating, or the window does not fit.

    >>> import jax.numpy as jnp
    >>> average_pool(jnp.arange(16.0).reshape(1, 4, 4, 1)).reshape(-1).tolist()
    [2.5, 4.5, 10.5, 12.5]
    """
    if not jnp.issubdtype(inputs.dtype, jnp.floating):
        raise ValueError(f"average_pool needs floating inputs, got {inputs.dtype}")
    window, strides = _window(pool_size, strides)
    pads = resolve_padding(padding, inputs.shape[1:3], window, strides)
    x = inputs.astype(_sum_dtype(inputs))
    if window == strides and not any(map(any, pads)):
        sums = functools.reduce(jnp.add, _tiles(x, window))
        return (sums / (window[0] * window[1])).astype(inputs.dtype)

    def sum_of(values: Array) -> Array:
        return lax.reduce_window(
            values,
            np.zeros((), values.dtype),
            lax.add,
            (1, *window, 1),
            (1, *strides, 1),
            ((0, 0), *pads, (0, 0)),
        )

    counts = sum_of(jnp.ones((1, *x.shape[1:3], 1), x.dtype))
    return (sum_of(x) / jnp.maximum(counts, 1)).astype(inputs.dtype)


def _sum_dtype(inputs: Array) -> jnp.dtype:
    """float32 for half precision, whose sums soon lose every digit; else the inputs' own."""
    return jnp.promote_types(inputs.dtype, jnp.float32)


def _window(
    pool_size: int | tuple[int, int], strides: int | tuple[int, int] | None
) -> tuple[tuple[int, int], tuple[int, int]]:
    window = as_pair(pool_size, "pool_size")
    return window, window if strides is None else as_pair(strides, "strides")


def _larger(first: Array, second: Array) -> Array:
    """`jnp.maximum`, but its gradient is one selection: no halves for ties, no division."""
    return jnp.where((first < second) | jnp.isnan(second), second, first)


def _tiles(x: Array, window: tuple[int, int]) -> list[Array]:
    """The ph * pw members of every tile, each [N, H // ph, W // pw, C]; the rest is cut off."""
    (ph, pw), (n, height, width, c) = window, x.shape
    rows, columns = height // ph, width // pw
    tiled = x[:, : rows * ph, : columns * pw].reshape(n, rows, ph, columns, pw, c)
    return [tiled[:, :, a, :, b] for a in range(ph) for b in range(pw)]


class MaxPooling2D(linen.Module):
    """Max pooling as a layer; arguments as in `max_pool`."""

    pool_size: int | tuple[int, int] = 2
    strides: int | tuple[int, int] | None = None
    padding: Padding = "valid"

    @linen.compact
    def __call__(self, inputs: Array) -> Array:
        """Apply to [N, H, W, C]."""
        return max_pool(inputs, self.pool_size, self.strides, self.padding)


class AveragePooling2D(linen.Module):
    """Average pooling as a layer; arguments as in `average_pool`."""

    pool_size: int | tuple[int, int] = 2
    strides: int | tuple[int, int] | None = None
    padding: Padding = "valid"

    @linen.compact
    def __call__(self, inputs: Array) -> Array:
        """Apply to [N, H, W, C]."""
        return average_pool(inputs, self.pool_size, self.strides, self.padding)


class GlobalAveragePooling2D(linen.Module):
    """Mean over rows and columns: [N, H, W, C] -> [N, C].

    Args:
        keepdims: return [N, 1, 1, C].
    """

    keepdims: bool = False

    @linen.compact
    def __call__(self, inputs: Array) -> Array:
        """Apply to [N, H, W, C]."""
        mean = jnp.mean(inputs, (1, 2), dtype=_sum_dtype(inputs), keepdims=self.keepdims)
        return mean.astype(inputs.dtype)


class GlobalMaxPooling2D(linen.Module):
    """Maximum over rows and columns: [N, H, W, C] -> [N, C]."""

    @linen.compact
    def __call__(self, inputs: Array) -> Array:
        """Apply to [N, H, W, C]."""
        return jnp.max(inputs, (1, 2))
