"""A run killed at any operation on its files goes on to the same bits, and leaves nothing."""

from __future__ import annotations

import json
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import stored_states

import cnnjax as cj
from cnnjax.core import storage
from cnnjax.core import trees as run_trees
from cnnjax.plot import figures as run_figures
from cnnjax.runs import CheckpointError, Checkpoints, RunDirectory, RunError, write_report
from cnnjax.runs import directory as run_directory
from cnnjax.runs.contents import METRICS_FILE
from cnnjax.training import Run

Arrays = tuple[np.ndarray, np.ndarray]
CONFIG = {"training": {"epochs": 2, "batch_size": 8, "schedule": "constant", "resume": False}}
LONGER = {"training": {**CONFIG["training"], "epochs": 3}}
FACTS = {"data": {"train": {"name": "x", "examples": 4, "fingerprint": "f"}}, "initial_hash": "h"}


class Killed(BaseException):
    """The process is dead: from here on nothing it does reaches the disk."""


@contextmanager
def killed_at(number: int) -> Iterator[list[int]]:
    """The operation on files of that number, and all after it, is not done; yields their count."""
    count = [0]
    with pytest.MonkeyPatch.context() as patch:

        def mortal(name: str) -> None:
            real = getattr(os, name)

            def operation(*arguments: Any, **more: Any) -> Any:
                count[0] += 1
                if count[0] >= number:
                    raise Killed
                return real(*arguments, **more)

            patch.setattr(os, name, operation)

        for name in ("replace", "rename", "fsync", "mkdir", "truncate"):
            mortal(name)
        unlink = Path.unlink

        def no_clean_up(path: Path, missing_ok: bool = False) -> None:
            if count[0] < number:
                unlink(path, missing_ok)

        patch.setattr(Path, "unlink", no_clean_up)
        yield count


def live(run: Path) -> None:
    """What a training does with the records, its checkpoints aside: two epochs, then a third."""
    for config, epochs in ((CONFIG, 2), (LONGER, 3)):
        directory = RunDirectory(run)
        try:
            directory.check(config, FACTS, resume=True)
            directory.claim(config, FACTS)
            done = len(directory.truncate(min(len(directory.epochs()), epochs)))
            for epoch in range(done + 1, epochs + 1):
                directory.append({"epoch": epoch, "loss": 1 / epoch})
            directory.finish("finished", best_epoch=epochs)
        finally:
            directory.release()


def name_as_dead(run: Path) -> int:
    """Remains are called as if another process had left them; their number."""
    count = 0
    for file in [f for f in run.rglob(".*") if f".{os.getpid()}".replace(".", "-") in f.name]:
        file.rename(file.with_name(file.name.replace(f"-{os.getpid()}-", "-999999999-")))
        count += 1
    return count


@pytest.mark.thorough
def test_records_killed_at_any_operation_go_on(tmp_path: Path) -> None:
    live(tmp_path / "whole")
    with killed_at(10**9) as count:
        live(tmp_path / "counted")
    whole, remains = (tmp_path / "whole" / METRICS_FILE).read_text(), 0
    assert count[0] >= 20
    for number in range(1, count[0] + 1):
        run = tmp_path / str(number)
        with killed_at(number), pytest.raises(Killed):
            live(run)
        remains += name_as_dead(run)
        if (run / "run.json").is_file():
            RunDirectory(run).read_whole()  # a reader takes it at any time
        live(run)
        lines = [json.loads(line) for line in (run / METRICS_FILE).read_text().splitlines()]
        wanted = [json.loads(line) for line in whole.splitlines()]
        for line in (*lines, *wanted):
            line.pop("seal", None)
        assert lines == wanted, number
        assert sorted(p.name for p in run.iterdir()) == ["config.json", METRICS_FILE, "run.json"]
        assert json.loads((run / "run.json").read_text())["status"] == "finished"
    assert remains > 5


def fit(data: Arrays, run: Path) -> Run:
    model = cj.create_model("mlp", input_shape=(12, 12, 1), num_classes=3, units=(4,))
    config = cj.TrainingConfig(epochs=2, batch_size=48, monitor=None, resume=True)
    return cj.fit(model, data, config, directory=run, verbose=False)


@pytest.mark.slow
def test_a_training_killed_at_any_operation_ends_in_the_same_bits(
    squares: Arrays, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_directory, "fcntl", None)  # the dead keep no lock
    wanted = fit(squares, tmp_path / "whole").parameter_hash
    with killed_at(10**9) as count:
        fit(squares, tmp_path / "counted")
    assert count[0] > 20
    for number in range(1, count[0] + 1):
        run = tmp_path / str(number)
        # In a thread of the store it is an error of a save.
        with killed_at(number), suppress(Killed, CheckpointError, RunError):
            fit(squares, run)
        name_as_dead(run)
        assert fit(squares, run).parameter_hash == wanted, number
        assert run_trees.tree_hash(cj.load(run).variables) == wanted, number
        assert not [p for p in run.rglob("*") if ".tmp" in p.name or "-tmp" in p.name], number
        write_report(run)
        shutil.rmtree(run)


def test_a_directory_with_nothing_but_remains_is_taken(squares: Arrays, tmp_path: Path) -> None:
    for number, name in enumerate(
        (".config.json.999999999", ".config.json.0badcafe-999999999-0123abcd.tmp")
    ):
        run = tmp_path / str(number)
        run.mkdir()
        (run / name).write_text("{")
        assert fit(squares, run).best_epoch == 2
    # Of a machine whose processes cannot be asked: it stays while it is young.
    assert [p.name for p in run.glob(".config*")] == [name]


@pytest.mark.parametrize("name", [".config.json", ".notes.txt.77", "config.json.tmp", ".x.tmp"])
def test_what_only_looks_like_remains_is_foreign_and_stays(
    squares: Arrays, tmp_path: Path, name: str
) -> None:
    (tmp_path / name).write_text("mine")
    with pytest.raises(RunError, match="is not empty and holds no run"):
        fit(squares, tmp_path)
    assert (tmp_path / name).read_text() == "mine"


# A full disk


class Full:
    """A file on a disk that takes so many bytes more and no others."""

    def __init__(self, file: Any, room: int):
        self._file, self._room = file, room

    def __enter__(self) -> Full:
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()

    def write(self, content: bytes) -> int:
        self._file.write(content[: self._room])
        self._file.flush()
        raise OSError(28, "No space left on device")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


@pytest.mark.parametrize("room", [0, 1, 20])
def test_an_epoch_that_finds_no_room_leaves_no_part_of_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, room: int
) -> None:
    run = RunDirectory(tmp_path / "run")
    run.check(CONFIG, FACTS, resume=False)
    run.claim(CONFIG, FACTS)
    run.append({"epoch": 1, "loss": 0.5})
    before = (run.path / METRICS_FILE).read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr("builtins.open", lambda *a, opened=open, **k: Full(opened(*a, **k), room))
        with pytest.raises(RunError, match=r"metrics\.jsonl cannot be written \(No space left on"):
            run.append({"epoch": 2, "loss": 0.25})
    assert (run.path / METRICS_FILE).read_bytes() == before
    run.append({"epoch": 2, "loss": 0.25})
    assert [line["epoch"] for line in run.epochs()] == [1, 2]
    run.release()


def full(*arguments: Any, **more: Any) -> None:
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize("operation", ["fsync", "replace", "mkdir"])
def test_a_report_that_finds_no_room_is_one_line_and_leaves_nothing(
    squares: Arrays, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, operation: str
) -> None:
    run = tmp_path / "run"
    fit(squares, run)
    before = sorted(p.name for p in run.rglob("*"))
    with monkeypatch.context() as patch:
        patch.setattr(os, operation, full)
        with pytest.raises(
            RunError, match=r"cannot be written \(No space left on device\)"
        ) as told:
            write_report(run)
    assert "\n" not in str(told.value)
    assert [n for n in sorted(p.name for p in run.rglob("*")) if n != "figures"] == before


def test_a_figure_is_complete_or_absent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    history = {"epoch": [1, 2], "loss": [2.0, 1.0], "accuracy": [0.5, 0.75]}
    file = tmp_path / "figures" / "curves.png"
    run_figures.save(run_figures.curves(history), file)
    before = file.read_bytes()
    for number in (1, 2):
        with killed_at(number), pytest.raises(Killed):
            run_figures.save(run_figures.curves(history, 0.5), file)
        assert file.read_bytes() == before


def test_what_is_written_reaches_the_disk_before_it_gets_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    for name in ("fsync", "replace"):
        real: Callable = getattr(os, name)
        monkeypatch.setattr(
            os, name, lambda *a, real=real, name=name: (done.append(name), real(*a))[1]
        )
    storage.write_text(tmp_path / "a", "text")
    assert done == ["fsync", "replace"]


# The store of the checkpoints


def threads() -> set[threading.Thread]:
    return {t for t in threading.enumerate() if not t.daemon}


def checkpoints_of(squares: Arrays, directory: Path) -> tuple[Checkpoints, Callable[[int], Any]]:
    from cnnjax.training.state import TrainState

    model = cj.create_model("mlp", input_shape=(12, 12, 1), num_classes=3, units=(4,))
    optimizer = cj.training.make_optimizer(cj.TrainingConfig(), 4)

    def state(step: int) -> TrainState:
        first = TrainState.create(model, optimizer, seed=0)
        return TrainState(**{**vars(first), "step": first.step + step})

    return Checkpoints(directory), state


def test_after_a_save_that_failed_no_thread_keeps_the_process(
    squares: Arrays, tmp_path: Path
) -> None:
    before = threads()
    directory = tmp_path / "checkpoints"
    store, state = checkpoints_of(squares, directory)
    stored_states.save(store, state(1), {"best_step": 1})
    store.wait()
    shutil.rmtree(directory)
    directory.write_text("in its place")
    with pytest.raises(CheckpointError, match=r"could not be saved in .* \(Not a directory\)"):
        stored_states.save(store, state(2), {"best_step": 2})
    store.close()
    until = time.monotonic() + 5
    while threads() > before and time.monotonic() < until:
        time.sleep(0.01)
    assert threads() <= before


@pytest.mark.parametrize("jump", [3600.0, -3600.0, -2e9, 40 * 86_400.0])
def test_a_clock_that_jumps_while_saving_stops_nothing(
    squares: Arrays, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, jump: float
) -> None:
    real, calls = time.time, [0]

    def jumping() -> float:
        calls[0] += 1
        return real() + jump * (calls[0] // 3)

    monkeypatch.setattr(time, "time", jumping)
    store, state = checkpoints_of(squares, tmp_path / "checkpoints")
    for step in (1, 2, 3):
        stored_states.save(store, state(step), {"best_step": step})
    store.wait()
    store.close()
    assert store.steps() == [2, 3]
    assert calls[0] > 10


# A reader beside a writer


def test_a_checkpoint_deleted_while_it_is_read_gives_way_to_the_next(
    squares: Arrays, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = tmp_path / "checkpoints"
    store, state = checkpoints_of(squares, directory)
    stored_states.save(store, state(1), {"best_step": 1})
    store.wait()
    reader = Checkpoints(directory, read_only=True)
    listed = reader.steps()
    for step in (2, 3, 4):  # beside it the training goes on, and deletes what was listed
        stored_states.save(store, state(step), {"best_step": step})
    store.wait()
    assert listed == [1]
    assert not (directory / "1").exists()
    _, progress = reader.load_variables()
    assert progress["best_step"] == 4
    reader.close()
    store.close()


def test_a_checkpoint_that_is_damaged_and_stays_is_told(squares: Arrays, tmp_path: Path) -> None:
    fit(squares, tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "checkpoints" / "4" / "model")
    with pytest.raises(CheckpointError, match="step 2 is intact"):
        cj.load(tmp_path / "run")
