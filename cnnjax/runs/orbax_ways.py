"""What Orbax does otherwise than one would think: names, patience, noise, which ones it keeps."""

from __future__ import annotations

import functools
import logging
import os
import re
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from cnnjax.core import processes

# In the messages of tensorstore, and of Python.
_OS_ERROR = re.compile(r"([A-Z][a-z]+(?: [a-z]+)*) \[os_error_code|\[Errno \d+\] ([^:\n]+)")

_LATEST_KEPT = 2  # a damaged latest one leaves its predecessor

_NO_LIMIT_SECONDS = 10 * 365 * 86_400

# A reader beside a writer, which deletes older checkpoints: how often it starts again, and after
# which seconds.
TRIES, PAUSE_SECONDS = 6, 0.2


def open_manager(directory: Path, best: list[int], keep: int, *, read_only: bool) -> Any:
    """An Orbax manager of the checkpoints in a directory.

    Args:
        directory: where they are.
        best: steps of the best checkpoints, the best one last; a list that changes meanwhile.
        keep: number of best ones kept beside the latest two.
        read_only: nothing is made or deleted.

    Raises:
        OSError: if there can be none.
    """
    import orbax.checkpoint as ocp
    from orbax.checkpoint import checkpoint_managers as managers
    from orbax.checkpoint.options import MultiprocessingOptions

    _quiet_orbax()
    _take_folders_literally()
    this, alone = processes.index(), processes.count() == 1
    if not (read_only or alone):
        directory.mkdir(parents=True, exist_ok=True)
    options = ocp.CheckpointManagerOptions(
        # Each of several processes that reads or writes does so alone, and waits for no other.
        multiprocessing_options=MultiprocessingOptions(
            primary_host=this,
            active_processes=None if alone else {this},
            barrier_sync_key_prefix=None if alone else f"process{this}",
        ),
        create=alone and not read_only,
        read_only=read_only,
        cleanup_tmp_directories=not read_only,
        # Orbax's own BestN forgets the scores of an earlier process.
        preservation_policy=managers.AnyPreservationPolicy(
            [managers.LatestN(_LATEST_KEPT), _Best(best, keep)]
        ),
        # Directories made in the background are waited for, for minutes and even when the
        # process ends, also where they cannot be made. The time limit of a save is by the
        # clock of the wall: where that is set forward, a whole save would be called too late.
        async_options=ocp.AsyncOptions(
            timeout_secs=_NO_LIMIT_SECONDS, create_directories_asynchronously=False
        ),
    )
    return patiently(lambda: ocp.CheckpointManager(directory, options=options))


def reason_of(error: Exception) -> str:
    """Why a checkpoint could not be written, in one line: Orbax has pages of traceback for it."""
    found = _OS_ERROR.search(str(error))
    text = found.group(found.lastindex or 0) if found else f"{error!r}"[:200]
    return text.splitlines()[0]


def patiently(make: Callable[[], Any]) -> Any:
    """Orbax lists a directory, then looks into what is listed: gone where a training deletes it."""
    for _ in range(TRIES):
        try:
            return make()
        except (FileNotFoundError, NotADirectoryError):
            time.sleep(PAUSE_SECONDS)
    return make()


@functools.cache
def silence_failures() -> None:
    """Pass over what asyncio and tensorstore print, at any later time, after a failure."""
    hook = sys.unraisablehook

    def quiet(unraisable: Any) -> None:
        if str(unraisable.exc_value) != "Event loop is closed":
            hook(unraisable)

    sys.unraisablehook = quiet

    def news(record: logging.LogRecord) -> bool:
        error = str(record.exc_info[1]) if record.exc_info else ""
        return not any(word in error for word in ("tensorstore", "OCDBT", "os_error_code"))

    logging.getLogger("asyncio").addFilter(news)


@functools.cache
def _quiet_orbax() -> None:
    """Orbax tells absl of every step it takes, and of errors, which are raised as well, pages.

    Its threads go on telling after the manager is closed, hence once and for all.
    """
    logging.getLogger("absl").addFilter(lambda record: "orbax" not in record.pathname)


@functools.cache
def _take_folders_literally() -> None:
    """Let etils' paths glob below a folder whatever its own name holds.

    They take the folder's name for a part of the pattern: below "a[1]" Orbax would find none of
    the files that it has just written, and would leave a checkpoint that cannot be read.
    """
    from etils import epath

    kind: Any = type(epath.Path("."))
    glob_of_any = kind.glob

    def glob(self: Any, pattern: str) -> Any:
        folder = os.fspath(self)
        if "://" in folder:  # a bucket
            return glob_of_any(self, pattern)
        return (kind(found) for found in Path(folder).glob(pattern))

    kind.glob = glob


class _Best:
    """Orbax preservation policy: the best checkpoints, and while the latest is one, one more."""

    def __init__(self, best: list[int], keep: int):
        self._best, self._keep = best, keep

    def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> list[bool]:
        steps = [info.step for info in checkpoints]
        more = bool(steps and self._best and max(steps) == self._best[-1])
        kept = self._best[-self._keep - more :]
        return [step in kept for step in steps]


def for_orbax(tree: Any) -> Any:
    """A tree of names without ".", by which Orbax joins them: "a.b" and b below a were one file.

    >>> for_orbax({"a.b": {"c~": 1}})
    {'a~3b': {'c~0': 1}}
    """
    return _renamed(tree, lambda name: name.replace("~", "~0").replace(".", "~3"))


def from_orbax(tree: Any) -> Any:
    """A tree by its own names again."""
    return _renamed(tree, lambda name: name.replace("~3", ".").replace("~0", "~"))


def _renamed(tree: Any, name: Callable[[str], str]) -> Any:
    if not isinstance(tree, dict):
        return tree
    return {name(key): _renamed(value, name) for key, value in tree.items()}
