"""What is known of every registered model, as a table."""

from __future__ import annotations

from cnnjax.models.builder import build
from cnnjax.models.layers.summary import summary
from cnnjax.models.model import Model
from cnnjax.models.registry import BUILDERS, Builder
from cnnjax.models.sizes import SIZES

_HEAD = ("model", "input", "parameters", "FLOPs", "weights", "top-1", "year", "paper", "")

ALIGNMENT = "<>>><<><<"


def listing() -> list[tuple[str, ...]]:
    """Rows of cells: the head, the models of ImageNet by name, then all others.

    Parameters and floating-point operations are those of the default size; top-1 is the accuracy on
    ImageNet in per cent, as published with the weights.
    """
    rows = [_row(name, builder) for name, builder in BUILDERS.items()]
    published = [row for row in rows if row[4]]
    return [_HEAD, *sorted(published), *(row for row in rows if not row[4])]


def sizes(name: str) -> tuple[int, int]:
    """Parameters, and floating-point operations for one example, of a model by its shapes."""
    rows = summary(Model.abstract(*build(name)))
    return rows.parameters, rows.flops


def _row(name: str, builder: Builder) -> tuple[str, ...]:
    # To derive those of all nets takes a minute.
    parameters, flops = SIZES.get(name) or sizes(name)
    authors = builder.paper.partition(",")[0]
    year = builder.year or authors.rpartition(" ")[2]
    sources = ["imagenet"] if builder.release else []
    sources += dict.fromkeys(table.source for table in builder.foreign)
    return (
        name,
        "x".join(map(str, builder.input_shape)),
        _short(parameters),
        _short(flops),
        ", ".join(sources),
        ", ".join(f"{top:.1f} {source}" for source, top in builder.published.items()),
        str(year),
        authors.rpartition(" ")[0],
        builder.description,
    )


def _short(number: int) -> str:
    """A number with three digits and its thousands as a letter.

    >>> _short(25_636_712), _short(7_700_000_000), _short(93_322), _short(640)
    ('25.6M', '7.70G', '93.3k', '640')
    """
    for letter, unit in (("G", 10**9), ("M", 10**6), ("k", 10**3)):
        if number >= unit:
            value = number / unit
            return f"{value:.{2 - min(len(str(int(value))) - 1, 2)}f}{letter}"
    return str(number)
