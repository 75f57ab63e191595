"""Images of TFDS directories beyond the memory budget: they stay in their records."""

from __future__ import annotations

import functools
import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cnnjax.core.runtime import cache_directory
from cnnjax.core.storage import write_bytes
from cnnjax.data.pixels.cache import is_writable
from cnnjax.data.pixels.decoding import Decoding
from cnnjax.data.pixels.record_images import CONTENT, RecordImages, content_hash
from cnnjax.data.readers.tfds import in_batches, readable, source_key


@dataclass(frozen=True)
class TfdsRecords:
    """The encoded images of a split.

    Args:
        source: of `find_split`.
        split: its name.
        key: of `source_key`; what was written anew is opened anew.
    """

    source: Path
    split: str
    key: str

    @property
    def title(self) -> str:
        """The directory and the split."""
        return f"{self.source} {self.split}"

    def encoded(self, number: int) -> bytes:
        """The content of an image's file.

        Raises:
            DataNotFound: for files that are damaged.
        """
        with readable(self.source):
            return self.opened[number]["image"]

    @property
    def opened(self) -> Any:
        """The split as TFDS reads it, of bytes."""
        return _opened(self)


def record_images(
    source: Path, split: str, decoding: Decoding, progress: Callable[[str], None] | None
) -> tuple[RecordImages, np.ndarray]:
    """The images of a split, in their records, and the labels, int32 [N].

    All records are read for the labels, once: these are kept, with a hash of every image.
    """
    records = TfdsRecords(source, split, source_key(source, split))
    name = f"{source.parent.name}-{source.name}-{split}-{records.key}.npy"
    kept = cache_directory() / "data" / "labels" / name
    content = _recalled(kept, len(records.opened))
    if content is None:
        if progress:
            progress(f"reading the labels of {len(records.opened):,} examples of {records.title}")
        content = _read(records.opened)
        if is_writable(kept.parent):
            file = io.BytesIO()
            np.save(file, content)
            write_bytes(kept, file.getvalue())
    numbers = np.arange(len(content))
    return RecordImages(records, numbers, content["hash"], decoding), content["label"].copy()


def _read(records: Any) -> np.ndarray:
    """Label and hash of every record."""
    content = np.empty(len(records), CONTENT)
    for numbers, some in in_batches(records):
        for i, record in zip(numbers, some, strict=True):
            content[i] = record["label"], np.frombuffer(content_hash(record["image"]), np.uint8)
    return content


def _recalled(kept: Path, count: int) -> np.ndarray | None:
    """What `_read` found before; None where it is not to be had, or of another form."""
    try:
        content = np.load(kept, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    return content if content.dtype == CONTENT and content.shape == (count,) else None


@functools.lru_cache(maxsize=8)
def _opened(records: TfdsRecords) -> Any:
    import tensorflow_datasets as tfds

    # Bytes, not pixels: TFDS would warn that OpenCV is missing, and Pillow decodes the same pixels.
    return tfds.builder_from_directory(str(records.source)).as_data_source(
        split=records.split, decoders={"image": tfds.decode.SkipDecoding()}
    )
