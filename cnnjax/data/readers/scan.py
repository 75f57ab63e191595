"""Image files with labels: which are good, which are set aside, remembered until one changes."""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import stat
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from textwrap import indent
from typing import Any, NamedTuple

import numpy as np

from cnnjax.core.reading import Unreadable, read_json
from cnnjax.core.runtime import cache_directory
from cnnjax.core.storage import write_text
from cnnjax.core.table import table
from cnnjax.core.text import counted, plain
from cnnjax.data.dataset import Dataset
from cnnjax.data.errors import DataNotFound
from cnnjax.data.pixels.decode import decode_image
from cnnjax.data.pixels.decoding import Decoding, decoders
from cnnjax.data.pixels.file_images import FileImages
from cnnjax.data.pixels.image_files import UnreadableImage
from cnnjax.data.splits import Splits

SUFFIXES = (
    ".bmp", ".gif", ".jfif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp",
)  # fmt: skip
_ADDRESS = re.compile(" ?<_io.BytesIO[^>]*>")
_SCAN_FORMAT = 3
_READ_AHEAD = 256
_MOST_BYTES = 1 << 30  # of an image file, and of the outcomes of a scan
_SHOWN = 10
_LONGEST = 4096  # letters of a line: folders have long paths


class Candidate(NamedTuple):
    """A file that may be an image: its part, its class (a position among the names), its path."""

    part: str
    label: int
    file: str


@dataclass(frozen=True)
class Part:
    """The good images of one part of a folder.

    Args:
        files: paths below the scan's root, in the order they were found: of folders class by class,
            each in alphabetical order, of a table row by row.
        labels: int32 [N], positions in `Scan.class_names`.
        hashes: of the files' contents.
    """

    files: tuple[str, ...]
    labels: np.ndarray
    hashes: tuple[str, ...]


@dataclass(frozen=True)
class Scan:
    """What a folder of class folders, or a table of paths and labels, holds.

    Args:
        root: the folder.
        class_names: sorted or as given.
        parts: "train" and, if there are such, "validation" and "test".
        set_aside: (path below the folder, what is wrong with it); one that ends in "/" is a folder,
            of which no file is read.
        table: the CSV file that names the images; None: the folders they lie in do.
    """

    root: Path
    class_names: tuple[str, ...]
    parts: dict[str, Part]
    set_aside: tuple[tuple[str, str], ...]
    table: Path | None = None

    @property
    def source(self) -> Path:
        """What was scanned: the table, or the folder."""
        return self.table or self.root

    def __str__(self) -> str:
        names = [plain(name) for name in self.class_names]
        lines = [f"{plain(self.source, _LONGEST)}: {len(names)} classes"]
        for name, part in self.parts.items():
            counts = np.bincount(part.labels, minlength=len(self.class_names))
            lines.append(f"{name}: {counted(len(part.files), 'image')}")
            rows = [(label, f"{count:,}") for label, count in zip(names, counts, strict=True)]
            lines.append(indent(table(rows), "  "))
        lines.append(f"set aside: {counted(len(self.set_aside), 'file')}")
        lines += [plain(f"  {file}: {reason}", _LONGEST) for file, reason in self.set_aside]
        return "\n".join(lines)

    def remarks(self) -> list[str]:
        """A few lines on what was set aside; none where all is good."""
        if not self.set_aside:
            return []
        verb = "was" if len(self.set_aside) == 1 else "were"
        lines = [f"{self.source}: {counted(len(self.set_aside), 'file')} {verb} set aside"]
        lines += [f"  {file}: {reason}" for file, reason in self.set_aside[:_SHOWN]]
        if len(self.set_aside) > _SHOWN:
            lines.append(f"  and more: cnnjax data scan {self.source}")
        return [plain(line, _LONGEST) for line in lines]

    def lacking(self, part: str) -> list[str]:
        """The classes that a part has no image of."""
        counts = np.bincount(self.parts[part].labels, minlength=len(self.class_names))
        return [name for name, count in zip(self.class_names, counts, strict=True) if not count]

    def splits(
        self, decoding: Decoding, memory_budget: int, progress: Callable[[str], None] | None
    ) -> Splits:
        """The good images as data sets.

        Args:
            decoding: size and colours.
            memory_budget: as `FileImages.cached` takes it, for each part.
            progress: told in a sentence when something takes long.
        """
        parts: dict[str, Any] = {}
        for name, part in self.parts.items():
            images = FileImages(self.root, part.files, part.hashes, decoding)
            images = images.cached(memory_budget, progress)
            title = f"{self.source.name} {name}"
            parts[name] = Dataset(images, part.labels, self.class_names, title)
        return Splits(**parts)


def checked_names(class_names: Sequence[str] | None) -> list[str] | None:
    """The names of classes that were given, as a list; None where none were.

    Raises:
        ValueError: if it is no list of names.
    """
    if class_names is None:
        return None
    listed = isinstance(class_names, Iterable) and not isinstance(class_names, str)
    if not listed or not all(isinstance(name, str) for name in class_names):
        raise ValueError(f"class_names must be a list of names, got {class_names!r}")
    return list(class_names)


def examine(
    root: Path,
    names: tuple[str, ...],
    parts: Sequence[str],
    candidates: Sequence[Candidate],
    *,
    table: Path | None = None,
    progress: Callable[[str], None] | None = None,
    tick: Callable[[int, int], None] | None = None,
) -> Scan:
    """Read and decode every file once, or recall the outcome of the last time.

    Args:
        root: a folder, to which paths are relative where they lie below it.
        names: of the classes.
        parts: in the order of `candidates`; each needs at least one image.
        candidates: the files, those of the test part first.
        table: as in `Scan`.
        progress, tick: as in `scan_folder`.

    Raises:
        DataNotFound: for a part without an image.
    """
    memory = _memory_of(root, candidates)
    examined = _recall(memory, len(candidates))
    if examined is None:
        if progress:
            progress(f"reading {len(candidates):,} files in {root}: which are images?")
        examined = []
        with _counted_warnings(progress):
            for outcome in _examine([file for *_, file in candidates]):
                examined.append(outcome)
                if tick:
                    tick(len(examined), len(candidates))
        with suppress(OSError):  # a cache that may not be written: looked at again next time
            memory.parent.mkdir(parents=True, exist_ok=True)
            write_text(memory, json.dumps(examined))
    return _sorted_out(root, names, parts, candidates, examined, table)


@contextmanager
def _counted_warnings(progress: Callable[[str], None] | None) -> Iterator[None]:
    """What Pillow remarks on thousands of files, as one line with their number.

    Warnings that the caller turned into errors, or ignores, stay so.
    """
    with warnings.catch_warnings(record=True) as remarks:
        yield
    if not remarks:
        return
    first = plain(remarks[0].message)
    line = (
        f"{len(remarks):,} different remarks of the decoder on files that it read, e.g. {first!r}"
    )
    if progress:
        progress(line)
    else:
        warnings.warn(line, stacklevel=4)


def _examine(files: Iterable[str]) -> Iterator[tuple[str, str]]:
    """(hash of the contents, "") of every good image, (hash, what is wrong) of the others."""
    waiting = iter(files)
    # A bounded number at once, so that no more than these are ever in memory.
    while batch := list(islice(waiting, _READ_AHEAD)):
        yield from decoders().map(_examine_one, batch)


def _examine_one(file: str) -> tuple[str, str]:
    if os.path.splitext(file)[1].lower() not in SUFFIXES:
        return "", "no image, by its name"
    try:
        state = os.stat(file)
        if not stat.S_ISREG(state.st_mode):  # a pipe, opened, would wait for ever
            return "", "no regular file (a pipe, a socket or a device)"
        if state.st_size > _MOST_BYTES:
            return "", f"too large ({state.st_size:,} bytes)"
        content = Path(file).read_bytes()
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
    candidates: Sequence[Candidate],
    examined: Sequence[tuple[str, str]],
    table: Path | None,
) -> Scan:
    """The good images of every part, and the rest.

    Of files with one content the first is kept, those of the test part before those of training:
    a test on images that were trained on would say nothing. A table may repeat an image on
    purpose, within a part and class.
    """
    seen: dict[str, Candidate] = {}  # by hash
    aside = []
    good: dict[str, list[tuple[str, int, str]]] = {part: [] for part in parts}
    below = os.path.join(root, "")
    for candidate, (content, wrong) in zip(candidates, examined, strict=True):
        part, label, path = candidate
        file = _relative(path, below)
        first = seen.get(content)
        if wrong:
            aside.append((file, wrong))
        elif first is not None and (not table or first[:2] != (part, label)):
            other = ""
            if first.label != label:
                other = f", which has another class ({names[first.label]})"
            aside.append((file, f"the same content as {_relative(first.file, below)}{other}"))
        else:
            seen[content] = candidate
            good[part].append((file, label, content))
    if empty := [part for part, found in good.items() if not found]:
        raise DataNotFound(f"{table or root}: no image was found in the split {empty[0]!r}")
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
        table,
    )


def _relative(path: str, below: str) -> str:
    """A path below a folder that is given with its last "/"; as it is where it lies elsewhere."""
    return path.removeprefix(below).replace(os.sep, "/") if path.startswith(below) else path


def _memory_of(root: Path, candidates: Sequence[Candidate]) -> Path:
    """Where the outcome of a scan is kept: it depends on every file's name, size and time."""
    digest = hashlib.sha256(f"{_SCAN_FORMAT}{root}".encode("utf-8", "surrogateescape"))
    for *_, file in candidates:
        try:
            state = os.stat(file)
            known = (state.st_size, state.st_mtime_ns, state.st_mode)
        except OSError:  # a link that leads nowhere
            known = None
        digest.update(f"{file}\0{known}\n".encode("utf-8", "surrogateescape"))
    return cache_directory() / "scans" / f"{digest.hexdigest()[:32]}.json"


def _recall(memory: Path, count: int) -> list[tuple[str, str]] | None:
    """What a scan found the last time; None where it is not to be had, or of another form."""
    try:
        kept = read_json(memory, most=_MOST_BYTES)
    except (OSError, Unreadable):
        return None
    if not isinstance(kept, list) or len(kept) != count:
        return None
    for pair in kept:
        texts = isinstance(pair, list) and all(isinstance(text, str) for text in pair)
        if not (texts and len(pair) == 2 and bool(pair[0]) != bool(pair[1])):
            return None
    return [(content, wrong) for content, wrong in kept]
