"""Tables of text, as everything in this package prints them."""

from __future__ import annotations

from collections.abc import Iterable

from cnnjax.core.text import plain

# Of a cell: longer than any path, shorter than what would fill a terminal's memory.
_LONGEST = 8192


def table(rows: Iterable[Iterable[object]], align: str = "<>") -> str:
    """Rows of cells in columns that are as wide as their widest cell.

    Args:
        rows: of one length each, the head among them; what a cell holds is shown, not obeyed.
        align: of each column, "<" to the left, ">" to the right; the last one is that of all
            further columns.

    Returns:
        A line for each row.

    >>> print(table([("", "parameters"), ("conv1", "320"), ("dense", "93,322")]))
           parameters
    conv1         320
    dense      93,322
    """
    cells = [[plain(cell, _LONGEST) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    sides = align.ljust(len(widths), align[-1])
    return "\n".join(
        "  ".join(f"{c:{s}{w}}" for c, s, w in zip(row, sides, widths, strict=False)).rstrip()
        for row in cells
    )
