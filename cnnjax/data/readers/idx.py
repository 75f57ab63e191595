"""The idx format of MNIST's files: one array of bytes, plain or compressed with gzip."""

from __future__ import annotations

import gzip
import math
import re
import struct
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO

import numpy as np

from cnnjax.core.checks import at_least_zero
from cnnjax.core.places import expanded
from cnnjax.core.reading import check_regular
from cnnjax.data.dataset import Dataset
from cnnjax.data.errors import DataNotFound
from cnnjax.data.given_arrays import from_arrays
from cnnjax.data.pixels.encoded_images import MEMORY_BUDGET
from cnnjax.data.readers.file_names import existing
from cnnjax.data.readers.npz import check_unpacking
from cnnjax.data.readers.reader import Reader, Reading
from cnnjax.data.room import room
from cnnjax.data.splits import Splits, with_class_names

# As MNIST's own files are called, or with the name of a data set before that, as EMNIST's are.
_NAME = re.compile(
    r"(?P<set>.+-)?(?P<split>train|t10k|test)-(?P<what>images|labels)[-.]idx[13]-ubyte(\.gz)?"
)
_SPLITS = {"train": "train", "t10k": "test", "test": "test"}
_USUAL = "train-images-idx3-ubyte[.gz], train-labels-idx1-ubyte[.gz] and t10k-... for the test"

_GZIP = b"\x1f\x8b"
_BYTES = 0x08  # the only type that images and labels have
_READ_AT_ONCE = 1 << 22
_MOST_PACKED = 1032  # bytes that a byte of gzip can stand for


def read_idx(path: str | Path, memory_budget: int = MEMORY_BUDGET) -> np.ndarray:
    """The array in an idx file (format: THE MNIST DATABASE, section "file formats").

    Args:
        path: of the file; by its first bytes it is plain or compressed, whatever its name.
        memory_budget: bytes; a larger array lies on disk, mapped to memory.

    Returns:
        uint8, of the shape in the file's head: [N, H, W] for images, [N] for labels.

    Raises:
        OSError: if the file cannot be read.
        ValueError: if it is no regular file, no idx file of bytes, is cut off, or goes on behind
            its end.
    """
    at_least_zero("memory_budget", memory_budget)
    path = check_regular(expanded(path), "data file")
    size = path.stat().st_size
    with open(path, "rb") as raw:
        compressed = raw.read(2) == _GZIP
        raw.seek(0)
        try:
            if compressed:
                with gzip.open(raw) as file:
                    return _array(file, path, size, _MOST_PACKED, memory_budget)
            return _array(raw, path, size, 1, memory_budget)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise ValueError(f"{path} is damaged or cut off: {error}") from None


def is_idx(path: Path) -> bool:
    """Whether a path has the name of an idx file of images or labels, or is a folder of such."""
    if path.is_dir():
        return any(True for _ in _files(path))
    return bool(_NAME.fullmatch(path.name))


def load_idx(path: Path, reading: Reading) -> Splits:
    """The images and labels of idx files that lie in one folder.

    Args:
        path: of the folder, or of any file in it, which stands for those of its data set:
            train-images-idx3-ubyte, train-labels-idx1-ubyte and, if any, t10k-images-idx3-ubyte and
            t10k-labels-idx1-ubyte, each perhaps with .gz, and perhaps all with a name before that
            (emnist-letters-train-images-idx3-ubyte). Of one file plain and compressed the plain one
            is read. Each may lie in a folder of its own name, as some archives unpack it.

    Returns:
        The splits "train" and "test"; pixels as they lie in the files, classes called by their
        numbers.

    Raises:
        DataNotFound: if a file is missing.
        ValueError: for several data sets in a folder, or a file that is no good.
    """
    folder = path if path.is_dir() else existing(path).parent
    sets = _sets(folder)
    if path.is_dir() and len(sets) > 1:
        raise ValueError(
            f"{folder} holds idx files of several data sets ({', '.join(map(repr, sorted(sets)))}):"
            " name a file of one of them"
        )
    name = next(iter(sets)) if path.is_dir() else _set_of(path)
    splits = {
        split: _split(folder, name, sets[name], split, reading.memory_budget)
        for split in ("train", "test")
    }
    if splits["train"] is None:
        raise DataNotFound(f"{folder} holds no images to train on: expected {name}{_USUAL}")
    return with_class_names({split: data for split, data in splits.items() if data is not None})


def _set_of(file: Path) -> str:
    match = _NAME.fullmatch(file.name)
    return (match and match["set"]) or ""


def _sets(folder: Path) -> dict[str, dict[tuple[str, str], Path]]:
    """{name before the usual ones: {(split, "images" or "labels"): file}}."""
    sets: dict[str, dict[tuple[str, str], Path]] = {}
    for file in sorted(_files(folder)):  # the plain one before the compressed one
        if match := _NAME.fullmatch(file.name):
            files = sets.setdefault(match["set"] or "", {})
            files.setdefault((_SPLITS[match["split"]], match["what"]), file)
    return sets


def _files(folder: Path) -> Iterator[Path]:
    """The idx files in a folder, by their names; also in folders of their own names."""
    for entry in folder.iterdir():
        if _NAME.fullmatch(entry.name):
            file = entry / entry.name if entry.is_dir() else entry
            if file.exists() and not file.is_dir():
                yield file


def _split(
    folder: Path, name: str, files: Mapping[tuple[str, str], Path], split: str, budget: int
) -> Dataset | None:
    there = {what: files[split, what] for what in ("images", "labels") if (split, what) in files}
    if not there:
        return None
    if len(there) == 1:
        ((what, file),) = there.items()
        other = {"images": "labels", "labels": "images"}[what]
        raise DataNotFound(
            f"{folder} holds {file.name} but not its {other}: expected {name}{_USUAL}"
        )
    images, labels = (read_idx(there[what], budget) for what in ("images", "labels"))
    if images.ndim not in (3, 4):
        raise ValueError(
            f"{there['images']} holds an array of shape {list(images.shape)}; images are [N, H, W]"
        )
    if labels.ndim != 1:
        raise ValueError(
            f"{there['labels']} holds an array of shape {list(labels.shape)}; labels are [N]"
        )
    if len(images) != len(labels):
        raise ValueError(
            f"{there['images']} holds {len(images):,} images, {there['labels'].name} "
            f"{len(labels):,} labels"
        )
    return from_arrays(images, labels, name=f"{name.rstrip('-') or folder.name} {split}")


def _array(
    file: IO[bytes] | gzip.GzipFile, path: Path, size: int, ratio: int, budget: int
) -> np.ndarray:
    """The array in an open file of `size` bytes, each of which unpacks to no more than `ratio`."""
    head = file.read(4)
    if len(head) < 4 or head[:2] != b"\0\0" or not 1 <= head[3] <= 4:
        raise ValueError(f"{path} is no idx file: it begins with {head.hex(' ') or 'nothing'}")
    if head[2] != _BYTES:
        raise ValueError(f"{path} holds the idx type 0x{head[2]:02x}; expected bytes (0x08)")
    sizes = file.read(4 * head[3])
    if len(sizes) < 4 * head[3]:
        raise ValueError(f"{path} is cut off within its head")
    shape = struct.unpack(f">{head[3]}I", sizes)
    count = math.prod(shape)
    if not count and math.prod(max(n, 1) for n in shape) >= 2**63:  # even of none, NumPy's bound
        raise ValueError(f"{path} announces {list(shape)}: it holds nothing")
    most = max(size * ratio - 4 - 4 * head[3], 0)
    if count > most:
        raise ValueError(
            f"{path} announces {list(shape)}, {count} bytes, and holds only {most} at the most"
        )
    try:
        check_unpacking(count, size)
    except ValueError as error:
        raise ValueError(f"{path} announces {list(shape)}: {error}") from None
    # Memory is taken as it is filled: a head may announce anything.
    content, filled = bytearray() if count <= budget else room(count, budget), 0
    while data := file.read(min(_READ_AT_ONCE, count + 1 - filled)):
        content[filled : filled + len(data)] = data[: count - filled]
        filled += len(data)
    if filled != count:
        more = "more" if filled > count else f"only {filled}"
        raise ValueError(f"{path} announces {list(shape)}, {count} bytes, and holds {more}")
    return np.frombuffer(content, np.uint8).reshape(shape)


IDX = Reader("a folder of idx files or one of them", is_idx, load_idx)
