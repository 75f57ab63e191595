"""Train what RESULTS.md is made of: a list of commands, one after another or side by side.

The list stands in `_rows.py`. Each command is a process of its own and writes below checkpoints/all
(--out), its output into a .log beside its folder. Whatever is interrupted, this process or one of
the commands, the same call goes on: commands that are done are passed over, an interrupted one
resumes, finished seeds in it stay.

Command:   python -m experiments.train_all [--list] [--only reported] [--jobs 2] [--data-dir DIR]
           [--cats FOLDER] [--weights FOLDER]

On a GPU:  python -m experiments.train_all --gpu --minutes 14 --records records.tar.gz
           --data-dir DIR --cats FOLDER --weights FOLDER

           trains as much as it can within the time, several processes on one GPU; what is not done
           by then is saved, and the records of all finished runs are packed, without weights.
           Elsewhere `tar xf records.tar.gz` and `cnnjax results records --keep docs/records`.

Reported:  what each experiment says. Printed is what is left and about how long it will take, and
           in the end what failed, with exit status 1.
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import IO, Annotated

import tyro

from cnnjax.cli import command
from cnnjax.core.places import expanded
from cnnjax.experiment import RUNS
from cnnjax.paths import suggest
from cnnjax.results import keep_records
from cnnjax.runtime import visible_cores
from cnnjax.storage import alone, write_file, write_text
from experiments._rows import GROUPS, ROWS, Row

# What takes a CPU hours comes first where a GPU is at hand.
_ON_GPU = ("long", "reported", "studies")
_GPU_JOBS = 6
_GPU_MEMORY = 0.9  # of the device, for all processes together
_SECONDS_TO_SAVE = 40  # before the limit of time, for checkpoints and records


@dataclass(frozen=True)
class TrainAllOptions:
    """Options of the queue."""

    only: Annotated[str | None, tyro.conf.arg(metavar="GROUP|TEXT")] = None
    """A group (reported, studies, long) or a part of the commands; default: all of them."""
    list: bool = False
    """Say what is done and what is left, and train nothing."""
    jobs: Annotated[int | None, tyro.conf.arg(metavar="INT")] = None
    """Commands side by side, which share the cores; default: 1, with --gpu 6."""
    minutes: Annotated[float | None, tyro.conf.arg(metavar="FLOAT")] = None
    """End by then, with what runs saved; default: when all is done."""
    gpu: bool = False
    """Several processes share one GPU, whose memory they take as they need it."""
    data_dir: Annotated[str | None, tyro.conf.arg(metavar="DIR")] = None
    """Where TensorFlow Datasets keeps its data; default: TFDS_DATA_DIR or ~/tensorflow_datasets."""
    cats: Annotated[str | None, tyro.conf.arg(metavar="FOLDER")] = None
    """Of cats_vs_dogs_small, with train, validation and test; without it these are left out."""
    weights: Annotated[str | None, tyro.conf.arg(metavar="FOLDER")] = None
    """Of files with weights; without it commands that need some are left out."""
    records: Annotated[str | None, tyro.conf.arg(metavar="FILE.tar.gz")] = None
    """Pack the records of all finished runs, at the end."""
    out: Annotated[str | None, tyro.conf.arg(metavar="DIR")] = None
    """Where to write; default: checkpoints/all."""


@dataclass
class _Job:
    row: Row
    process: subprocess.Popen
    began: float
    log: IO[bytes]


class _Queue:
    """Commands, and the folder that knows which are done.

    Args:
        options: of the command line.
        rows: to train.
    """

    def __init__(self, options: TrainAllOptions, rows: Sequence[Row]):
        self.options = options
        self.folder = expanded(options.out) if options.out else RUNS / "all"
        self.jobs = options.jobs or (_GPU_JOBS if options.gpu else 1)
        self.until = time.monotonic() + 60 * (options.minutes or 1e9) - _SECONDS_TO_SAVE
        self.places = {
            name: str(expanded(value).absolute())
            for name, value in (("CATS", options.cats), ("WEIGHTS", options.weights))
            if value is not None
        }
        self.without = [row for row in rows if _needs(row) - self.places.keys()]
        self.rows = [row for row in rows if row not in self.without]
        self.failed: list[Row] = []
        self.waited_for: list[Row] = []
        self.running: list[_Job] = []
        self.stopped = self.interrupted = False
        self.spent, self.estimated = 0.0, 0.0  # minutes of what was done here

    @property
    def left(self) -> list[Row]:
        """What is neither done nor has failed."""
        return [row for row in self.rows if not self.done(row) and row not in self.failed]

    def done(self, row: Row) -> bool:
        """Whether this very command came to its end."""
        try:
            return bool(json.loads(self._mark(row).read_text())["command"] == row.command)
        except FileNotFoundError:
            return False

    def run(self) -> None:
        """Train until all is done, or the time is over, or somebody interrupts."""
        before = signal.signal(signal.SIGTERM, _interrupt)
        try:
            while self._start() or self.running:
                time.sleep(0.2)
                self._collect()
                if time.monotonic() > self.until and not self.stopped:
                    print("the time is over: what runs is saved")
                    self._stop()
        except KeyboardInterrupt:
            print("interrupted: what runs is saved")
            self.interrupted = True
            self._stop()
        finally:
            self._wait(_SECONDS_TO_SAVE / 2)
            signal.signal(signal.SIGTERM, before)

    def say_left(self) -> None:
        """A line on what is left."""
        minutes = sum(row.minutes for row in self.left)
        text = f"left: {len(self.left)} of {len(self.rows)} commands"
        if self.left:
            ratio = self.spent / self.estimated if self.estimated else 1.0
            hours = minutes * ratio / self.jobs / 60
            text += f", about {minutes:,.0f} minutes of one core: {hours:.1f} hours as it goes here"
        print(text, flush=True)

    def _start(self) -> bool:
        """Start what may start; whether there is more to come."""
        busy = [job.row for job in self.running]
        waiting = [row for row in self.left if row not in busy]
        if self.stopped or time.monotonic() > self.until:
            return False
        for row in waiting:
            if len(self.running) < self.jobs:
                self._begin(row)
        return bool(waiting)

    def _begin(self, row: Row) -> None:
        """Start a command, unless one is still at it that a killed queue left behind."""
        log = open(self.folder / f"{row.name}.log", "ab")  # noqa: SIM115 - as long as the job
        if not _locked(log):
            log.close()
            if row not in self.waited_for:
                self.waited_for.append(row)
                print(
                    f"waiting: {row.command} is still trained, begun by a queue that is gone",
                    flush=True,
                )
            return
        print(f"begins: {row.command} (about {row.minutes:g} minutes of one core)", flush=True)
        log.write(f"== {time.strftime('%F %T')} {row.command}\n".encode())
        log.flush()
        if not row.resumes:
            shutil.rmtree(self.folder / row.name, ignore_errors=True)
        process = subprocess.Popen(
            _arguments(row, self.folder / row.name, self.places),
            env=self._environment(),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        self.running.append(_Job(row, process, time.monotonic(), log))

    def _environment(self) -> dict[str, str]:
        cores = max(1, visible_cores() // self.jobs)
        found = {**os.environ, "NPROC": str(cores), "PYTHONUNBUFFERED": "1"}
        if self.options.data_dir:
            found["TFDS_DATA_DIR"] = str(expanded(self.options.data_dir).absolute())
        if self.options.gpu:
            found["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"
            found["XLA_PYTHON_CLIENT_MEM_FRACTION"] = f"{_GPU_MEMORY / self.jobs:.3f}"
        return found

    def _collect(self) -> None:
        """Note which jobs have ended, and how."""
        for job in [job for job in self.running if job.process.poll() is not None]:
            self.running.remove(job)
            job.log.close()
            minutes = (time.monotonic() - job.began) / 60
            if job.process.returncode == 0:
                content = {"command": job.row.command, "minutes": round(minutes, 2)}
                write_text(self._mark(job.row), json.dumps(content) + "\n")
                self.spent += minutes
                self.estimated += job.row.minutes
                print(f"done: {job.row.command} in {minutes:.1f} minutes")
                self.say_left()
            elif not self.stopped:
                self.failed.append(job.row)
                print(
                    f"failed: {job.row.command} (see {self.folder / job.row.name}.log)", flush=True
                )

    def _stop(self) -> None:
        """Have all that runs save itself and end."""
        self.stopped = True
        for job in self.running:
            job.process.send_signal(signal.SIGTERM)

    def _wait(self, seconds: float) -> None:
        """Wait for all that runs to end; what does not is ended."""
        patience = time.monotonic() + seconds
        while self.running:
            time.sleep(0.2)
            self._collect()
            if time.monotonic() > patience:
                for job in self.running:
                    job.process.kill()

    def _mark(self, row: Row) -> Path:
        return self.folder / f"{row.name}.done"


def main(options: TrainAllOptions) -> None:
    """List or train.

    Raises:
        ValueError: for options that fit nothing.
        SystemExit: with status 1 if a command failed.
    """
    if options.jobs is not None and options.jobs < 1:
        raise ValueError(f"--jobs must be at least 1, got {options.jobs}")
    if options.minutes is not None and options.minutes * 60 <= _SECONDS_TO_SAVE:
        raise ValueError(
            f"--minutes must be more than {_SECONDS_TO_SAVE / 60:.1f}, got {options.minutes:g}"
        )
    queue = _Queue(options, chosen(options.only, ROWS, _ON_GPU if options.gpu else GROUPS))
    if options.list:
        _show(queue)
        return
    queue.folder.mkdir(parents=True, exist_ok=True)
    for row in queue.without:
        print(f"left out: {row.command} (needs {_wanted(row, queue.places)})")
    with alone(queue.folder / "lock", lambda: print("another queue is at work here: waiting")):
        queue.say_left()
        queue.run()
    if options.records:
        pack_records(queue.folder, expanded(options.records))
    if queue.failed:
        print("failed:", *(f"  {row.command}" for row in queue.failed), sep="\n", flush=True)
        raise SystemExit(1)
    if queue.interrupted:
        raise KeyboardInterrupt("interrupted: the same call goes on from there")


def chosen(only: str | None, rows: Sequence[Row], order: Sequence[str] = GROUPS) -> list[Row]:
    """The rows of a group, or those with a text in their command; None: all of them.

    Args:
        only: a group or a part of a command.
        rows: to choose from.
        order: of the groups.

    Raises:
        ValueError: if there is none.
    """
    found = [row for row in rows if only in (None, row.group)]
    if only is not None and only not in GROUPS:
        found = [row for row in rows if only in row.command]
    if not found:
        names = [*GROUPS, *dict.fromkeys(row.command.split()[0] for row in rows)]
        raise ValueError(f"--only {only} fits no command. {suggest(str(only), names)}")
    return sorted(found, key=lambda row: order.index(row.group))


def pack_records(folder: Path, file: Path) -> None:
    """Pack the records of all finished runs below a folder, as `cnnjax results --keep` has them."""
    with tempfile.TemporaryDirectory() as place:
        kept = keep_records([folder], Path(place) / "records")
        if not kept.is_dir():
            print("no run is finished: there are no records")
            return

        def write(beside: Path) -> None:
            with tarfile.open(beside, "w:gz") as archive:
                archive.add(kept, arcname="records")

        write_file(file, write)
    print(f"records: {file}")


def _show(queue: _Queue) -> None:
    for row in [*queue.rows, *queue.without]:
        state = "done" if queue.done(row) else f"{row.minutes:g} min"
        if row in queue.without:
            state = f"needs {_wanted(row, queue.places)}"
        print(f"{row.group:9} {state:>8}  {row.command}")
    queue.say_left()


def _needs(row: Row) -> set[str]:
    return {name for name in ("CATS", "WEIGHTS") if f"${name}" in row.command}


def _wanted(row: Row, places: Mapping[str, str]) -> str:
    return " and ".join(f"--{name.lower()}" for name in sorted(_needs(row) - places.keys()))


def _arguments(row: Row, out: Path, places: Mapping[str, str]) -> list[str]:
    """The command line of a row; folders may have spaces in their names."""
    name, *options = [Template(word).substitute(places) for word in shlex.split(row.command)]
    command = [sys.executable, "-m", f"experiments.{name}", *options]
    return [*command, "--out", str(out), *(["--resume"] if row.resumes else [])]


def _locked(log: IO[bytes]) -> bool:
    """Lock a log, which stays so until both we and the command that writes there have ended."""
    try:
        import fcntl
    except ImportError:  # Windows, where what a killed queue leaves behind must be ended by hand
        return True
    with contextlib.suppress(BlockingIOError):
        fcntl.flock(log, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    return False


def _interrupt(number: int, frame: object) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    command(main, TrainAllOptions, "train_all")
