"""What a notebook shows of a value: paragraphs, tables and images as HTML."""

from __future__ import annotations

import base64
import html
from collections.abc import Iterable, Sequence

from cnnjax.core.table import cell_text
from cnnjax.core.text import plain

# Of a paragraph; longer ones are no summary.
_LONGEST = 400


def paragraphs(*texts: object) -> str:
    """Texts as HTML, in which no foreign one is markup; empty ones are left out.

    >>> paragraphs("a < b", "")
    '<p>a &lt; b</p>'
    """
    return "".join(f"<p>{html.escape(plain(text, _LONGEST))}</p>" for text in texts if str(text))


def html_table(rows: Iterable[Sequence[object]], align: str = "<>") -> str:
    """Rows of cells as an HTML table.

    Args:
        rows: as in `core.table.table`, the head first.
        align: as there.

    >>> html_table([("layer", "parameters"), ("conv1", "320")]).count("<td")
    2
    """
    lines = []
    for number, row in enumerate(rows):
        tag = "td" if number else "th"
        sides = align.ljust(len(row), align[-1])
        cells = (
            f'<{tag} style="text-align:{"left" if side == "<" else "right"}">'
            f"{html.escape(cell_text(cell))}</{tag}>"
            for cell, side in zip(row, sides, strict=False)
        )
        lines.append(f"<tr>{''.join(cells)}</tr>")
    return f"<table>{''.join(lines)}</table>"


def inline_image(png: bytes, caption: object = "", height: int | None = None) -> str:
    """A PNG file within the HTML, with a text below it.

    Args:
        png: content of the file.
        caption: text; "" for none.
        height: in pixels of the screen, to which small images grow unsmoothed; None: as it is.
    """
    text = html.escape(plain(caption))
    size = f"height:{height}px;image-rendering:pixelated;" if height else "max-width:100%;"
    image = (
        f'<img style="{size}" alt="{text}" src="data:image/png;base64,'
        f'{base64.b64encode(png).decode()}">'
    )
    below = f"<figcaption>{text}</figcaption>" if text else ""
    return f'<figure style="display:inline-block;margin:2px">{image}{below}</figure>'
