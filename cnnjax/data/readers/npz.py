"""NumPy's .npz files of images and labels."""

from __future__ import annotations

import struct
import zipfile
import zlib
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np

from cnnjax.core.npy import read_npy
from cnnjax.core.text import plain
from cnnjax.data.given_arrays import from_arrays
from cnnjax.data.readers.file_names import existing, normal
from cnnjax.data.readers.reader import Reader, Reading
from cnnjax.data.room import NoRoom, room
from cnnjax.data.splits import Splits, with_class_names

# Names of images and labels: those of Keras' files, plain ones, those of MedMNIST's files.
_NAMES = {
    "train": (
        ("x_train", "y_train"),
        ("train_images", "train_labels"),
        ("images", "labels"),
        ("x", "y"),
    ),
    "validation": (
        ("x_validation", "y_validation"),
        ("x_valid", "y_valid"),
        ("x_val", "y_val"),
        ("val_images", "val_labels"),
    ),
    "test": (("x_test", "y_test"), ("test_images", "test_labels")),
}

# What zipfile raises for files that are damaged, cut off or something else.
_UNREADABLE = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    OSError,
    ValueError,
    EOFError,
    KeyError,
    RuntimeError,
    NotImplementedError,
    OverflowError,
    MemoryError,
)

_CLASSES = "label_names"
_MOST_MEMBERS = 1000
_LEAST_BOMB, _MOST_RATIO = 1 << 30, 100
_SHOWN = 20


def load_npz(path: Path, reading: Reading) -> Splits:
    """The images and labels of a file, as `from_arrays` takes them; pickles are refused.

    Args:
        path: of a file with x_train and y_train (or train_images and train_labels, images and
            labels, x and y), where there are such x_valid, y_valid (x_val, y_val; val_images,
            val_labels) and x_test, y_test (test_images, test_labels), and label_names.
        reading: its progress is told in a sentence of arrays that are not read; beyond its memory
            budget an array lies on disk (`room`).

    Returns:
        The splits; without label_names classes are called by their numbers.

    Raises:
        DataNotFound: if there is no such file.
        ValueError: if it is damaged or holds something else.
    """
    path, budget = existing(path), reading.memory_budget
    try:
        with zipfile.ZipFile(path) as archive:
            members = _members(archive, path.stat().st_size)
            keys = set(members)
            pairs = {split: _pair(keys, names) for split, names in _NAMES.items()}
            found = {
                split: [_array(archive, members[name], name, budget) for name in pair]
                for split, pair in pairs.items()
                if pair
            }
            classes: list[str] = []
            if _CLASSES in keys:
                classes = _texts(_array(archive, members[_CLASSES], _CLASSES, budget))
    except NoRoom:
        raise
    except _UNREADABLE as error:
        raise ValueError(
            f"{path} is not a readable .npz file of plain arrays: {plain(error)}"
        ) from None
    if "train" not in found:
        raise ValueError(
            f"{path} holds {', '.join(map(plain, sorted(keys)[:_SHOWN])) or 'nothing'}; expected "
            "x_train and y_train, or images and labels, or x and y"
        )
    unread = keys.difference([_CLASSES], *pairs.values())
    if unread and reading.progress:
        reading.progress(
            f"{path} holds {', '.join(map(plain, sorted(unread)))}, which are not read"
        )
    splits = {
        split: from_arrays(images, labels, classes, f"{path.name} {split}")
        for split, (images, labels) in found.items()
    }
    return with_class_names(splits)


def _members(archive: zipfile.ZipFile, size: int) -> dict[str, zipfile.ZipInfo]:
    """The arrays' members by the arrays' names.

    Raises:
        ValueError: for too many, two of one name, or more bytes than a file of this size has any
            reason for.
    """
    entries = archive.infolist()
    if len(entries) > _MOST_MEMBERS:
        raise ValueError(f"it has {len(entries):,} members, more than {_MOST_MEMBERS:,}")
    members: dict[str, zipfile.ZipInfo] = {}
    for entry in entries:
        name = entry.filename.removesuffix(".npy")
        if name in members:
            raise ValueError(f"the array {plain(name)!r} is there twice")
        members[name] = entry
    check_unpacking(sum(entry.file_size for entry in entries), size)
    return members


def check_unpacking(unpacked: int, packed: int) -> None:
    """Refuse what would unpack to far more than data does.

    Args:
        unpacked, packed: bytes.

    Raises:
        ValueError: above 1 GiB and a hundredfold.
    """
    if unpacked > max(_LEAST_BOMB, _MOST_RATIO * packed):
        raise ValueError(f"its {packed:,} bytes would unpack to {unpacked:,}: it is no data")


def _array(archive: zipfile.ZipFile, member: zipfile.ZipInfo, name: str, budget: int) -> np.ndarray:
    with archive.open(member) as file:
        return read_npy(file, member.file_size, name, room=partial(room, budget=budget))


def _texts(names: np.ndarray) -> list[str]:
    """The names of classes in an array of texts, of bytes in UTF-8, or of numbers."""
    if names.ndim != 1:
        raise ValueError(f"{_CLASSES} must be [K], got {list(names.shape)}")
    return [normal(n.decode() if isinstance(n, bytes) else str(n)) for n in names.tolist()]


def _pair(keys: set[str], candidates: Sequence[tuple[str, str]]) -> tuple[str, ...]:
    """The names of a split's images and labels; () if it is not there."""
    for images, labels in candidates:
        if images in keys and labels in keys:
            return images, labels
        if images in keys or labels in keys:
            missing = labels if images in keys else images
            raise ValueError(f"{missing} is missing beside {images if images in keys else labels}")
    return ()


NPZ = Reader(
    "NAME.npz (images, labels)",
    lambda path: path.suffix.lower() == ".npz" and not path.is_dir(),
    load_npz,
)
