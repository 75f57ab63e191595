"""Images of TFDS directories without TensorFlow, decoded once into a memory-mapped cache."""

from __future__ import annotations

import io
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
from cnnjax.data.pixels.decoding import Decoding, decoders
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
        tfds_split(root, name, split, reading.progress, decoding)
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
) -> Dataset | None:
    """A split of an image classification data set, from the cache or decoded into it.

    Args:
        root: a TFDS data directory.
        name: of the data set.
        split: "train", "validation" or "test".
        progress: told when decoding starts.
        decoding: size and colours of images; None takes them as they are.

    Returns:
        The data set, memory-mapped; None if there is no such split.

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
    decoded = _open_cache(cached)
    if decoded is None:
        if not has_features(source, "image", "label"):
            raise ValueError(
                f"{source} holds no images for classification: a data set of 'image' and 'label' "
                "is needed (cj.data.load_texts is for one of 'text' and 'label')"
            )
        writable = is_writable(cached.parent)
        if progress:
            once = "anew, since the cache is damaged" if cached.exists() else "once"
            into = (
                f"{once}, into {cached}" if writable else "into memory: the cache is not writable"
            )
            progress(f"decoding {name} {split} {into}")
        with readable(source):
            split_images = _decode(source, split, decoding)
            if writable:
                _build_cache(cached, split_images)
            decoded = _open_cache(cached) if writable else split_images.in_memory()
        if decoded is None:
            raise OSError(f"the cache {cached} cannot be read back: is the disk full?")
    images, labels, encoding = decoded
    # Images that lost something on the way are not quite the data set of that name.
    lossy = f", {encoding}" if encoding not in _LOSSLESS else ""
    return Dataset(images, labels, label_names(source), f"{name} {source.name} {split}{lossy}")


def _decode(source: Path, split: str, decoding: Decoding | None) -> _Images:
    import tensorflow_datasets as tfds

    # Bytes, not pixels: TFDS would warn that OpenCV is missing, and Pillow decodes the same pixels.
    records: Any = tfds.builder_from_directory(str(source)).as_data_source(
        split=split, decoders={"image": tfds.decode.SkipDecoding()}
    )
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
