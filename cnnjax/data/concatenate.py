"""Several data sets as one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from cnnjax.data.by_name import named
from cnnjax.data.dataset import Dataset
from cnnjax.data.lazy import Joined, Lazy


def concatenate(datasets: Sequence[Dataset], name: str | None = None) -> Dataset:
    """The examples of several data sets, one data set after the other.

    Classes are joined by their names: those of the first data set, and then what the others have
    more, whose labels change accordingly.

    Args:
        datasets: of one shape and dtype, or of the same names with these, with names of classes in
            all of them or in none, with weights in all or in none, one at least.
        name: of the whole; None: theirs, joined by "+".

    Returns:
        The data set; what is read where it is indexed in one of them is so in all.

    Raises:
        ValueError: for data sets that do not fit together, with the first that does not.

    >>> import numpy as np
    >>> from cnnjax.data import from_arrays
    >>> pets, birds = (from_arrays(np.zeros((1, 8, 8)), [0], [name]) for name in ("cat", "owl"))
    >>> both = concatenate([pets, birds])
    >>> both.label_names, both.labels.tolist()
    (('cat', 'owl'), [0, 1])
    """
    parts = list(datasets) if isinstance(datasets, Sequence) else []
    if not parts or not all(isinstance(part, Dataset) for part in parts):
        raise ValueError(
            f"datasets must be a list of Datasets, one at least, got {type(datasets).__name__}"
            + (f" of {', '.join(sorted({type(part).__name__ for part in parts}))}" * bool(parts))
        )
    first = parts[0]
    for part in parts[1:]:
        _check_fits(first, part)
    names = tuple(dict.fromkeys(name for part in parts for name in part.label_names))
    labels = [_renumbered(part, names) for part in parts]
    return replace(
        first,
        inputs=_joined([part.inputs for part in parts]),
        labels=_joined(labels),
        label_names=names,
        name=name or " + ".join(part.name for part in parts),
        weights=(
            None if first.weights is None else np.concatenate([part.weights for part in parts])
        ),
    )


def _joined(arrays: Sequence[Any]) -> Any:
    """Arrays one after the other; of several by name, those of each name."""
    if isinstance(arrays[0], Mapping):
        return {name: _joined([array[name] for array in arrays]) for name in arrays[0]}
    if any(isinstance(array, Lazy) for array in arrays):
        return Joined(tuple(arrays))
    return np.concatenate(arrays)


def _check_fits(first: Dataset, other: Dataset) -> None:
    then, now = _kind(first), _kind(other)
    for what in then | now:
        here, there = then.get(what, "none"), now.get(what, "none")
        if here != there:
            raise ValueError(
                f"{first.name} and {other.name} cannot be joined: {what} {here} in the first,"
                f" {there} in the second"
            )


def _kind(data: Dataset) -> dict[str, str]:
    """What data sets that are joined have in common."""
    names = ", ".join(data.label_names) or "none"
    if data.label_names and _has_classes(data):
        names = "some"  # which are joined by their names
    kinds = {}
    for what, array in {**named(data.inputs, "inputs"), **named(data.labels, "labels")}.items():
        kinds[f"{what} of shape"] = str(list(array.shape[1:]))
        kinds[f"{what} of dtype"] = str(array.dtype)
    return {
        **kinds,
        "label_names:": names,
        "weights:": "none" if data.weights is None else "some",
        "vocabulary:": "none" if data.vocabulary is None else data.vocabulary.fingerprint,
    }


def _has_classes(data: Dataset) -> bool:
    labels = data.labels
    if isinstance(labels, Mapping):
        return False
    return labels.ndim == 1 and np.issubdtype(labels.dtype, np.integer)


def _renumbered(data: Dataset, names: tuple[str, ...]) -> Any:
    """Labels by the place of their classes' names among all."""
    if not _has_classes(data) or data.label_names == names[: len(data.label_names)]:
        return data.labels
    return np.array([names.index(name) for name in data.label_names], np.int32)[data.labels]
