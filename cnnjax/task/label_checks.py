"""Labels that a task cannot have, each refused in one sentence; arguments as in `Task.check`."""

from __future__ import annotations

from typing import Any

import numpy as np

# Of a pixel without a label, which counts nowhere: neither in a loss nor in a metric.
IGNORED = -1


def class_labels(labels: np.ndarray, outputs: tuple[int, ...], model: str) -> None:
    """Labels are numbers of classes; arguments and errors as in `Task`."""
    classes = max(outputs[-1], 2)
    wrong = (labels >= classes) | (labels < 0)
    if wrong.any():
        at, highest = np.argwhere(wrong)[0].tolist(), max(int(np.max(labels)), 0)
        raise ValueError(
            f"labels{at} is {labels[tuple(at)]}, but {model} has num_classes={outputs[-1]}, so "
            f"labels must lie in [0, {classes}): create it with num_classes={highest + 1} or more"
        )


def finite_labels(labels: np.ndarray, outputs: tuple[int, ...], model: str) -> None:
    """Labels are finite numbers; arguments and errors as in `Task`."""
    if not np.isfinite(labels).all():
        raise ValueError("the labels hold NaN or infinity")


def pixel_labels(labels: np.ndarray, outputs: tuple[int, ...], model: str) -> None:
    """Labels are numbers of classes, or -1 at a pixel that counts nowhere."""
    try:
        class_labels(np.where(labels == IGNORED, 0, labels), outputs, model)
    except ValueError as error:
        raise ValueError(f"{error}; a pixel without a label has {IGNORED}") from None


def shares(labels: np.ndarray, outputs: tuple[int, ...], model: str) -> None:
    """Labels are 0 or 1, or probabilities between them."""
    wrong = ~((labels >= 0) & (labels <= 1))  # NaN is wrong too
    if wrong.any():
        at: Any = tuple(np.argwhere(wrong)[0].tolist())
        raise ValueError(
            f"labels{list(at)} is {labels[at]}, and labels of {model} are 0 or 1, or "
            "probabilities between them"
        )
