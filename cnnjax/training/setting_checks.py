"""Do data, model and settings fit together? Answered before anything is compiled."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from cnnjax.augment import Augment, Chain, WordDropout
from cnnjax.augment.config import AugmentConfig
from cnnjax.config import FILES, OPTIMIZER, STEP, TrainingConfig
from cnnjax.core.checks import (
    PIXELS,
    check_channels_last,
    holds_pixels,
    holds_tokens,
    shape_text,
)
from cnnjax.core.settings import changed, names
from cnnjax.data import Dataset, Lazy, Splits, Stream
from cnnjax.metrics import Measure, mode_of
from cnnjax.models import Model, ModelSpec
from cnnjax.training.given import Given
from cnnjax.training.own_step import Step

_ROWS_AT_ONCE = 4096
_SAMPLED = 256

# Of the settings of a step, those that act on one of the caller's own too.
_OF_ANY_STEP = ("augment",)


def check_settings(
    config: TrainingConfig,
    model: Model,
    splits: Splits,
    given: Given,
    directory: str | Path | None,
    record: Mapping[str, Any] | None,
    measures: Mapping[str, Measure],
) -> None:
    """Refuse settings that a training would ignore; arguments as in `fit`.

    Args:
        config, model, splits, optimizer, directory, record: as in `fit`.
        measures: all metrics by name, those of the task and the caller's.

    Raises:
        ValueError: for the first setting that another one leaves without effect.
    """
    settings = changed(config)
    if given.optimizer is not None:
        for name in names(config, OPTIMIZER):
            if name in settings:
                raise ValueError(
                    f"{name}={settings[name]!r} changes the configured optimiser, but another one "
                    "was given: make it a part of that, e.g. with optax.chain, or leave it out"
                )
    if given.step is not None:
        _check_step(config, given)
    if directory is None:
        files = {k: settings[k] for k in names(config, FILES) if k in settings}
        for name, value in (files | ({"record": record} if record else {})).items():
            raise ValueError(f"{name}={value!r} needs a run directory: give directory=")
    _check_fill(config.augment)
    _check_replacement(config.augment, model.spec)
    if config.monitor is not None:
        best_mode(config, measures)
    if splits.validation is None:
        for name in ("early_stopping", "monitor", "mode"):
            if settings.get(name) is not None:
                raise ValueError(
                    f"{name}={settings[name]!r} needs validation data: give Splits with a "
                    "validation part, e.g. splits.with_validation(0.2)"
                )
    if "keep" in settings and (config.monitor is None or splits.validation is None):
        raise ValueError(
            f"keep={config.keep} counts the best checkpoints, and none is best without a monitor "
            "and validation data"
        )


def _check_step(config: TrainingConfig, given: Given) -> None:
    """Refuse what a step of the caller's own would ignore."""
    if not isinstance(given.step, Step):
        raise ValueError(
            f"step must be a cj.training.Step(init, update, variables), got {given.step!r}"
        )
    others = {"optimizer": given.optimizer, "objective": given.objective}
    ignored = [f"{name}=" for name, value in others.items() if value is not None]
    own = changed(config)
    ignored += [
        f"{name}={own[name]!r}"
        for name in names(config, STEP, OPTIMIZER)
        if name in own and name not in _OF_ANY_STEP
    ]
    if ignored:
        raise ValueError(
            f"{ignored[0]} would be ignored, since step= takes the place of objective and "
            "optimizer: make it a part of the step, or leave it out"
        )


def best_mode(config: TrainingConfig, measures: Mapping[str, Measure]) -> str:
    """Whether "min" or "max" of the monitored metric is best.

    Args:
        config: with a monitor.
        measures: all metrics by name.

    Raises:
        ValueError: for a metric that there is not, or of which nothing is known to be best.
    """
    name = str(config.monitor)
    try:
        mode = config.mode or mode_of(name, measures)
        mode_of(name, measures)
    except ValueError as error:
        raise ValueError(f"monitor={name!r}: {error}") from None
    if mode is None:
        raise ValueError(
            f"monitor={name!r} does not say which of its values is best: give mode='max' or "
            "mode='min'"
        )
    return mode


def _check_fill(augment: Any) -> None:
    """Refuse what is to fill in, where nothing is filled in."""
    if type(augment) not in (AugmentConfig, Augment):  # a subclass may have a way of its own
        return
    if augment.fill_value and augment.fill_mode != "constant":
        raise ValueError(
            f"augment: fill_value={augment.fill_value!r} belongs to fill_mode='constant', got "
            f"fill_mode={augment.fill_mode!r}"
        )
    moving = ("width_shift", "height_shift", "crop_padding", "rotation", "shear", "zoom")
    if augment.fill_mode != "nearest" and not any(getattr(augment, name) for name in moving):
        raise ValueError(
            f"augment: fill_mode={augment.fill_mode!r} is for what a move uncovers, and nothing "
            f"moves: set one of {', '.join(moving)}"
        )


def _check_replacement(augment: Any, spec: ModelSpec) -> None:
    """Refuse to put in a token that the model has no vector for, which ends in NaN."""
    for part in augment.parts if isinstance(augment, Chain) else ():
        _check_replacement(part, spec)
    if isinstance(augment, WordDropout):
        token = augment.replacement
        spec.check_words(token, token, f"augment: WordDropout(replacement={token})")


def check_single_process(what: str) -> None:
    """Refuse several processes, of which each would train on all of the data alone.

    Args:
        what: is refused, e.g. "fit".

    Raises:
        ValueError: where `jax.distributed` has joined several processes.
    """
    if (count := jax.process_count()) > 1:
        raise ValueError(
            f"{what} runs in a single process so far, and jax.process_count() is {count}: start "
            "one process, which uses all of its devices"
        )


def check_data(model: Model, data: Dataset | Stream) -> None:
    """Check a data set against a model that is to be trained or evaluated on it.

    Of a stream the first batch is looked at here, and the labels of all others when they come.

    Raises:
        ValueError: as `check_images`, and for labels out of range, classes in another order than
            the model's, or a model without a head.
    """
    spec = model.spec
    data = data.sample if isinstance(data, Stream) else data
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
