"""Several data sets as one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from cnnjax.data.dataset import Dataset
from cnnjax.data.lazy import Joined, Lazy


def concatenate(datasets: Sequence[Dataset], name: str | None = None) -> Dataset:
    """The examples of several data sets, one data set after the other.

    Classes are joined by their names: those of the first data set, and then what the others have
    more, whose labels change accordingly.

    Args:
        datasets: of one shape and dtype, with names of classes in all of them or in none, with
            weights in all or in none, one at least.
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
    inputs = [part.inputs for part in parts]
    lazy = any(isinstance(array, Lazy) for array in inputs)
    return replace(
        first,
        inputs=Joined(tuple(inputs)) if lazy else np.concatenate(inputs),
        labels=np.concatenate(labels),
        label_names=names,
        name=name or " + ".join(part.name for part in parts),
        weights=(
            None if first.weights is None else np.concatenate([part.weights for part in parts])
        ),
    )


def _check_fits(first: Dataset, other: Dataset) -> None:
    then, now = _kind(first), _kind(other)
    for what in then:
        if then[what] != now[what]:
            raise ValueError(
                f"{first.name} and {other.name} cannot be joined: {what} {then[what]} in the first,"
                f" {now[what]} in the second"
            )


def _kind(data: Dataset) -> dict[str, str]:
    """What data sets that are joined have in common."""
    names = ", ".join(data.label_names) or "none"
    if data.label_names and _has_classes(data):
        names = "some"  # which are joined by their names
    return {
        "inputs of shape": str(list(data.input_shape)),
        "inputs of dtype": str(data.inputs.dtype),
        "labels of shape": str(list(data.labels.shape[1:])),
        "labels of dtype": str(data.labels.dtype),
        "label_names:": names,
        "weights:": "none" if data.weights is None else "some",
        "vocabulary:": "none" if data.vocabulary is None else data.vocabulary.fingerprint,
    }


def _has_classes(data: Dataset) -> bool:
    return data.labels.ndim == 1 and np.issubdtype(data.labels.dtype, np.integer)


def _renumbered(data: Dataset, names: tuple[str, ...]) -> np.ndarray:
    """Labels by the place of their classes' names among all."""
    if not _has_classes(data) or data.label_names == names[: len(data.label_names)]:
        return data.labels
    return np.array([names.index(name) for name in data.label_names], np.int32)[data.labels]
