"""Where data comes from: images by name, folder or file, and by what records say."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from cnnjax.core.text import plain
from cnnjax.data.captcha.captchas import load_captchas
from cnnjax.data.errors import DataNotFound
from cnnjax.data.names import EMBEDDED, format_of, is_prepared, nowhere, path_of, place_of
from cnnjax.data.pixels.decoding import Decoding
from cnnjax.data.pixels.encoded_images import MEMORY_BUDGET
from cnnjax.data.readers.reader import Reading
from cnnjax.data.readers.tfds import tfds_directory
from cnnjax.data.readers.tfds_images import load_tfds
from cnnjax.data.series.windows import load_series
from cnnjax.data.splits import Splits, set_aside
from cnnjax.data.texts.load_texts import load_texts

# What a record says of how images were read, for `load`.
_OF_IMAGES = (
    "image_size", "channels", "resize", "interpolation", "decoder", "class_names", "path_column",
    "label_column",
)  # fmt: skip


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
    path_column: str | None = None,
    label_column: str | None = None,
    memory_budget: int = MEMORY_BUDGET,
    validation: float = 0.0,
    train_examples: int | None = None,
    seed: int = 0,
    progress: Callable[[str], None] | None = None,
) -> Splits:
    """Resolve a data set by name, file or folder.

    Args:
        source: "digits" (comes with the package, needs no files); the name of an image
            classification data set prepared by TensorFlow Datasets ("mnist", "cifar10", ...); or a
            path: of a folder that holds a folder of images per class, or train/, validation/ and
            test/ with these in each; of a folder of idx files, or one of them (`load_idx`); of an
            .npz file of images and labels (`load_npz`); of a .csv file of paths and labels of
            images (`scan_table`); of a folder of shards (`shard`); or of a format that was added
            (`reader`). A name that is both is the data set; "./name" is the folder.
        data_dir: where TFDS keeps its data; None takes TFDS_DATA_DIR, else ~/tensorflow_datasets.
        image_size: (height, width) to which images are brought that may have any size: those of
            folders, .csv files and shards of such, where it is needed, and of TFDS data sets that
            declare no size; without effect elsewhere, as are the next four.
        channels, resize, interpolation, decoder: as in `Decoding`.
        class_names: of a folder or .csv file, the classes to use, in the order of their labels, two
            at least; None: all, sorted.
        path_column, label_column: of a .csv file; None: by their usual names.
        memory_budget: bytes; a part of a folder, .csv file, TFDS data set or of shards that takes
            no more once decoded is kept so, in a memory-mapped cache, and a larger one is decoded
            batch by batch; 0: every one is. A larger array of an .npz or idx file lies on
            disk, mapped to memory.
        validation: fraction of the training examples set aside for validation, in [0, 1).
        train_examples: train on so many of the others only; None: on all.
        seed: of both choices.
        progress: told in a sentence when something takes long, files are no good or arrays are not
            read.

    Returns:
        Splits with train, validation (or None) and test (or None).

    Raises:
        DataNotFound: at once, with what was looked for, where, and how to get it.
        ValueError: if a file does not hold what it should, or for an argument that cannot be.

    >>> load("digits").train.input_shape
    (28, 28, 1)
    """
    if not isinstance(source, str | Path):
        raise ValueError(
            f"source must be a name or a path, got {type(source).__name__}: arrays go into cj.fit "
            "as they are, or through cj.data.from_arrays"
        )
    decoding = None
    if image_size is not None:
        decoding = Decoding(image_size, channels, resize, interpolation, decoder)
    reading = Reading(decoding, class_names, path_column, label_column, memory_budget, progress)
    name = str(source)
    path, reader = place_of(name, data_dir), format_of(name, data_dir)
    data = name
    if reader is not None:
        splits = reader.load(path, reading)
        if not isinstance(splits, Splits):
            raise ValueError(
                f"{path}: the reader of {reader.expected} must return Splits, got "
                f"{type(splits).__name__}"
            )
        # What was prepared has its name, by which it is found on another machine too.
        data = str(path) if path == path_of(name).absolute() else name
    elif name in EMBEDDED:
        splits = EMBEDDED[name]()
    elif is_prepared(name, data_dir):
        splits = load_tfds(tfds_directory(data_dir), name, reading)
    else:
        raise DataNotFound(nowhere(name, tfds_directory(data_dir)))
    splits = replace(splits, source={"data": data, **(splits.source or {})})
    return set_aside(splits, validation, train_examples, seed)


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
        "without_validation": Splits.without_validation,
        "with_last_for_validation": Splits.with_last_for_validation,
        "with_test": Splits.with_test,
        "with_train_examples": Splits.with_train_examples,
        "fold": Splits.fold,
    }
    strange = ValueError(
        f"the record of the data is not one that cj.data.load leaves: {plain(source)}"
    )
    made = source.get("steps", [])
    if "data" not in source or any(step not in steps for step, *_ in made):
        raise strange
    try:
        splits = _recorded(source, data_dir, progress)
        for step, *arguments in made:
            splits = steps[step](splits, *arguments)
    except TypeError:  # for arguments that there are not
        raise strange from None
    return splits


def _recorded(
    source: Mapping[str, Any],
    data_dir: str | Path | None,
    progress: Callable[[str], None] | None,
) -> Splits:
    """The splits as they were loaded, before any were set aside."""
    splits: Splits
    if "captcha" in source:
        splits = load_captchas(**source["captcha"], progress=progress)
    elif "series" in source:
        splits = load_series(**source["series"]).splits
    elif "texts" in source:
        splits = load_texts(source["data"], data_dir=data_dir, progress=progress, **source["texts"])
    else:
        read = {k: v for k, v in images_read(source).items() if k in _OF_IMAGES}
        splits = load(source["data"], data_dir=data_dir, progress=progress, **read)
    return splits


def images_read(source: Mapping[str, Any]) -> Mapping[str, Any]:
    """How images of any size were read, by a record of `load`; empty where they have one size.

    Args:
        source: `Splits.source`.
    """
    return source.get("folder") or source.get("images") or {}
