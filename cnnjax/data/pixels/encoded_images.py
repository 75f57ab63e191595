"""Images as the encoded content of files: decoded once into a cache, or where they are indexed."""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Self

import numpy as np

from cnnjax.core.runtime import cache_directory
from cnnjax.data.lazy import Lazy
from cnnjax.data.pixels.cache import kept_pixels, open_pixels
from cnnjax.data.pixels.decoding import Decoding, decoders

# Decoded splits of up to so many bytes are kept; larger ones are decoded batch by batch.
MEMORY_BUDGET = 4 * 2**30

_CACHE_FORMAT = 1
_FILES_AT_ONCE = 256


class EncodedImages(Lazy):
    """Images as an array uint8 [N, H, W, C] that is decoded where it is indexed.

    A subclass is a dataclass with these fields among its own:

    Args:
        decoding: how they are read.
        pixels: uint8 [M, H, W, C], all of them decoded, as a memory-mapped cache; None: they are
            decoded at every access, by as many threads as there are cores.
        rows: where in `pixels` each image is; None: in their order.
    """

    decoding: Decoding
    pixels: np.ndarray | None
    rows: np.ndarray | None

    dtype = np.dtype(np.uint8)

    @property
    @abstractmethod
    def place(self) -> str:
        """Where they lie, for messages."""

    @abstractmethod
    def __len__(self) -> int:
        """How many there are."""

    @abstractmethod
    def encoded(self, row: int) -> bytes:
        """The content of one's file, as it is."""

    @abstractmethod
    def decoded(self, row: int) -> np.ndarray:
        """uint8 [H, W, C] of one."""

    @property
    @abstractmethod
    def content_hashes(self) -> np.ndarray:
        """uint8 [N, 16], of the files' contents."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, H, W, C)."""
        return (len(self), *self.decoding.size, self.decoding.channels)

    @property
    def is_read(self) -> bool:
        """Whether they are decoded."""
        return self.pixels is not None

    @property
    def cache_folder(self) -> Path:
        """Where all of them are kept once they are decoded; there or not."""
        return cache_directory() / "data" / "folders" / self.content_hash[:32]

    def __getitem__(self, rows: Any) -> np.ndarray:
        """The images at an index, a slice or an array of indices, decoded."""
        if self.pixels is not None:
            return np.asarray(self.pixels[rows if self.rows is None else self.rows[rows]])
        chosen = np.arange(len(self))[rows]
        if np.ndim(chosen) == 0:
            return self._decode([int(chosen)])[0]
        return self._decode(chosen.tolist())

    def cached(
        self, budget: int = MEMORY_BUDGET, progress: Callable[[str], None] | None = None
    ) -> Self:
        """The same images from a memory-mapped cache, which is made if need be.

        Args:
            budget: bytes; where all images would take more they stay encoded; 0 leaves them so
                without a word.
            progress: told in a sentence before something takes long.

        Raises:
            UnreadableImage: for a file that cannot be decoded.
            OSError: if the cache cannot be written, as on a full disk.
        """
        say = progress or _silent
        if self.nbytes > budget:
            if budget:
                say(beyond_budget(len(self), self.place, self.nbytes, budget))
            return self
        folder = self.cache_folder
        pixels = open_pixels(folder, self.shape)
        if pixels is None:
            once = "anew, since the cache is damaged" if folder.exists() else "once"
            say(f"decoding {len(self):,} images of {self.place} {once}, into {folder}")
            pixels = kept_pixels(folder, self.shape, self._batches())
        return replace(self, pixels=pixels, rows=None)  # type: ignore[type-var]

    def _batches(self) -> Iterator[np.ndarray]:
        for start in range(0, len(self), _FILES_AT_ONCE):
            yield self._decode(range(start, min(start + _FILES_AT_ONCE, len(self))))

    def _decode(self, rows: Sequence[int]) -> np.ndarray:
        batch = np.empty((len(rows), *self.shape[1:]), np.uint8)
        for i, pixels in enumerate(decoders().map(self.decoded, rows)):
            batch[i] = pixels
        return batch


def hash_of(hashes: Iterable[str], decoding: Decoding) -> str:
    """SHA-256 of files' contents, by their hashes, and of how they are read."""
    digest = hashlib.sha256(repr((_CACHE_FORMAT, asdict(decoding))).encode())
    digest.update("\n".join(hashes).encode())
    return digest.hexdigest()


def beyond_budget(count: int, place: str, size: int, budget: int) -> str:
    """What to say of images that stay encoded; sizes in bytes."""
    return (
        f"{count:,} images of {place} would take {size / 2**30:.1f} GiB: more than "
        f"{budget / 2**30:.1f} GiB, so they are decoded batch by batch"
    )


def _silent(text: str) -> None:
    pass
