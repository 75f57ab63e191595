"""Inputs that are read where they are indexed: what all of them can do, and several as one."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

_ROWS_AT_ONCE = 4096


class Lazy(ABC):
    """Inputs of N examples that look like an array of a dtype, and are read where indexed."""

    dtype: np.dtype

    @property
    @abstractmethod
    def shape(self) -> tuple[int, ...]:
        """(N, ...)."""

    @property
    @abstractmethod
    def content_hash(self) -> str:
        """SHA-256 that stands for the contents, which need not all be read for it."""

    @property
    @abstractmethod
    def is_read(self) -> bool:
        """Whether all are at hand, so that indexing takes no longer than of an array."""

    @abstractmethod
    def __getitem__(self, rows: Any) -> np.ndarray:
        """The examples at an index, a slice or an array of indices."""

    @abstractmethod
    def subset(self, rows: np.ndarray | slice) -> Lazy:
        """The examples at some indices; nothing is read."""

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def nbytes(self) -> int:
        """Of all examples once they are read."""
        return int(np.prod(self.shape, dtype=np.int64)) * self.dtype.itemsize

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """All examples, read."""
        return np.asarray(self[:], dtype)


def hash_array(digest: Any, array: np.ndarray | Lazy) -> None:
    """Add dtype, shape and content of an array to a digest of hashlib."""
    if isinstance(array, Lazy):
        digest.update(array.content_hash.encode())
        return
    digest.update(f"{array.dtype.str}{array.shape}".encode())
    for start in range(0, len(array), _ROWS_AT_ONCE):
        digest.update(np.ascontiguousarray(array[start : start + _ROWS_AT_ONCE]).tobytes())


@dataclass(frozen=True, eq=False)
class Joined(Lazy):
    """Inputs of several data sets, one after the other.

    Args:
        parts: of one shape and dtype, arrays or read where they are indexed.
        rows: which of all examples there are; None: all.
    """

    parts: tuple[np.ndarray | Lazy, ...]
    rows: np.ndarray | None = None

    @property
    def dtype(self) -> np.dtype:  # type: ignore[override]
        """Of each part."""
        return self.parts[0].dtype

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, ...)."""
        count = self._starts[-1] if self.rows is None else len(self.rows)
        return (int(count), *self.parts[0].shape[1:])

    @cached_property
    def content_hash(self) -> str:
        """SHA-256 of those of the parts, and of which examples there are."""
        digest = hashlib.sha256()
        for part in self.parts:
            hash_array(digest, part)
        if self.rows is not None:
            digest.update(self.rows.tobytes())
        return digest.hexdigest()

    @property
    def is_read(self) -> bool:
        """Whether all parts are."""
        return all(part.is_read for part in self.parts if isinstance(part, Lazy))

    def __getitem__(self, rows: Any) -> np.ndarray:
        """The examples at an index, a slice or an array of indices."""
        chosen = np.arange(len(self))[rows]
        places = np.atleast_1d(chosen if self.rows is None else self.rows[chosen])
        which = np.searchsorted(self._starts, places, side="right") - 1
        result = np.empty((len(places), *self.shape[1:]), self.dtype)
        for number in np.unique(which):
            here = which == number
            result[here] = self.parts[number][places[here] - self._starts[number]]
        return result if np.ndim(chosen) else result[0]

    def subset(self, rows: np.ndarray | slice) -> Joined:
        """The examples at some indices; nothing is read."""
        chosen = np.arange(len(self))[rows]
        return replace(self, rows=chosen if self.rows is None else self.rows[chosen])

    @cached_property
    def _starts(self) -> np.ndarray:
        return np.cumsum([0, *(len(part) for part in self.parts)])
