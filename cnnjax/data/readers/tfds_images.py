"""Images of TFDS directories without TensorFlow, decoded once into a memory-mapped cache.

What is larger than the memory budget stays in its records.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cnnjax.core.runtime import cache_directory
from cnnjax.core.storage import text_hash, write_directory
from cnnjax.data.dataset import Dataset
from cnnjax.data.errors import DataNotFound
from cnnjax.data.pixels.cache import is_writable, open_pixels, write_pixels
from cnnjax.data.pixels.decoding import AsStored, Decoding, decoders
from cnnjax.data.pixels.encoded_images import MEMORY_BUDGET, beyond_budget
from cnnjax.data.pixels.image_files import opened_image, upright
from cnnjax.data.pixels.image_modes import is_plain
from cnnjax.data.readers.reader import Reading, settings_of
from cnnjax.data.readers.tfds import (
    any_size,
    find_split,
    has_features,
    in_batches,
    label_names,
    readable,
    source_key,
)
from cnnjax.data.readers.tfds_records import TfdsRecords, record_images
from cnnjax.data.splits import Splits

_LABELS, _ENCODING = "labels.npy", "encoding.txt"

_LOSSLESS = ("PNG", "GIF", "BMP")

_Decoded = tuple[np.ndarray, np.ndarray, str]  # images, labels, how the images were stored


@dataclass(frozen=True)
class _Images:
    """A split that is about to be decoded.

    Args:
        shape: [N, H, W, C].
        encoding: format of the first image.
        batches: images and labels, in order.
    """

    shape: tuple[int, ...]
    encoding: str
    batches: Iterator[tuple[np.ndarray, np.ndarray]]

    @property
    def nbytes(self) -> int:
        """Of all of them decoded."""
        return math.prod(self.shape)

    @property
    def stored(self) -> Decoding:
        """How they are read as they are."""
        _, height, width, channels = self.shape
        return AsStored((height, width), channels)

    def in_memory(self) -> _Decoded:
        images, labels = zip(*self.batches, strict=True)
        return np.concatenate(images), np.concatenate(labels), self.encoding

    def write(self, folder: Path, name: str) -> None:
        """Into files that `_open_cache` opens, of a folder that will have this name."""
        labels = []

        def pixels() -> Iterator[np.ndarray]:
            for images, some in self.batches:
                labels.append(some)
                yield images

        def others() -> dict[str, bytes]:
            file = io.BytesIO()
            np.save(file, np.concatenate(labels))
            return {_LABELS: file.getvalue(), _ENCODING: self.encoding.encode()}

        write_pixels(folder, name, self.shape, pixels(), others)


def load_tfds(root: Path, name: str, reading: Reading) -> Splits:
    """An image classification data set of a TFDS directory; errors as `tfds_split`."""
    version = find_split(root, name, "train")
    decoding = None if version is not None and not any_size(version) else reading.decoding
    train, validation, test = (
        tfds_split(root, name, split, reading.progress, decoding, reading.memory_budget)
        for split in ("train", "validation", "test")
    )
    if train is None:
        raise DataNotFound(f"data set {name!r} in {root} has no split 'train'")
    source = None if decoding is None else {"images": settings_of(decoding)}
    return Splits(train, validation, test, source)


def tfds_split(
    root: Path,
    name: str,
    split: str,
    progress: Callable[[str], None] | None = None,
    decoding: Decoding | None = None,
    budget: int = MEMORY_BUDGET,
) -> Dataset | None:
    """A split of an image classification data set, from the cache or decoded into it.

    Args:
        root: a TFDS data directory.
        name: of the data set.
        split: "train", "validation" or "test".
        progress: told when decoding starts.
        decoding: size and colours of images; None takes them as they are.
        budget: bytes; images that take more once decoded, and are in no cache, stay in their
            records and are decoded where they are indexed; 0: all do.

    Returns:
        The data set, memory-mapped or in its records; None if there is no such split.

    Raises:
        DataNotFound: if no version is complete, or its files are not array_record.
        ValueError: if it has no image and label, or images of several sizes and no decoding.
    """
    source = find_split(root, name, split)
    if source is None:
        return None
    key = source_key(source, split)
    if decoding is not None:
        key = text_hash(f"{key}{asdict(decoding)}")[: len(key)]
    cached = cache_directory() / "data" / name / f"{source.name}-{split}-{key}"
    decoded = _open_cache(cached) if budget else None
    if decoded is None:
        if not has_features(source, "image", "label"):
            raise ValueError(
                f"{source} holds no images for classification: a data set of 'image' and 'label' "
                "is needed (cj.data.load_texts is for one of 'text' and 'label')"
            )
        with readable(source):
            split_images = _decode(source, split, decoding)
            if split_images.nbytes > budget:
                title = _title(name, source, split, split_images.encoding)
                if progress and budget:
                    count, size = split_images.shape[0], split_images.nbytes
                    progress(beyond_budget(count, title, size, budget))
                decoding = decoding or split_images.stored
                kept, labels = record_images(source, split, decoding, progress)
                return Dataset(kept, labels, label_names(source), title)
            decoded = _decoded(split_images, cached, f"{name} {split}", progress)
    images, labels, encoding = decoded
    title = _title(name, source, split, encoding)
    return Dataset(images, labels, label_names(source), title)


def _decoded(
    split_images: _Images, cached: Path, what: str, progress: Callable[[str], None] | None
) -> _Decoded:
    """The images, decoded into the cache, or into memory where there can be none."""
    writable = is_writable(cached.parent)
    if progress:
        once = "anew, since the cache is damaged" if cached.exists() else "once"
        into = f"{once}, into {cached}" if writable else "into memory: the cache is not writable"
        progress(f"decoding {what} {into}")
    if not writable:
        return split_images.in_memory()
    _build_cache(cached, split_images)
    decoded = _open_cache(cached)
    if decoded is None:
        raise OSError(f"the cache {cached} cannot be read back: is the disk full?")
    return decoded


def _title(name: str, source: Path, split: str, encoding: str) -> str:
    """The name of a split: images that lost something are not quite the data set of that name."""
    lossy = f", {encoding}" if encoding not in _LOSSLESS else ""
    return f"{name} {source.name} {split}{lossy}"


def _decode(source: Path, split: str, decoding: Decoding | None) -> _Images:
    records: Any = TfdsRecords(source, split, source_key(source, split)).opened
    if not len(records):
        raise ValueError(f"{source}: the split {split!r} is empty")
    title, first = f"{source}: image {{}} of {split!r}", records[0]["image"]
    encoding = _encoding(first, title.format(0))
    size = None if decoding is None else (*decoding.size, decoding.channels)
    shape = size or _pixels(first, title.format(0)).shape

    def pixels(number: int, encoded: bytes) -> np.ndarray:
        if decoding is not None:
            return decoding.decoded(encoded, title.format(number))
        found = _pixels(encoded, title.format(number))
        if found.shape != shape:
            raise ValueError(
                f"{title.format(number)} has shape {found.shape}, the first one has {shape}: give "
                "image_size=(height, width) to bring all to one size"
            )
        return found

    def batches() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for numbers, read in in_batches(records):
            # Large images are worth several threads, small ones are not.
            decode = map if decoding is None else decoders().map
            images = np.empty((len(read), *shape), np.uint8)
            for i, image in enumerate(decode(pixels, numbers, (r["image"] for r in read))):
                images[i] = image
            yield images, np.array([r["label"] for r in read], np.int32)

    return _Images((len(records), *shape), encoding, batches())


def _encoding(encoded: bytes, name: str) -> str:
    """The format of an image, e.g. "PNG" or "JPEG"; `name` stands for it in the error."""
    with opened_image(encoded, name) as image:
        return image.format or "unknown"


def _pixels(encoded: bytes, name: str) -> np.ndarray:
    with opened_image(encoded, name) as image:
        plain, mode = is_plain(image), image.mode
        pixels = np.asarray(upright(image))
    if not plain:  # palette, 16 bit, transparency, ...
        also = " with transparency or 16 bits" if mode in ("L", "RGB") else ""
        raise ValueError(f"{name} has the mode {mode}{also}, neither 8-bit grey nor RGB")
    return pixels[..., None] if pixels.ndim == 2 else pixels


def _build_cache(target: Path, split_images: _Images) -> None:
    """Complete or absent, also if two build at once; a damaged one is replaced."""
    write_directory(
        target,
        lambda beside: split_images.write(beside, target.name),
        lambda there: _open_cache(there) is not None,
    )


def _open_cache(target: Path) -> _Decoded | None:
    images = open_pixels(target, others=(_LABELS, _ENCODING))
    if images is None:  # absent, damaged, or cut off by a full disk
        return None
    labels = np.load(target / _LABELS, allow_pickle=False)
    encoding = (target / _ENCODING).read_text(encoding="utf-8")
    return (images, labels, encoding) if len(images) == len(labels) and encoding else None
