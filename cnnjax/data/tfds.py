"""TFDS directories without TensorFlow, decoded once into a memory-mapped cache."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from cnnjax.data.dataset import Dataset
from cnnjax.runtime import cache_directory

_CACHE_FORMAT = 2
_READ_AT_ONCE = 1000

_LOSSLESS = ("PNG", "GIF", "BMP")

_Decoded = tuple[np.ndarray, np.ndarray, str]  # images, labels, how the pictures were stored


class DataNotFound(FileNotFoundError):
    """A data set that is not where it was looked for."""


def prepared_names(root: Path) -> list[str]:
    """Names of the data sets that a TFDS directory holds, of images or not."""
    if not root.is_dir():
        return []
    return sorted(p.name for p in root.iterdir() if p.is_dir() and _versions(p))


def tfds_split(
    root: Path, name: str, split: str, progress: Callable[[str], None] | None = None
) -> Dataset | None:
    """A split of an image classification data set, from the cache or decoded into it.

    Args:
        root: a TFDS data directory.
        name: of the data set.
        split: "train" or "test".
        progress: told when decoding starts.

    Returns:
        The data set, memory-mapped; None if there is no such split.

    Raises:
        DataNotFound: if no version is complete, or its files are not array_record.
        ValueError: if it has no image and label.
    """
    source = find_split(root, name, split)
    if source is None:
        return None
    key = source_key(source, split)
    cached = cache_directory() / "data" / name / f"{source.name}-{split}-{key}"
    decoded = _open_cache(cached)
    if decoded is None:
        if not has_features(source, "image", "label"):
            raise ValueError(
                f"{source} holds no images for classification: a data set of 'image' and 'label' "
                "is needed (cj.data.load_texts is for one of 'text' and 'label')"
            )
        writable = _writable(cached.parent)
        if progress:
            into = f"once, into {cached}" if writable else "into memory: the cache is not writable"
            progress(f"decoding {name} {split} {into}")
        decoded = _decode(source, split)
        if writable:
            _build_cache(cached, *decoded)
            decoded = _open_cache(cached)
            if decoded is None:
                raise OSError(f"the cache {cached} cannot be read back: is the disk full?")
    images, labels, encoding = decoded
    # Pictures that lost something on the way are not quite the data set of that name.
    lossy = f", {encoding}" if encoding not in _LOSSLESS else ""
    return Dataset(images, labels, label_names(source), f"{name} {source.name} {split}{lossy}")


def find_split(root: Path, name: str, split: str) -> Path | None:
    """Where the newest complete version of a data set is; None if it has no such split.

    Args:
        root, name, split: as in `tfds_split`.

    Raises:
        DataNotFound: if no version is complete, or its files are not array_record.
    """
    versions = _versions(root / name)
    configurations = sorted({v.parent.name for v in versions} - {Path(name).name})
    if len(configurations) > 1:
        raise DataNotFound(
            f"data set {name!r} in {root.absolute()} has several configurations: choose one of "
            + ", ".join(f"{name}/{c}" for c in configurations)
        )
    if not versions:
        raise DataNotFound(
            f"data set {name!r} in {root.absolute()} is incomplete: no version with a "
            "dataset_info.json. Prepare it again"
        )
    source = versions[-1]
    try:
        info = json.loads((source / "dataset_info.json").read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataNotFound(
            f"data set {name!r} in {source} is damaged (dataset_info.json: {error}): prepare it "
            "again"
        ) from None
    if split not in [s["name"] for s in info["splits"]]:
        return None
    if not list(source.glob(f"*{split}*.array_record*")):
        raise DataNotFound(
            f"data set {name!r} in {source} has no array_record files for the split {split!r} "
            "(TFRecord files need TensorFlow): prepare it with file_format='array_record'"
        )
    return source


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
    records: Any = tfds.builder_from_directory(str(source)).as_data_source(split=split)
    texts, labels = [], np.empty(len(records), np.int32)
    for start in range(0, len(records), _READ_AT_ONCE):
        stop = min(start + _READ_AT_ONCE, len(records))
        for i, record in enumerate(records.__getitems__(range(start, stop)), start):
            try:
                texts.append(record["text"].decode("utf-8"))
            except UnicodeDecodeError as error:
                raise ValueError(f"{source}: text {i} of {split!r} is not UTF-8: {error}") from None
            labels[i] = record["label"]
    return texts, labels


def _versions(folder: Path) -> list[Path]:
    """Complete versions, oldest first, of a data set with or without configurations."""

    def number(path: Path) -> list[int]:
        return [int(part) if part.isdigit() else -1 for part in path.name.split(".")]

    found = [
        p.parent
        for p in (*folder.glob("*/dataset_info.json"), *folder.glob("*/*/dataset_info.json"))
    ]
    return sorted(found, key=number)


def _writable(folder: Path) -> bool:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return False
    return os.access(folder, os.W_OK)


def has_features(version: Path, *wanted: str) -> bool:
    """Whether the records of a data set have all of these."""
    try:
        features = json.loads((version / "features.json").read_text(encoding="utf-8"))
        names = features["featuresDict"]["features"]
    except (OSError, ValueError, KeyError):
        return False
    return all(name in names for name in wanted)


def source_key(source: Path, split: str) -> str:
    """Changes whenever the source's description or the sizes of its files do."""
    digest = hashlib.sha256(f"{_CACHE_FORMAT}".encode())
    digest.update((source / "dataset_info.json").read_bytes())
    for file in sorted(source.glob(f"*{split}*.array_record*")):
        digest.update(f"{file.name} {file.stat().st_size}".encode())
    return digest.hexdigest()[:12]


def label_names(source: Path) -> tuple[str, ...]:
    """Names of the classes of a data set with a label."""
    file = source / "label.labels.txt"
    if file.is_file():
        return tuple(file.read_text(encoding="utf-8").splitlines())
    features = json.loads((source / "features.json").read_text())
    count = features["featuresDict"]["features"]["label"]["classLabel"]["numClasses"]
    return tuple(str(i) for i in range(int(count)))


def _decode(source: Path, split: str) -> _Decoded:
    import tensorflow_datasets as tfds

    # Bytes, not pixels: TFDS would warn that OpenCV is missing, and Pillow decodes the same pixels.
    records: Any = tfds.builder_from_directory(str(source)).as_data_source(
        split=split, decoders={"image": tfds.decode.SkipDecoding()}
    )
    if not len(records):
        raise ValueError(f"{source}: the split {split!r} is empty")
    shape, encoding = _pixels(records[0]["image"]).shape, _encoding(records[0]["image"])
    images = np.empty((len(records), *shape), np.uint8)
    labels = np.empty(len(records), np.int32)
    for start in range(0, len(records), _READ_AT_ONCE):
        stop = min(start + _READ_AT_ONCE, len(records))
        for i, record in enumerate(records.__getitems__(range(start, stop)), start):
            pixels = _pixels(record["image"])
            if pixels.shape != shape:
                raise ValueError(
                    f"{source}: image {i} has shape {pixels.shape}, the first one has {shape}; "
                    "images of one size are needed"
                )
            images[i], labels[i] = pixels, record["label"]
    return images, labels, encoding


def _encoding(encoded: bytes) -> str:
    """The format of a picture, e.g. "PNG" or "JPEG"."""
    from PIL import Image

    with Image.open(io.BytesIO(encoded)) as image:
        return image.format or "unknown"


def _pixels(encoded: bytes) -> np.ndarray:
    from PIL import Image

    with Image.open(io.BytesIO(encoded)) as image:
        if image.mode not in ("L", "RGB"):  # palette, 16 bit, transparency, ...
            raise ValueError(f"an image of the mode {image.mode} is neither 8-bit grey nor RGB")
        pixels = np.asarray(image)
    return pixels[..., None] if pixels.ndim == 2 else pixels


def _build_cache(target: Path, images: np.ndarray, labels: np.ndarray, encoding: str) -> None:
    """Write beside the target and rename: complete or absent, also if two build at once."""
    target.parent.mkdir(parents=True, exist_ok=True)
    building = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        np.save(building / "images.npy", images)
        np.save(building / "labels.npy", labels)
        (building / "encoding.txt").write_text(encoding, encoding="utf-8")
        try:
            os.rename(building, target)
        except OSError:
            if _open_cache(target) is None:  # a damaged one is in the way, not another's fresh one
                shutil.rmtree(target, ignore_errors=True)
                os.rename(building, target)
    finally:
        shutil.rmtree(building, ignore_errors=True)


def _open_cache(target: Path) -> _Decoded | None:
    try:
        images = np.load(target / "images.npy", mmap_mode="r", allow_pickle=False)
        labels = np.load(target / "labels.npy", allow_pickle=False)
        encoding = (target / "encoding.txt").read_text(encoding="utf-8")
    except (OSError, ValueError, EOFError):  # absent, or cut off by a full disk
        return None
    whole = len(images) == len(labels) and bool(encoding)
    return (images, labels, encoding) if whole else None
