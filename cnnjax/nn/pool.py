"""Pooling with a gradient that is fast on CPUs."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen
from jax import Array, lax

from cnnjax.nn.conv import Padding, as_pair, resolve_padding
from cnnjax.nn.matmul import shifted_slices

# With fewer, the gradient of the slices is faster than a selection.
_MANY_CHANNELS = 16


def max_pool(
    inputs: Array,
    pool_size: int | tuple[int, int] = 2,
    strides: int | tuple[int, int] | None = None,
    padding: Padding = "valid",
) -> Array:
    """Maximum over windows, NHWC.

    Windows that tile the image (strides = pool_size) are compared as strided slices through a
    reshape, and their gradient goes by which of them won: a fraction of the time of
    select-and-scatter. Either way the gradient of a tie goes to its first value, and NaN wins.

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
    if all(w <= s for w, s in zip(window, strides, strict=True)):
        # Not through reduce_window, which on CPUs loses NaN where windows do not overlap.
        lowest = jnp.array(-jnp.inf, inputs.dtype)
        padded = lax.pad(inputs, lowest, ((0, 0, 0), *((a, b, 0) for a, b in pads), (0, 0, 0)))
        if window != strides:
            slices = shifted_slices(padded, window, strides, ((0, 0), (0, 0)), (1, 1))
            return functools.reduce(_larger, slices)
        if inputs.shape[3] < _MANY_CHANNELS:
            return functools.reduce(_larger, _tiles(padded, window))
        return _max_of_tiles(padded, window)
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
    return jnp.where(_wins(first, second), second, first)


def _wins(first: Array, second: Array) -> Array:
    return (first < second) | jnp.isnan(second)


@functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
def _max_of_tiles(x: Array, window: tuple[int, int]) -> Array:
    return functools.reduce(_larger, _tiles(x, window))


@_max_of_tiles.defjvp
def _tangent_of_the_winners(
    window: tuple[int, int], primals: tuple[Array], tangents: tuple[Array]
) -> tuple[Array, Array]:
    """The maximum, and of each tile the tangent where it stands.

    Transposed, that is one selection from the cotangent laid over the tiles. The gradient of the
    slices, a sum of padded ones, CPUs compute a number at a time.
    """
    (x,), (tangent,) = primals, tangents
    best, *others = _tiles(x, window)
    winner = jnp.zeros(best.shape, jnp.int32)
    for number, other in enumerate(others, 1):
        wins = _wins(best, other)
        best, winner = jnp.where(wins, other, best), jnp.where(wins, number, winner)
    numbers = jnp.arange(window[0] * window[1]).reshape(1, 1, window[0], 1, window[1], 1)
    stands = winner[:, :, None, :, None] == numbers
    return best, jnp.sum(jnp.where(stands, _tiled(tangent, window), 0), (2, 4))


def _tiles(x: Array, window: tuple[int, int]) -> list[Array]:
    """The ph * pw members of every tile, each [N, H // ph, W // pw, C]; the rest is cut off."""
    tiled = _tiled(x, window)
    return [tiled[:, :, a, :, b] for a in range(window[0]) for b in range(window[1])]


def _tiled(x: Array, window: tuple[int, int]) -> Array:
    """[N, H, W, C] -> [N, H // ph, ph, W // pw, pw, C]."""
    (ph, pw), (n, height, width, c) = window, x.shape
    rows, columns = height // ph, width // pw
    return x[:, : rows * ph, : columns * pw].reshape(n, rows, ph, columns, pw, c)


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
