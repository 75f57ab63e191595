"""Images that lie in files of their own."""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from cnnjax.data.pixels.decoding import Decoding
from cnnjax.data.pixels.encoded_images import EncodedImages, hash_of
from cnnjax.data.pixels.image_files import image_bytes


@dataclass(frozen=True, eq=False)
class FileImages(EncodedImages):
    """Images in files as an array uint8 [N, H, W, C] that is decoded where it is indexed.

    Args:
        root: the folder that holds them.
        files: their paths below it.
        hashes: of their contents.
        decoding, pixels, rows: as in `EncodedImages`.
    """

    root: Path
    files: tuple[str, ...]
    hashes: tuple[str, ...]
    decoding: Decoding
    pixels: np.ndarray | None = None
    rows: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.files)

    @property
    def place(self) -> str:
        """The folder."""
        return str(self.root)

    @property
    def content_hashes(self) -> np.ndarray:
        """uint8 [N, 16], `hashes` as numbers."""
        return np.frombuffer(bytes.fromhex("".join(self.hashes)), np.uint8).reshape(-1, 16)

    @functools.cached_property
    def content_hash(self) -> str:
        """SHA-256 of the files' contents and of how they are read."""
        return hash_of(self.hashes, self.decoding)

    def encoded(self, row: int) -> bytes:
        """The content of a file; errors as `image_bytes`."""
        return image_bytes(self.root / self.files[row])

    def decoded(self, row: int) -> np.ndarray:
        """uint8 [H, W, C] of a file; errors as of `Decoding`."""
        return self.decoding(self.root / self.files[row])

    def subset(self, rows: np.ndarray | slice) -> FileImages:
        """The files at some indices; nothing is decoded."""
        chosen = np.arange(len(self))[rows].tolist()
        return replace(
            self,
            files=tuple(self.files[i] for i in chosen),
            hashes=tuple(self.hashes[i] for i in chosen),
            rows=np.asarray(chosen if self.rows is None else self.rows[chosen]),
        )
