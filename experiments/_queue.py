"""Commands one after another or side by side, each in a process of its own."""

from __future__ import annotations

import contextlib
import json
import math
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import IO

from cnnjax.core.runtime import visible_cores
from cnnjax.core.storage import write_text
from experiments._rows import Row

SECONDS_TO_SAVE = 40  # before the limit of time, for checkpoints and records

_GPU_MEMORY = 0.9  # of the device, for all processes together


@dataclass
class _Job:
    row: Row
    process: subprocess.Popen
    began: float
    log: IO[bytes]


class Queue:
    """Commands, and the folder that knows which are done.

    Args:
        rows: to train.
        folder: to write to.
        jobs: how many side by side, which share the cores.
        places: folders that rows need, by name.
        minutes: until when to end; None: when all is done.
        gpu: whether the jobs share one GPU.
        data_dir: where TFDS keeps its data; None: as the environment has it.
    """

    def __init__(
        self,
        rows: Sequence[Row],
        folder: Path,
        jobs: int,
        places: Mapping[str, str],
        minutes: float | None = None,
        gpu: bool = False,
        data_dir: str | None = None,
    ):
        self.folder, self.jobs, self.places = folder, jobs, places
        self.gpu, self.data_dir = gpu, data_dir
        limit = math.inf if minutes is None else 60 * minutes - SECONDS_TO_SAVE
        self.until = time.monotonic() + limit
        self.without = [row for row in rows if self.wanted(row)]
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
            self._wait(SECONDS_TO_SAVE / 2)
            signal.signal(signal.SIGTERM, before)

    def wanted(self, row: Row) -> str:
        """The options that a row needs and that were not given; "" if it may run."""
        missing = [name for name in row.needs if name not in self.places]
        return " and ".join(f"--{name.lower()}" for name in missing)

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
            arguments(row, self.folder / row.name, self.places),
            env=self._environment(),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        self.running.append(_Job(row, process, time.monotonic(), log))

    def _environment(self) -> dict[str, str]:
        cores = max(1, visible_cores() // self.jobs)
        found = {**os.environ, "NPROC": str(cores), "PYTHONUNBUFFERED": "1"}
        if self.data_dir:
            found["TFDS_DATA_DIR"] = self.data_dir
        if self.gpu:
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


def arguments(row: Row, out: Path, places: Mapping[str, str]) -> list[str]:
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
