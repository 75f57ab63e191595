"""Which examples of a data set to show: a few of every class, the same ones for the same seed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from cnnjax.core import rng
from cnnjax.core.checks import whole_number
from cnnjax.core.text import suggest
from cnnjax.data.dataset import Dataset
from cnnjax.data.foreign.stream import check_at_hand

_CHANNELS = (1, 3)  # as `load` reads them


def choose_examples(
    labels: np.ndarray,
    names: Sequence[str],
    per_class: int,
    seed: int = 0,
    classes: Sequence[str] | None = None,
) -> dict[str, np.ndarray]:
    """A few random examples of every class; the first of more are those of fewer.

    Args:
        labels: int [N], classes.
        names: of the K classes.
        per_class: >= 1; of a smaller class all are taken.
        seed: whole number in [0, 2^32).
        classes: names of those wanted, in their order; None takes all.

    Returns:
        {name of a class: int64 positions of its examples}.

    Raises:
        ValueError: for per_class < 1, a seed out of range, an unknown class or one named twice,
            or classes that are no list of names.

    >>> chosen = choose_examples(np.array([0, 1, 0, 1, 1]), ("cat", "dog"), 2)
    >>> sorted(chosen["cat"].tolist()), len(chosen["dog"])
    ([0, 2], 2)
    """
    per_class = whole_number("per_class", per_class)
    rng.check_seed(seed)
    wanted = list(names if classes is None else classes)
    if isinstance(classes, str) or not all(isinstance(name, str) for name in wanted):
        raise ValueError(f"classes must be a list of names, got {classes!r}")
    numbers = {name: number for number, name in enumerate(names)}
    for name in wanted:
        if name not in numbers:
            raise ValueError(f"there is no class {name!r}. {suggest(name, names, 'classes')}")
    if len(set(wanted)) < len(wanted):
        raise ValueError(f"a class is named twice: {', '.join(wanted)}")
    chosen = {}
    for name in wanted:
        of_class = np.flatnonzero(labels == numbers[name])
        order = rng.permutation(len(of_class), seed, "examples", numbers[name])
        chosen[name] = of_class[order[:per_class]]
    return chosen


def class_names_of(*parts: Dataset) -> tuple[str, ...]:
    """Names of the classes of the parts of a data set.

    Returns:
        K names, numbers where the classes have none; () where the labels are no classes, but values
        or several for each example.

    Raises:
        ValueError: for a stream.
    """
    for part in parts:
        check_at_hand(part, "a choice of examples by class")
    first = parts[0]
    if isinstance(first.labels, Mapping):
        return ()
    if first.labels.ndim != 1 or not np.issubdtype(first.labels.dtype, np.integer):
        return ()
    largest = max(int(part.labels.max()) for part in parts)
    return first.label_names or tuple(str(k) for k in range(largest + 1))


def check_filed(data: Dataset) -> None:
    """Refuse a split whose images no file of images can hold.

    Raises:
        ValueError: unless they are grey or RGB, of 8 bits.
    """
    if not data.holds_images or data.inputs.dtype != np.uint8:
        raise ValueError(f"{data.name} has no images of whole numbers from 0 to 255")
    if data.input_shape[2] not in _CHANNELS:
        raise ValueError(
            f"images must be grey or RGB, of 1 or 3 channels, and those of {data.name} have "
            f"{data.input_shape[2]}"
        )
