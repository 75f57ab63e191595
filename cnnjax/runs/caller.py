"""Whose code called: its file, and the commit of the checkout it lies in."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import FrameType
from typing import Any

from cnnjax.core.describe import is_installed

_PACKAGE = Path(__file__).resolve().parents[1]


def caller() -> dict[str, Any]:
    """The code outside of all packages that called, as `state_of` has it; {} where there is none.

    Of a notebook or a prompt, whose code is in no file, the commit of the working directory.
    """
    frame: FrameType | None = sys._getframe()
    while frame is not None:
        file = frame.f_code.co_filename
        if not is_installed(file):
            if Path(file).is_file():
                return state_of(file)
            return {k: v for k, v in _checkout(Path.cwd()).items() if k != "top"}
        frame = frame.f_back
    return {}


def state_of(file: str | Path) -> dict[str, Any]:
    """What identifies a file of code.

    Args:
        file: its path; a relative one as a record of a checkout has it, of the checkout that one is
            in, or that this package lies in.

    Returns:
        "file", its path, within a git checkout from there on; "hash" of its content, None where
        there is no such file; in a checkout also the "commit", and "modified", whether anything
        there differs from it.
    """
    path = Path(file).absolute()
    if not path.is_file() and (ours := _PACKAGE.parent / file).is_file():
        path = ours
    digest = hashlib.sha256(path.read_bytes()).hexdigest()[:16] if path.is_file() else None
    checkout = _checkout(path.parent)
    top = checkout.pop("top", None)
    within = top is not None and path.resolve().is_relative_to(top)
    name = path.resolve().relative_to(top).as_posix() if within else str(path)
    return {"file": name, "hash": digest, **checkout}


def remark(then: Any, now: Mapping[str, Any]) -> str:
    """A clause on what differs between the callers of two processes; "" if nothing does.

    >>> remark({"commit": "1a2b"}, {"commit": "3c4d"})
    "the caller's code is another one (commit 1a2b then, 3c4d now)"
    """
    if not isinstance(then, Mapping):  # of before it was recorded
        return ""
    lines = [
        f"{name} {then.get(name)} then, {now.get(name)} now"
        for name in dict.fromkeys([*then, *now])
        if then.get(name) != now.get(name)
    ]
    return f"the caller's code is another one ({', '.join(lines)})" if lines else ""


def _checkout(folder: Path) -> dict[str, Any]:
    """Commit, state and topmost folder of the git checkout of a folder; {} if there is none."""
    commands = (
        ["rev-parse", "HEAD"],
        ["status", "--porcelain", "--untracked-files=no"],
        ["rev-parse", "--show-toplevel"],
    )
    answers = []
    for arguments in commands:
        try:
            answer = subprocess.run(
                ["git", "-C", str(folder), *arguments],
                check=False,
                capture_output=True,
                text=True,
                timeout=10,
            )
        except (OSError, subprocess.TimeoutExpired):
            return {}
        if answer.returncode:  # no checkout
            return {}
        answers.append(answer.stdout.strip())
    return {"commit": answers[0], "modified": bool(answers[1]), "top": answers[2]}
