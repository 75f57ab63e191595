"""Files in and below folders in which trainings may be at work."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from cnnjax.runs.directory import CHECKPOINTS, RUN_FILE


def files_below(root: Path, name: str) -> list[Path]:
    """All files of a name, sorted; the checkpoints of runs, which come and go, are not entered.

    Args:
        root: a folder.
        name: of the files.
    """
    return sorted(_files_below(root, name))


def _files_below(root: Path, name: str) -> Iterator[Path]:
    for folder, folders, files in os.walk(root):
        if RUN_FILE in files and CHECKPOINTS in folders:
            folders.remove(CHECKPOINTS)
        if name in files:
            yield Path(folder) / name
