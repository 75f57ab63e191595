"""The files of a run directory by name, and such files below folders."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from cnnjax.core.places import expanded
from cnnjax.models.saved_spec import MODEL_FILE, VOCABULARY_FILE

CONFIG_FILE, RUN_FILE, METRICS_FILE = "config.json", "run.json", "metrics.jsonl"
REPORT_FILE = "report.html"
CHECKPOINTS, FIGURES = "checkpoints", "figures"
OWN_FILES = (CONFIG_FILE, RUN_FILE, METRICS_FILE, MODEL_FILE, VOCABULARY_FILE, REPORT_FILE)


def holds_run(directory: Path) -> bool:
    """Whether a run was started in a directory."""
    return any((directory / name).is_file() for name in (RUN_FILE, CONFIG_FILE))


def files_below(folders: Iterable[str | Path], name: str) -> list[Path]:
    """All files of a name in and below folders, in which trainings may be at work.

    Args:
        folders: in their order; the files of each are sorted.
        name: of the files. The checkpoints of runs, which come and go, are not entered.
    """
    return [file for folder in folders for file in sorted(_files_below(expanded(folder), name))]


def _files_below(root: Path, name: str) -> Iterator[Path]:
    for folder, folders, files in os.walk(root):
        if RUN_FILE in files and CHECKPOINTS in folders:
            folders.remove(CHECKPOINTS)
        if name in files:
            yield Path(folder) / name
