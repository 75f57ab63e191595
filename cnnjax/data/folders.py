"""Folders of image files, one per class: what is in them, and what is no good."""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from cnnjax import paths
from cnnjax.data.dataset import Dataset, Splits
from cnnjax.data.files import MEMORY_BUDGET, Decoding, FileImages, decoders
from cnnjax.data.images import UnreadableImage, decode_image
from cnnjax.data.tfds import DataNotFound
from cnnjax.runtime import cache_directory
from cnnjax.storage import write_text

# Names of the parts of a data set that is divided already; the first of each is ours.
_PARTS = {
    "test": ("test", "testing"),
    "validation": ("validation", "valid", "val"),
    "train": ("train", "training"),
}
_SUFFIXES = (
    ".bmp", ".gif", ".jfif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp",
)  # fmt: skip
_ADDRESS = re.compile(" ?<_io.BytesIO[^>]*>")
_SCAN_FORMAT = 1
_READ_AHEAD = 256
_SHOWN = 10


@dataclass(frozen=True)
class Part:
    """The good pictures of one part of a folder.

    Args:
        files: paths below the folder, class by class, each in alphabetical order.
        labels: int32 [N], positions in `Scan.class_names`.
        hashes: of the files' contents.
    """

    files: tuple[str, ...]
    labels: np.ndarray
    hashes: tuple[str, ...]


@dataclass(frozen=True)
class Scan:
    """What a folder of class folders holds.

    Args:
        root: the folder.
        class_names: of the class folders, sorted or as given.
        parts: "train" and, if there are such folders, "validation" and "test".
        set_aside: (path below the folder, what is wrong with it).
    """

    root: Path
    class_names: tuple[str, ...]
    parts: dict[str, Part]
    set_aside: tuple[tuple[str, str], ...]

    def __str__(self) -> str:
        width = max(map(len, self.class_names), default=0)
        lines = [f"{self.root}: {len(self.class_names)} classes"]
        for name, part in self.parts.items():
            counts = np.bincount(part.labels, minlength=len(self.class_names))
            lines.append(f"{name}: {len(part.files):,} pictures")
            lines += [
                f"  {label:{width}}  {count:,}"
                for label, count in zip(self.class_names, counts, strict=True)
            ]
        lines.append(f"set aside: {len(self.set_aside):,} files")
        lines += [f"  {file}: {reason}" for file, reason in self.set_aside]
        return "\n".join(lines)

    def remarks(self) -> list[str]:
        """A few lines on what was set aside; none where all is good."""
        if not self.set_aside:
            return []
        lines = [f"{self.root}: {len(self.set_aside):,} files were set aside"]
        lines += [f"  {file}: {reason}" for file, reason in self.set_aside[:_SHOWN]]
        if len(self.set_aside) > _SHOWN:
            lines.append(f"  and more: cnnjax data scan {self.root}")
        return lines


def scan_folder(
    folder: str | Path,
    class_names: Sequence[str] | None = None,
    progress: Callable[[str], None] | None = None,
) -> Scan:
    """Find the pictures of a folder, and the files that are no good.

    Args:
        folder: holds a folder per class, or train/, validation/ and test/ with the same class
            folders in each; a class folder may have folders of its own. Hidden files are passed
            over.
        class_names: the class folders to use, in the order of their labels; None takes all, sorted.
        progress: told in a sentence when it takes long.

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
        (part, label, file)
        for part, base in roots.items()
        for label, name in enumerate(names)
        for file in files_below(base / name)
    ]
    memory = _memory_of(root, candidates)
    examined = _recall(memory, len(candidates))
    if examined is None:
        if progress:
            progress(f"reading {len(candidates):,} files in {root}: which are pictures?")
        examined = list(_examine(root, [file for *_, file in candidates]))
        with suppress(OSError):  # a cache that may not be written: looked at again next time
            memory.parent.mkdir(parents=True, exist_ok=True)
            write_text(memory, json.dumps(examined))
    return _sorted_out(root, names, list(roots), candidates, examined)


def load_folder(
    folder: str | Path,
    decoding: Decoding,
    class_names: Sequence[str] | None = None,
    *,
    memory_budget: int = MEMORY_BUDGET,
    progress: Callable[[str], None] | None = None,
) -> tuple[Splits, Scan]:
    """The pictures of a folder as splits, and what was found there.

    Args:
        folder, class_names, progress: as in `scan_folder`.
        decoding: size and colours.
        memory_budget: as `FileImages.cached` takes it, for each part.
    """
    scan = scan_folder(folder, class_names, progress)
    parts = {}
    for name, part in scan.parts.items():
        images = FileImages(scan.root, part.files, part.hashes, decoding)
        images = images.cached(memory_budget, progress)
        title = f"{scan.root.name} {name}"
        parts[name] = Dataset(images, part.labels, scan.class_names, title)
    splits = Splits(parts["train"], parts.get("validation"), parts.get("test"))
    return splits, scan


def part_folders(root: Path) -> dict[str, Path]:
    """The folder of each part, the test part first; the root itself where there are no parts."""
    found = {
        part: root / name
        for part, names in _PARTS.items()
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


def _examine(root: Path, files: Iterable[Path]) -> Iterator[tuple[str, str]]:
    """(hash of the contents, "") of every good picture, (hash, what is wrong) of the others."""
    waiting = iter(files)
    # A bounded number at once, so that no more than these are ever in memory.
    while batch := list(islice(waiting, _READ_AHEAD)):
        yield from decoders().map(_examine_one, batch)


def _examine_one(file: Path) -> tuple[str, str]:
    if file.suffix.lower() not in _SUFFIXES:
        return "", "no picture, by its name"
    try:
        content = file.read_bytes()
    except OSError as error:
        return "", f"cannot be read ({error.strerror})"
    if not content:
        return "", "empty"
    try:
        decode_image(io.BytesIO(content), 3, "")
    except UnreadableImage as error:
        return "", _ADDRESS.sub("", str(error).removeprefix(": "))
    return hashlib.sha256(content).hexdigest()[:32], ""


def _sorted_out(
    root: Path,
    names: tuple[str, ...],
    parts: Sequence[str],
    candidates: Sequence[tuple[str, int, Path]],
    examined: Sequence[tuple[str, str]],
) -> Scan:
    """The good pictures of every part, and the rest.

    Of files with one content the first is kept, those of the test part before those of training:
    a test on pictures that were trained on would say nothing.
    """
    seen: dict[str, tuple[str, str]] = {}  # hash -> (file, class)
    aside = []
    good: dict[str, list[tuple[str, int, str]]] = {part: [] for part in parts}
    for (part, label, path), (content, wrong) in zip(candidates, examined, strict=True):
        file = path.relative_to(root).as_posix()
        if wrong:
            aside.append((file, wrong))
        elif content in seen:
            first, its_class = seen[content]
            other = "" if its_class == names[label] else f", which has another class ({its_class})"
            aside.append((file, f"the same content as {first}{other}"))
        else:
            seen[content] = file, names[label]
            good[part].append((file, label, content))
    for part, found in good.items():
        counts = Counter(label for _, label, _ in found)
        empty = [name for label, name in enumerate(names) if not counts[label]]
        if not found:
            raise DataNotFound(f"{root}: no picture was found in the part {part!r}")
        if empty:
            raise ValueError(f"{root}: {part} has no picture of the class {', '.join(empty)}")
    ordered = {part: good[part] for part in ("train", "validation", "test") if part in good}
    return Scan(
        root,
        names,
        {
            part: Part(
                files=tuple(file for file, _, _ in found),
                labels=np.array([label for _, label, _ in found], np.int32),
                hashes=tuple(content for *_, content in found),
            )
            for part, found in ordered.items()
        },
        tuple(aside),
    )


def _memory_of(root: Path, candidates: Sequence[tuple[str, int, Path]]) -> Path:
    """Where the outcome of a scan is kept: it depends on every file's name, size and time."""
    digest = hashlib.sha256(f"{_SCAN_FORMAT}{root}".encode())
    for *_, file in candidates:
        state = file.stat() if file.exists() else None  # a link may lead nowhere
        known = (state.st_size, state.st_mtime_ns) if state else None
        digest.update(f"{file}\0{known}\n".encode("utf-8", "surrogateescape"))
    return cache_directory() / "scans" / f"{digest.hexdigest()[:32]}.json"


def _recall(memory: Path, count: int) -> list[tuple[str, str]] | None:
    try:
        kept = json.loads(memory.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    if not isinstance(kept, list) or len(kept) != count:
        return None
    return [(str(content), str(wrong)) for content, wrong in kept]
