"""Results of metrics as text: numbers, and tables by class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cnnjax.core.table import table


def result_table(results: Mapping[str, Any], label_names: Sequence[str] = ()) -> str:
    """What was measured: a line for each number, then a table of what there is of each class.

    Args:
        results: numbers and arrays by name.
        label_names: of the classes; numbers take their place where they do not fit an array.

    >>> print(result_table({"f1": 0.5, "recall": np.array([0.25, 1.0])}, ("cat", "dog")))
    f1  0.5000
    <BLANKLINE>
         recall
    cat  0.2500
    dog  1.0000
    """
    arrays = {name: np.asarray(value) for name, value in results.items()}
    blocks = [table([(name, f"{v:.4f}") for name, v in arrays.items() if v.ndim == 0])]
    columns: dict[int, dict[str, np.ndarray]] = {}
    for name, value in arrays.items():
        if value.ndim == 1:
            columns.setdefault(len(value), {})[name] = value
    blocks += [_by_class(group, names_for(size, label_names)) for size, group in columns.items()]
    blocks += [
        _matrix(name, value, label_names) for name, value in arrays.items() if value.ndim == 2
    ]
    blocks += [f"{name}: {list(v.shape)}" for name, v in arrays.items() if v.ndim > 2]
    return "\n\n".join(block for block in blocks if block)


def names_for(size: int, label_names: Sequence[str]) -> list[str]:
    """Names of the classes, or their numbers where there are no names of so many.

    >>> names_for(2, ("cat", "dog")), names_for(3, ("cat", "dog"))
    (['cat', 'dog'], ['0', '1', '2'])
    """
    return list(label_names) if len(label_names) == size else [str(k) for k in range(size)]


def cell(value: float) -> str:
    """A number in a table: four digits, and none after a count.

    >>> cell(12.0), cell(0.25), cell(float("nan"))
    ('12', '0.2500', '-')
    """
    if np.isnan(value):
        return "-"
    return f"{value:.0f}" if value == round(value) and abs(value) > 1 else f"{value:.4f}"


def _by_class(group: Mapping[str, np.ndarray], names: Sequence[str]) -> str:
    rows = zip(names, *([cell(v) for v in column] for column in group.values()), strict=True)
    return table([("", *group), *rows])


def _matrix(name: str, matrix: np.ndarray, label_names: Sequence[str]) -> str:
    rows, columns = (names_for(size, label_names) for size in matrix.shape)
    counts = bool(np.all(matrix == np.round(matrix)))
    shown = [[f"{v:.0f}" if counts else cell(v) for v in row] for row in matrix]
    lines = [(label, *row) for label, row in zip(rows, shown, strict=True)]
    return f"{name}, rows true, columns answered:\n{table([('', *columns), *lines])}"
