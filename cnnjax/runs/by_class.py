"""Results of a run that are tables: a number of each class, or a count of each pair of classes."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cnnjax.metrics import values
from cnnjax.metrics.showing import LabelNames, cell, names_for

Rows = list[tuple[str, ...]]


def arrays(record: Mapping[str, Any], epochs: Sequence[Mapping[str, Any]]) -> dict[str, np.ndarray]:
    """The results that are arrays, by name: of the finished run, else those of the last epoch.

    Args:
        record: content of run.json.
        epochs: of metrics.jsonl, one at least.

    Raises:
        ValueError: for lists that are no array.
    """
    for source in (record.get("metrics") or {}, epochs[-1]):
        tables = {name: values(v) for name, v in source.items() if isinstance(v, list)}
        if tables:
            return tables
    return {}


def by_class(
    tables: Mapping[str, np.ndarray], label_names: LabelNames
) -> list[tuple[tuple[str, ...], Rows]]:
    """Heads and rows of the results that are a number of each class, those of one length together.

    Args:
        tables: as `arrays` returns them.
        label_names: of the classes; numbers take their place where they do not fit; {output: these}
            of several outputs.

    >>> by_class({"val_recall": np.array([0.25, 1.0])}, ("cat", "dog"))
    [(('', 'val recall'), [('cat', '0.2500'), ('dog', '1.0000')])]
    """
    groups: dict[tuple[str, ...], dict[str, np.ndarray]] = {}
    for name, table in tables.items():
        if table.ndim == 1:
            names = names_for(len(table), label_names, name)
            groups.setdefault(names, {})[name.replace("_", " ")] = table
    return [
        (
            ("", *group),
            [
                (label, *(cell(column[i]) for column in group.values()))
                for i, label in enumerate(names)
            ],
        )
        for names, group in groups.items()
    ]


def counts(tables: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Those that are whole numbers [K, K], as a confusion matrix, int64 by name."""
    return {
        name: table.astype(np.int64)
        for name, table in tables.items()
        if table.ndim == 2
        and table.shape[0] == table.shape[1] > 0
        and np.all((table >= 0) & (table == np.round(table)))
        and re.fullmatch(r"\w+", name)  # it becomes the name of a file
    }
