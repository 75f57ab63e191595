"""Loggers have every line once, also of a run that was killed and resumed."""

from __future__ import annotations

import csv
import json
import re
import struct
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import environment, killed_after, start, wait_for

import cnnjax as cj
from cnnjax.data import Splits, from_arrays
from cnnjax.training import Callback, Moment, Run, loggers

Arrays = tuple[np.ndarray, np.ndarray]


def fit(data: Arrays, directory: Path | None = None, **more: Any) -> Run:
    """Of 72 squares in batches of 8: 9 steps an epoch."""
    hooks = {k: more.pop(k) for k in ("callbacks", "loggers") if k in more}
    config = cj.TrainingConfig(**{"epochs": 3, "batch_size": 8, **more})
    model = cj.create_model("mlp", input_shape=(12, 12, 1), num_classes=3, units=(4,))
    splits = Splits(from_arrays(*data)).with_validation(0.25)
    return cj.fit(model, splits, config, directory=directory, verbose=False, **hooks)


def kill(squares: Arrays, directory: Path, **more: Any) -> None:
    """Train until 16 steps are done, with checkpoints at every fourth of an epoch."""
    with killed_after(16):
        fit(squares, directory, checkpoint_every=4, **more)


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def untimed(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    timing = {"seconds", "images_per_second", "waiting", "_timestamp", "_runtime", "seal"}
    return [{k: v for k, v in row.items() if k not in timing and v != ""} for row in rows]


class Lines(loggers.Logger):
    """One's own: a list."""

    def __init__(self, every: int | None = None):
        self.every = every
        self.lines: list[dict[str, Any]] = []
        self.began: loggers.Beginning | None = None
        self.ended: list[Any] = []

    def start(self, beginning: loggers.Beginning) -> None:
        self.began = beginning

    def log(self, record: Mapping[str, Any]) -> None:
        self.lines.append(dict(record))

    def finish(self, status: str, results: Mapping[str, float]) -> None:
        self.ended += [status, dict(results)]


def test_one_of_ones_own_gets_beginning_lines_and_end(squares: Arrays, tmp_path: Path) -> None:
    lines = Lines(every=4)
    run = fit(squares, tmp_path / "run", loggers=[lines], epochs=2)
    assert lines.began
    assert (lines.began.directory, lines.began.step) == (run.directory, 0)
    assert lines.began.config == json.loads((tmp_path / "run" / "config.json").read_text())
    # Within an epoch after every fourth step of the training, and at each end, once.
    assert [line["step"] for line in lines.lines] == [4, 8, 9, 12, 16, 18]
    own = [line for line in lines.lines if "val_loss" in line]
    assert [line["loss"] for line in own] == run.history["loss"].tolist()
    assert lines.ended == ["finished", run.metrics]
    assert run.parameter_hash == fit(squares, epochs=2).parameter_hash


def test_the_end_of_an_epoch_is_one_line_where_a_step_is_due_too(squares: Arrays) -> None:
    lines = Lines(every=3)
    fit(squares, loggers=[lines], epochs=1)
    assert [line["step"] for line in lines.lines] == [3, 6, 9]
    assert "val_loss" in lines.lines[-1]


def test_the_step_of_a_stop_is_one_line(squares: Arrays) -> None:
    class Stop(Callback):
        every = 4

        def on_step(self, moment: Moment) -> None:
            moment.stop()

    lines = Lines(every=2)
    fit(squares, loggers=[lines], callbacks=[Stop()])
    assert [line["step"] for line in lines.lines] == [2, 4]
    assert lines.ended[0] == "stopped"


def test_after_an_error_each_logger_is_finished(squares: Arrays) -> None:
    class Full(Lines):
        def log(self, record: Mapping[str, Any]) -> None:
            raise OSError("no space left")

    one, other = Lines(), Full()
    with pytest.raises(OSError, match="no space left"):
        fit(squares, loggers=[one, other])
    assert one.ended == other.ended == ["failed", {}]


# A table


def test_a_table_has_a_row_a_line(squares: Arrays, tmp_path: Path) -> None:
    run = fit(squares, tmp_path / "run", loggers=[loggers.CSV(every=4)])
    rows = table(tmp_path / "run" / "metrics.csv")
    assert [int(row["step"]) for row in rows] == [4, 8, 9, 12, 16, 18, 20, 24, 27]
    ends = [row for row in rows if row["val_loss"]]
    for name, values in run.history.items():
        assert [float(row[name]) for row in ends] == values.tolist(), name


@pytest.mark.thorough
def test_the_table_of_a_resumed_run_has_every_row_once(squares: Arrays, tmp_path: Path) -> None:
    path = tmp_path / "lines.csv"
    kill(squares, tmp_path / "run", loggers=[loggers.CSV(path, every=1)])
    assert len(table(path)) == 15  # of which two come again
    fit(squares, tmp_path / "run", resume=True, loggers=[loggers.CSV(path, every=1)])
    fit(squares, tmp_path / "through", loggers=[loggers.CSV(every=1)])
    wanted = table(tmp_path / "through" / "metrics.csv")
    assert [int(row["step"]) for row in wanted] == list(range(1, 28))
    assert untimed(table(path)) == untimed(wanted)


def test_a_row_that_a_crash_cut_off_is_left_out(squares: Arrays, tmp_path: Path) -> None:
    path = tmp_path / "run" / "metrics.csv"
    kill(squares, tmp_path / "run", loggers=[loggers.CSV(every=1)])
    path.write_text(path.read_text()[:-5])
    fit(squares, tmp_path / "run", resume=True, loggers=[loggers.CSV(every=1)])
    assert [int(row["step"]) for row in table(path)] == list(range(1, 28))


def test_what_is_no_table_is_not_overwritten(squares: Arrays, tmp_path: Path) -> None:
    path = tmp_path / "diary.txt"
    path.write_text("Monday\nTuesday\nWednesday\n")
    with pytest.raises(ValueError, match=r"diary\.txt holds the lines of another training"):
        fit(squares, loggers=[loggers.CSV(path)])
    with pytest.raises(ValueError, match=r"diary\.txt is no table of a training"):
        fit(squares, tmp_path / "run", resume=True, loggers=[loggers.CSV(path)])
    assert path.read_text() == "Monday\nTuesday\nWednesday\n"


def test_a_table_needs_a_place(squares: Arrays) -> None:
    message = r"^CSV\(\) writes into the run directory: give CSV\(path\) or directory=$"
    with pytest.raises(ValueError, match=message):
        fit(squares, loggers=[loggers.CSV()])


# TensorBoard


def shown(folder: Path) -> list[tuple[str, int, float]]:
    """What TensorBoard shows of a folder: later files' marks take earlier events away."""
    from tensorboardX.proto import event_pb2

    points: list[tuple[str, int, float]] = []
    for file in sorted(folder.glob("*tfevents*")):
        content, place = file.read_bytes(), 0
        while place < len(content):
            (length,) = struct.unpack_from("<Q", content, place)
            event = event_pb2.Event.FromString(content[place + 12 : place + 12 + length])
            place += 12 + length + 4
            if event.session_log.status == event_pb2.SessionLog.START:
                points = [point for point in points if point[1] < event.step]
            points += [(v.tag, event.step, v.simple_value) for v in event.summary.value]
    return points


def test_tensorboard_shows_every_point_once(squares: Arrays, tmp_path: Path) -> None:
    pytest.importorskip("tensorboardX")
    kill(squares, tmp_path / "run", loggers=[loggers.TensorBoard(every=1)])
    run = fit(squares, tmp_path / "run", resume=True, loggers=[loggers.TensorBoard(every=1)])
    points = shown(tmp_path / "run" / "tensorboard")
    steps = [step for tag, step, _ in points if tag == "loss"]
    assert steps == list(range(1, 28))
    validation = [value for tag, _, value in points if tag == "val_loss"]
    np.testing.assert_array_equal(validation, run.history["val_loss"].astype(np.float32))
    assert {tag for tag, *_ in points} == run.history.keys() - {"epoch", "step"}
    with pytest.raises(ValueError, match=r"tensorboard holds the lines of another training"):
        fit(squares, loggers=[loggers.TensorBoard(tmp_path / "run" / "tensorboard")])


# Weights & Biases


def stored(content: bytes) -> Iterator[bytes]:
    """The records of a file in the log format of LevelDB, behind a head of seven bytes."""
    place, whole = 7, b""
    while place + 7 <= len(content):
        if 32768 - place % 32768 < 7:  # too little for a head: the block is filled up
            place += 32768 - place % 32768
            continue
        _, length, kind = struct.unpack_from("<IHB", content, place)
        whole += content[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # whole, or its last part
            yield whole
            whole = b""


def sent(folder: Path) -> tuple[list[dict[str, Any]], dict[str, Any], set[str]]:
    """What offline runs hold: (lines, summary, ids of the runs)."""
    from wandb.proto import wandb_internal_pb2

    lines: list[dict[str, Any]] = []
    summary: dict[str, Any] = {}
    ids = set()
    for file in sorted(folder.glob("wandb/offline-run-*/*.wandb"), key=lambda p: p.stat().st_mtime):
        for data in stored(file.read_bytes()):
            record = wandb_internal_pb2.Record.FromString(data)
            kind = record.WhichOneof("record_type")
            if kind == "history":
                items = record.history.item
                pairs = [(i.key or ".".join(i.nested_key), json.loads(i.value_json)) for i in items]
                lines.append({k: v for k, v in pairs if not k.startswith("_") or k == "_step"})
            elif kind == "summary":
                for i in record.summary.update:
                    summary[i.key or ".".join(i.nested_key)] = json.loads(i.value_json)
            elif kind == "run":
                ids.add(record.run.run_id)
    return lines, summary, ids


@pytest.mark.thorough
def test_weights_and_biases_get_every_line_once(
    squares: Arrays, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_SILENT", "true")

    def logger() -> loggers.WeightsAndBiases:
        return loggers.WeightsAndBiases("squares", every=4, mode="offline")

    kill(squares, tmp_path / "run", loggers=[logger()])
    run = fit(squares, tmp_path / "run", resume=True, loggers=[logger()])
    end = time.monotonic() + 20  # its service may write the last ones after `finish`
    while len((read := sent(tmp_path / "run"))[0]) < 9 and time.monotonic() < end:
        time.sleep(0.1)
    lines, summary, ids = read
    assert [line["_step"] for line in lines] == [4, 8, 9, 12, 16, 18, 20, 24, 27]
    losses = [line["val_loss"] for line in lines if "val_loss" in line]
    assert losses == run.history["val_loss"].tolist()
    assert {k: summary[k] for k in ("status", *run.metrics)} == {
        "status": "finished",
        **run.metrics,
    }
    assert len(ids) == 1


def test_settings_of_its_own_are_refused() -> None:
    pytest.importorskip("wandb")
    with pytest.raises(ValueError, match=r"^resume='must' is set by the logger: leave it out$"):
        loggers.WeightsAndBiases(resume="must")


# Trains in a process of its own, at a pace that leaves time to kill it.
CHILD = """
import sys, time
import numpy as np
from commands import after_every_dispatch
from test_loggers import both, fit

after_every_dispatch(lambda done: time.sleep(0.1))
with np.load(sys.argv[1]) as file:
    fit((file["x"], file["y"]), sys.argv[2], checkpoint_every=4, loggers=both())
"""


def both() -> list[loggers.Logger]:
    return [loggers.CSV(every=1), loggers.TensorBoard(every=1)]


@pytest.mark.thorough
def test_killed_and_resumed_each_has_every_line_once(squares: Arrays, tmp_path: Path) -> None:
    pytest.importorskip("tensorboardX")
    data, run = tmp_path / "squares.npz", tmp_path / "run"
    np.savez(data, x=squares[0], y=squares[1])
    path = environment()["PYTHONPATH"] + f":{Path(__file__).parent}"
    child = start("-c", CHILD, data, run, PYTHONPATH=path)
    wait_for(child, (run / "checkpoints" / "13").is_dir)
    child.kill()
    child.communicate()
    fit(squares, run, resume=True, loggers=both())
    steps = list(range(1, 28))
    assert [int(row["step"]) for row in table(run / "metrics.csv")] == steps
    assert [step for tag, step, _ in shown(run / "tensorboard") if tag == "loss"] == steps


# Refused


@pytest.mark.parametrize(
    ("name", "package"), [("TensorBoard", "tensorboardX"), ("WeightsAndBiases", "wandb")]
)
def test_a_missing_package_is_named_with_its_extra(
    monkeypatch: pytest.MonkeyPatch, name: str, package: str
) -> None:
    monkeypatch.setattr(loggers.importlib.util, "find_spec", lambda package: None)
    message = f"{name} needs {package}, which is not installed: pip install 'cnnjax[track]'"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        getattr(loggers, name)()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([print], "loggers must be a sequence of cj.training.loggers.Logger objects, e.g. "),
        ([loggers.CSV], "got <class 'cnnjax.training.loggers.CSV'>"),
        (loggers.CSV(), "loggers must be a sequence, e.g. [CSV()]"),
    ],
    ids=["function", "class", "alone"],
)
def test_what_is_no_logger_is_refused(squares: Arrays, given: Any, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        fit(squares, loggers=given)
