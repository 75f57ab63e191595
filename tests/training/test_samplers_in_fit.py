"""`TrainingConfig.sampler`: what is trained on, what a record says, what resumes and what not."""

from __future__ import annotations

import json
import signal
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import after_every_dispatch

import cnnjax as cj
from cnnjax.runs.seal import RunError
from cnnjax.training import Interrupted

DATA = cj.data.from_arrays(
    np.random.default_rng(0).integers(0, 256, (40, 4, 4, 1), np.uint8), np.arange(40) // 30
)


def firsts(seed: int, epoch: int, data: cj.data.Dataset) -> np.ndarray:
    return np.arange(16)


def lasts(seed: int, epoch: int, data: cj.data.Dataset) -> np.ndarray:
    return np.arange(24, 40)


def net() -> cj.Model:
    return cj.create_model("mlp", input_shape=(4, 4, 1), num_classes=2, units=(3,))


def fit(directory: Path | None = None, **settings: Any) -> cj.Run:
    config = cj.TrainingConfig(**{"epochs": 2, "batch_size": 8, "monitor": None, **settings})
    return cj.fit(net(), DATA, config, directory=directory, verbose=False)


@pytest.mark.parametrize("chunk", [1, 2])
def test_it_decides_what_is_trained_on(chunk: int) -> None:
    """Training on the first examples alone is the same with these as the whole data."""
    one = fit(sampler=firsts, steps_per_dispatch=chunk)
    part = replace(DATA, inputs=DATA.inputs[:16], labels=DATA.labels[:16])
    config = cj.TrainingConfig(
        epochs=2, batch_size=8, monitor=None, sampler=firsts, steps_per_dispatch=chunk
    )
    other = cj.fit(net(), part, config, verbose=False)
    assert one.parameter_hash == other.parameter_hash
    assert one.history["step"].tolist() == [2, 4]
    assert fit(sampler=lasts).parameter_hash != one.parameter_hash


def test_a_sampler_of_ours_is_the_same_by_name_and_as_a_function() -> None:
    config = cj.TrainingConfig(sampler=cj.data.balanced)
    assert config == cj.TrainingConfig(sampler="balanced")
    assert fit(sampler="balanced").parameter_hash == fit(sampler=cj.data.balanced).parameter_hash


@pytest.mark.sample(1)
@pytest.mark.parametrize(
    "sampler",
    ["balanced", cj.data.weighted(np.arange(40)), firsts],
    ids=["name", "weights", "function"],
)
def test_killed_and_resumed_it_ends_in_the_same_bits(tmp_path: Path, sampler: Any) -> None:
    whole = fit(sampler=sampler)
    undo = after_every_dispatch(lambda step: signal.raise_signal(signal.SIGINT))
    try:
        with pytest.raises(Interrupted):
            fit(tmp_path / "run", sampler=sampler)
    finally:
        undo()
    resumed = fit(tmp_path / "run", sampler=sampler, resume=True)
    assert resumed.parameter_hash == whole.parameter_hash


def begun(tmp_path: Path, sampler: Any) -> Path:
    fit(tmp_path / "run", epochs=1, sampler=sampler)
    return tmp_path / "run"


@pytest.mark.sample(1)
@pytest.mark.parametrize(
    ("then", "now", "message"),
    [
        (firsts, lasts, "the sampler lasts differs"),
        (cj.data.weighted(np.ones(40)), cj.data.weighted(np.arange(40)), "the sampler Weighted "),
        (None, firsts, "training/sampler"),
        (firsts, "balanced", "the sampler"),
    ],
    ids=["function", "weights", "none", "name"],
)
def test_another_one_is_refused_and_may_be_allowed(
    tmp_path: Path, then: Any, now: Any, message: str
) -> None:
    run = begun(tmp_path, then)
    with pytest.raises(RunError, match=message):
        fit(run, sampler=now, resume=True)
    fit(run, sampler=now, resume=True, allow_changed=("sampler",))


@pytest.mark.parametrize("sampler", ["balanced", None])
def test_a_run_by_name_is_reproduced_from_its_record(tmp_path: Path, sampler: str | None) -> None:
    run = begun(tmp_path, sampler)
    assert json.loads((run / "config.json").read_text())["training"]["sampler"] == sampler
    assert cj.reproduce(run, DATA, verbose=False).same


def test_reproduce_names_the_function_that_it_needs(tmp_path: Path) -> None:
    again = partial(firsts)  # which nothing can import
    run = begun(tmp_path, again)
    with pytest.raises(RunError, match=r"firsts.* as its sampler.*sampler=\.\.\."):
        cj.reproduce(run, DATA, verbose=False)
    assert cj.reproduce(run, DATA, sampler=again, verbose=False).same
    with pytest.raises(RunError, match=r"the sampler .*differs"):
        cj.reproduce(run, DATA, sampler=partial(lasts), verbose=False)


@pytest.mark.parametrize("sampler", ["balancd", 3, ["balanced"]])
def test_what_is_no_sampler_is_refused(sampler: Any) -> None:
    with pytest.raises(ValueError, match="sampler must be"):
        cj.TrainingConfig(sampler=sampler)
