"""A field more in the settings: everything that goes by what fields say of themselves sees it."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import optax
import pytest

import cnnjax as cj
from cnnjax.config import FILES, LOOP, OPTIMIZER, STEP, TrainingConfig, to_dict
from cnnjax.core.checks import at_least_zero, whole
from cnnjax.core.settings import from_dict, setting
from cnnjax.runs import resuming
from cnnjax.runs.seal import RunError
from cnnjax.training.facts import recorded_settings
from cnnjax.training.given import Given
from cnnjax.training.setting_checks import check_settings
from cnnjax.training.shared import make_steps

DATA = np.zeros((8, 4, 4, 1), np.uint8), np.arange(8) % 2


@dataclass(frozen=True)
class More(TrainingConfig):
    """One field more of each kind but the step's."""

    nudge: float = setting(0.0, at_least_zero, OPTIMIZER)
    pace: int = setting(1, whole(), LOOP)
    shelves: int = setting(1, whole(), FILES)


@dataclass(frozen=True)
class InStep(TrainingConfig):
    """One field more that the step takes."""

    haze: float = setting(0.0, at_least_zero, STEP)


def net() -> cj.Model:
    return cj.create_model("mlp", input_shape=(4, 4, 1), num_classes=2, units=(3,))


def steps(**settings: Any) -> Any:
    return make_steps(net(), Given(), More(**settings), 10)


def test_it_is_checked_and_goes_to_json_and_back() -> None:
    with pytest.raises(ValueError, match=re.escape("nudge must be a finite number >= 0, got -1")):
        More(nudge=-1)
    config = More(nudge=np.float32(0.5), shelves=2)
    assert from_dict(More, json.loads(json.dumps(to_dict(config)))) == config


def test_only_what_steps_depend_on_makes_others() -> None:
    assert steps(pace=3, shelves=2) is steps()
    assert steps(nudge=0.5) is not steps()


def test_the_step_gets_its_argument() -> None:
    with pytest.raises(TypeError, match=r"make_train_step.*'haze'"):
        make_steps(net(), Given(), InStep(), 10)


@pytest.mark.parametrize(
    ("settings", "optimizer", "message"),
    [
        ({"nudge": 0.5}, optax.sgd(0.1), "nudge=0.5 changes the configured optimiser"),
        ({"shelves": 2}, None, "shelves=2 needs a run directory"),
    ],
)
def test_it_is_refused_where_it_would_be_ignored(
    settings: dict[str, Any], optimizer: Any, message: str
) -> None:
    config, given = More(monitor=None, **settings), Given(None, optimizer)
    with pytest.raises(ValueError, match=message):
        check_settings(config, net(), cj.data.as_splits(DATA), given, None, None, {})


def test_a_record_leaves_out_what_an_optimiser_replaces() -> None:
    settings = recorded_settings(More(), optax.sgd(0.1))
    assert (settings["nudge"], settings["pace"], settings["shelves"]) == (None, 1, 1)


def test_a_sweep_does_not_list_what_changes_no_result() -> None:
    make = partial(cj.create_model, "mlp", input_shape=(4, 4, 1), num_classes=2, units=(3,))
    with pytest.raises(ValueError, match="shelves is no list of a sweep"):
        cj.sweep(make, DATA, More(), seeds=1, verbose=False, shelves=(1, 2))


@pytest.mark.parametrize(
    ("settings", "allowed", "refused"),
    [
        ({"shelves": 2}, (), False),
        ({"nudge": 0.5}, (), True),
        ({"nudge": 0.5}, ("optimizer",), False),
        ({"pace": 2}, ("optimizer",), True),
    ],
)
def test_a_resumed_run_may_differ_in_it_or_not(
    tmp_path: Path, monkeypatch: Any, settings: dict[str, Any], allowed: tuple, refused: bool
) -> None:
    monkeypatch.setattr(resuming, "TrainingConfig", More)
    before, now = ({"training": to_dict(More(**s)), "model": {}} for s in ({}, settings))
    monkeypatch.setattr(resuming, "read_config", lambda _: before)
    if refused:
        with pytest.raises(RunError, match=f"training/{next(iter(settings))}"):
            resuming.check_same_settings(tmp_path, now, allowed, named=True)
    else:
        resuming.check_same_settings(tmp_path, now, allowed, named=True)
    kept = resuming.without_seed(now["training"])
    assert "nudge" in kept
    assert not {"shelves", "seed", "resume"} & set(kept)
