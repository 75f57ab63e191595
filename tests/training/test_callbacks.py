"""Callbacks look on, change no bit, and may ask for a stop, which stays one."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from commands import Killed, killed_after

import cnnjax as cj
from cnnjax.core import trees
from cnnjax.data import Splits, from_arrays
from cnnjax.training import Callback, Moment, Run

Arrays = tuple[np.ndarray, np.ndarray]
TIMING = {"seconds", "images_per_second", "waiting"}


def fit(data: Arrays, directory: Path | None = None, **more: Any) -> Run:
    """Of 72 squares in batches of 8: 9 steps an epoch."""
    hooks = {k: more.pop(k) for k in ("callbacks", "loggers", "verbose") if k in more}
    config = cj.TrainingConfig(**{"epochs": 3, "batch_size": 8, "optimizer": "adam", **more})
    model = cj.create_model("mlp", input_shape=(12, 12, 1), num_classes=3, units=(4,))
    splits = Splits(from_arrays(*data)).with_validation(0.25)
    return cj.fit(model, splits, config, directory=directory, **{"verbose": False, **hooks})


class Watch(Callback):
    """Notes what it sees, and stops at a step or after an epoch."""

    def __init__(self, every: int = 4, stop_at: int = 0, after_epoch: int = 0):
        self.every, self.stop_at, self.after_epoch = every, stop_at, after_epoch
        self.steps: list[dict[str, Any]] = []
        self.epochs: list[dict[str, Any]] = []

    def on_step(self, moment: Moment) -> None:
        self.steps.append(moment.record)
        if moment.step == self.stop_at:
            moment.stop()

    def on_epoch(self, moment: Moment) -> None:
        self.epochs.append(moment.record)
        if moment.epoch == self.after_epoch:
            moment.stop()


def record_of(run: Path) -> dict[str, Any]:
    return json.loads((run / "run.json").read_text())


def untimed(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{k: v for k, v in r.items() if k not in TIMING | {"seal"}} for r in records]


@pytest.mark.sample(1)
@pytest.mark.parametrize("chunk", [1, 5])
def test_the_bits_are_the_same_with_and_without(squares: Arrays, chunk: int) -> None:
    seen: list[Any] = []

    def look(moment: Moment) -> None:
        """Looks at all there is, and writes into it."""
        leaves = jax.tree.leaves(moment.state.params)
        for leaf in leaves:
            leaf[...] = 0.0
        moment.record["loss"] = 0.0
        seen.append(moment.model)

    watch = Watch(4)
    plain = fit(squares, steps_per_dispatch=chunk)
    watched = fit(squares, steps_per_dispatch=chunk, callbacks=[look, watch])
    assert watched.parameter_hash == plain.parameter_hash
    for name in plain.history.keys() - TIMING:
        assert watched.history[name].tolist() == plain.history[name].tolist(), name
    # Also in the scanned form it is called after just these steps.
    assert [r["step"] for r in watch.steps] == [4, 8, 12, 16, 20, 24]
    assert [r["epoch"] for r in watch.steps] == [1, 1, 2, 2, 3, 3]
    assert [r["loss"] for r in watch.epochs] == plain.history["loss"].tolist()
    assert trees.tree_hash(seen[-1].variables) == trees.tree_hash(
        fit(squares, steps_per_dispatch=chunk, monitor=None).model.variables
    )


def test_within_an_epoch_the_record_has_the_means_so_far(squares: Arrays) -> None:
    every, third = Watch(1), Watch(3)
    run = fit(squares, callbacks=[every, third], epochs=2)
    assert [r for r in every.steps if r["step"] % 3 == 0] == third.steps
    assert set(every.steps[0]) == {"epoch", "step", "loss", "accuracy", "learning_rate"}
    # At the last step of an epoch they are those of the epoch.
    assert [every.steps[i]["loss"] for i in (8, 17)] == run.history["loss"].tolist()


def test_the_model_of_a_moment_is_the_one_that_is_evaluated(squares: Arrays) -> None:
    losses: list[float] = []

    def look(moment: Moment) -> None:
        splits = Splits(from_arrays(*squares)).with_validation(0.25)
        means = cj.evaluate(moment.model, splits.validation, batch_size=8)
        losses.append(means["loss"])
        assert int(moment.state.step) == moment.step == moment.record["step"]

    run = fit(squares, callbacks=[look], average=0.5)
    np.testing.assert_allclose(losses, run.history["val_loss"], rtol=1e-6)


def test_of_a_step_of_ones_own_a_moment_has_its_state_and_the_model(squares: Arrays) -> None:
    model = cj.create_model("mlp", input_shape=(12, 12, 1), num_classes=3, units=())
    functions = model.functions()

    def update(params: Any, batch: Any, key: Any) -> Any:
        def losses(params: Any) -> Any:
            outputs = functions.apply(params, {}, batch["inputs"])
            return cj.metrics.cross_entropy(outputs, batch["labels"])

        gradient = jax.grad(lambda params: losses(params).mean())(params)
        after = jax.tree.map(lambda p, g: p - 0.1 * g, params, gradient)
        return after, {"loss": losses(params)}

    own = cj.training.Step(
        lambda model, key: model.params, update, lambda params: {"params": params}
    )
    seen: list[str] = []

    def look(moment: Moment) -> None:
        assert moment.state.value.keys() == model.params.keys()
        seen.append(trees.tree_hash(moment.model.variables))

    config = cj.TrainingConfig(epochs=2, batch_size=8, monitor=None)
    runs = [
        cj.fit(model, squares, config, step=own, callbacks=callbacks, verbose=False)
        for callbacks in ([], [look, Watch()])
    ]
    assert runs[0].parameter_hash == runs[1].parameter_hash == seen[-1] != seen[0]


def test_a_moment_that_has_passed_says_so(squares: Arrays) -> None:
    kept: list[Moment] = []
    fit(squares, callbacks=[kept.append], epochs=1)
    for name in ("state", "model"):
        with pytest.raises(ValueError, match=f"^{name} was asked of the moment of epoch 1, step 9"):
            getattr(kept[0], name)


# Stops


@pytest.mark.parametrize("chunk", [1, 5])
def test_a_stop_within_an_epoch_closes_it(squares: Arrays, tmp_path: Path, chunk: int) -> None:
    watch = Watch(4, stop_at=12)
    run = fit(squares, tmp_path / "run", callbacks=[watch], steps_per_dispatch=chunk)
    assert run.history["step"].tolist() == [9, 12]
    assert run.history["val_loss"].shape == (2,)
    record = record_of(tmp_path / "run")
    assert record["status"] == "stopped"
    assert record["stopped"] == {"epoch": 2, "step": 12, "by": "test_callbacks.Watch"}
    assert record["parameter_hash"] == run.parameter_hash
    assert trees.tree_hash(cj.load(tmp_path / "run").variables) == run.parameter_hash


def test_a_stop_at_the_end_of_an_epoch(squares: Arrays, tmp_path: Path) -> None:
    run = fit(squares, tmp_path / "run", callbacks=[Watch(after_epoch=2)])
    assert run.history["step"].tolist() == [9, 18]
    assert run.parameter_hash == fit(squares, epochs=2).parameter_hash
    assert record_of(tmp_path / "run")["stopped"]["step"] == 18


@pytest.mark.parametrize("stop", [{"stop_at": 12}, {"after_epoch": 2}], ids=["step", "epoch"])
def test_a_stopped_run_stays_stopped(
    squares: Arrays, tmp_path: Path, capsys: pytest.CaptureFixture[str], stop: dict[str, int]
) -> None:
    run = fit(squares, tmp_path / "run", callbacks=[Watch(**stop)])
    before = (tmp_path / "run" / "run.json").read_bytes()
    again = fit(squares, tmp_path / "run", resume=True, epochs=5, verbose=True)
    assert again.parameter_hash == run.parameter_hash
    assert again.history["step"].tolist() == run.history["step"].tolist()
    assert (tmp_path / "run" / "run.json").read_bytes() == before
    said = f"{tmp_path / 'run'} was stopped by test_callbacks.Watch in epoch 2, and stays stopped"
    assert said in capsys.readouterr().out


@pytest.mark.sample(1)
@pytest.mark.parametrize("chunk", [1, 5])
def test_killed_and_resumed_with_callbacks_and_a_stop_has_the_same_bits(
    squares: Arrays, tmp_path: Path, chunk: int
) -> None:
    settings = {"steps_per_dispatch": chunk, "checkpoint_every": 4}
    wanted = fit(squares, tmp_path / "through", callbacks=[Watch(4, stop_at=20)], **settings)
    with killed_after(13 if chunk == 1 else 5):
        fit(squares, tmp_path / "run", callbacks=[Watch()], **settings)
    watch = Watch(4, stop_at=20)
    resumed = fit(squares, tmp_path / "run", resume=True, callbacks=[watch], **settings)
    assert resumed.parameter_hash == wanted.parameter_hash
    assert resumed.history["step"].tolist() == [9, 18, 20]
    assert watch.steps[-1]["step"] == 20
    for name in wanted.history.keys() - TIMING:
        assert resumed.history[name].tolist() == wanted.history[name].tolist(), name
    records = [record_of(tmp_path / name)["stopped"] for name in ("through", "run")]
    assert records[0] == records[1]


def test_a_stop_that_a_crash_follows_at_once_is_in_the_checkpoint(
    squares: Arrays, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cnnjax.training import loop

    def crash(*arguments: Any, **more: Any) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(loop, "result_of", crash)
        with pytest.raises(Killed):
            fit(squares, tmp_path / "run", callbacks=[Watch(after_epoch=1)])
    resumed = fit(squares, tmp_path / "run", resume=True)
    assert resumed.history["step"].tolist() == [9]
    assert record_of(tmp_path / "run")["status"] == "stopped"


def test_a_stopped_run_is_reproduced_up_to_its_stop(squares: Arrays, tmp_path: Path) -> None:
    fit(squares, tmp_path / "run", callbacks=[Watch(4, stop_at=12)])
    data = Splits(from_arrays(*squares)).with_validation(0.25)
    again = cj.reproduce(tmp_path / "run", data, verbose=False)
    assert again.same, again.results


# Errors


class Oops(Exception):
    """An error of a callback's."""


def test_an_error_at_the_end_of_an_epoch_leaves_the_epoch_saved(
    squares: Arrays, tmp_path: Path
) -> None:
    def fails(moment: Moment) -> None:
        raise Oops("no space in the moon")

    with pytest.raises(Oops, match=r"^no space in the moon$"):
        fit(squares, tmp_path / "run", callbacks=[fails])
    assert record_of(tmp_path / "run")["status"] == "failed"
    assert [p.name for p in (tmp_path / "run" / "checkpoints").iterdir()] == ["9"]
    resumed = fit(squares, tmp_path / "run", resume=True)
    assert resumed.parameter_hash == fit(squares).parameter_hash


def test_an_error_within_an_epoch_leaves_the_checkpoint_before(
    squares: Arrays, tmp_path: Path
) -> None:
    class Fails(Callback):
        every = 10

        def on_step(self, moment: Moment) -> None:
            raise Oops

    with pytest.raises(Oops):
        fit(squares, tmp_path / "run", callbacks=[Fails()])
    assert record_of(tmp_path / "run")["status"] == "failed"
    resumed = fit(squares, tmp_path / "run", resume=True)
    assert resumed.parameter_hash == fit(squares).parameter_hash


class NoEvery(Callback):
    """Nobody would call it."""

    def on_step(self, moment: Moment) -> None:
        pass


class NoMethod(Callback):
    """Nothing would be called."""

    every = 3


class Never(NoEvery):
    """There is no such step."""

    every = 0


@pytest.mark.parametrize(
    ("callbacks", "message"),
    [
        ([Watch], "callbacks holds the class Watch: give an object of it, Watch()"),
        ([NoEvery()], "every=None of NoEvery does not fit its methods: every says after how many"),
        ([NoMethod()], "every=3 of NoMethod does not fit its methods"),
        ([Never()], "every of Never must be a whole number >= 1, got 0"),
        (Watch(), "callbacks must be a sequence of functions of a Moment, or of"),
        ([None], "cj.training.Callback objects, got None"),
    ],
    ids=["class", "no every", "no method", "never", "no sequence", "None"],
)
def test_callbacks_that_would_be_ignored_are_refused(
    squares: Arrays, tmp_path: Path, callbacks: Any, message: str
) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        fit(squares, tmp_path / "run", callbacks=callbacks)
    assert not list(tmp_path.iterdir())
