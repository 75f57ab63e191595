"""Orders and folds in which every class keeps its share of the examples."""

from __future__ import annotations

import heapq
from collections.abc import Mapping
from typing import Any

import numpy as np

from cnnjax.core import rng


def check_classes(labels: Any, name: str, what: str = "stratify=True") -> None:
    """Refuse labels that are no classes, of which no share can be kept.

    Args:
        labels: of a data set.
        name: of it.
        what: needs classes, for the message.

    Raises:
        ValueError: if they are not whole numbers [N].
    """
    if isinstance(labels, Mapping):
        raise ValueError(
            f"{what} needs one class for each example, int32 [N], and {name} has labels by name "
            f"({', '.join(labels)}): leave it out"
        )
    if labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(
            f"{what} needs one class for each example, int32 [N], and {name} has labels of shape "
            f"{list(labels.shape)} and dtype {labels.dtype}: leave it out"
        )


def stratified_order(labels: np.ndarray, seed: int, name: str) -> np.ndarray:
    """A random order in every beginning of which each class has its share, to within one example.

    Each example has a first and a last place at which the number of its class does not leave the
    share, and the one whose last place comes first is next: with one place at a time this always
    succeeds (Steiner & Yeomans 1993, Level schedules for mixed-model, just-in-time processes).

    Args:
        labels: int [N], classes.
        seed, name: of the random stream.

    Returns:
        int64 [N], a permutation.
    """
    there, classes, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    rank = rng.permutation(len(there), seed, f"{name} classes")[classes]  # which goes first of two
    rows = rng.permutation(len(labels), seed, name)
    rows = rows[np.argsort(rank[rows], kind="stable")]  # class by class, each in random order
    size, total = sizes[classes[rows]], len(labels)
    number = np.arange(total) - np.searchsorted(rank[rows], rank[rows])  # within its class
    first, last = number * total // size, -(-(number + 1) * total // size)
    by_first = np.argsort(first, kind="stable")
    places = zip(
        *(array[by_first].tolist() for array in (first, last, rank[rows], rows)), strict=True
    )
    order, waiting = [], []  # type: tuple[list[int], list[tuple]]
    ahead = next(places, None)
    for place in range(total):
        while ahead and ahead[0] <= place:
            heapq.heappush(waiting, ahead[1:])
            ahead = next(places, None)
        order.append(heapq.heappop(waiting)[-1])
    return np.array(order, np.int64)


def dealt(labels: np.ndarray | None, count: int, folds: int, seed: int) -> np.ndarray:
    """The fold that each example belongs to, of a size that differs by one example at most.

    Args:
        labels: int [N], whose classes are dealt one after the other, so that each fold has of every
            class as many as another one, or one more; None deals all alike.
        count: N.
        folds: number of folds.
        seed: of the choice.

    Returns:
        int64 [N], each in [0, folds).
    """
    alike = rng.permutation(count, seed, "k_fold")
    order = alike if labels is None else alike[np.argsort(labels[alike], kind="stable")]
    numbers = np.empty(count, np.int64)
    numbers[order] = np.arange(count) % folds
    return numbers
