"""Maps of tokens: how the T tokens of an output [N, T, C] lie in the image."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from cnnjax.core.checks import is_number

# A layer's output [N, ...] to its maps [N, h, w, C].
Rearrange: TypeAlias = Callable[[Array], Array]
# As in `rearrangement`.
ToMap: TypeAlias = Rearrange | Sequence[int] | None


@dataclass(frozen=True)
class Grid:
    """Tokens [N, T, C] as maps [N, rows, columns, C]; `skipped` first tokens have no place."""

    rows: int
    columns: int
    skipped: int = 0

    def __call__(self, tokens: Array) -> Array:
        """The maps.

        >>> Grid(2, 3, skipped=1)(jnp.zeros((1, 7, 4))).shape
        (1, 2, 3, 4)
        """
        kept = tokens[:, self.skipped :]
        return kept.reshape(len(tokens), self.rows, self.columns, *tokens.shape[2:])


def rearrangement(
    to_map: ToMap, layer: str, output: tuple[int, ...], image: tuple[int, int]
) -> Rearrange | None:
    """What makes maps of a layer's output; None where it is one already.

    Args:
        to_map: (rows, columns, first tokens skipped), the last of which may be left out; or a
            function of the output that returns [N, h, w, C], by moving values only (reshape,
            transpose, a slice), since gradients go through it too; None for maps, and for tokens
            [N, T, C] that fill a grid of the image's proportions, with or without a class token.
        layer: its name, for messages.
        output: its shape, with one image.
        image: height and width.

    Raises:
        ValueError: for what does not fit the output, or None where the grid cannot be told.

    >>> rearrangement(None, "block1", (1, 50, 32), (28, 28))
    Grid(rows=7, columns=7, skipped=1)
    """
    if to_map is None:
        return None if len(output) == 4 else _guessed(layer, output, image)
    if callable(to_map):
        _check_moves(to_map, layer, output)
        return to_map
    numbers = tuple(to_map) if isinstance(to_map, Sequence) else ()
    whole = all(is_number(n) and n == int(n) >= 0 for n in numbers)
    if len(numbers) not in (2, 3) or not whole or min(numbers[:2]) < 1:
        raise ValueError(
            "to_map must be (rows, columns, first tokens skipped) or a function of the layer's "
            f"output, got {to_map!r}"
        )
    grid = Grid(*map(int, numbers))
    if len(output) != 3 or output[1] != grid.rows * grid.columns + grid.skipped:
        raise ValueError(
            f"to_map={to_map!r} needs an output [N, {grid.rows * grid.columns + grid.skipped}, C], "
            f"that of {layer!r} is {_shown(output)}"
        )
    return grid


def _guessed(layer: str, output: tuple[int, ...], image: tuple[int, int]) -> Grid:
    """The grid of the image's proportions that tokens fill, with a class token or without."""
    height, width = image
    grids = []
    for skipped in (0, 1):
        rows = round(((output[1] - skipped) * height / width) ** 0.5)
        columns = round(rows * width / height)
        if rows * columns == output[1] - skipped and rows * width == columns * height and rows > 1:
            grids.append(Grid(rows, columns, skipped))
    if len(grids) != 1:
        raise ValueError(
            f"layer={layer!r} has {output[1]} tokens, {_shown(output)}, and how they lie in images "
            f"of {height} x {width} cannot be told: give to_map=(rows, columns, first tokens "
            "skipped), or a function of the output that returns [N, h, w, C]"
        )
    return grids[0]


def _check_moves(to_map: Callable[[Any], Any], layer: str, output: tuple[int, ...]) -> None:
    """Refuse a function that does more than to move values: gradients would be wrong."""
    with jax.ensure_compile_time_eval():
        places = np.arange(np.prod(output, dtype=int)).reshape(output)
        moved = to_map(jnp.asarray(places, jnp.int32))
    shape = tuple(getattr(moved, "shape", ()))
    if len(shape) != 4 or shape[0] != output[0]:
        got = list(shape) or type(moved).__name__
        raise ValueError(
            f"to_map must make [N, h, w, C] of the output {_shown(output)} of {layer!r}, for N = "
            f"{output[0]} it returns {got}"
        )
    values = np.asarray(moved).ravel()
    if len(np.unique(values)) != values.size or not np.isin(values, places).all():
        raise ValueError(
            f"to_map must only move the values of {layer!r} (reshape, transpose, a slice), since "
            "gradients go through it too, but it changes them"
        )


def _shown(output: tuple[int, ...]) -> str:
    return f"[N, {', '.join(map(str, output[1:]))}]"
