"""Labels of every task from arrays, and what cannot be said by which remedy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import cnnjax as cj
from cnnjax.data import from_arrays

IMAGES = np.zeros((4, 2, 3, 1), np.uint8)
MASKS = np.arange(24).reshape(4, 2, 3) % 3
HOT = np.array([[0, 1, 1], [1, 0, 0], [0, 0, 0], [1, 1, 1]])


@pytest.mark.parametrize(
    ("labels", "task", "dtype", "shape"),
    [
        ([0.5, 1, 2, 3], None, np.float32, (4, 1)),
        ([0, 1, 2, 3], "values", np.float32, (4, 1)),
        ([0.0, 1, 2, 3], None, np.int32, (4,)),
        ([[0.5, 1]] * 4, "values", np.float32, (4, 2)),
        (HOT, "multilabel", np.int32, (4, 3)),
        (HOT * 0.5, "multilabel", np.float32, (4, 3)),
        (HOT == 1, "multilabel", np.int32, (4, 3)),
        ([0, 1, 1, 0], "binary", np.int32, (4,)),
        ([[0.0], [1], [0.3], [0]], "binary", np.float32, (4,)),
        ([[0, 1]] * 4, "positions", np.int32, (4, 2)),
        (MASKS, None, np.int32, (4, 2, 3)),
        (MASKS.astype(np.uint8), "dense", np.int32, (4, 2, 3)),
        (MASKS - 1, "dense", np.int32, (4, 2, 3)),
        (MASKS[:, :1, :1], "dense", np.int32, (4, 1, 1)),
        (np.eye(4), "classes", np.int32, (4,)),
    ],
)  # fmt: skip
def test_labels_become_what_the_task_has(
    labels: Any, task: str | None, dtype: type, shape: tuple[int, ...]
) -> None:
    data = from_arrays(IMAGES, labels, task=task)
    assert (data.labels.dtype, data.labels.shape) == (dtype, shape)
    wanted = np.asarray(labels).argmax(1) if task == "classes" else np.asarray(labels)
    np.testing.assert_allclose(data.labels.ravel(), wanted.ravel())


@pytest.mark.parametrize(
    ("labels", "task", "message"),
    [
        (HOT, None, "where several labels of an example may hold, give task='multilabel'"),
        ([[0.5, 2]] * 4, None, "of another task give task='values'"),
        (MASKS[:, :1], None, "of another task give task=, e.g. 'dense'"),
        (MASKS, "values", r"labels of the task 'values' must be \[N, K\], got shape \[4, 2, 3\]"),
        ([0, 1, 2, 3], "dense", r"labels of the task 'dense' must be \[N, H, W\], got shape \[4\]"),
        (MASKS - 2, "dense", "labels must be >= -1, got -2"),
        (MASKS + 0.5, "dense", "labels must be whole numbers, got float64"),
        ([0, 1, np.nan, 1], "values", "labels hold NaN or infinity"),
        (["a", "b", "c", "d"], "binary", "labels must be numbers, got <U1"),
        ([0, 1, 2, 3], "multi", "task must be one of classes, .*Did you mean 'multilabel'"),
    ],
)  # fmt: skip
def test_labels_that_cannot_be_are_refused(labels: Any, task: str | None, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        from_arrays(IMAGES, labels, name="mine", task=task)


def test_a_class_without_a_name_is_refused_in_every_task() -> None:
    with pytest.raises(ValueError, match="label 2 has no name, there are 2 label_names"):
        from_arrays(IMAGES, MASKS, ("sea", "sky"))
    assert from_arrays(IMAGES, MASKS, ("sea", "sky", "sun")).label_names == ("sea", "sky", "sun")
    assert cj.data.from_arrays(IMAGES, [0.5, 1, 2, 3], ("height",)).label_names == ("height",)
