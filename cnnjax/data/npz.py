"""NumPy's .npz files of images and labels."""

from __future__ import annotations

import struct
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from cnnjax.data.dataset import Splits, from_arrays
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


def load_npz(path: Path) -> Splits:
    """The images and labels of a file, as `from_arrays` takes them; pickles are refused.

    Args:
        path: of a file with x_train and y_train (or train_images and train_labels, images and
            labels, x and y), where there are such x_valid, y_valid (x_val, y_val; val_images,
            val_labels) and x_test, y_test (test_images, test_labels), and label_names.

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
            found = {part: _pair(file, keys, names) for part, names in _NAMES.items()}
            classes = [str(n) for n in file["label_names"]] if "label_names" in keys else []
    except _UNREADABLE as error:
        raise ValueError(f"{path} is not a readable .npz file of plain arrays: {error}") from None
    if found["train"] is None:
        raise ValueError(
            f"{path} holds {', '.join(sorted(keys)) or 'nothing'}; expected x_train and y_train, "
            "or images and labels, or x and y"
        )
    parts = {
        part: from_arrays(*arrays, classes, f"{path.name} {part}")
        for part, arrays in found.items()
        if arrays is not None
    }
    return Splits(parts["train"], parts.get("validation"), parts.get("test"))


def _pair(
    file: np.lib.npyio.NpzFile, keys: set[str], candidates: Sequence[tuple[str, str]]
) -> tuple[np.ndarray, np.ndarray] | None:
    for images, labels in candidates:
        if images in keys and labels in keys:
            return file[images], file[labels]
        if images in keys or labels in keys:
            missing = labels if images in keys else images
            raise ValueError(f"{missing} is missing beside {images if images in keys else labels}")
    return None
