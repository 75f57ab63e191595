"""Results of metrics as text: numbers, and tables by class."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cnnjax.core.table import table

LabelNames = Sequence[str] | Mapping[str, Sequence[str]]


def result_table(results: Mapping[str, Any], label_names: LabelNames = ()) -> str:
    """What was measured: a line for each number, then tables of what there is of each class.

    Of pairs of classes, as a confusion matrix has them, the rows are true and the columns answered.

    Args:
        results: numbers and arrays by name.
        label_names: of the classes; numbers take their place where they do not fit an array;
            {output: these} of several outputs.

    >>> print(result_table({"f1": 0.5, "recall": np.array([0.25, 1.0])}, ("cat", "dog")))
    f1  0.5000
    <BLANKLINE>
         recall
    cat  0.2500
    dog  1.0000
    """
    return "\n\n".join(table(rows) for rows in result_rows(results, label_names))


def result_rows(
    results: Mapping[str, Any], label_names: LabelNames = ()
) -> list[list[tuple[str, ...]]]:
    """The tables of `result_table`, each as rows of cells; arguments as there.

    >>> result_rows({"loss": 1.0, "pairs": np.eye(2)})
    [[('loss', '1.0000')], [('pairs', '0', '1'), ('0', '1', '0'), ('1', '0', '1')]]
    """
    arrays = {name: np.asarray(value) for name, value in results.items()}
    numbers: list[tuple[str, ...]] = [
        (name, f"{value:.4f}") for name, value in arrays.items() if value.ndim == 0
    ]
    columns: dict[tuple[str, ...], dict[str, np.ndarray]] = {}
    for name, value in arrays.items():
        if value.ndim == 1:
            columns.setdefault(names_for(len(value), label_names, name), {})[name] = value
    tables = [_by_class(group, names) for names, group in columns.items()]
    for name, value in arrays.items():
        if value.ndim == 2:
            tables.append(_matrix(name, value, label_names))
        elif value.ndim > 2:
            tables.append([(name, f"an array {list(value.shape)}")])
    return [rows for rows in (numbers, *tables) if rows]


def names_for(size: int, label_names: LabelNames, metric: str = "") -> tuple[str, ...]:
    """Names of the classes, or their numbers where there are no names of so many.

    Args:
        size: how many classes.
        label_names: of the classes; {output: these} of several outputs.
        metric: measured of them, which begins with the output's name; else the only output counts
            that has so many names.

    >>> names_for(2, ("cat", "dog")), names_for(3, ("cat", "dog"))
    (('cat', 'dog'), ('0', '1', '2'))
    >>> names_for(2, {"kind": ("cat", "dog"), "age": ("young", "old")}, "val_age_recall")
    ('young', 'old')
    """
    if not isinstance(label_names, Mapping):
        fitting = [label_names] if len(label_names) == size else []
    else:
        several = {name: names for name, names in label_names.items() if len(names) == size}
        named = [name for name in several if re.match(rf"(val_|test_)?{name}_", metric)]
        fitting = [several[max(named, key=len)]] if named else list(several.values())
    return tuple(fitting[0]) if len(fitting) == 1 else tuple(map(str, range(size)))


def cell(value: float) -> str:
    """A number in a table: four digits, and none after a count.

    >>> cell(12.0), cell(0.25), cell(float("nan"))
    ('12', '0.2500', '-')
    """
    if np.isnan(value):
        return "-"
    return f"{value:.0f}" if value == round(value) and abs(value) > 1 else f"{value:.4f}"


def _by_class(group: Mapping[str, np.ndarray], names: Sequence[str]) -> list[tuple[str, ...]]:
    cells = zip(names, *([cell(v) for v in column] for column in group.values()), strict=True)
    return [("", *group), *cells]


def _matrix(name: str, matrix: np.ndarray, label_names: LabelNames) -> list[tuple[str, ...]]:
    """Of pairs of classes: rows true, columns answered."""
    rows, columns = (names_for(size, label_names, name) for size in matrix.shape)
    counts = bool(np.all(matrix == np.round(matrix)))
    shown = [[f"{v:.0f}" if counts else cell(v) for v in row] for row in matrix]
    return [(name, *columns), *((label, *row) for label, row in zip(rows, shown, strict=True))]
