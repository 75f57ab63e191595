"""Folders of image files, one per class: what is in them, and what is no good."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from cnnjax import paths
from cnnjax.data.scan import PARTS, Candidate, Scan, examine
from cnnjax.data.tfds import DataNotFound


def scan_folder(
    folder: str | Path,
    class_names: Sequence[str] | None = None,
    progress: Callable[[str], None] | None = None,
    tick: Callable[[int, int], None] | None = None,
) -> Scan:
    """Find the pictures of a folder, and the files that are no good.

    Args:
        folder: holds a folder per class, or train/, validation/ and test/ with the same class
            folders in each; a class folder may have folders of its own. Hidden files are passed
            over.
        class_names: the class folders to use, in the order of their labels; None takes all, sorted.
        progress: told in a sentence when it takes long.
        tick: told how many files have been read, and of how many, after each.

    Returns:
        A Scan. Every file was read and decoded once, one picture at a time; the result is kept, and
        used again as long as no file's name, size or time changes.

    Raises:
        DataNotFound: if there is no such folder, or no class folder with pictures in it.
        ValueError: for an unknown class name, an empty class, or one that only some parts have.
    """
    root = Path(folder).expanduser().absolute()
    if not root.is_dir():
        raise DataNotFound(f"folder {root} does not exist, or is a file")
    roots = part_folders(root)
    names = class_folders(root, roots, class_names)
    candidates = [
        Candidate(part, label, file)
        for part, base in roots.items()
        for label, name in enumerate(names)
        for file in files_below(base / name)
    ]
    scan = examine(root, names, list(roots), candidates, progress=progress, tick=tick)
    for part in roots:
        if empty := scan.lacking(part):
            raise ValueError(f"{root}: {part} has no picture of the class {', '.join(empty)}")
    return scan


def part_folders(root: Path) -> dict[str, Path]:
    """The folder of each part, the test part first; the root itself where there are no parts."""
    found = {
        part: root / name
        for part, names in PARTS.items()
        for name in reversed(names)
        if (root / name).is_dir() and any(_folders_in(root / name))
    }
    return found if "train" in found else {"train": root}


def class_folders(
    root: Path, roots: dict[str, Path], class_names: Sequence[str] | None
) -> tuple[str, ...]:
    """The classes that every part of a folder has a folder of; errors as in `scan_folder`."""
    there = {part: sorted(_folders_in(base)) for part, base in roots.items()}
    names = list(class_names) if class_names is not None else there["train"]
    if not names:
        raise DataNotFound(
            f"{root} holds no class folders: expected a folder of files for every class, or "
            "train/, validation/ and test/ with these in each"
        )
    if len(set(names)) < len(names):
        raise ValueError(f"class_names holds a name twice: {', '.join(names)}")
    for part, base in roots.items():
        for name in names:
            if name not in there[part]:
                raise ValueError(
                    f"class {name!r} has no folder in {base}. {paths.suggest(name, there[part])}"
                )
        if class_names is None and (more := sorted(set(there[part]) - set(names))):
            raise ValueError(f"{base} has classes that {roots['train']} lacks: {', '.join(more)}")
    return tuple(names)


def _folders_in(folder: Path) -> Iterator[str]:
    with os.scandir(folder) as entries:
        yield from (e.name for e in entries if e.is_dir() and not e.name.startswith("."))


def files_below(folder: Path) -> Iterator[Path]:
    """Files in a folder and in those below it, in alphabetical order; not the hidden ones."""
    for base, folders, files in os.walk(folder):
        folders[:] = sorted(f for f in folders if not f.startswith("."))
        yield from (Path(base) / name for name in sorted(files) if not name.startswith("."))
