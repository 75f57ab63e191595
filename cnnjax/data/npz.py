"""NumPy's .npz files of images and labels."""

from __future__ import annotations

import struct
import zipfile
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from cnnjax.data.dataset import Splits, from_arrays, with_class_names
from cnnjax.data.tfds import DataNotFound

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

# What NumPy and zipfile raise for files that are damaged, cut off or something else.
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
    SyntaxError,
)


def load_npz(path: Path, progress: Callable[[str], None] | None = None) -> Splits:
    """The images and labels of a file, as `from_arrays` takes them; pickles are refused.

    Args:
        path: of a file with x_train and y_train (or train_images and train_labels, images and
            labels, x and y), where there are such x_valid, y_valid (x_val, y_val; val_images,
            val_labels) and x_test, y_test (test_images, test_labels), and label_names.
        progress: told in a sentence of arrays that are not read.

    Returns:
        The parts; without label_names classes are called by their numbers.

    Raises:
        DataNotFound: if there is no such file.
        ValueError: if it is damaged or holds something else.
    """
    if not path.is_file():
        raise DataNotFound(f"data file {path} does not exist (looked in {path.absolute().parent})")
    try:
        with open(path, "rb") as raw:
            file = np.load(raw, allow_pickle=False)
            if not isinstance(file, np.lib.npyio.NpzFile):
                raise ValueError("it holds a single array")
            keys = set(file.files)
            pairs = {part: _pair(keys, names) for part, names in _NAMES.items()}
            found = {part: [file[name] for name in pair] for part, pair in pairs.items() if pair}
            classes = [str(n) for n in file["label_names"]] if "label_names" in keys else []
    except _UNREADABLE as error:
        # NumPy's words on pickles are how to load them all the same.
        reason = "it holds pickles, or no arrays at all" if "pickle" in str(error) else error
        raise ValueError(f"{path} is not a readable .npz file of plain arrays: {reason}") from None
    if "train" not in found:
        raise ValueError(
            f"{path} holds {', '.join(sorted(keys)) or 'nothing'}; expected x_train and y_train, "
            "or images and labels, or x and y"
        )
    unread = keys.difference(["label_names"], *pairs.values())
    if unread and progress:
        progress(f"{path} holds {', '.join(sorted(unread))}, which are not read")
    parts = {
        part: from_arrays(images, labels, classes, f"{path.name} {part}")
        for part, (images, labels) in found.items()
    }
    return with_class_names(parts)


def _pair(keys: set[str], candidates: Sequence[tuple[str, str]]) -> tuple[str, ...]:
    """The names of a part's images and labels; () if it is not there."""
    for images, labels in candidates:
        if images in keys and labels in keys:
            return images, labels
        if images in keys or labels in keys:
            missing = labels if images in keys else images
            raise ValueError(f"{missing} is missing beside {images if images in keys else labels}")
    return ()
