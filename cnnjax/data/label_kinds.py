"""Labels as a task has them, from the arrays that people have: checked, int32 or float32."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from cnnjax.task import JointTask, Task, any_task


def task_labels(
    labels: np.ndarray,
    task: str | Task | Mapping[str, str | Task] | None,
    name: str,
    pixels: tuple[int, ...] = (),
) -> np.ndarray:
    """Labels for a task, or for what the arrays themselves show.

    Args:
        labels: of all examples.
        task: of the model; None goes by the evidence: whole numbers [N] and one-hot rows [N, K] are
            classes, other numbers [N] are values, and whole numbers of the images' own height and
            width are the classes of pixels.
        name: of the data, for the message.
        pixels: (N, H, W) of images; () for other inputs.

    Returns:
        int32 or float32, of the shape that the task has.

    Raises:
        ValueError: for what cannot be, naming it.
    """
    if task is None:
        if _are_values(labels):
            return task_labels(labels, "values", name)
        if pixels and labels.shape == pixels and np.issubdtype(labels.dtype, np.integer):
            return task_labels(labels, "dense", name)
        return class_labels(labels, name)
    task = any_task(task)
    if isinstance(task, JointTask):
        raise ValueError(f"{name}: labels of the task {task.name!r} must be given by name")
    if task.labels == ("N",) and task.label_kind == "integer":
        return class_labels(labels, name)
    axes = task.labels
    if labels.ndim == 1 and len(axes) == 2:  # a vector of a single value each
        labels = labels[:, None]
    if labels.ndim == 2 and labels.shape[1] == 1 and axes == ("N",):
        labels = labels[:, 0]
    if labels.ndim != len(axes):
        raise ValueError(
            f"{name}: labels of the task {task.name!r} must be [{', '.join(axes)}], got shape "
            f"{list(labels.shape)}"
        )
    return _of_kind(labels, task, name)


def check_names(names: Sequence[str], labels: np.ndarray, name: str) -> None:
    """Refuse names that do not fit the labels.

    Args:
        names: of classes or values; () where there are none.
        labels: as `task_labels` made them.
        name: of the data, for the message.

    Raises:
        ValueError: if a class has no name, or there are more or fewer names than values.
    """
    values = np.issubdtype(labels.dtype, np.floating) and labels.ndim == 2
    if names and values and labels.shape[1] != len(names):
        raise ValueError(
            f"{name}: {len(names)} label_names do not fit labels [N, {labels.shape[1]}], values, "
            "each with a name"
        )
    if names and np.issubdtype(labels.dtype, np.integer) and labels.max() >= len(names):
        raise ValueError(
            f"{name}: label {labels.max()} has no name, there are {len(names)} label_names"
        )


def class_labels(labels: np.ndarray, name: str) -> np.ndarray:
    """Labels of classes, int32 [N], also of one-hot rows; errors as in `from_arrays`."""
    if labels.ndim == 2 and labels.shape[1] > 1:
        if not np.isin(labels, (0, 1)).all():
            raise ValueError(
                f"{name}: two-dimensional labels must be one-hot rows of 0 and 1; of another task "
                "give task='values', 'positions' or 'multilabel'"
            )
        if not (labels.sum(axis=1) == 1).all():
            raise ValueError(
                f"{name}: two-dimensional labels must be one-hot rows of 0 and 1; where several "
                "labels of an example may hold, give task='multilabel'"
            )
        labels = labels.argmax(axis=1)
    labels = labels.reshape(-1) if labels.ndim == 2 else labels
    if labels.ndim != 1:
        raise ValueError(
            f"{name}: labels must be [N] or one-hot [N, K], got {list(labels.shape)}; of another "
            "task give task=, e.g. 'dense' for a class at each pixel"
        )
    return _whole(labels, name, least=0)


def _are_values(labels: np.ndarray) -> bool:
    """Whether they are numbers, one each, that cannot be those of classes."""
    if labels.ndim != 1 or not np.issubdtype(labels.dtype, np.floating):
        return False
    return bool(np.isfinite(labels).all() and (labels != np.floor(labels)).any())


def _of_kind(labels: np.ndarray, task: Task, name: str) -> np.ndarray:
    """Labels in the dtype of a task."""
    floating = np.issubdtype(labels.dtype, np.floating)
    if not floating and not np.issubdtype(labels.dtype, np.integer) and labels.dtype != np.bool_:
        raise ValueError(f"{name}: labels must be numbers, got {labels.dtype}")
    if task.label_kind == "integer" or (task.label_kind == "number" and not floating):
        least = 0 if task.of_classes else -(2**31)
        return _whole(labels, name, least if task.ignored is None else task.ignored)
    if not np.isfinite(labels).all():
        raise ValueError(f"{name}: labels hold NaN or infinity")
    return labels.astype(np.float32, copy=False)


def _whole(labels: np.ndarray, name: str, least: int) -> np.ndarray:
    """Whole numbers from `least` on, as int32."""
    whole = np.issubdtype(labels.dtype, np.integer) or labels.dtype == np.bool_
    if np.issubdtype(labels.dtype, np.floating):
        whole = bool((np.isfinite(labels) & (labels == np.floor(labels))).all())
    if not whole:
        raise ValueError(f"{name}: labels must be whole numbers, got {labels.dtype}")
    if labels.size and labels.min() < least:
        raise ValueError(f"{name}: labels must be >= {least}, got {labels.min()}")
    if labels.size and labels.max() >= 2**31:
        raise ValueError(f"{name}: labels must be below 2^31, got {labels.max()}")
    return labels.astype(np.int32, copy=False)
