"""TFDS directories: what they hold, and where."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from cnnjax.core.places import expanded
from cnnjax.data.errors import DataNotFound
from cnnjax.data.readers.array_records import array_record

_CACHE_FORMAT = 2
_READ_AT_ONCE = 1000
_VERSION = re.compile(r"\d+\.\d+\.\d+")
_HEAD = 1 << 16  # bytes of a file that tell it from another


def tfds_directory(data_dir: str | Path | None = None) -> Path:
    """The TFDS directory: the argument, else TFDS_DATA_DIR, else ~/tensorflow_datasets."""
    return expanded(data_dir or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets")


def find_split(root: Path, name: str, split: str) -> Path | None:
    """Where the newest complete version of a data set is; None if it has no such split.

    Args:
        root: a TFDS data directory.
        name: of the data set.
        split: e.g. "train".

    Raises:
        DataNotFound: if no version is complete, or its files are not array_record.
        ValueError: where array_record is not installed.
    """
    array_record("TensorFlow Datasets")
    versions = prepared_versions(root / name)
    configurations = sorted({v.parent.name for v in versions} - {Path(name).name})
    if len(configurations) > 1:
        raise DataNotFound(
            f"data set {name!r} in {root.absolute()} has several configurations: choose one of "
            + ", ".join(f"{name}/{c}" for c in configurations)
        )
    if not versions:
        raise DataNotFound(
            f"data set {name!r} in {root.absolute()} is incomplete: no version with a "
            f"dataset_info.json. Delete {root.absolute() / name} and prepare it again"
        )
    source = versions[-1]
    try:
        info = json.loads((source / "dataset_info.json").read_text(encoding="utf-8"))
        splits = [part["name"] for part in info["splits"]]
    except (ValueError, KeyError, TypeError) as error:
        raise DataNotFound(damaged(source, f"dataset_info.json: {error}")) from None
    if split not in splits:
        return None
    if not (source / "features.json").is_file():
        raise DataNotFound(damaged(source, "no features.json"))
    if not list(source.glob(f"*{split}*.array_record*")):
        raise DataNotFound(
            f"data set {name!r} in {source} has no array_record files for the split {split!r} "
            "(TFRecord files need TensorFlow): prepare it with file_format='array_record'"
        )
    return source


def damaged(source: Path, how: str) -> str:
    """What to say of a data set that cannot be read, and what to do."""
    return f"the data set in {source} is damaged ({how}): delete it and prepare it again"


@contextlib.contextmanager
def readable(source: Path) -> Iterator[None]:
    """Errors of who reads array_record files, as ours.

    Raises:
        DataNotFound: for files that are damaged.
    """
    try:
        yield
    except RuntimeError as error:
        text = " ".join(str(error).split())
        raise DataNotFound(damaged(source, text)) from error


def read_texts(source: Path, split: str) -> tuple[list[str], np.ndarray]:
    """The texts and labels of a split of a data set of 'text' and 'label'.

    Args:
        source: of `find_split`.
        split: its name.

    Raises:
        ValueError: if it has no text and label, or a text is not UTF-8.
    """
    import tensorflow_datasets as tfds

    if not has_features(source, "text", "label"):
        raise ValueError(
            f"{source} holds no texts for classification: a data set of 'text' and 'label' is "
            "needed (cj.data.load is for one of 'image' and 'label')"
        )
    with readable(source):
        records: Any = tfds.builder_from_directory(str(source)).as_data_source(split=split)
        texts, labels = [], np.empty(len(records), np.int32)
        for numbers, some in in_batches(records):
            for i, record in zip(numbers, some, strict=True):
                texts.append(_decoded(record["text"], f"{source}: text {i} of {split!r}"))
                labels[i] = record["label"]
    return texts, labels


def in_batches(records: Any) -> Iterator[tuple[range, list[Any]]]:
    """The records of a TFDS data source and their numbers, a thousand at once."""
    for start in range(0, len(records), _READ_AT_ONCE):
        numbers = range(start, min(start + _READ_AT_ONCE, len(records)))
        yield numbers, records.__getitems__(numbers)


def _decoded(text: bytes, name: str) -> str:
    try:
        return text.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{name} is not UTF-8: {error}") from None


def prepared_versions(folder: Path) -> list[Path]:
    """Complete versions, oldest first, of a data set with or without configurations."""

    def number(path: Path) -> list[int]:
        return [int(part) for part in path.name.split(".")]

    found = [
        p.parent
        for p in (*folder.glob("*/dataset_info.json"), *folder.glob("*/*/dataset_info.json"))
        if _VERSION.fullmatch(p.parent.name)  # not what TFDS leaves of one that it did not finish
    ]
    return sorted(found, key=number)


def has_features(version: Path, *wanted: str) -> bool:
    """Whether the records of a data set have all of these."""
    features = _features(version)
    return all(name in features for name in wanted)


def any_size(version: Path) -> bool:
    """Whether the images of a data set may have any size, by its description."""
    image = _features(version).get("image", {}).get("image", {})
    size = image.get("shape", {}).get("dimensions", ())[:2]
    return len(size) < 2 or any(int(n) < 1 for n in size)


def _features(version: Path) -> dict[str, Any]:
    """What a record of a data set has, by name; {} where its description cannot be read."""
    try:
        described = json.loads((version / "features.json").read_text(encoding="utf-8"))
        return dict(described["featuresDict"]["features"])
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def source_key(source: Path, split: str) -> str:
    """Changes whenever the source's description or its files do, by their size, time and head."""
    digest = hashlib.sha256(f"{_CACHE_FORMAT}".encode())
    digest.update((source / "dataset_info.json").read_bytes())
    for file in sorted(source.glob(f"*{split}*.array_record*")):
        state = file.stat()
        digest.update(f"{file.name} {state.st_size} {state.st_mtime_ns}".encode())
        # Two directories of one time, as from an archive, may hold the same in another order.
        with open(file, "rb") as opened:
            digest.update(opened.read(_HEAD))
    return digest.hexdigest()[:12]


def label_names(source: Path) -> tuple[str, ...]:
    """Names of the classes of a data set with a label."""
    file = source / "label.labels.txt"
    if file.is_file():
        return tuple(file.read_text(encoding="utf-8").splitlines())
    features = json.loads((source / "features.json").read_text())
    count = features["featuresDict"]["features"]["label"]["classLabel"]["numClasses"]
    return tuple(str(i) for i in range(int(count)))
