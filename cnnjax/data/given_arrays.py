"""`from_arrays`: a data set of one's own arrays, checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from cnnjax.core.checks import PIXEL_DTYPES, PIXELS, check_channels_last
from cnnjax.data.by_name import check_lengths, checked_inputs, named
from cnnjax.data.dataset import Dataset, finite_weights
from cnnjax.data.label_kinds import check_names, task_labels
from cnnjax.task import JointTask, Task, any_task


def from_arrays(
    images: Any,
    labels: Any,
    label_names: Sequence[str] = (),
    name: str = "arrays",
    task: str | Task | Mapping[str, str | Task] | None = None,
    weights: np.ndarray | None = None,
) -> Dataset:
    """A data set of one's own arrays, checked.

    Args:
        images: [N, H, W, C] or [N, H, W] (grey), of any number of channels; uint8, or floating in
            [0, 255]; or of other ranges, uint16, int16 or floating, for a model whose preprocessing
            is "none" or a function of your own. {name: array} of several inputs, each images
            [N, H, W, C], floating numbers of any shape, or token ids, int32 [N, T].
        labels: as `task` has them: of "classes" [N] whole numbers >= 0, or one-hot [N, K]; of
            "binary" [N], 0 and 1 or probabilities; of "multilabel" such rows [N, K]; of "values"
            numbers [N, K], or a vector [N], which becomes [N, 1]; of "positions" whole numbers
            [N, P]; of "dense" [N, H, W], -1 where a pixel counts nowhere. {name: these} of several
            outputs.
        label_names: one name per class.
        name: what to call it in records and messages.
        task: of the model, or its name; None goes by the labels: numbers [N] that are not whole are
            values, whole numbers of the images' own height and width classes of their pixels, and
            all else has to be classes. {name: task} of several outputs.
        weights: [N] finite numbers >= 0, not all zero, by which the losses of training examples are
            multiplied; None: no example counts more than another.

    Returns:
        The data set; floating images become float32.

    Raises:
        ValueError: for shapes, dtypes or values that cannot be, each named; for [N, C, H, W], as
            PyTorch has it, where 1 to 4 channels stand before two sides of 8 pixels and more.

    >>> import numpy as np
    >>> from_arrays(np.zeros((2, 8, 8), np.uint8), [0, 1]).input_shape
    (8, 8, 1)
    """
    if isinstance(images, Mapping) or isinstance(labels, Mapping):
        return _from_named(images, labels, label_names, name, task, weights)
    images = _checked_images(images, name)
    labels = task_labels(np.asanyarray(labels), task, name, images.shape[:3])
    if len(images) != len(labels):
        raise ValueError(f"{name}: {len(images)} images but {len(labels)} labels")
    label_names = tuple(str(n) for n in label_names)
    check_names(label_names, labels, name)
    kept = None if weights is None else checked_weights(weights, len(labels), name)
    return Dataset(images, labels, label_names, name, weights=kept)


def _from_named(
    inputs: Any, labels: Any, label_names: Sequence[str], name: str, task: Any, weights: Any
) -> Dataset:
    """`from_arrays` of several inputs, or several labels."""
    kept: Any
    if isinstance(labels, Mapping):
        if label_names:
            raise ValueError(
                f"{name}: label_names are for labels of one array: give the model those by name"
            )
        kept = named_labels(labels, name, task)
    else:
        kept = task_labels(np.asanyarray(labels), task, name)
        check_names(label_names, kept, name)
    arrays: Any
    if isinstance(inputs, Mapping):
        arrays = checked_inputs(inputs, name)
    else:
        arrays = _checked_images(inputs, name)
    names = tuple(str(n) for n in label_names)
    data = Dataset(arrays, kept, names, name)
    check_lengths(len(data), {**named(arrays, "inputs"), **named(kept, "labels")}, name)
    if weights is not None:
        data = replace(data, weights=checked_weights(weights, len(data), name))
    return data


def named_labels(labels: Mapping[str, Any], name: str, task: Any) -> dict[str, np.ndarray]:
    """Labels by name, each as its task has it."""
    tasks = any_task(task) if task is not None else None
    if tasks is not None and not isinstance(tasks, JointTask):
        raise ValueError(
            f"{name}: labels are given by name, and the task {tasks.name!r} has one array"
        )
    if tasks is not None:
        tasks.by_name(labels, f"{name}: labels")
    each = dict(tasks.parts) if tasks is not None else dict.fromkeys(labels)
    return {
        key: task_labels(np.asanyarray(one), each[key], f"{name}: labels[{key!r}]")
        for key, one in labels.items()
    }


def _checked_images(images: Any, name: str) -> np.ndarray:
    """Images [N, H, W, C]; floating ones as float32. Errors as in `from_arrays`."""
    images = np.asanyarray(images)
    if len(np.shape(images)) == 0 or len(images) == 0:
        raise ValueError(f"{name}: the data set is empty")
    images = images[..., None] if images.ndim == 3 else images
    if images.ndim != 4:
        raise ValueError(f"{name}: images must be [N, H, W, C], got shape {list(images.shape)}")
    check_channels_last(f"{name}: images", images.shape)
    return images if images.dtype in PIXEL_DTYPES else _checked_floats(images, name)


def _checked_floats(images: np.ndarray, name: str) -> np.ndarray:
    if not np.issubdtype(images.dtype, np.floating):
        raise ValueError(f"{name}: images must be {PIXELS}, got {images.dtype}")
    finite = np.isfinite(images).reshape(len(images), -1).all(axis=1)
    if not finite.all():
        raise ValueError(f"{name}: images[{int(np.argmin(finite))}] holds NaN or infinity")
    return images.astype(np.float32, copy=False)


def checked_weights(weights: Any, count: int, name: str) -> np.ndarray:
    """Weights of so many examples, float32 [N]; arguments and errors as in `finite_weights`.

    Raises:
        ValueError: for weights that are all zero, too.
    """
    kept = finite_weights(weights, count, name)
    if not kept.any():
        raise ValueError(f"{name}: weights are all zero, so that nothing would be trained")
    return kept
