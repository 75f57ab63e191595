"""Helpers for tests that start other processes; they share one cache of compiled programs."""

from __future__ import annotations

import fcntl
import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
# Kept between sessions: a cold cache costs a minute.
CACHE = Path(tempfile.gettempdir()) / f"cnnjax-tests-{os.getuid()}"


def environment(**extra: str) -> dict[str, str]:
    """The environment of a subprocess: this checkout, the shared cache, no debugging switches."""
    switches = ("CNNJAX_TRACEBACK", "CNNJAX_COMPILATION_CACHE", "FORCE_COLOR", "TTY_COMPATIBLE")
    kept = {k: v for k, v in os.environ.items() if k not in switches}
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    return {**kept, "PYTHONPATH": path, "CNNJAX_CACHE_DIR": str(CACHE), **extra}


def python(
    *arguments: str | Path, cwd: Path = ROOT, status: int = 0, **extra: str
) -> subprocess.CompletedProcess[str]:
    """Run Python to its end and check its exit status."""
    done = subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=cwd,
        env=environment(**extra),
        capture_output=True,
        text=True,
        timeout=570,
        check=False,
    )
    assert done.returncode == status, f"exit {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done


def start(*arguments: str | Path, cwd: Path = ROOT, **extra: str) -> subprocess.Popen[str]:
    """Start Python in the background."""
    return subprocess.Popen(
        [sys.executable, *map(str, arguments)],
        cwd=cwd,
        env=environment(**extra),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for(process: subprocess.Popen[str], happened: Callable[[], bool]) -> None:
    """Until something has happened, which must be while the process still runs."""
    while not happened():
        if process.poll() is not None:
            out, err = process.communicate()
            raise AssertionError(f"ended with {process.returncode} too early\n{out}\n{err}")
        time.sleep(0.005)


def after_every_dispatch(hook: Callable[[int], None]) -> Callable[[], None]:
    """Call a hook with the steps done of the epoch after every dispatch; returns how to undo it."""
    from cnnjax.training.dispatch import Dispatcher

    original = Dispatcher.run

    def run(self: Dispatcher, *arguments: Any) -> Iterator[Any]:
        for dispatched in original(self, *arguments):
            hook(dispatched.step)
            yield dispatched

    def undo() -> None:
        Dispatcher.run = original  # type: ignore[method-assign]

    Dispatcher.run = run  # type: ignore[method-assign]
    return undo


class Killed(BaseException):
    """As good as a kill: a training saves nothing on its way out."""


@contextmanager
def killed_after(dispatches: int) -> Iterator[None]:
    """The training in the block comes to a sudden end after so many dispatches."""
    count = itertools.count(1)

    def hook(done: int) -> None:
        if next(count) == dispatches:
            raise Killed

    undo = after_every_dispatch(hook)
    try:
        yield
    except Killed:
        return
    finally:
        undo()
    raise AssertionError(f"it ended before {dispatches} dispatches")


def reseal(run: Path) -> None:
    """Make a run whose config.json or run.json a test has changed one that was written so."""
    from cnnjax.core.storage import text_hash
    from cnnjax.runs.seal import sealed

    record = json.loads((run / "run.json").read_text())
    record["config_hash"] = text_hash((run / "config.json").read_bytes())
    (run / "run.json").write_text(sealed(record))


def quickstart_run(factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The quickstart over two epochs, once for all workers: (run directory, what it printed)."""
    base = factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "quickstart"
    folder.mkdir(exist_ok=True)
    run, printed = folder / "run", folder / "printed.txt"
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not printed.exists():
            done = python("-m", "experiments.quickstart", "--epochs", "2", "--out", run)
            printed.write_text(done.stdout)
    return run, printed.read_text()
