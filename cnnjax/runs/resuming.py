"""What a resumed run must have in common with how it began: its settings and its data."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cnnjax.augment.config import AugmentConfig
from cnnjax.config import (
    FEED,
    FILES,
    OPTIMIZER,
    SCHEDULES,
    SEED,
    TrainingConfig,
    has_end,
    to_dict,
)
from cnnjax.core import trees
from cnnjax.core.settings import names
from cnnjax.core.text import plain
from cnnjax.models import ModelSpec
from cnnjax.runs.record import read_config
from cnnjax.runs.seal import RunError, json_text

# Functions of the caller's stand there by a name, which depends on who imports them, and by which
# the identity of the run does not know them.
_FUNCTIONS = (
    *("loss", "objective", "step/init", "step/update", "step/variables"),
    *("training/augment", "training/schedule", "training/sampler"),
)

# What stands as the optimizer in the settings of a run that was given one.
GIVEN = "given by the caller"


def with_default_settings(training: Mapping[str, Any]) -> dict[str, Any]:
    """Recorded settings, in which what has been added since stands at its default."""
    defaults = json.loads(json_text(to_dict(TrainingConfig())))
    if training.get("optimizer") == GIVEN:
        defaults.update(dict.fromkeys(names(TrainingConfig, OPTIMIZER)))
    settings = {**defaults, **training}
    if isinstance(settings["augment"], Mapping):
        augment = json.loads(json_text(to_dict(AugmentConfig())))
        settings["augment"] = {**augment, **settings["augment"]}
    return settings


def with_defaults(config: Mapping[str, Any]) -> dict[str, Any]:
    """A run's configuration, in which what has been added since stands at its default."""
    fields = {f.name: f.default for f in dataclasses.fields(ModelSpec)}
    known = {k: v for k, v in fields.items() if v is not dataclasses.MISSING}
    return {
        **config,
        "training": with_default_settings(config.get("training", {})),
        "model": {**json.loads(json_text(known)), **config.get("model", {})},
    }


def without_seed(training: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that runs have in common which differ in their seed only."""
    free = names(TrainingConfig, SEED, FEED, FILES)
    return {k: v for k, v in training.items() if k not in free}


def check_same_settings(
    directory: Path, config: Mapping[str, Any], allowed: Sequence[str], *, named: bool
) -> None:
    """Check that a run in a directory can go on with settings.

    Args:
        directory: of the run.
        config: what decides the result of the run that is to go on.
        allowed: names of `TrainingConfig.allow_changed`, whose settings may differ.
        named: compare functions by name, as nothing else is known of them.

    Raises:
        RunError: if settings differ that may not.
    """
    before = trees.flatten(with_defaults(read_config(directory)))
    now = trees.flatten(with_defaults(config))
    free = {
        k for k in {*before, *now} if k.rpartition("/")[2] in names(TrainingConfig, FEED, FILES)
    }
    # Where the rate does not depend on the end, a training may be prolonged.
    if not has_end(now.get("training/schedule")):
        free.add("training/epochs")
    # A module of the caller's is compared with the rest of what the run computes.
    freed = ["model/module", *(s for name in allowed for s in _freed().get(name, ()))]
    free |= {k for k in {*before, *now} if any(trees.matches(k, s) for s in freed)}
    if not named:
        free |= {k for k in _FUNCTIONS if _is_function(before.get(k)) and _is_function(now.get(k))}
    lines = trees.differences(
        {k: v for k, v in before.items() if k not in free},
        {k: v for k, v in now.items() if k not in free},
    )
    if lines:
        raise RunError(
            f"{directory} holds a run with other settings ({in_short(lines)}): resume with "
            "the same ones, or choose another directory"
        )


def _is_function(value: Any) -> bool:
    return isinstance(value, str) and value not in SCHEDULES


def _freed() -> dict[str, tuple[str, ...]]:
    """The settings that a name in `TrainingConfig.allow_changed` frees as well."""
    return {
        "module": ("model/name", "model/arguments"),
        "loss": ("loss",),
        "objective": ("objective",),
        "step": ("step",),
        "optimizer": tuple(f"training/{name}" for name in names(TrainingConfig, OPTIMIZER)),
        "schedule": ("training/schedule",),
        "augment": ("training/augment",),
        "sampler": ("training/sampler",),
    }


def check_same_data(directory: Path, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Check that a run goes on with the data that it began with, by examples and fingerprint.

    Raises:
        RunError: if they differ.
    """
    # The name is no part of it: the same images may have been called otherwise.
    old, new = (
        {k: v for k, v in trees.flatten(data).items() if not k.endswith("/name")}
        for data in (before, now)
    )
    if lines := trees.differences(old, new):
        raise RunError(
            f"{directory} was started on other data ({in_short(lines)}): resume with the "
            "same, or choose another directory"
        )


def in_short(lines: Sequence[str], most: int = 8) -> str:
    """Lines of differences as one, the first ones and how many more there are."""
    more = f"; and {len(lines) - most} more" if len(lines) > most else ""
    return "; ".join(plain(line, 400) for line in lines[:most]) + more
