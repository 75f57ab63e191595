"""Pooling with a gradient that is fast on CPUs."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen
from jax import Array, lax

from cnnjax.nn.conv import (
    Padding,
    as_exported,
    as_on_accelerators,
    as_pair,
    padded_first,
    resolve_padding,
)
from cnnjax.nn.im2col import Pairs, shifted_slices

Pair = tuple[int, int]

# With fewer, windows that lie apart have a faster gradient by their slices than by selections.
_MANY_CHANNELS = 16
# Of a window: a sum, or a gradient, over more slices takes long to compile.
_MANY_MEMBERS = 64


def max_pool(
    inputs: Array,
    pool_size: int | tuple[int, int] = 2,
    strides: int | tuple[int, int] | None = None,
    padding: Padding = "valid",
) -> Array:
    """Maximum over windows, NHWC.

    The members of the windows are compared as strided slices, and on CPUs the gradient goes by
    which of them won: a fraction of the time of XLA's select-and-scatter, which overlapping windows
    take on accelerators, under `conv_engine("lax")`, and where they have more than 64 members.
    Either way the gradient of a tie goes to its first value, and NaN wins (of several the last).

    Args:
        inputs: [N, H, W, C], floating.
        pool_size: one size or (rows, columns).
        strides: None takes pool_size.
        padding: "valid", "same" or ((top, bottom), (left, right)); padding never wins.

    Returns:
        [N, H', W', C].

    Raises:
        ValueError: if the inputs are not floating, or the window does not fit.

    >>> import jax.numpy as jnp
    >>> max_pool(jnp.arange(16.0).reshape(1, 4, 4, 1)).reshape(-1).tolist()
    [5.0, 7.0, 13.0, 15.0]
    """
    _check_floating(inputs, "max_pool")
    window, strides = _window(pool_size, strides)
    pads = resolve_padding(padding, inputs.shape[1:3], window, strides)
    few_members = math.prod(window) <= _MANY_MEMBERS
    apart = all(w <= s for w, s in zip(window, strides, strict=True))
    if as_exported() or (not apart and (as_on_accelerators() or not few_members)):
        return _reduce_window(inputs, -np.inf, lax.max, window, strides, pads)
    # Not through reduce_window, which on CPUs loses NaN where windows do not overlap.
    padded = _padded(inputs, pads, -jnp.inf)
    if few_members and apart and (as_on_accelerators() or inputs.shape[3] < _MANY_CHANNELS):
        return functools.reduce(_larger, _members(padded, window, strides))
    return _max_by_winner(padded, window, strides)


def average_pool(
    inputs: Array,
    pool_size: int | tuple[int, int] = 2,
    strides: int | tuple[int, int] | None = None,
    padding: Padding = "valid",
) -> Array:
    """Mean over windows, NHWC; padding counts neither in the sum nor in the number, as in Keras.

    Shifted slices are added up; where `max_pool` takes XLA's own gradient, it is XLA's own sum.

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
    _check_floating(inputs, "average_pool")
    window, strides = _window(pool_size, strides)
    pads = resolve_padding(padding, inputs.shape[1:3], window, strides)
    x = inputs.astype(_sum_dtype(inputs))
    if window == strides and not any(map(any, pads)) and not as_exported():
        sums = functools.reduce(jnp.add, _tiles(x, window))
        return (sums / (window[0] * window[1])).astype(inputs.dtype)

    def sum_of(values: Array) -> Array:
        if as_on_accelerators() or math.prod(window) > _MANY_MEMBERS:
            return _reduce_window(values, 0, lax.add, window, strides, pads)
        return functools.reduce(jnp.add, _members(_padded(values, pads, 0), window, strides))

    counts = sum_of(jnp.ones((1, *x.shape[1:3], 1), x.dtype))
    return (sum_of(x) / jnp.maximum(counts, 1)).astype(inputs.dtype)


def _check_floating(inputs: Array, name: str) -> None:
    if not jnp.issubdtype(inputs.dtype, jnp.floating):
        raise ValueError(f"{name} needs floating inputs, got {inputs.dtype}")


def _reduce_window(
    x: Array, initial: float, operation: Callable, window: Pair, strides: Pair, pads: Pairs
) -> Array:
    x, pads = padded_first(x, pads, initial)
    return lax.reduce_window(
        x,
        np.array(initial, x.dtype),  # a constant: of a traced value no gradient is known
        operation,
        (1, *window, 1),
        (1, *strides, 1),
        ((0, 0), *pads, (0, 0)),
    )


def _sum_dtype(inputs: Array) -> jnp.dtype:
    """float32 for half precision, whose sums soon lose every digit; else the inputs' own."""
    return jnp.promote_types(inputs.dtype, jnp.float32)


def _window(
    pool_size: int | tuple[int, int], strides: int | tuple[int, int] | None
) -> tuple[Pair, Pair]:
    window = as_pair(pool_size, "pool_size")
    return window, window if strides is None else as_pair(strides, "strides")


def _larger(first: Array, second: Array) -> Array:
    """`jnp.maximum`, but its gradient is one selection: no halves for ties, no division."""
    return jnp.where(_wins(first, second), second, first)


def _wins(first: Array, second: Array) -> Array:
    return (first < second) | jnp.isnan(second)


@functools.partial(jax.custom_jvp, nondiff_argnums=(1, 2))
def _max_by_winner(x: Array, window: Pair, strides: Pair) -> Array:
    return functools.reduce(_larger, _members(x, window, strides))


@_max_by_winner.defjvp
def _tangent_of_winners(
    window: Pair, strides: Pair, primals: tuple[Array], tangents: tuple[Array]
) -> tuple[Array, Array]:
    """The maximum of each window, and the tangent where it stands.

    Written for its transpose. The image is cut into blocks as large as the strides; a window covers
    one block or several. A block's gradient is that of each window over it, laid over the block,
    where the window's winner stands there: a sum of selections, which CPUs compute many numbers at
    a time. Differentiating the shifted slices gives a sum of padded arrays, which XLA computes one
    number at a time.
    """
    (x,), (tangent,) = primals, tangents
    best, *others = _members(x, window, strides)
    winner = jnp.zeros(best.shape, jnp.int32)
    for number, other in enumerate(others, 1):
        wins = _wins(best, other)
        best, winner = jnp.where(wins, other, best), jnp.where(wins, number, winner)

    (sh, sw), channels = strides, x.shape[3]
    down, right = (window[0] - 1) // sh, (window[1] - 1) // sw  # blocks of a window, but its first
    rows, columns = best.shape[1] + down, best.shape[2] + right
    tangent = _padded(tangent, ((0, rows * sh - x.shape[1]), (0, columns * sw - x.shape[2])), 0)
    tangent = tangent.reshape(x.shape[0], rows, sh, columns, sw, channels)
    winner = _padded(winner, ((down, down), (right, right)), -1)
    total = jnp.zeros((), tangent.dtype)
    for a, b in np.ndindex(down + 1, right + 1):
        # Over every block the window that has it as its block (a, b).
        top, left = down - a, right - b
        over = winner[:, top : top + rows, None, left : left + columns, None]
        here = over == _numbers_in_block(window, strides, (a, b))
        sums = jnp.sum(jnp.where(here, tangent, 0), (2, 4))
        # Padded here and cut below, so that the transpose pads once and cuts here.
        total += _padded(sums, ((top, a), (left, b)), 0)
    return best, total[:, down : down + best.shape[1], right : right + best.shape[2]]


def _numbers_in_block(window: Pair, strides: Pair, block: Pair) -> np.ndarray:
    """Which member of its window each place in a block is, or -2: int32 [1, 1, sh, 1, sw, 1]."""
    row, column = (b * s + np.arange(s) for b, s in zip(block, strides, strict=True))
    within = (row[:, None] < window[0]) & (column < window[1])
    numbers = np.where(within, row[:, None] * window[1] + column, -2)
    return numbers.astype(np.int32).reshape(1, 1, strides[0], 1, strides[1], 1)


def _padded(x: Array, pads: Pairs, value: float) -> Array:
    rows, columns = pads
    if not any(rows) and not any(columns):
        return x
    return lax.pad(x, jnp.array(value, x.dtype), ((0, 0, 0), (*rows, 0), (*columns, 0), (0, 0, 0)))


def _members(x: Array, window: Pair, strides: Pair) -> list[Array]:
    """The ph * pw members of every window, row by row, each [N, H', W', C]."""
    if window == strides:
        return _tiles(x, window)
    return shifted_slices(x, window, strides, ((0, 0), (0, 0)), (1, 1))


def _tiles(x: Array, window: Pair) -> list[Array]:
    """The members of every tile, each [N, H // ph, W // pw, C]; the rest is cut off."""
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


class AdaptiveAveragePooling2D(linen.Module):
    """Means over so many windows that the map has the wanted size, as in Keras and PyTorch.

    Of n rows window i of m has those from floor(i n / m) to ceil((i + 1) n / m): windows may differ
    in size and overlap, and a map that is smaller than wanted is repeated.

    Args:
        output_size: one size or (rows, columns).
    """

    output_size: int | tuple[int, int]

    @linen.compact
    def __call__(self, inputs: Array) -> Array:
        """[N, H, W, C] -> [N, rows, columns, C]."""
        size, wanted = inputs.shape[1:3], as_pair(self.output_size, "output_size")
        if size == wanted:
            return inputs
        x = inputs.astype(_sum_dtype(inputs))
        shares = (_shares(n, m) for n, m in zip(size, wanted, strict=True))
        rows, columns = (jnp.asarray(share, x.dtype) for share in shares)
        return jnp.einsum("nhwc,ih,jw->nijc", x, rows, columns).astype(inputs.dtype)


def _shares(size: int, wanted: int) -> np.ndarray:
    """How much of each row goes into each mean, float64 [wanted, size]."""
    windows, places = np.arange(wanted)[:, None], np.arange(size)
    inside = (places >= windows * size // wanted) & (places < -(-(windows + 1) * size // wanted))
    return inside / inside.sum(1, keepdims=True)


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
