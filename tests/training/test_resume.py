"""Interrupted, killed and resumed runs end in the same bits as those that ran through."""

from __future__ import annotations

import itertools
import json
import os
import random
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from subprocess import Popen
from typing import Any

import jax.numpy as jnp
import numpy as np
import optax
import pytest
from commands import after_every_dispatch, python, start, wait_for
from flax import nnx
from modules import Convnet, NnxConvnet

import cnnjax as cj
from cnnjax.augment import Augment
from cnnjax.core import trees
from cnnjax.data import Splits, from_arrays
from cnnjax.runs import CheckpointError, Checkpoints, RunError
from cnnjax.training import Interrupted, Run

Arrays = tuple[np.ndarray, np.ndarray]
TIMING = ("seconds", "images_per_second", "waiting", "seal")

# Trains in a process of its own, at a pace that leaves time to kill it.
CHILD = """
import json, sys, time
import numpy as np
import cnnjax as cj
from commands import after_every_dispatch
from flax import nnx
from modules import Convnet, NnxConvnet

data_file, directory, model, config, pace = sys.argv[1:]
after_every_dispatch(lambda done: time.sleep(float(pace)))
cj.configure_runtime()
with np.load(data_file) as file:
    data = cj.data.Splits(cj.data.from_arrays(file["x"], file["y"])).with_validation(0.25)
if model == "convnet":
    model = cj.Model.from_module(Convnet(), (12, 12, 1))
elif model == "nnx":
    model = cj.Model.from_nnx(NnxConvnet(rngs=nnx.Rngs(0)), (12, 12, 1))
else:
    model = cj.create_model("mlp", input_shape=(12, 12, 1), num_classes=3, units=(16,))
config = cj.config.from_dict(cj.TrainingConfig, json.loads(config))
cj.fit(model, data, config, directory=directory)
"""

# Of 72 squares in batches of 8: 9 steps an epoch.
LOOP = {"epochs": 2, "batch_size": 8, "optimizer": "adam", "checkpoint_every": 4}
RICH = {
    **LOOP,
    "average": 0.9,
    "schedule": "cosine",
    "augment": {"width_shift": 1, "horizontal_flip": True, "rotation": 20, "mixup": 0.2},
    "monitor": None,
}
SCAN = {**LOOP, "steps_per_dispatch": 4, "checkpoint_every": 1}


def model_of(name: str) -> cj.Model:
    if name == "convnet":
        return cj.Model.from_module(Convnet(), (12, 12, 1))
    if name == "nnx":
        return cj.Model.from_nnx(NnxConvnet(rngs=nnx.Rngs(0)), (12, 12, 1))
    return cj.create_model("mlp", input_shape=(12, 12, 1), num_classes=3, units=(16,))


def splits(data: Arrays) -> Splits:
    return Splits(from_arrays(*data)).with_validation(0.25)


def fit(
    data: Arrays,
    directory: Path | None = None,
    model: str = "mlp",
    *,
    worse_after: int = 0,
    say: bool = False,
    **changes: Any,
) -> Run:
    """Train; with `worse_after` by gradient descent for so many epochs, then by ascent."""
    settings = {**LOOP, **changes}
    if directory is None:
        del settings["checkpoint_every"]
    if isinstance(settings.get("augment"), dict):
        settings["augment"] = Augment(**settings["augment"])
    optimizer = None
    if worse_after:
        del settings["optimizer"]
        optimizer = optax.sgd(lambda count: jnp.where(count < worse_after * 9, 0.05, -0.05))
    return cj.fit(
        model_of(model),
        splits(data),
        cj.TrainingConfig(**settings),
        optimizer=optimizer,
        directory=directory,
        verbose=say,
    )


@pytest.fixture(scope="module")
def through(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Run]:
    """Runs without a stop, each trained once."""
    known: dict[str, Run] = {}

    def train(data: Arrays, **settings: Any) -> Run:
        key = json.dumps(settings)
        if key not in known:
            known[key] = fit(data, tmp_path_factory.mktemp("through") / "run", **settings)
        return known[key]

    return train


def metrics_of(directory: Path) -> list[dict[str, float]]:
    lines = (directory / "metrics.jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(line).items() if k not in TIMING} for line in lines]


def assert_same_run(found: Run, wanted: Run) -> None:
    assert found.parameter_hash == wanted.parameter_hash
    assert found.metrics == wanted.metrics
    assert found.best_epoch == wanted.best_epoch
    assert found.history.keys() == wanted.history.keys()
    for key in wanted.history.keys() - set(TIMING):
        assert found.history[key].tolist() == wanted.history[key].tolist(), key
    assert metrics_of(found.directory) == metrics_of(wanted.directory)
    own = found.model.module if found.model.spec.arguments is None else None
    for run in (found, wanted):
        loaded = cj.load(run.directory, module=own)
        assert trees.tree_hash(loaded.variables) == wanted.parameter_hash


@contextmanager
def signal_after(dispatches: int, *numbers: int) -> Iterator[None]:
    """Signals come after so many dispatches of the training in the block."""
    count = itertools.count(1)

    def hook(done: int) -> None:
        if next(count) == dispatches:
            for number in numbers:
                signal.raise_signal(number)

    undo = after_every_dispatch(hook)
    try:
        yield
    finally:
        undo()


def interrupted(data: Arrays, directory: Path | None, after: int, **more: Any) -> str:
    """Stop a training by Ctrl-C; returns the message."""
    with signal_after(after, signal.SIGINT), pytest.raises(Interrupted) as caught:
        fit(data, directory, **more)
    return str(caught.value)


# Killed


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("model", "settings"),
    [
        pytest.param("mlp", LOOP, id="loop"),
        pytest.param("convnet", RICH, id="average-augment-dropout"),
        pytest.param("nnx", RICH, id="nnx"),
        pytest.param("mlp", SCAN, id="scan", marks=pytest.mark.slow),
    ],
)
def test_a_run_killed_within_an_epoch_and_resumed_has_the_same_bits(
    squares: Arrays,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    through: Callable[..., Run],
    model: str,
    settings: dict[str, Any],
) -> None:
    data, killed = tmp_path / "squares.npz", tmp_path / "killed"
    np.savez(data, x=squares[0], y=squares[1])
    child = start("-c", CHILD, data, killed, model, json.dumps(settings), "0.1")
    wait_for(child, (killed / "checkpoints" / "13").is_dir)
    os.kill(child.pid, signal.SIGKILL)
    child.communicate()
    assert child.returncode == -signal.SIGKILL
    assert json.loads((killed / "run.json").read_text())["status"] == "running"
    assert len(metrics_of(killed)) == 1

    resumed = fit(squares, killed, model, **settings, resume=True, say=True)
    assert f"resumed {killed} at epoch 2, step 4" in capsys.readouterr().out
    assert_same_run(resumed, through(squares, model=model, **settings))
    facts = json.loads((killed / "run.json").read_text())
    assert (facts["status"], facts["parameter_hash"]) == ("finished", resumed.parameter_hash)


def test_a_resumed_epoch_counts_what_it_took_before(
    squares: Arrays, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupted(squares, tmp_path / "run", after=4)  # at a checkpoint
    load = Checkpoints.load

    def slow(self: Checkpoints, step: int | None = None) -> tuple[dict[str, Any], dict[str, Any]]:
        items, progress = load(self, step)
        assert 0 <= progress["waiting"] < progress["seconds"]
        return items, {**progress, "seconds": 1000.0, "waiting": 250.0}

    monkeypatch.setattr(Checkpoints, "load", slow)
    run = fit(squares, tmp_path / "run", resume=True)
    seconds, later = run.history["seconds"]
    assert 1000 < seconds < 1200
    assert later < 200
    assert run.history["images_per_second"][0] == pytest.approx(72 / seconds, abs=0.051)
    assert run.history["waiting"][0] == pytest.approx(250 / seconds, abs=0.05)
    assert run.seconds > 1000


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_a_run_killed_again_and_again_at_random_has_the_same_bits(
    squares: Arrays, tmp_path: Path, through: Callable[..., Run], seed: int
) -> None:
    data, killed = tmp_path / "squares.npz", tmp_path / "killed"
    np.savez(data, x=squares[0], y=squares[1])
    settings = {**RICH, "monitor": "loss", "checkpoint_every": 1, "epochs": 6}
    resuming = json.dumps({**settings, "resume": True})
    chance = random.Random(seed)
    for _ in range(8):
        child = start("-c", CHILD, data, killed, "convnet", resuming, "0.02")
        before = set(killed.glob("checkpoints/*"))
        while child.poll() is None and set(killed.glob("checkpoints/*")) <= before:
            time.sleep(0.001)
        time.sleep(chance.random())
        child.kill()
        _, err = child.communicate()
        assert child.returncode in (0, -signal.SIGKILL), err
    resumed = fit(squares, killed, "convnet", **settings, resume=True)
    assert_same_run(resumed, through(squares, model="convnet", **settings))


@pytest.mark.slow
def test_a_run_killed_at_any_moment_of_its_life_has_the_same_bits(
    squares: Arrays, tmp_path: Path, through: Callable[..., Run]
) -> None:
    data = tmp_path / "squares.npz"
    np.savez(data, x=squares[0], y=squares[1])
    settings = {**RICH, "monitor": "loss", "checkpoint_every": 2, "epochs": 3}
    text = json.dumps({**settings, "resume": True})

    def begin(directory: Path) -> Popen[str]:
        return start("-c", CHILD, data, directory, "convnet", text, "0.02")

    began = time.monotonic()
    child = begin(tmp_path / "whole")
    _, errors = child.communicate()
    assert child.returncode == 0, errors
    whole = time.monotonic() - began
    chance, stages = random.Random(0), set()
    for number in range(20):
        killed = tmp_path / str(number)
        child = begin(killed)
        # The twenty fall into twenty equal parts of its life, imports and compilation included.
        time.sleep((number + chance.random()) / 20 * whole)
        child.kill()
        child.communicate()
        saved = list(killed.glob("checkpoints/*"))
        stages.add("before" if not killed.is_dir() else "unsaved" if not saved else "saved")
        resumed = fit(squares, killed, "convnet", **settings, resume=True)
        assert_same_run(resumed, through(squares, model="convnet", **settings))
    assert stages == {"before", "unsaved", "saved"}


# A full disk

# From some dispatch on no file may grow beyond a few kilobytes: to the writer the disk is full.
FULL = """
import resource, signal, sys, time
from pathlib import Path
import numpy as np
import cnnjax as cj
from cnnjax.cli import run_as_command
from commands import after_every_dispatch

directory, full_after, resume = sys.argv[1:]
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
count = 0
def hook(done):
    global count
    count += 1
    if count == int(full_after):
        while not (Path(directory) / "checkpoints" / "5").is_dir():
            time.sleep(0.01)
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))
after_every_dispatch(hook)
def main():
    data = cj.data.load("digits")
    config = cj.TrainingConfig(epochs=3, batch_size=359, resume=resume == "resume")
    model = cj.create_model("mlp", units=(64,))
    print(cj.fit(model, data, config, directory=directory).parameter_hash)
run_as_command(main)
"""


@pytest.mark.slow
def test_on_a_full_disk_the_checkpoint_before_survives_and_one_line_says_so(tmp_path: Path) -> None:
    through = python("-c", FULL, tmp_path / "through", "0", "").stdout.splitlines()[-1]
    run = tmp_path / "run"
    done = python("-c", FULL, run, "6", "", status=1, CNNJAX_COMPILATION_CACHE="0")
    assert len(done.stderr.splitlines()) == 1, done.stderr
    (line,) = done.stderr.splitlines()
    assert line == (
        f"error: a checkpoint could not be saved in {run / 'checkpoints'} (File too large); the "
        "checkpoint of step 5 there is complete: mend that and resume"
    )
    assert json.loads((run / "run.json").read_text())["status"] == "failed"
    assert cj.load(run).spec.name == "mlp"
    resumed = python("-c", FULL, run, "0", "resume").stdout.splitlines()
    assert "resumed" in resumed[0]
    assert resumed[-1] == through


@pytest.mark.thorough
def test_no_space_left_on_the_device(tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=700k", "tmpfs", str(small)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("needs a small file system: this user may not mount one")
    try:
        done = python("-c", FULL, small / "run", "0", "", status=1)
        assert len(done.stderr.splitlines()) == 1, done.stderr
        (line,) = done.stderr.splitlines()
        assert "(No space left on device); the checkpoint of step 5 there is complete" in line
        assert cj.load(small / "run").spec.name == "mlp"
    finally:
        subprocess.run(["umount", str(small)], check=True)


# Interrupted


@pytest.mark.sample(1)
@pytest.mark.parametrize("after", [1, 9, 17])
def test_a_run_interrupted_at_any_step_and_resumed_has_the_same_bits(
    squares: Arrays, tmp_path: Path, through: Callable[..., Run], after: int
) -> None:
    message = interrupted(squares, tmp_path / "run", after, model="convnet", **RICH)
    epoch, step = divmod(after, 9)
    assert f"stopped in epoch {epoch + 1}, step {step} of 9 and saved in" in message
    facts = json.loads((tmp_path / "run" / "run.json").read_text())
    assert facts["status"] == "interrupted"
    resumed = fit(squares, tmp_path / "run", "convnet", **RICH, resume=True)
    assert_same_run(resumed, through(squares, model="convnet", **RICH))


@pytest.mark.sample(1)
@pytest.mark.parametrize(("after", "epoch", "step"), [(3, 2, 0), (5, 2, 8)])
@pytest.mark.thorough
def test_the_scan_form_stops_and_resumes_at_the_borders_of_its_chunks(
    squares: Arrays,
    tmp_path: Path,
    through: Callable[..., Run],
    after: int,
    epoch: int,
    step: int,
) -> None:
    message = interrupted(squares, tmp_path / "run", after, **SCAN)
    assert f"epoch {epoch}, step {step} of 9" in message
    resumed = fit(squares, tmp_path / "run", **SCAN, resume=True)
    assert_same_run(resumed, through(squares, **SCAN))


def test_the_message_says_how_to_go_on(squares: Arrays, tmp_path: Path) -> None:
    message = interrupted(squares, tmp_path / "run", 3)
    assert str(tmp_path / "run") in message
    assert "resume=True (on the command line: --resume) goes on from there" in message


def test_without_a_directory_the_message_says_that_nothing_was_saved(squares: Arrays) -> None:
    message = interrupted(squares, None, 12)
    assert message.startswith("stopped in epoch 2, step 3 of 9; nothing was saved, since no ")


def test_sigterm_saves_as_well(squares: Arrays, tmp_path: Path) -> None:
    stopped = pytest.raises(Interrupted, match=r"epoch 1, step 3 of 9 and saved in")
    with signal_after(3, signal.SIGTERM), stopped:
        fit(squares, tmp_path / "run")
    assert [p.name for p in (tmp_path / "run" / "checkpoints").iterdir()] == ["3"]


def test_a_stop_at_the_very_last_step_finishes_the_run(
    squares: Arrays, tmp_path: Path, through: Callable[..., Run]
) -> None:
    with signal_after(18, signal.SIGINT):
        finished = fit(squares, tmp_path / "run")
    assert_same_run(finished, through(squares))


def test_a_second_ctrl_c_stops_at_once_and_earlier_checkpoints_remain(
    squares: Arrays, tmp_path: Path, through: Callable[..., Run]
) -> None:
    twice = signal_after(7, signal.SIGINT, signal.SIGINT)
    with twice, pytest.raises(KeyboardInterrupt) as caught:
        fit(squares, tmp_path / "run")
    assert not isinstance(caught.value, Interrupted)
    assert_same_run(fit(squares, tmp_path / "run", resume=True), through(squares))


def test_signal_handlers_are_put_back(squares: Arrays) -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    interrupted(squares, None, 2)
    fit(squares, epochs=1)
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_training_works_outside_the_main_thread(
    squares: Arrays, through: Callable[..., Run]
) -> None:
    results: list[Run] = []
    thread = threading.Thread(target=lambda: results.append(fit(squares)))
    thread.start()
    thread.join()
    assert results[0].parameter_hash == through(squares).parameter_hash


# What is carried over


@pytest.mark.thorough
def test_the_best_model_of_an_earlier_process_is_still_the_result(
    squares: Arrays, tmp_path: Path, through: Callable[..., Run]
) -> None:
    own = {"worse_after": 1, "epochs": 6, "monitor": "loss", "checkpoint_every": 7}
    interrupted(squares, tmp_path / "run", 25, **own)
    interrupted(squares, tmp_path / "run", 20, **own, resume=True)
    resumed = fit(squares, tmp_path / "run", **own, resume=True)
    assert through(squares, **own).best_epoch < 4
    assert_same_run(resumed, through(squares, **own))


@pytest.mark.thorough
def test_patience_goes_on_counting(
    squares: Arrays, tmp_path: Path, through: Callable[..., Run]
) -> None:
    own = {"worse_after": 1, "epochs": 20, "monitor": "loss", "early_stopping": 2}
    best = through(squares, **own).best_epoch
    # Stopped after one epoch without a better loss.
    interrupted(squares, tmp_path / "run", 9 * (best + 1) + 2, **own)
    resumed = fit(squares, tmp_path / "run", **own, resume=True)
    assert len(resumed.history["loss"]) == best + 2 < 20
    assert_same_run(resumed, through(squares, **own))


def test_a_run_that_stopped_early_stays_stopped(squares: Arrays, tmp_path: Path) -> None:
    own = {"worse_after": 1, "epochs": 20, "monitor": "loss", "early_stopping": 1}
    first = fit(squares, tmp_path / "run", **own)
    assert len(first.history["loss"]) < 20
    assert_same_run(fit(squares, tmp_path / "run", **own, resume=True), first)


def test_weights_that_are_not_those_it_began_with_are_not_passed_over(
    squares: Arrays, tmp_path: Path
) -> None:
    first = fit(squares, tmp_path / "run", epochs=1)
    config = cj.TrainingConfig(**{**LOOP, "epochs": 1, "resume": True})
    other = cj.create_model("mlp", input_shape=(12, 12, 1), num_classes=3, units=(16,), seed=5)
    with pytest.warns(UserWarning, match="run began with other weights than those of the model"):
        again = cj.fit(other, splits(squares), config, directory=tmp_path / "run", verbose=False)
    assert again.parameter_hash == first.parameter_hash


@pytest.mark.sample(1)
@pytest.mark.parametrize("monitor", ["loss", None])
def test_resuming_a_finished_run_returns_its_result(
    squares: Arrays, tmp_path: Path, capsys: pytest.CaptureFixture[str], monitor: str | None
) -> None:
    own = {"monitor": monitor, "average": 0.5}
    first = fit(squares, tmp_path / "run", **own)
    lines = (tmp_path / "run" / "metrics.jsonl").read_text()
    assert_same_run(fit(squares, tmp_path / "run", **own, resume=True, say=True), first)
    assert "epoch 2/2" not in capsys.readouterr().out  # nothing was trained
    assert (tmp_path / "run" / "metrics.jsonl").read_text() == lines
    facts = json.loads((tmp_path / "run" / "run.json").read_text())
    assert (facts["status"], facts["parameter_hash"]) == ("finished", first.parameter_hash)


def test_a_finished_run_may_be_prolonged_at_a_constant_rate(
    squares: Arrays, tmp_path: Path, through: Callable[..., Run]
) -> None:
    fit(squares, tmp_path / "run", epochs=1)
    assert_same_run(fit(squares, tmp_path / "run", resume=True), through(squares))


def test_a_finished_run_cannot_be_made_shorter(
    squares: Arrays, through: Callable[..., Run], tmp_path: Path
) -> None:
    shutil.copytree(through(squares).directory, tmp_path / "run")
    before = (tmp_path / "run" / "config.json").read_text()
    with pytest.raises(RunError, match=r"stands in epoch 2 already.*at least epochs=2, got 1"):
        fit(squares, tmp_path / "run", epochs=1, resume=True)
    assert (tmp_path / "run" / "config.json").read_text() == before


def test_a_schedule_that_ends_with_the_run_cannot_be_prolonged(
    squares: Arrays, tmp_path: Path
) -> None:
    fit(squares, tmp_path / "run", epochs=1, schedule="cosine")
    with pytest.raises(RunError, match="training/epochs: expected 1, found 2"):
        fit(squares, tmp_path / "run", epochs=2, schedule="cosine", resume=True)


def test_another_batch_size_is_refused_and_named(squares: Arrays, tmp_path: Path) -> None:
    interrupted(squares, tmp_path / "run", 3)
    with pytest.raises(RunError, match="training/batch_size: expected 8, found 12"):
        fit(squares, tmp_path / "run", batch_size=12, resume=True)


@pytest.mark.thorough
def test_how_often_and_how_many_to_save_may_change(
    squares: Arrays, tmp_path: Path, through: Callable[..., Run]
) -> None:
    interrupted(squares, tmp_path / "run", 12)
    resumed = fit(squares, tmp_path / "run", checkpoint_every=2, keep=3, resume=True)
    assert_same_run(resumed, through(squares))


@pytest.mark.sample(1)
@pytest.mark.parametrize("exists", [True, False])
def test_resume_where_nothing_was_saved_starts_and_says_so(
    squares: Arrays,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    through: Callable[..., Run],
    exists: bool,
) -> None:
    directory = tmp_path / "run"
    if exists:
        twice = signal_after(2, signal.SIGINT, signal.SIGINT)
        with twice, pytest.raises(KeyboardInterrupt):
            fit(squares, directory)
    resumed = fit(squares, directory, resume=True, say=True)
    out = capsys.readouterr().out
    assert f"nothing was saved in {directory}: starting from the beginning" in out
    assert_same_run(resumed, through(squares))


def test_deleting_a_damaged_checkpoint_as_told_leads_to_the_same_bits(
    squares: Arrays, tmp_path: Path, through: Callable[..., Run]
) -> None:
    run = tmp_path / "run"
    interrupted(squares, run, 15)  # saved at 4, 8, 9, 13 and 15
    for file in (run / "checkpoints" / "15" / "training").rglob("*"):
        if file.is_file():
            file.write_bytes(b"")
    with pytest.raises(CheckpointError, match="step 13, is intact: delete") as caught:
        fit(squares, run, resume=True)
    shutil.rmtree(str(caught.value).split("delete ")[1].split(" and resume")[0])
    assert_same_run(fit(squares, run, resume=True), through(squares))


@pytest.mark.thorough
def test_a_best_checkpoint_that_is_gone_is_not_replaced_in_silence(
    squares: Arrays, tmp_path: Path
) -> None:
    own = {"worse_after": 1, "epochs": 5, "monitor": "loss"}
    first = fit(squares, tmp_path / "run", **own)
    best = tmp_path / "run" / "checkpoints" / str(9 * first.best_epoch)
    assert first.best_epoch < 4
    shutil.rmtree(best)
    with pytest.raises(CheckpointError, match=str(best)):
        fit(squares, tmp_path / "run", **own, resume=True)


def test_lost_metrics_are_not_passed_over_in_silence(squares: Arrays, tmp_path: Path) -> None:
    interrupted(squares, tmp_path / "run", 12)
    (tmp_path / "run" / "metrics.jsonl").unlink()
    with pytest.raises(RunError, match=r"metrics\.jsonl"):
        fit(squares, tmp_path / "run", resume=True)
