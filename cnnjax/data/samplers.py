"""Which examples an epoch visits: samplers, pure functions (seed, epoch, data set) -> indices."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cnnjax.core import rng
from cnnjax.core.checks import one_of, whole_number
from cnnjax.data.dataset import Dataset
from cnnjax.data.given_arrays import checked_weights
from cnnjax.data.stratify import check_classes

Sampler = Callable[[int, int, Dataset], np.ndarray]


def balanced(seed: int, epoch: int, data: Dataset) -> np.ndarray:
    """Every class equally often, in as many draws as there are examples.

    The examples of a class come equally often, too, to within one: those of a small class several
    times, and of a large one another part in every epoch.

    Args:
        seed, epoch: of the choice.
        data: whose labels are classes; those without an example are left out.

    Returns:
        int64 [N], positions in the data set in random order.

    Raises:
        ValueError: for labels that are no classes.
    """
    check_classes(data.labels, data.name, "the sampler 'balanced'")
    order = rng.permutation(len(data), seed, "balanced examples", epoch)
    there, classes = np.unique(data.labels[order], return_inverse=True)
    members = np.split(
        order[np.argsort(classes, kind="stable")], np.cumsum(np.bincount(classes))[:-1]
    )
    draws = np.full(len(there), len(data) // len(there))
    more = rng.permutation(len(there), seed, "balanced classes", epoch)
    draws[more[: len(data) % len(there)]] += 1
    chosen = np.concatenate([np.resize(m, n) for m, n in zip(members, draws, strict=True)])
    return chosen[rng.permutation(len(chosen), seed, "balanced order", epoch)]


@dataclass(frozen=True, eq=False, repr=False)
class Weighted:
    """Draws with replacement, each example by its weight; `weighted` makes it.

    Args:
        weights: float32 [N], one for each example.
        draws: indices in an epoch; None: as many as there are examples.
    """

    weights: np.ndarray
    draws: int | None = None

    def __call__(self, seed: int, epoch: int, data: Dataset) -> np.ndarray:
        """Positions in the data set, int64 [draws]."""
        weights = checked_weights(self.weights, len(data), f"the sampler of {data.name}")
        ends = np.cumsum(weights, dtype=np.float64)
        count = len(data) if self.draws is None else self.draws
        points = rng.uniform(count, seed, "weighted", epoch) * ends[-1]
        return np.minimum(np.searchsorted(ends, points, side="right"), np.flatnonzero(weights)[-1])

    def __repr__(self) -> str:
        digest = hashlib.sha256(self.weights.tobytes()).hexdigest()[:16]
        return f"weighted({len(self.weights)} weights {digest}, draws={self.draws})"


def weighted(weights: Sequence[float] | np.ndarray, draws: int | None = None) -> Weighted:
    """A sampler that draws with replacement, each example with a probability by its weight.

    Args:
        weights: [N] finite numbers >= 0, not all zero.
        draws: indices in an epoch, >= 1; None: as many as there are examples.

    Returns:
        The sampler, a function (seed, epoch, data set) -> indices.

    Raises:
        ValueError: for weights or a number of draws that cannot be.

    >>> import numpy as np
    >>> from cnnjax.data import from_arrays
    >>> data = from_arrays(np.zeros((3, 8, 8)), [0, 1, 2])
    >>> weighted([0, 1, 0])(0, 0, data).tolist()
    [1, 1, 1]
    """
    kept = checked_weights(weights, np.size(weights), "weighted").copy()
    kept.flags.writeable = False
    return Weighted(kept, None if draws is None else whole_number("draws", draws))


SAMPLERS: dict[str, Sampler] = {"balanced": balanced}


def as_sampler(sampler: str | Sampler | None) -> Sampler | None:
    """A sampler, or the one of that name; None stays None.

    Raises:
        ValueError: for an unknown name.
    """
    if isinstance(sampler, str):
        return SAMPLERS[one_of(*SAMPLERS)("sampler", sampler)]
    return sampler


def sampled(sampler: Sampler, seed: int, epoch: int, data: Dataset) -> np.ndarray:
    """What a sampler chooses, checked.

    Returns:
        int32 [M].

    Raises:
        ValueError: if it returns no positions of the data set.
    """
    given: Any = sampler(seed, epoch, data)
    indices = np.asarray(given)
    if indices.ndim != 1 or not np.issubdtype(indices.dtype, np.integer) or not len(indices):
        raise ValueError(
            "a sampler must return whole numbers [M], one at least, got "
            f"{indices.dtype} {list(indices.shape)}"
        )
    wrong = (indices < 0) | (indices >= len(data))
    if wrong.any():
        raise ValueError(
            f"a sampler must return positions in [0, {len(data)}), those of {data.name}, got "
            f"{indices[np.argmax(wrong)]}"
        )
    return indices.astype(np.int32)
