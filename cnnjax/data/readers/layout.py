"""How a folder of class folders is laid out: where its splits are, and the classes of each."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

from cnnjax.core.text import plain
from cnnjax.data.errors import DataNotFound
from cnnjax.data.readers.file_names import is_clutter, listed, nearest, normal
from cnnjax.data.readers.split_names import SPLITS, split_in, split_named

# How many folders that hold nothing but the next one are gone through.
_MOST_WRAPPERS = 4
_SHOWN = 5

# Folders of all images, and of what lies beside them in data sets, in small letters.
_OF_IMAGES = ("images", "image", "imgs", "img", "jpegimages")
_BESIDE_IMAGES = (
    "annotation", "annotations", "attributes", "bboxes", "ground_truth", "groundtruth", "gt",
    "label", "labels", "mask", "masks", "meta", "metadata", "parts", "segmentation",
    "segmentations", "trimaps",
)  # fmt: skip
_MOST_COMPARED = 1000  # of folders with different contents, each with each


class Layout(NamedTuple):
    """Where the files of each split and class lie.

    Args:
        top: the folder that holds the splits, or the classes where there are no splits.
        splits: the folder of each split, the test split first.
        class_names: in the composed form of Unicode, in the order of their labels.
        folders: of each split, the folder of each class, in that order.
    """

    top: Path
    splits: dict[str, Path]
    class_names: tuple[str, ...]
    folders: dict[str, list[Path]]


def find_layout(root: Path, class_names: Sequence[str] | None, suffixes: Collection[str]) -> Layout:
    """The splits and classes of a folder.

    Args:
        root: an absolute path of it.
        class_names: as in `scan_folder`.
        suffixes: of the files that matter, in small letters.

    Raises:
        DataNotFound: if there are no class folders.
        OSError, ValueError: as `scan_folder`.
    """
    given = None if class_names is None else [normal(name) for name in class_names]
    top = _unwrapped_top(root, suffixes)
    splits = _splits(top, given, suffixes)
    splits = {split: _unwrapped(base, base.name, suffixes) for split, base in splits.items()}
    there = {split: folders_in(base) for split, base in splits.items()}
    names = _class_names(root, top, splits, there, given, suffixes)
    folders = {split: [held[name] for name in names] for split, held in there.items()}
    return Layout(top, splits, names, folders)


def folders_in(folder: Path) -> dict[str, Path]:
    """The folders in a folder that may be classes or splits, by their names in composed form.

    Hidden ones, those that systems leave, and links to a folder above are left out.

    Raises:
        OSError: if it cannot be read.
        ValueError: for two folders whose names differ in their form or in blanks only.
    """
    found: dict[str, Path] = {}
    bare: dict[str, str] = {}
    with os.scandir(folder) as entries:  # which knows folders without asking for each of the files
        names = [entry.name for entry in entries if _is_folder(entry)]
    for name in sorted(names, key=lambda name: (normal(name), name)):
        if is_clutter(name) or leads_up(folder / name):
            continue
        key = normal(name).strip()
        if key in bare:
            raise ValueError(
                f"{folder} has two folders of one name, {bare[key]!a} and {name!a}, "
                "which differ in the form of Unicode or in blanks only: put their files together"
            )
        bare[key] = name
        found[normal(name)] = folder / name
    return found


def _is_folder(entry: os.DirEntry[str]) -> bool:
    return Path(entry).is_dir() if entry.is_symlink() else entry.is_dir()


def leads_up(link: Path) -> bool:
    """Whether a path is a link to a folder that it lies in."""
    return link.is_symlink() and link.parent.resolve().is_relative_to(link.resolve())


def _unwrapped_top(root: Path, suffixes: Collection[str]) -> Path:
    """The folder itself, or the one that it wraps: one of its own name, or one with splits."""
    top = root
    for _ in range(_MOST_WRAPPERS):
        inner = _only_folder(top, suffixes)
        if inner is None:
            break
        held = folders_in(inner)
        of_one_name = normal(inner.name).lower() == normal(top.name).lower()
        trained = [held[name] for name in held if split_in(name) == "train"]
        wraps = (held and of_one_name) or any(map(folders_in, trained)) or _only_folder(inner, ())
        if not wraps:
            break
        top = inner
    # A chain of single folders that ends in nothing known is not gone through.
    return top if len(folders_in(top)) > 1 else root


def _unwrapped(base: Path, name: str, suffixes: Collection[str]) -> Path:
    """The folder of a split; the one of its own name where it holds nothing else."""
    for _ in range(_MOST_WRAPPERS):
        inner = _only_folder(base, suffixes)
        if inner is None or normal(inner.name).lower() != normal(name).lower():
            break
        if not folders_in(inner):
            break
        base = inner
    return base


def _innermost(folder: Path, suffixes: Collection[str]) -> Path:
    """A folder, or the one that it wraps, whatever its name, as in CUB_200_2011/images."""
    for _ in range(_MOST_WRAPPERS):
        inner = _only_folder(folder, suffixes)
        if inner is None or not folders_in(inner):
            break
        folder = inner
    return folder


def _only_folder(folder: Path, suffixes: Collection[str]) -> Path | None:
    """The one folder that a folder holds, and no files that matter."""
    held = list(folders_in(folder).values())
    return held[0] if len(held) == 1 and not _holds_files(folder, suffixes) else None


def _holds_files(folder: Path, suffixes: Collection[str]) -> bool:
    return any(
        Path(name).suffix.lower() in suffixes and not is_clutter(name)
        for name in os.listdir(folder)
        if not (folder / name).is_dir()
    )


def _splits(
    top: Path, class_names: Sequence[str] | None, suffixes: Collection[str]
) -> dict[str, Path]:
    """The folder of each split, the test split first; the top itself where there are no splits.

    Raises:
        ValueError: for two folders of one split, splits of which none can be trained on, or folders
            that are splits or classes, which is not to be known.
    """
    folders = folders_in(top)
    called = {split: [name for name in folders if split_named(name) == split] for split in SPLITS}
    called = {split: names for split, names in called.items() if names}
    divided = any(folders_in(folders[name]) for name in called.get("train", ()))
    if not divided and len(called) < 2:  # none, or a class that is called as splits are
        called = _splits_by_content(top, folders, class_names, suffixes)
        if not called:
            return {"train": top}
    elif not divided:
        there = " and ".join(plain(name) for names in reversed(called.values()) for name in names)
        train = called.get("train")
        lacking = f"{train[0]}/ holds no folder per class" if train else "none of them is train/"
        raise ValueError(f"{top} has folders {there}, but {lacking}")
    for split, names in called.items():
        if len(names) > 1:
            raise ValueError(
                f"{top} has folders {' and '.join(map(plain, names))}, both for {split}: keep one"
            )
    bases = {split: folders[name] for split, (name,) in called.items()}
    trained = folders_in(_unwrapped(bases["train"], bases["train"].name, suffixes))
    return {split: base for split, base in bases.items() if _holds_classes(base, trained, suffixes)}


def _holds_classes(base: Path, trained: Collection[str], suffixes: Collection[str]) -> bool:
    """Whether a split has folders of classes; not one folder alone of all its files, as val/images.

    Args:
        base: folder of the split.
        trained: names of the folders of the split to train on.
        suffixes: of the files that matter.
    """
    held = folders_in(base)
    wrapper = _only_folder(base, suffixes)
    if wrapper is None or wrapper.name in trained or folders_in(wrapper):
        return bool(held)
    return not (split_in(wrapper.name) or wrapper.name.lower() in _OF_IMAGES)


def _splits_by_content(
    top: Path,
    folders: Mapping[str, Path],
    class_names: Sequence[str] | None,
    suffixes: Collection[str],
) -> dict[str, list[str]]:
    """Parts under other names: folders that hold the same folders, as splits do and classes do not.

    Returns:
        {split: names of its folders} by a word in their names, as in seg_train; empty: there are
        none.

    Raises:
        ValueError: if there are such folders, and their names do not say what they are.
    """
    if class_names is not None and set(class_names) <= set(folders):
        return {}
    held = {
        name: set(folders_in(_innermost(folder, suffixes)))
        for name, folder in folders.items()
        if not _holds_files(folder, suffixes)
    }
    alike, shared = _alike(held)
    alike = alike or [name for name in folders if split_in(name)]
    called: dict[str, list[str]] = {}
    for split in SPLITS:
        if names := [name for name in alike if split_in(name) == split]:
            called[split] = names
    trained = any(held.get(name) for name in called.get("train", ()))
    # A test split without classes is like no other: then all of the folders have to be splits.
    if trained and len(called) > 1 and all(map(split_in, alike if shared else folders)):
        return called
    if not shared:
        return {}
    those, these = _list(alike), _list(shared)
    if any(split_named(name) for name in shared):
        raise ValueError(
            f"{top}: {those} each hold the splits {these}: put the splits outside, as in "
            f"{shared[0]}/{alike[0]}/, or name one of these folders instead of {top.name}/"
        )
    raise ValueError(
        f"{top}: {those} hold the same folders ({these}), as splits of a data set do and classes "
        "do not: call them train/, validation/ and test/; or, if they are the classes, give "
        "class_names"
    )


def _alike(held: Mapping[str, set[str]]) -> tuple[list[str], list[str]]:
    """Names of folders that hold two or more of the same folders, or one split; what they share.

    Args:
        held: {name: names of the folders in it}.
    """
    alike: set[str] = set()
    shared: set[str] = set()
    by_content: dict[frozenset[str], list[str]] = {}
    for name, names in held.items():  # thousands of classes have few different contents
        by_content.setdefault(frozenset(names), []).append(name)
    for content, some in by_content.items():
        if len(some) > 1 and _as_of_splits(content):
            alike.update(some)
            shared |= content
    different = list(by_content.items())[:_MOST_COMPARED]
    for (first, some), (second, others) in combinations(different, 2):
        if _as_of_splits(first & second):
            alike.update(some + others)
            shared |= first & second
    return [name for name in held if name in alike], sorted(shared)


def _as_of_splits(shared: frozenset[str]) -> bool:
    return len(shared) > 1 or any(split_named(name) for name in shared)


def _class_names(
    root: Path,
    top: Path,
    splits: Mapping[str, Path],
    there: Mapping[str, Mapping[str, Path]],
    given: list[str] | None,
    suffixes: Collection[str],
) -> tuple[str, ...]:
    """The classes that every split has a folder of; errors as in `scan_folder`."""
    names = given if given is not None else list(there["train"])
    if not names:
        raise DataNotFound(
            f"{root} holds no class folders: expected a folder of files for every class, or "
            "train/, validation/ and test/ with these in each"
        )
    if given is None and splits["train"] == top and len(names) > 1:
        _refuse_splits_among(top, there["train"], suffixes)
    if given is None and len(names) > 1:
        for base, folders in zip(splits.values(), there.values(), strict=True):
            _refuse_no_classes_among(base, folders)
    if len(set(names)) < len(names):
        raise ValueError(f"class_names holds a name twice: {listed(names)}")
    for split, base in splits.items():
        for name in names:
            if name not in there[split]:
                raise ValueError(_lacking(name, base, there[split]))
        if given is None and (more := sorted(set(there[split]) - set(names))):
            raise ValueError(f"{base} has classes that {splits['train']} lacks: {listed(more)}")
    if len(names) < 2:
        inner = sorted(folders_in(there["train"][names[0]]))
        hint = f"; or give {there['train'][names[0]]}, which holds {_list(inner)}" if inner else ""
        raise ValueError(
            f"{root}: all files have the class {names[0]!r}, two classes are needed{hint}"
        )
    return tuple(names)


def _lacking(name: str, base: Path, there: Mapping[str, Path]) -> str:
    """What to say of a class that a split has no folder of."""
    bare = " ".join(name.casefold().split())
    if near := [other for other in there if " ".join(other.casefold().split()) == bare]:
        return (
            f"class {name!r} is called {near[0]!r} in {base}: names that differ in case or blanks "
            "only; give it one name in all splits"
        )
    return f"class {name!r} has no folder in {base}. {nearest(name, there)}"


def _refuse_splits_among(top: Path, folders: Mapping[str, Path], suffixes: Collection[str]) -> None:
    """A folder test/ with class folders beside class folders would be trained on as a class."""
    for name, folder in folders.items():
        if not split_in(name) or not (held := sorted(folders_in(folder))):
            continue
        if split_named(name) or (len(held) > 1 and not _holds_files(folder, suffixes)):
            raise ValueError(
                f"{top} has {name}/ with folders in it ({plain(held[0])}/) beside class folders: "
                f"put these into train/, beside {name}/; or, if {name!r} is a class, give "
                "class_names"
            )


def _refuse_no_classes_among(base: Path, folders: Mapping[str, Path]) -> None:
    """Images beside what belongs to them, and a copy of the classes, would be trained on as such.

    Raises:
        ValueError: naming the folder to give instead.
    """
    images = [name for name in folders if name.lower() in _OF_IMAGES]
    if images and (beside := [name for name in folders if name.lower() in _BESIDE_IMAGES]):
        inner = folders[images[0]]
        advice = f"give {inner}" if folders_in(inner) else "put the images into a folder per class"
        raise ValueError(
            f"{base} has {_list([*images, *beside])}, which seem to be images and what belongs to "
            f"them, no classes: {advice}; or, if they are the classes, give class_names"
        )
    for name, folder in folders.items():
        if len(shared := folders.keys() & folders_in(folder).keys()) > 1:
            raise ValueError(
                f"{base} has {plain(name)}/, which holds the same folders as lie beside it "
                f"({_list(sorted(shared))}): it is a copy, no class: remove it, or give {folder}; "
                "or, if it is a class, give class_names"
            )


def _list(names: Sequence[str]) -> str:
    """A few names of folders.

    >>> _list(["a", "b"])
    'a/, b/'
    """
    more = ", ..." if len(names) > _SHOWN else ""
    return ", ".join(f"{plain(name)}/" for name in names[:_SHOWN]) + more


def places_of(root: Path, layout: Layout) -> Iterator[Path]:
    """The folders that hold classes, splits or one another, from the root on; each once."""
    seen: set[Path] = set()
    for base in (root, layout.top, *layout.splits.values()):
        below = base.relative_to(root).parts
        for depth in range(len(below) + 1):
            place = root.joinpath(*below[:depth])
            if place not in seen:
                seen.add(place)
                yield place
