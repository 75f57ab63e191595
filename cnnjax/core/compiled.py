"""Compiled programs on disk: each is the one that was written under its name.

JAX finds a program by the hash of what it was compiled from and runs what lies there. A list beside
the programs holds their hashes, from the end of the process that wrote them or, if that was killed,
from the next start.
"""

from __future__ import annotations

import atexit
import contextlib
import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cnnjax.core.reading import Unreadable, read_json
from cnnjax.core.storage import write_text

_LIST = "programs.json"


def keep_checked(folder: Path) -> list[str]:
    """Delete the programs that are others than those written, and list the new ones at the end.

    A file is read only where its size, time or place on the disk are others than when it was read
    last, so that a start costs as much with many programs as with few.

    Args:
        folder: JAX's compilation cache; it exists.

    Returns:
        Names of the files that were deleted, which are compiled again.
    """
    wrong = _renew(folder)
    atexit.register(_renew_quietly, folder)
    return wrong


def _renew(folder: Path) -> list[str]:
    """Check the files that are listed and list the others."""
    known, listed, wrong = _known(folder), {}, []
    for file in sorted(folder.iterdir()):
        if file.name == _LIST or file.name.startswith("."):
            continue
        before = known.get(file.name)
        try:
            listed[file.name] = now = _facts(file, before)
        except OSError:  # gone meanwhile, or a folder
            continue
        if before is not None and before["sha256"] != now["sha256"]:
            del listed[file.name]
            file.unlink(missing_ok=True)
            wrong.append(file.name)
    if listed != known:
        write_text(folder / _LIST, json.dumps(listed) + "\n")
    return wrong


def _renew_quietly(folder: Path) -> None:
    with contextlib.suppress(OSError):  # at the end of a process a full disk is no news
        _renew(folder)


def _known(folder: Path) -> dict[str, dict[str, Any]]:
    """The list; without one that can be read every program is new."""
    try:
        found = read_json(folder / _LIST)
        return {name: dict(facts) for name, facts in found.items() if "sha256" in facts}
    except (FileNotFoundError, Unreadable, AttributeError, TypeError, ValueError):
        return {}


def _facts(file: Path, before: Mapping[str, Any] | None) -> dict[str, Any]:
    state = os.stat(file)
    facts = {"size": state.st_size, "time": state.st_mtime_ns, "place": state.st_ino}
    if before is not None and all(before.get(name) == value for name, value in facts.items()):
        return {**facts, "sha256": before["sha256"]}
    with open(file, "rb") as opened:
        return {**facts, "sha256": hashlib.file_digest(opened, "sha256").hexdigest()}
