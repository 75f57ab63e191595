"""The record of a run: what run.json and config.json hold, how they are read and written."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cnnjax.core.runtime import code_version, machine, versions
from cnnjax.core.storage import write_text
from cnnjax.runs.caller import caller
from cnnjax.runs.contents import CONFIG_FILE, RUN_FILE
from cnnjax.runs.seal import RunError, read_object

# Whatever the readers rely on; records of older versions lack some of it.
_PROCESS = {
    "versions?": dict,
    "machine?": dict,
    "code?": {"commit?": str, "sources?": str, "modified?": bool},
}
_RUN_FORM = {
    "status?": str,
    **_PROCESS,
    "resumed?": [_PROCESS],
    "command?": str,
    "started?": str,
    "ended?": str,
    "config_hash?": str,
    "initial_hash?": str,
    "frozen_hash?": str,
    "seed?": int,
    "parameters?": int,
    "best_epoch?": int,
    "seconds?": float,
    "data?": {"*": {"name?": str, "examples?": int, "fingerprint?": str}},
    "source?": dict,
    "metrics?": {"*": float},
    "reported?": {"*": float},
    "changed?": dict,
    "stopped?": {"epoch": int, "step": int, "by": str},
}
_CONFIG_FORM = {
    "training?": {"augment?": (dict, str)},
    "model?": dict,
    "loss?": str,
    "opt_state?": str,
}

# What determines a training beside settings and data: in the record of a run, and in that of each
# process that went on with something else.
IDENTITY = "identity"


def read_record(directory: Path) -> dict[str, Any]:
    """The content of run.json, which is as it was written.

    Raises:
        RunError: if there is none, or it is damaged or was changed.
    """
    return _read(directory, RUN_FILE, _RUN_FORM)


def read_config(directory: Path) -> dict[str, Any]:
    """The content of config.json, whose types are as they should be.

    Raises:
        RunError: if there is none or it is damaged.
    """
    return _read(directory, CONFIG_FILE, _CONFIG_FORM)


def write_record_file(path: Path, text: str) -> None:
    """Write one of the files of a run, complete or not at all.

    Raises:
        RunError: if it cannot be written, as on a full disk.
    """
    try:
        write_text(path, text)
    except OSError as error:
        raise unwritable(path, error) from None


def unwritable(path: Path, error: OSError) -> RunError:
    """A file of a run that could not be written."""
    return RunError(f"{path} cannot be written ({error.strerror}): mend that and resume")


def process_facts() -> dict[str, Any]:
    """What is recorded of the process that makes a record: time, command, machine and code."""
    return {
        "time": now(),
        "command": shlex.join(["python", *sys.orig_argv[1:]]),
        "versions": versions(),
        "machine": machine(),
        "code": code_version(),
        "caller": caller(),
    }


def processes(record: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The facts of all processes that made a run: of the one that began it, and those after it."""
    return [record, *(record.get("resumed") or [])]


def is_finished(record: Mapping[str, Any]) -> bool:
    """Whether the run came to its end, which a callback may have asked for."""
    return record.get("status") in ("finished", "stopped")


def commit_of(process: Mapping[str, Any], digits: int = 40) -> str:
    """The commit of the package's code, and whether it was changed since, in words.

    >>> commit_of({"code": {"commit": "0123456789", "modified": True}}, digits=4)
    '0123 (changed)'
    """
    code = process.get("code", {})
    return code.get("commit", "unknown")[:digits] + (" (changed)" if code.get("modified") else "")


def now() -> str:
    """The time in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def _read(directory: Path, name: str, form: Mapping[str, Any]) -> dict[str, Any]:
    try:
        return read_object(directory / name, form)
    except FileNotFoundError:
        raise RunError(
            f"{directory} is not a run directory: it has no {name}"
            if directory.is_dir()
            else f"run directory {directory} does not exist"
        ) from None
