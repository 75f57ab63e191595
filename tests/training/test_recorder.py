"""`Recorder`: what a training leaves in its run directory, and how another one goes on with it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

import cnnjax as cj
from cnnjax.core import trees
from cnnjax.data import as_splits
from cnnjax.runs import RunError
from cnnjax.training import FrozenLayersMoved, TrainState
from cnnjax.training.computation import Computation
from cnnjax.training.frozen_hash import FrozenLayers
from cnnjax.training.given import Given
from cnnjax.training.position import Position
from cnnjax.training.recorder import Recorder
from cnnjax.training.selection import Selection

EPOCH = {"epoch": 1, "step": 12, "loss": 0.5, "seconds": 2.5}


# What a training computes is compared elsewhere; here nothing is traced.
PROGRAM = {"hash": "", "counts": {}}
IDENTITY = {"environment": {}, "step": PROGRAM, "evaluation": PROGRAM, "start": PROGRAM}


@pytest.fixture
def computation(
    squares: tuple[np.ndarray, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> Computation:
    """96 squares in batches of 8: 12 steps an epoch."""
    monkeypatch.setattr(Computation, "identity", lambda self, state: IDENTITY)
    model = cj.create_model("mlp", input_shape=(12, 12, 1), num_classes=3, units=(4,))
    config = cj.TrainingConfig(epochs=3, batch_size=8, monitor=None, frozen=("dense1",))
    return Computation.of(model, as_splits(squares), config, Given())


def with_settings(computation: Computation, **changes: Any) -> Computation:
    return replace(computation, config=replace(computation.config, **changes))


def moved(state: TrainState, steps: int) -> TrainState:
    """As if so many steps had been done: what is trained is another value."""
    params = {**state.params, "logits": jax.tree.map(lambda w: w + steps, state.params["logits"])}
    return replace(state, step=state.step + steps, params=params)


def begin(recorder: Recorder, computation: Computation) -> tuple[TrainState, Position]:
    position = Position(computation.config.epochs, Selection(None))
    frozen = FrozenLayers(computation.config.frozen, computation.model.variables)
    return recorder.open(computation.first_state(), position, frozen), position


def train(computation: Computation, directory: Path, *, finish: bool = False) -> TrainState:
    """An epoch and 4 steps, without computing any; saved at both."""
    with Recorder(computation, directory) as recorder:
        state, position = begin(recorder, computation)
        position.next_epoch()
        recorder.add(EPOCH)
        state = moved(state, 12)
        recorder.save(state, position)
        position.step, position.seconds, position.totals = 4, 1.5, {"loss": 2.0, "count": 32.0}
        state = moved(state, 4)
        recorder.save(state, position)
        recorder.wait()
        if finish:
            recorder.finish("finished", parameter_hash="0" * 64)
    return state


def record_of(directory: Path) -> dict[str, Any]:
    return json.loads((directory / "run.json").read_text())


def test_without_a_directory_the_epochs_are_kept_in_memory(
    computation: Computation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with Recorder(computation, None) as recorder:
        state, position = begin(recorder, computation)
        recorder.add(EPOCH)
        recorder.save(state, position)
        recorder.finish("finished", parameter_hash="0" * 64)
    assert (recorder.epochs, recorder.seconds, recorder.path) == ([EPOCH], 2.5, None)
    assert recorder.last_saved() == "no checkpoint had been saved"
    assert list(tmp_path.iterdir()) == []


def test_another_recorder_goes_on_where_the_last_checkpoint_was_saved(
    computation: Computation, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    saved = train(computation, tmp_path / "run")
    again = with_settings(computation, resume=True)
    with Recorder(again, tmp_path / "run", verbose=True) as recorder:
        state, position = begin(recorder, again)
        assert recorder.last_saved().startswith("the last good checkpoint is step 16 in ")
    assert trees.tree_hash(state.variables()) == trees.tree_hash(saved.variables())
    assert int(state.step) == 16
    assert (position.epoch, position.step, position.seconds) == (1, 4, 1.5)
    assert position.totals == {"loss": 2.0, "count": 32.0}
    assert recorder.epochs == [EPOCH]
    assert capsys.readouterr().out == f"resumed {tmp_path / 'run'} at epoch 2, step 4\n"


@pytest.mark.parametrize(
    ("error", "status"), [(ValueError, "failed"), (KeyboardInterrupt, "interrupted")]
)
def test_how_the_block_ended_is_the_status_of_the_run(
    computation: Computation, tmp_path: Path, error: type[BaseException], status: str
) -> None:
    def stopped() -> None:
        with Recorder(computation, tmp_path / "run") as recorder:
            begin(recorder, computation)
            assert record_of(tmp_path / "run")["status"] == "running"
            raise error

    with pytest.raises(error):
        stopped()
    assert record_of(tmp_path / "run")["status"] == status


def test_what_came_of_a_finished_run_is_in_its_record(
    computation: Computation, tmp_path: Path
) -> None:
    train(computation, tmp_path / "run", finish=True)
    record = record_of(tmp_path / "run")
    assert (record["status"], record["parameter_hash"]) == ("finished", "0" * 64)
    assert record["frozen_hash"] == FrozenLayers(("dense1",), computation.model.variables).hash


def test_facts_of_the_callers_are_in_the_record(computation: Computation, tmp_path: Path) -> None:
    with Recorder(computation, tmp_path / "run", {"why": "to see"}) as recorder:
        begin(recorder, computation)
        recorder.finish("finished")
    assert record_of(tmp_path / "run")["why"] == "to see"


def test_fewer_epochs_than_have_begun_are_refused_and_the_run_stays_as_it_is(
    computation: Computation, tmp_path: Path
) -> None:
    train(computation, tmp_path / "run")
    before = (tmp_path / "run" / "run.json").read_bytes()
    again = with_settings(computation, resume=True, epochs=1)
    with (
        pytest.raises(RunError, match=r"stands in epoch 2 already: .* epochs=2, got 1"),
        Recorder(again, tmp_path / "run") as recorder,
    ):
        begin(recorder, again)
    assert (tmp_path / "run" / "run.json").read_bytes() == before


def test_to_resume_what_was_never_saved_begins_anew(
    computation: Computation, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    again = with_settings(computation, resume=True)
    with Recorder(again, tmp_path / "run", verbose=True) as recorder:
        state, position = begin(recorder, again)
    assert (int(state.step), position.epoch, recorder.epochs) == (0, 0, [])
    assert "nothing was saved in" in capsys.readouterr().out


def test_a_position_comes_back_as_it_was_also_through_json() -> None:
    selection = Selection("loss", patience=3)
    selection.update(1, 12, {"val_loss": 0.5}, {})
    selection.update(2, 24, {"val_loss": 0.7}, {})
    wanted = Position(3, selection, 2, 5, {"loss": 0.1, "count": 8.0}, 1.5, 0.25)
    selection.best_state = None  # has an item of its own in a checkpoint
    position = Position(3, Selection("loss", patience=3))
    position.restore(json.loads(json.dumps(wanted.as_json())))
    assert vars(position.selection) == vars(selection)
    assert replace(position, selection=selection) == wanted


def test_layers_that_are_not_what_they_were_are_an_error() -> None:
    variables = {"params": {"a": {"w": np.ones(2)}, "b": {"w": np.ones(2)}}}
    frozen = FrozenLayers(("a",), variables)
    frozen.check({"params": {**variables["params"], "b": {"w": np.zeros(2)}}})
    with pytest.raises(FrozenLayersMoved, match=r"training changed layers that frozen=\('a',\)"):
        frozen.check({"params": {**variables["params"], "a": {"w": np.zeros(2)}}})
