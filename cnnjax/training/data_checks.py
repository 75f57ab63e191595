"""Do the data fit the model? Answered before anything is compiled."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from cnnjax.core.checks import (
    PIXELS,
    check_channels_last,
    holds_pixels,
    holds_tokens,
    shape_text,
)
from cnnjax.data import Dataset, Lazy, Stream
from cnnjax.models import Model, ModelSpec
from cnnjax.task import JointTask, Task

_ROWS_AT_ONCE = 4096
_SAMPLED = 256


def check_data(model: Model, data: Dataset | Stream) -> None:
    """Check a data set against a model that is to be trained or evaluated on it.

    Of a stream the first batch is looked at here, and the labels of all others when they come.

    Raises:
        ValueError: as `check_images`, and for labels out of range or none that counts, classes in
            another order than the model's, or a model without a head.
    """
    spec = model.spec
    if isinstance(data, Stream):
        data = data.sample
    else:
        _check_known(data.labels, spec.task, data.name)
    _check_shape(data, spec)
    if spec.num_classes == 0:
        raise ValueError(
            f"{spec.name} has no head (include_top=False), so there is nothing to train it for: "
            "create it with num_classes and include_top=True, or a classifier, or give it a head "
            "by cj.transfer.replace_head"
        )
    _check_labels(data, model)
    _check_names(data, spec)
    _check_values(data, spec)


def check_images(model: Model, data: Dataset) -> None:
    """Check that a model takes the images of a data set.

    Raises:
        ValueError: for an empty data set, another image shape, or float images that are not pixels
            in [0, 255]; names the data, the value and what to do.
    """
    _check_shape(data, model.spec)
    _check_values(data, model.spec)


def _check_labels(data: Dataset, model: Model) -> None:
    """Whether the labels are what the model's task asks for."""
    spec = model.spec
    try:
        spec.task.check_labels(data.labels, model.output_shape(data.input_shape), spec.name)
    except ValueError as error:
        raise ValueError(f"{data.name}: {error}") from None


def _check_known(labels: Any, task: Task, name: str) -> None:
    """Whether some label counts; of usual data the first rows show it."""
    if isinstance(task, JointTask) and isinstance(labels, Mapping):
        for output, part in task.parts:
            if output in labels:
                _check_known(labels[output], part, f"{name}, labels[{output!r}]")
    if task.ignored is None or isinstance(labels, Mapping) or not len(labels):
        return
    for start in range(0, len(labels), _ROWS_AT_ONCE):
        if (labels[start : start + _ROWS_AT_ONCE] != task.ignored).any():
            return
    raise ValueError(
        f"{name}: all labels are {task.ignored}, of what counts nowhere, so there is nothing to "
        "learn or to measure: give some their class"
    )


def _check_names(data: Dataset, spec: ModelSpec) -> None:
    """Whether classes of the same names have them in the same order."""
    ours, theirs = tuple(spec.label_names), tuple(data.label_names)
    if ours != theirs and sorted(ours) == sorted(theirs):
        place = next(i for i, pair in enumerate(zip(ours, theirs, strict=True)) if len({*pair}) > 1)
        raise ValueError(
            f"{data.name} has the classes of {spec.name} in another order, label {place} is "
            f"{theirs[place]!r} and not {ours[place]!r}: number the labels by the model's names"
        )


def _check_words(data: Dataset, spec: ModelSpec) -> None:
    """Whether the numbers of words are such as the model knows."""
    known = spec.vocabulary
    if known and data.vocabulary and known.fingerprint != data.vocabulary.fingerprint:
        raise ValueError(
            f"{data.name} was encoded by another vocabulary than that of {spec.name}: create the "
            "model with vocabulary=data.vocabulary, or encode the texts by the model's"
        )
    spec.check_words(int(np.min(data.inputs)), int(np.max(data.inputs)), data.name)


def _check_shape(data: Dataset, spec: ModelSpec) -> None:
    if len(data) == 0:
        raise ValueError(f"{data.name}: the data set is empty")
    if spec.parts or data.parts:
        _check_parts(data, spec)
        return
    if not spec.takes(data.input_shape):
        if spec.takes_images:
            shape, channels = (len(data), *data.input_shape), spec.input_shape[2]
            check_channels_last(f"{data.name}: images", shape, channels)
        what = "images" if spec.takes_images else "inputs"
        raise ValueError(
            f"{data.name} has {what} of shape {list(data.input_shape)}, the model {spec.name} "
            f"takes [{shape_text(spec.input_shape)}]: create it with "
            f"input_shape={tuple(data.input_shape)}"
        )


def _check_parts(data: Dataset, spec: ModelSpec) -> None:
    """Whether several inputs are those that a model takes."""
    if set(data.parts) != set(spec.parts):
        has, takes = (", ".join(names) or "a single one" for names in (data.parts, spec.parts))
        raise ValueError(
            f"{data.name} has the inputs {has}, the model {spec.name} takes {takes}: give the "
            "inputs by these names"
        )
    for name, part in spec.parts.items():
        _check_shape(data.parts[name], part)


def _check_values(data: Dataset, spec: ModelSpec) -> None:
    for name, part in spec.parts.items():
        _check_values(data.parts[name], part)
    if spec.parts:
        return
    takes = holds_tokens if spec.inputs.tokens else holds_pixels
    if not takes(data.inputs.dtype):
        wanted = "token ids, int32" if spec.inputs.tokens else PIXELS
        raise ValueError(
            f"{data.name} has inputs of dtype {data.inputs.dtype}, the model {spec.name} takes "
            f"{wanted}"
        )
    if spec.inputs.tokens:
        _check_words(data, spec)
    dtype = data.inputs.dtype
    if spec.inputs.tokens or dtype == np.uint8:
        return
    low, high, count = np.inf, -np.inf, len(data)
    if isinstance(data.inputs, Lazy) and not data.inputs.is_read:
        count = min(count, _SAMPLED)  # the others are looked at when they are read
    for start in range(0, count, _ROWS_AT_ONCE):
        rows = data.inputs[start : min(start + _ROWS_AT_ONCE, count)]
        low, high = min(low, float(rows.min())), max(high, float(rows.max()))
        if not np.isfinite(rows).all():
            bad = ~np.isfinite(rows).reshape(len(rows), -1).all(axis=1)
            raise ValueError(
                f"{data.name}: images[{start + int(np.argmax(bad))}] holds NaN or infinity"
            )
    kind = "floating" if np.issubdtype(dtype, np.floating) else str(dtype)
    spec.inputs.check_range(low, high, data.name, kind=kind)
