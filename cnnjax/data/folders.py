"""Folders of image files, one per class: what is in them, and what is no good."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from cnnjax import paths
from cnnjax.data.scan import PART_OF, PARTS, SUFFIXES, Candidate, Scan, checked_names, examine
from cnnjax.data.tfds import DataNotFound


def scan_folder(
    folder: str | Path,
    class_names: Sequence[str] | None = None,
    progress: Callable[[str], None] | None = None,
    tick: Callable[[int, int], None] | None = None,
) -> Scan:
    """Find the pictures of a folder, and the files that are no good.

    Args:
        folder: holds a folder per class, or train/, validation/ (valid/, val/) and test/, in any
            case, with the same class folders in each; a class folder may have folders of its own.
            Hidden files are passed over, and links to folders in there are not followed.
        class_names: the class folders to use, in the order of their labels, two at least; None
            takes all, sorted.
        progress: told in a sentence when it takes long.
        tick: told how many files have been read, and of how many, after each.

    Returns:
        A Scan. Every file was read and decoded once, one picture at a time; the result is kept, and
        used again as long as no file's name, size or time changes. Of files with one content one is
        kept; pictures in no class folder, folders beside train/, and links to folders within class
        folders are set aside.

    Raises:
        DataNotFound: if there is no such folder, or no class folder with pictures in it.
        OSError: for a folder that cannot be read.
        ValueError: for an unknown class name, a single or an empty class, one that only some parts
            have, parts that are ambiguous, or class_names that are no list.
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
    return replace(scan, set_aside=(*scan.set_aside, *outside(root, roots, SUFFIXES)))


def part_folders(root: Path) -> dict[str, Path]:
    """The folder of each part, the test part first; the root itself where there are no parts.

    Raises:
        ValueError: for two folders of one part, or parts of which none can be trained on.
    """
    folders = sorted(_folders_in(root))
    called = {
        part: [name for name in folders if PART_OF.get(name.lower()) == part] for part in PARTS
    }
    called = {part: names for part, names in called.items() if names}
    divided = any(any(_folders_in(root / name)) for name in called.get("train", ()))
    if not divided and len(called) < 2:  # none, or a class that is called as parts are
        return {"train": root}
    there = " and ".join(name for names in reversed(called.values()) for name in names)
    if not divided:
        train = called.get("train")
        lacking = f"{train[0]}/ holds no folder per class" if train else "none of them is train/"
        raise ValueError(f"{root} has folders {there}, but {lacking}")
    for part, names in called.items():
        if len(names) > 1:
            raise ValueError(f"{root} has folders {' and '.join(names)}, both for {part}: keep one")
    bases = {part: root / name for part, (name,) in called.items()}
    return {part: base for part, base in bases.items() if any(_folders_in(base))}


def class_folders(
    root: Path, roots: dict[str, Path], class_names: Sequence[str] | None
) -> tuple[str, ...]:
    """The classes that every part of a folder has a folder of; errors as in `scan_folder`."""
    class_names = checked_names(class_names)
    there = {part: sorted(_folders_in(base)) for part, base in roots.items()}
    names = class_names if class_names is not None else there["train"]
    if not names:
        raise DataNotFound(
            f"{root} holds no class folders: expected a folder of files for every class, or "
            "train/, validation/ and test/ with these in each"
        )
    if class_names is None and roots["train"] == root and len(names) > 1:
        _refuse_parts_among(root, names)
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
    if len(names) < 2:
        raise ValueError(f"{root}: all files have the class {names[0]!r}, two classes are needed")
    return tuple(names)


def _refuse_parts_among(root: Path, names: Sequence[str]) -> None:
    """A folder test/ with class folders beside class folders would be trained on as a class."""
    for name in names:
        if name.lower() in PART_OF and (held := sorted(_folders_in(root / name))):
            raise ValueError(
                f"{root} has {name}/ with folders in it ({held[0]}/) beside class folders: put "
                f"these into train/, beside {name}/; or, if {name!r} is a class, give class_names"
            )


def outside(
    root: Path, roots: Mapping[str, Path], suffixes: Collection[str]
) -> list[tuple[str, str]]:
    """What lies in no class folder, or in a link to a folder within one, and is not read.

    Args:
        root: a folder.
        roots: those of its parts, by `part_folders`.
        suffixes: of the files that matter.

    Returns:
        (path below the root, why): of files, and with a "/" of folders beside those of the parts
        and of links to folders.
    """
    found = []
    for base in (root, *(base for base in roots.values() if base != root)):
        for file in sorted(base.iterdir()):
            hidden = file.name.startswith(".")
            if file.suffix.lower() in suffixes and not hidden and file.is_file():
                found.append((file.relative_to(root).as_posix(), "in no class folder"))
    for base in roots.values():
        for name in sorted(_folders_in(base)):
            for link in _links_below(base / name):
                place = link.relative_to(root).as_posix()
                found.append((f"{place}/", "a link to a folder is not followed"))
    if roots["train"] != root:
        for name in sorted(_folders_in(root)):
            count = sum(1 for _ in files_below(root / name))
            if count and root / name not in roots.values():
                why = "no folder per class" if name.lower() in PART_OF else "no part"
                found.append((f"{name}/", f"{why} ({count:,} files)"))
    return found


def _folders_in(folder: Path) -> Iterator[str]:
    with os.scandir(folder) as entries:
        yield from (e.name for e in entries if e.is_dir() and not e.name.startswith("."))


def _links_below(folder: Path) -> Iterator[Path]:
    """Links to folders that `files_below` passes over."""
    for base, folders, _ in os.walk(folder):
        folders[:] = sorted(f for f in folders if not f.startswith("."))
        yield from (link for link in (Path(base) / f for f in folders) if link.is_symlink())


def files_below(folder: Path) -> Iterator[Path]:
    """Files in a folder and in those below it, in alphabetical order; not the hidden ones.

    Links to folders are not followed, which may lead in circles.

    Raises:
        OSError: for a folder that cannot be read.
    """

    def refuse(error: OSError) -> None:
        raise error

    for base, folders, files in os.walk(folder, onerror=refuse):
        folders[:] = sorted(f for f in folders if not f.startswith("."))
        yield from (Path(base) / name for name in sorted(files) if not name.startswith("."))
