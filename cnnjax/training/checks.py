"""Do data and model fit together? Answered before anything is compiled."""

from __future__ import annotations

import numpy as np

from cnnjax.data import Dataset
from cnnjax.models import Model, ModelSpec

_ROWS_AT_ONCE = 4096


def check_data(model: Model, data: Dataset) -> None:
    """Check a data set against a model that is to be trained or evaluated on it.

    Raises:
        ValueError: as `check_images`, and for labels out of range, or a model without a head.
    """
    spec = model.spec
    _check_shape(data, spec)
    if spec.num_classes == 0:
        raise ValueError(
            f"{spec.name} has no head (include_top=False), so there is nothing to train it for: "
            "create it with num_classes and include_top=True, or a classifier, or give it a head "
            "by cj.transfer.replace_head"
        )
    classes = max(spec.num_classes, 2)
    wrong = (data.labels >= classes) | (data.labels < 0)
    if wrong.any():
        at, highest = int(np.argmax(wrong)), max(int(np.max(data.labels)), 0)
        raise ValueError(
            f"{data.name}: labels[{at}] is {data.labels[at]}, but {spec.name} has num_classes="
            f"{spec.num_classes}, so labels must lie in [0, {classes}): create it with "
            f"num_classes={highest + 1} or more"
        )
    _check_floats(data, spec)


def check_images(model: Model, data: Dataset) -> None:
    """Check that a model takes the images of a data set.

    Raises:
        ValueError: for an empty data set, another image shape, or float images that are not pixels
            in [0, 255]; names the data, the value and what to do.
    """
    _check_shape(data, model.spec)
    _check_floats(data, model.spec)


def _check_shape(data: Dataset, spec: ModelSpec) -> None:
    if len(data) == 0:
        raise ValueError(f"{data.name}: the data set is empty")
    if tuple(data.image_shape) != spec.input_shape:
        raise ValueError(
            f"{data.name} has images of shape {list(data.image_shape)}, the model {spec.name} "
            f"takes {list(spec.input_shape)}: create it with input_shape={tuple(data.image_shape)}"
        )


def _check_floats(data: Dataset, spec: ModelSpec) -> None:
    if data.images.dtype == np.uint8:
        return
    low, high = np.inf, -np.inf
    for start in range(0, len(data), _ROWS_AT_ONCE):
        rows = data.images[start : start + _ROWS_AT_ONCE]
        low, high = min(low, float(rows.min())), max(high, float(rows.max()))
        if not np.isfinite(rows).all():
            bad = ~np.isfinite(rows).reshape(len(rows), -1).all(axis=1)
            raise ValueError(
                f"{data.name}: images[{start + int(np.argmax(bad))}] holds NaN or infinity"
            )
    spec.check_pixels(low, high, data.name)
