"""Tables of text, as everything in this package prints them."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable

from cnnjax.core.text import plain

# Of a cell: longer than any path, shorter than what would fill a terminal's memory.
_LONGEST = 8192


def table(rows: Iterable[Iterable[object]], align: str = "<>", rules: Collection[int] = ()) -> str:
    """Rows of cells in columns that are as wide as their widest cell.

    Args:
        rows: of one length each, the head among them; of floats three digits are shown, and of
            what else a cell holds its text, which a terminal does not obey.
        align: of each column, "<" to the left, ">" to the right; the last one is that of all
            further columns.
        rules: numbers of the rows above which a line is drawn.

    Returns:
        A line for each row and rule.

    >>> print(table([("", "parameters"), ("conv1", "320"), ("dense", "93,322")]))
           parameters
    conv1         320
    dense      93,322
    """
    cells = [[cell_text(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    sides = align.ljust(len(widths), align[-1])
    lines = []
    for number, row in enumerate(cells):
        if number in rules:
            lines.append("-" * (sum(widths) + 2 * len(widths) - 2))
        aligned = (f"{c:{s}{w}}" for c, s, w in zip(row, sides, widths, strict=False))
        lines.append("  ".join(aligned).rstrip())
    return "\n".join(lines)


def cell_text(cell: object) -> str:
    """What a cell shows: of a float three digits, and nothing that a terminal obeys."""
    if isinstance(cell, float):
        return "-" if math.isnan(cell) else f"{cell:.3g}"
    return plain(cell, _LONGEST)
