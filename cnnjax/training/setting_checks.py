"""Do settings fit data, model and each other? Answered before anything is compiled."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cnnjax.augment import Augment, Chain, Named, WordDropout
from cnnjax.augment.config import AugmentConfig
from cnnjax.config import FILES, OPTIMIZER, STEP, TrainingConfig
from cnnjax.core.settings import changed, names
from cnnjax.data import Splits
from cnnjax.metrics import Measure, mode_by_name, mode_of
from cnnjax.models import Model, ModelSpec
from cnnjax.training.given import Given
from cnnjax.training.own_step import Step

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
        best_mode(config, measures, given)
    if splits.validation is None and not is_of_training(config, measures, given):
        for name in ("early_stopping", "monitor", "mode"):
            if settings.get(name) is not None:
                raise ValueError(
                    f"{name}={settings[name]!r} needs validation data: give Splits with a "
                    "validation part, e.g. splits.with_validation(0.2)"
                )
    none = splits.validation is None and not is_of_training(config, measures, given)
    if "keep" in settings and (config.monitor is None or none):
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


def is_of_training(config: TrainingConfig, measures: Mapping[str, Measure], given: Given) -> bool:
    """Whether what is monitored can only be what the caller's objective or step measures.

    That is of the training data alone, and known once a step is traced.

    Args:
        config: with a monitor or without.
        measures: all metrics of validation data, by name.
        given: as in `fit`.
    """
    if config.monitor is None or (given.objective is None and given.step is None):
        return False
    try:
        mode_of(config.monitor, measures)
    except ValueError:
        return True
    return False


def best_mode(config: TrainingConfig, measures: Mapping[str, Measure], given: Given) -> str:
    """Whether "min" or "max" of the monitored metric is best.

    Args:
        config: with a monitor.
        measures: all metrics by name.
        given: as in `fit`.

    Raises:
        ValueError: for a metric that there is not, or of which nothing is known to be best.
    """
    name = str(config.monitor)
    try:
        if is_of_training(config, measures, given):
            mode = config.mode or mode_by_name(name)
        else:
            mode = mode_of(name, measures)
            mode = config.mode or mode
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
    for _, part in augment.parts if isinstance(augment, Named) else ():
        _check_fill(part)
    if type(augment) not in (AugmentConfig, Augment):  # a subclass may have a way of its own
        return
    if augment.fill_value and augment.fill_mode != "constant":
        raise ValueError(
            f"augment: fill_value={augment.fill_value!r} belongs to fill_mode='constant', got "
            f"fill_mode={augment.fill_mode!r}"
        )
    moving = (
        "width_shift", "height_shift", "crop_padding", "rotation", "shear", "zoom", "rand_augment"
    )  # fmt: skip
    if augment.fill_mode != "nearest" and not any(getattr(augment, name) for name in moving):
        raise ValueError(
            f"augment: fill_mode={augment.fill_mode!r} is for what a move uncovers, and nothing "
            f"moves: set one of {', '.join(moving)}"
        )


def _check_replacement(augment: Any, spec: ModelSpec) -> None:
    """Refuse to put in a token that the model has no vector for, which ends in NaN."""
    for part in augment.parts if isinstance(augment, Chain) else ():
        _check_replacement(part, spec)
    for name, part in augment.parts if isinstance(augment, Named) else ():
        _check_replacement(part, spec.parts.get(name, spec))
    if isinstance(augment, WordDropout):
        token = augment.replacement
        spec.check_words(token, token, f"augment: WordDropout(replacement={token})")
