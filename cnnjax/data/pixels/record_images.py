"""Images that lie as records in files of many, as array_record's are."""

from __future__ import annotations

import functools
import hashlib
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from cnnjax.data.pixels.decoding import Decoding
from cnnjax.data.pixels.encoded_images import EncodedImages, hash_of
from cnnjax.data.pixels.image_files import UnreadableImage

# Label and hash of the content of every example.
CONTENT = np.dtype([("label", "<i4"), ("hash", "u1", 16)])


class Records(Protocol):
    """Encoded images by their numbers; of a frozen dataclass, so that workers can open it too."""

    @property
    def title(self) -> str:
        """What they are and where, for messages."""

    def encoded(self, number: int) -> bytes:
        """The content of an image's file."""


@dataclass(frozen=True, eq=False)
class RecordImages(EncodedImages):
    """Images in records as an array uint8 [N, H, W, C] that is decoded where it is indexed.

    Args:
        records: that hold them.
        numbers: int64 [N], of the records.
        hashes: uint8 [N, 16], of their contents.
        decoding, pixels, rows: as in `EncodedImages`.
    """

    records: Records
    numbers: np.ndarray
    hashes: np.ndarray
    decoding: Decoding
    pixels: np.ndarray | None = None
    rows: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.numbers)

    @property
    def place(self) -> str:
        """What the records are and where."""
        return self.records.title

    @property
    def content_hashes(self) -> np.ndarray:
        """uint8 [N, 16], of the contents."""
        return self.hashes

    @functools.cached_property
    def content_hash(self) -> str:
        """SHA-256 of the contents and of how they are read: that of the same images in files."""
        return hash_of((row.tobytes().hex() for row in self.hashes), self.decoding)

    def encoded(self, row: int) -> bytes:
        """The content of a record; errors as of its records.

        Raises:
            UnreadableImage: if it is not the one that the hash is of.
        """
        number = int(self.numbers[row])
        content = self.records.encoded(number)
        if content_hash(content) != self.hashes[row].tobytes():
            raise UnreadableImage(
                f"{self.place}, image {number:,}: its content is not the one that was written"
            )
        return content

    def decoded(self, row: int) -> np.ndarray:
        """uint8 [H, W, C] of a record.

        Raises:
            UnreadableImage: if it cannot be decoded.
        """
        name = f"{self.place}, image {int(self.numbers[row]):,}"
        return self.decoding.decoded(self.encoded(row), name)

    def subset(self, rows: np.ndarray | slice) -> RecordImages:
        """The records at some indices; nothing is decoded."""
        chosen = np.arange(len(self))[rows]
        return replace(
            self,
            numbers=self.numbers[chosen],
            hashes=self.hashes[chosen],
            rows=chosen if self.rows is None else self.rows[chosen],
        )


def content_hash(content: bytes) -> bytes:
    """16 bytes that stand for a file's content, those that the scan of a folder has."""
    return hashlib.sha256(content).digest()[:16]
