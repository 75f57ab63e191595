"""Folders of image files, one per class: what is in them, and what is no good."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from cnnjax.core.places import expanded
from cnnjax.core.text import counted
from cnnjax.data.errors import DataNotFound
from cnnjax.data.readers.file_names import is_clutter, listed
from cnnjax.data.readers.layout import Layout, find_layout, folders_in, leads_up, places_of
from cnnjax.data.readers.reader import Reader, Reading
from cnnjax.data.readers.scan import SUFFIXES, Candidate, Scan, checked_names, examine
from cnnjax.data.readers.split_names import split_in
from cnnjax.data.splits import Splits


def scan_folder(
    folder: str | Path,
    class_names: Sequence[str] | None = None,
    progress: Callable[[str], None] | None = None,
    tick: Callable[[int, int], None] | None = None,
) -> Scan:
    """Find the images of a folder, and the files that are no good.

    Args:
        folder: holds a folder per class, or train/, validation/ (valid/, val/, dev/) and test/
            with the same class folders in each; a class folder may have folders of its own. Parts
            may have names in any case and with another word (Train, test_set, seg_train), and lie
            one folder deeper (DATA/DATA/train). Names that are equal up to Unicode's normal form
            are one. Hidden files and those that systems leave (__MACOSX, @eaDir, Thumbs.db) are
            passed over, and links to folders in there are not followed.
        class_names: the class folders to use, in the order of their labels, two at least; None
            takes all, sorted.
        progress: told in a sentence when it takes long.
        tick: told how many files have been read, and of how many, after each.

    Returns:
        A Scan. Every file was read and decoded once, one image at a time; the result is kept, and
        used again as long as no file's name, size or time changes. Of files with one content one is
        kept; images in no class folder, folders beside train/, links to folders within class
        folders, and what is no regular file are set aside.

    Raises:
        DataNotFound: if there is no such folder, or no class folder with images in it.
        OSError: for a folder that cannot be read.
        ValueError: for an unknown class name, a single or an empty class, one that only some splits
            have, splits that are ambiguous, folders that hold the same folders and are splits by no
            name, or class_names that are no list.
    """
    root = expanded(folder).absolute()
    if not root.is_dir():
        raise DataNotFound(f"folder {root} does not exist, or is a file")
    layout = find_layout(root, checked_names(class_names), SUFFIXES)
    candidates = [
        Candidate(split, label, file)
        for split, folders in layout.folders.items()
        for label, class_folder in enumerate(folders)
        for file in paths_below(class_folder)
    ]
    names, splits = layout.class_names, list(layout.splits)
    scan = examine(root, names, splits, candidates, progress=progress, tick=tick)
    for split in splits:
        if empty := scan.lacking(split):
            raise ValueError(f"{root}: {split} has no image of the class {listed(empty)}")
    return replace(scan, set_aside=(*scan.set_aside, *outside(root, layout, SUFFIXES)))


def outside(root: Path, layout: Layout, suffixes: Collection[str]) -> list[tuple[str, str]]:
    """What lies in no class folder, or in a link to a folder within one, and is not read.

    Args:
        root: a folder.
        layout: of it, by `find_layout`.
        suffixes: of the files that matter.

    Returns:
        (path below the root, why): of files, and with a "/" of folders beside those of the splits,
        of links to folders, and of hidden or system folders that hold such files where classes are.
    """
    places = list(places_of(root, layout))
    found = [loose for place in places for loose in _loose_in(place, suffixes)]
    links = [
        link for split in layout.splits for f in layout.folders[split] for link in _links_below(f)
    ]
    found += [(link, "a link to a folder is not followed") for link in links]
    if layout.splits["train"] != layout.top:
        for name, folder in folders_in(layout.top).items():
            count = sum(1 for _ in files_below(folder))
            if count and folder not in places:
                why = "no folder per class" if split_in(name) else "no split"
                found.append((folder, f"{why} ({counted(count, 'file')})"))
    return [
        (path.relative_to(root).as_posix() + "/" * path.is_dir(), reason) for path, reason in found
    ]


def _loose_in(place: Path, suffixes: Collection[str]) -> Iterator[tuple[Path, str]]:
    """What lies in a folder that holds classes or splits, and is neither; with the reason."""
    for path in sorted(place.iterdir()):
        clutter = is_clutter(path.name)
        if path.is_dir():
            if clutter and (count := _count_below(path, suffixes)):
                yield (
                    path,
                    f"of a system or hidden by its name, no class ({counted(count, 'file')})",
                )
            elif not clutter and leads_up(path):
                yield path, "a link to a folder that it lies in"
        elif not clutter and path.is_symlink() and not path.exists():
            yield path, "a link that leads nowhere"
        elif not clutter and path.suffix.lower() in suffixes:
            yield path, "in no class folder"


def _count_below(folder: Path, suffixes: Collection[str]) -> int:
    """Files of some endings in a folder that is no class; none that macOS keeps beside others."""
    names = itertools.chain.from_iterable(names for _, _, names in os.walk(folder))
    return sum(not n.startswith(".") and Path(n).suffix.lower() in suffixes for n in names)


def _links_below(folder: Path) -> Iterator[Path]:
    """Links to folders that `files_below` passes over."""
    for base, folders, _ in os.walk(folder):
        folders[:] = sorted(f for f in folders if not is_clutter(f))
        yield from (link for link in (Path(base) / f for f in folders) if link.is_symlink())


def files_below(folder: Path) -> Iterator[Path]:
    """`paths_below` as paths."""
    return map(Path, paths_below(folder))


def paths_below(folder: Path) -> Iterator[str]:
    """Files in a folder and in those below it, in alphabetical order.

    Hidden ones and those that systems leave are passed over. Links to folders are not followed,
    which may lead in circles.

    Raises:
        OSError: for a folder that cannot be read.
    """

    def refuse(error: OSError) -> None:
        raise error

    # Texts: of a million files a million `Path`s take a gigabyte.
    for base, folders, files in os.walk(folder, onerror=refuse):
        folders[:] = sorted(f for f in folders if not is_clutter(f))
        yield from (os.path.join(base, name) for name in sorted(files) if not is_clutter(name))


def _load(folder: Path, reading: Reading) -> Splits:
    reading.sized(f"{folder} is a folder of images")  # before its files are looked through
    return reading.of_scan(scan_folder(folder, reading.class_names, reading.progress), "folder")


FOLDERS = Reader("a folder with a folder of images per class", Path.is_dir, _load, scan_folder)
