"""The queue of all trainings: goes on after interruptions, and its list does not rot."""

from __future__ import annotations

import os
import runpy
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import pytest
from commands import ROOT, environment
from run_records import fake

from cnnjax.cli.parser import parse
from cnnjax.runs.results import collect
from experiments import _queue, train_all
from experiments._rows import GROUPS, ROWS, Row
from experiments.train_all import TrainAllOptions, chosen, main

PLACES = {"CATS": "/data/cats and dogs", "WEIGHTS": "/data/weights"}


def options_of(row: Row, monkeypatch: pytest.MonkeyPatch) -> Any:
    """What an experiment's own parser makes of a row."""
    found: list[type] = []
    monkeypatch.setattr("cnnjax.cli.command", lambda main, kind, name: found.append(kind))
    _, _, module, *arguments = _queue.arguments(row, Path("/somewhere/out"), PLACES)
    runpy.run_module(module, run_name="__main__")
    return parse(found[0], arguments, module)


@pytest.mark.filterwarnings("ignore:.*found in sys.modules:RuntimeWarning")
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_every_command_of_the_list_is_one(row: Row, monkeypatch: pytest.MonkeyPatch) -> None:
    options = options_of(row, monkeypatch)
    assert options.out == "/somewhere/out"
    assert options.seeds >= 3
    assert getattr(options, "resume", False) == row.resumes
    assert row.group in GROUPS
    assert row.minutes > 0


def test_no_two_commands_of_the_list_share_a_folder() -> None:
    names = [row.name for row in ROWS]
    assert len(set(names)) == len(names)


def test_rows_are_chosen_by_group_or_by_a_part_of_their_command() -> None:
    rows = [Row("long", 9, "a --x"), Row("reported", 1, "b"), Row("studies", 2, "c --x")]
    assert [row.command for row in chosen(None, rows)] == ["b", "c --x", "a --x"]
    assert [row.command for row in chosen("long", rows)] == ["a --x"]
    assert [row.command for row in chosen("--x", rows)] == ["c --x", "a --x"]
    assert [row.command for row in chosen("--x", rows, ("long", "reported", "studies"))] == [
        "a --x",
        "c --x",
    ]
    with pytest.raises(
        ValueError, match=r"^--only studis fits no command\. Did you mean 'studies'"
    ):
        chosen("studis", rows)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"jobs": 0}, r"^--jobs must be at least 1, got 0$"),
        ({"minutes": 0.5}, r"^--minutes must be more than 0\.7, got 0\.5$"),
    ],
)
def test_strange_options_are_refused(changes: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        main(TrainAllOptions(**changes))


Play = Callable[..., tuple[int, str]]


@pytest.fixture
def play(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Play:
    """Runs the queue on commands that are lines of Python; returns status and what it printed."""

    def arguments(row: Row, out: Path, places: dict[str, str]) -> list[str]:
        return [sys.executable, "-S", "-c", row.command, str(out)]

    def run(*commands: str, **options: Any) -> tuple[int, str]:
        rows = [Row("reported", 1, text) for text in commands]
        monkeypatch.setattr(train_all, "ROWS", rows)
        status = 0
        try:
            main(TrainAllOptions(out=str(tmp_path / "all"), **options))
        except SystemExit as error:
            status = int(str(error.code))
        return status, capsys.readouterr().out

    monkeypatch.setattr(_queue, "arguments", arguments)
    return run


def test_what_is_done_is_not_run_again_and_what_failed_is(tmp_path: Path, play: Play) -> None:
    good = f"open({str(tmp_path / 'count')!r}, 'a').write('x')"
    status, out = play(good, "raise SystemExit(3)")
    assert status == 1
    assert f"done: {good} in" in out
    assert "failed: raise SystemExit(3) (see" in out
    assert out.endswith("failed:\n  raise SystemExit(3)\n")
    status, out = play(good, f"open({str(tmp_path / 'other')!r}, 'w')")
    assert status == 0
    assert out.startswith("left: 1 of 2 commands, about 1 minutes of one core")
    assert out.endswith("left: 0 of 2 commands\n")
    assert (tmp_path / "count").read_text() == "x"


def test_commands_side_by_side_share_the_cores(tmp_path: Path, play: Play) -> None:
    # Each needs the other to have begun: one after another the first would fail.
    text = """
import os, time
open({place!r} + "/{own}", "w").write(os.environ["NPROC"])
for _ in range(600):
    if os.path.exists({place!r} + "/{other}"):
        break
    time.sleep(0.05)
else:
    raise SystemExit(1)
"""
    commands = [
        text.format(place=str(tmp_path), own=own, other=other)
        for own, other in (("a", "b"), ("b", "a"))
    ]
    status, _ = play(*commands, jobs=2)
    assert status == 0
    expected = max(1, len(os.sched_getaffinity(0)) // 2)
    if not os.environ.get("NPROC"):
        assert (tmp_path / "a").read_text() == str(expected)


def test_several_processes_share_a_gpu(tmp_path: Path, play: Play, monkeypatch: Any) -> None:
    assert train_all.backend() == jax.default_backend()
    monkeypatch.setattr(train_all, "backend", lambda: "cpu")
    with pytest.raises(ValueError, match=r"^--gpu needs a GPU, and JAX finds none here"):
        play("pass", gpu=True)
    monkeypatch.setattr(train_all, "backend", lambda: "gpu")
    names = ("XLA_PYTHON_CLIENT_PREALLOCATE", "XLA_PYTHON_CLIENT_MEM_FRACTION", "TFDS_DATA_DIR")
    place = str(tmp_path / "told")
    text = f"import os; open({place!r}, 'w').write(str([os.environ[n] for n in {names}]))"
    assert play(text, gpu=True, jobs=3, data_dir="/data")[0] == 0
    assert (tmp_path / "told").read_text() == "['false', '0.300', '/data']"


@pytest.mark.thorough
def test_at_the_end_of_the_time_what_runs_is_told_to_stop(
    tmp_path: Path, play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_queue, "SECONDS_TO_SAVE", 2)
    monkeypatch.setattr(train_all, "SECONDS_TO_SAVE", 2)
    text = (
        "import signal, sys, time\n"
        f"def stop(*_): open({str(tmp_path / 'saved')!r}, 'w'); sys.exit(130)\n"
        "signal.signal(signal.SIGTERM, stop)\ntime.sleep(60)"
    )
    status, out = play(text, minutes=3 / 60)
    assert status == 0
    assert "the time is over: what runs is saved" in out
    assert (tmp_path / "saved").exists()
    assert play(text.replace("60)", "0)"))[0] == 0


def test_commands_that_need_a_folder_are_left_out_without_it(tmp_path: Path, play: Play) -> None:
    text = "print('$CATS')"
    status, out = play(text)
    assert status == 0
    assert f"left out: {text} (needs --cats)" in out
    status, out = play(text, cats="somewhere")
    assert f"done: {text}" in out


def test_the_list_says_what_is_done(play: Play) -> None:
    play("pass")
    status, out = play("pass", "1 + 1", "print('$WEIGHTS')", list=True)
    assert status == 0
    assert [line.split()[:2] for line in out.splitlines()[:-1]] == [
        ["reported", "done"],
        ["reported", "1"],
        ["reported", "needs"],
    ]


@pytest.mark.thorough
def test_a_queue_that_was_killed_leaves_nobody_at_work_beside_the_next(tmp_path: Path) -> None:
    script = f"""
import sys
from experiments import _queue, train_all
from experiments._rows import Row
child = '''
import time
from pathlib import Path
place = Path({str(tmp_path)!r})
assert not (place / "busy").exists()
(place / "busy").touch()
while not (place / "go").exists():
    time.sleep(0.05)
(place / "busy").unlink()
'''
train_all.ROWS = [Row("reported", 1, child)]
_queue.arguments = lambda row, out, places: [sys.executable, "-S", "-c", row.command]
train_all.main(train_all.TrainAllOptions(out={str(tmp_path / "all")!r}))
"""
    with queue_in_a_process(script) as first:
        read_to(first, "begins")
        while not (tmp_path / "busy").exists():
            time.sleep(0.05)
        first.kill()
    with queue_in_a_process(script) as second:
        read_to(second, "is still trained, begun by a queue that is gone")
        (tmp_path / "go").touch()
        read_to(second, "left: 0 of 1 commands")
    assert (first.returncode, second.returncode) == (-9, 0)
    assert not (tmp_path / "busy").exists()


def queue_in_a_process(script: str) -> subprocess.Popen:
    arguments = [sys.executable, "-c", script]
    return subprocess.Popen(
        arguments, env=environment(), stdout=subprocess.PIPE, text=True, cwd=ROOT
    )


def read_to(process: subprocess.Popen, text: str) -> None:
    assert process.stdout
    while text not in (line := process.stdout.readline()):
        assert line


def test_records_are_packed_without_weights(tmp_path: Path, play: Play) -> None:
    run = fake(tmp_path / "all" / "small" / "seed0", 0, 0.5)
    (run / "checkpoints").mkdir()
    (run / "checkpoints" / "weights").write_bytes(bytes(100))
    status, out = play("pass", records=str(tmp_path / "records.tar.gz"))
    assert status == 0
    assert out.endswith(f"records: {tmp_path / 'records.tar.gz'}\n")
    with tarfile.open(tmp_path / "records.tar.gz") as archive:
        archive.extractall(tmp_path / "there", filter="data")
    (result,) = collect([tmp_path / "there" / "records"])
    assert result.values("test_accuracy") == [0.5]
    files = sorted(path.name for path in (tmp_path / "there").rglob("*.*") if path.is_file())
    assert files == ["config.json", "metrics.jsonl", "run.json"]
