"""Where data comes from: TFDS directories, class folders, digits, .npz files; one resolver."""

from __future__ import annotations

import os
import re
import struct
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from cnnjax import paths, rng
from cnnjax.data.captcha import load_captchas
from cnnjax.data.dataset import Dataset, Splits, from_arrays
from cnnjax.data.files import MEMORY_BUDGET, Decoding
from cnnjax.data.folders import load_folder
from cnnjax.data.series import load_series
from cnnjax.data.tfds import DataNotFound, prepared_names, tfds_split

EMBEDDED = ("digits",)
KNOWN = ("digits", "mnist", "cifar10", "fashion_mnist")

# A TFDS name, perhaps with a configuration: never a path that leaves the data directory.
_NAME = re.compile(r"\w+(/\w[\w.\-]*)?")

# What a record says of how a folder was read, for `load`.
_OF_FOLDERS = ("image_size", "channels", "resize", "interpolation", "decoder", "class_names")

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

_NPZ_KEYS = (("x_train", "y_train"), ("images", "labels"), ("x", "y"))
_NPZ_TEST_KEYS = (("x_test", "y_test"), ("test_images", "test_labels"))


def load(
    source: str | Path,
    *,
    data_dir: str | Path | None = None,
    image_size: tuple[int, int] | None = None,
    channels: int = 3,
    resize: str = "stretch",
    interpolation: str = "bilinear",
    decoder: str = "pillow",
    class_names: Sequence[str] | None = None,
    memory_budget: int = MEMORY_BUDGET,
    validation: float = 0.0,
    train_examples: int | None = None,
    seed: int = 0,
    progress: Callable[[str], None] | None = None,
) -> Splits:
    """Resolve a data set by name, file or folder.

    Args:
        source: "digits" (embedded in scikit-learn, needs no files), the name of an image
            classification data set prepared by TensorFlow Datasets ("mnist", "cifar10", ...),
            the path of an .npz file with x_train, y_train and, if any, x_test, y_test (or images
            and labels, or x and y), or the path of a folder that holds a folder of pictures per
            class, or train/, validation/ and test/ with these in each. A name that is both is the
            data set; "./name" is the folder.
        data_dir: where TFDS keeps its data; None takes TFDS_DATA_DIR, else ~/tensorflow_datasets.
        image_size: of a folder's pictures, (height, width); needed there, without effect elsewhere,
            as are the next five.
        channels, resize, interpolation, decoder: as in `Decoding`.
        class_names: the class folders to use, in the order of their labels; None: all, sorted.
        memory_budget: bytes; a part that takes no more once decoded is kept so, in a memory-mapped
            cache, and a larger one is decoded batch by batch.
        validation: fraction of the training examples set aside for validation, in [0, 1).
        train_examples: train on so many of the others only; None: on all.
        seed: of both choices.
        progress: told in a sentence when something takes long, or files are no good.

    Returns:
        Splits with train, validation (or None) and test (or None).

    Raises:
        DataNotFound: at once, with what was looked for, where, and how to get it.
        ValueError: if a file does not hold what it should.

    >>> load("digits").train.image_shape
    (28, 28, 1)
    """
    if not isinstance(source, str | Path):
        raise ValueError(
            f"source must be a name or a path, got {type(source).__name__}: arrays go into cj.fit "
            "as they are, or through cj.data.from_arrays"
        )
    name = str(source)
    if name == "digits":
        splits = _digits()
    elif name.endswith(".npz"):
        name = str(Path(name).expanduser().absolute())
        splits = _npz(Path(name))
    elif is_folder(name, data_dir):
        decoding = _decoding(name, image_size, channels, resize, interpolation, decoder)
        return set_aside(
            _folder(name, decoding, class_names, memory_budget, progress),
            validation, train_examples, seed,
        )  # fmt: skip
    else:
        splits = _tfds(name, data_dir, progress)
    splits = replace(splits, source={"data": name})
    return set_aside(splits, validation, train_examples, seed)


def set_aside(splits: Splits, validation: float, train_examples: int | None, seed: int) -> Splits:
    """Splits with a part for validation and so many to train on; arguments as in `load`."""
    if validation:
        splits = splits.with_validation(validation, seed)
    if train_examples is not None:
        splits = splits.with_train_examples(train_examples, seed)
    return splits


def reload(
    source: Mapping[str, Any],
    *,
    data_dir: str | Path | None = None,
    progress: Callable[[str], None] | None = None,
) -> Splits:
    """The splits that a record describes.

    Args:
        source: `Splits.source`, as a run records it.
        data_dir, progress: as in `load`.

    Raises:
        ValueError: if it is no such description.
    """
    steps: dict[str, Callable[..., Splits]] = {
        "with_validation": Splits.with_validation,
        "with_test": Splits.with_test,
        "with_train_examples": Splits.with_train_examples,
    }
    if "data" not in source or any(step not in steps for step, *_ in source.get("steps", [])):
        raise ValueError(f"the record of the data is not one that cj.data.load leaves: {source}")
    if "captcha" in source:
        splits = load_captchas(**source["captcha"], progress=progress)
    elif "series" in source:
        splits = load_series(**source["series"]).splits
    elif "texts" in source:
        from cnnjax.data.text import load_texts  # which needs this module

        splits = load_texts(source["data"], data_dir=data_dir, progress=progress, **source["texts"])
    else:
        folder = {k: v for k, v in source.get("folder", {}).items() if k in _OF_FOLDERS}
        splits = load(source["data"], data_dir=data_dir, progress=progress, **folder)
    for step, *arguments in source.get("steps", []):
        splits = steps[step](splits, *arguments)
    return splits


def is_folder(name: str, data_dir: str | Path | None) -> bool:
    """Whether a name is that of a folder, and not of a data set."""
    if name in ("", ".", ".."):  # nobody's name for a data set, rather an empty variable
        return False
    return not is_prepared(name, data_dir) and Path(name).expanduser().is_dir()


def _decoding(
    name: str, image_size: tuple[int, int] | None, channels: int, resize: str,
    interpolation: str, decoder: str,
) -> Decoding:  # fmt: skip
    if image_size is None:
        raise ValueError(
            f"{name} is a folder of pictures, which may have any size: give "
            "image_size=(height, width)"
        )
    return Decoding(image_size, channels, resize, interpolation, decoder)


def _folder(
    name: str,
    decoding: Decoding,
    class_names: Sequence[str] | None,
    memory_budget: int,
    progress: Callable[[str], None] | None,
) -> Splits:
    splits, scan = load_folder(
        name, decoding, class_names, memory_budget=memory_budget, progress=progress
    )
    if progress:
        for line in scan.remarks():
            progress(line)
    settings = asdict(decoding)
    return replace(
        splits,
        source={
            "data": str(scan.root),
            "folder": {
                "image_size": list(settings.pop("size")),
                **settings,
                "class_names": list(scan.class_names),
                "files_set_aside": len(scan.set_aside),
            },
        },
    )


def _digits() -> Splits:
    """scikit-learn's 1,797 handwritten digits (8x8) at 28x28; every run tests on the same fifth."""
    from PIL import Image
    from sklearn.datasets import load_digits

    digits = load_digits()
    small = (digits.images * (255 / 16)).round().astype(np.uint8)
    images = np.stack(
        [np.asarray(Image.fromarray(i).resize((28, 28), Image.Resampling.BICUBIC)) for i in small]
    )[..., None]
    labels = digits.target.astype(np.int32)
    names = tuple(str(i) for i in range(10))
    order = rng.permutation(len(labels), 0, "digits")
    cut = len(labels) // 5
    test, train = np.sort(order[:cut]), np.sort(order[cut:])
    return Splits(
        train=Dataset(images[train], labels[train], names, "digits train"),
        test=Dataset(images[test], labels[test], names, "digits test"),
    )


def _npz(path: Path) -> Splits:
    path = path.expanduser()
    if not path.is_file():
        raise DataNotFound(f"data file {path} does not exist (looked in {path.absolute().parent})")
    try:
        with open(path, "rb") as raw:
            file = np.load(raw, allow_pickle=False)
            if not isinstance(file, np.lib.npyio.NpzFile):
                raise ValueError("it holds a single array")
            keys = set(file.files)
            train = _pair(file, keys, _NPZ_KEYS)
            test = _pair(file, keys, _NPZ_TEST_KEYS)
            names = tuple(str(n) for n in file["label_names"]) if "label_names" in keys else ()
    except _UNREADABLE as error:
        raise ValueError(f"{path} is not a readable .npz file of plain arrays: {error}") from None
    if train is None:
        raise ValueError(
            f"{path} holds {', '.join(sorted(keys)) or 'nothing'}; expected x_train and y_train, "
            "or images and labels, or x and y"
        )
    return Splits(
        train=from_arrays(*train, names, f"{path.name} train"),
        test=from_arrays(*test, names, f"{path.name} test") if test else None,
    )


def _pair(
    file: np.lib.npyio.NpzFile, keys: set[str], candidates: tuple[tuple[str, str], ...]
) -> tuple[np.ndarray, np.ndarray] | None:
    for images, labels in candidates:
        if images in keys and labels in keys:
            return file[images], file[labels]
        if images in keys or labels in keys:
            missing = labels if images in keys else images
            raise ValueError(f"{missing} is missing beside {images if images in keys else labels}")
    return None


def _tfds(name: str, data_dir: str | Path | None, progress: Callable | None) -> Splits:
    root = tfds_directory(data_dir)
    if not is_prepared(name, data_dir):
        raise DataNotFound(not_found(name, root, KNOWN, "NAME.npz", "digits"))
    train = tfds_split(root, name, "train", progress)
    test = tfds_split(root, name, "test", progress)
    if train is None:
        raise DataNotFound(f"data set {name!r} in {root} has no split 'train'")
    return Splits(train=train, test=test)


def tfds_directory(data_dir: str | Path | None = None) -> Path:
    """The TFDS directory: the argument, else TFDS_DATA_DIR, else ~/tensorflow_datasets."""
    return Path(data_dir or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets").expanduser()


def is_prepared(name: str, data_dir: str | Path | None) -> bool:
    """Whether there is a TFDS data set of that name."""
    return bool(_NAME.fullmatch(name)) and (tfds_directory(data_dir) / name).is_dir()


def not_found(name: str, root: Path, known: Sequence[str], own: str, embedded: str) -> str:
    """Where a data set was looked for, and what to do.

    Args:
        name: of the data set.
        root: the TFDS directory.
        known: names that there are.
        own: how files of one's own are called.
        embedded: the data set that needs no files.
    """
    found = prepared_names(root)
    where = f"data set {name!r} was not found: looked in {root.absolute()}"
    where += f" (which holds {', '.join(found)})" if found else " (no data sets there)"
    known = [*dict.fromkeys((*known, *found))]
    if name not in known:
        return f"{where}. {paths.suggest(name, known, 'data sets')} A file of your own: {own}"
    return f"{where}. {how_to_get(name)} Needs no files: --data {embedded}"


def how_to_get(name: str) -> str:
    """The command that prepares a TFDS data set."""
    return (
        'Prepare it once, on any machine with TensorFlow: python -c "import tensorflow_datasets '
        f"as tfds; tfds.builder('{name}', file_format='array_record').download_and_prepare()\"; "
        "then give its directory with --data-dir or TFDS_DATA_DIR."
    )
