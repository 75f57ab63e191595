"""Examples of a source of another library, read where they are indexed."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np

from cnnjax.core.runtime import visible_cores
from cnnjax.core.text import suggest
from cnnjax.data.foreign.values import as_array, as_inputs
from cnnjax.data.lazy import Lazy

Pick = str | int | Callable[[Any], Any]
Value = TypeVar("Value")

_READ_AT_ONCE = 256
# Of a source that does not say what it holds, so many examples stand for all.
_SAMPLED = 64


@dataclass(frozen=True, eq=False)
class Source:
    """Anything with a length and random access, and what of its examples is wanted.

    Args:
        examples: the thing itself.
        inputs, labels: a key or index of an example, or a function of it.
        channels_first: as in `from_source`.
        threaded: whether several threads may read at once.
        name: for messages.
    """

    examples: Any
    inputs: Pick
    labels: Pick | None
    channels_first: bool | None
    threaded: bool
    name: str

    def read(self, index: int) -> tuple[np.ndarray, np.ndarray | None]:
        """Inputs of one example, and its label where it has one.

        Raises:
            ValueError: if it cannot be read, or is nothing to train on; names it.
        """
        example = self.example(index)
        try:
            inputs = as_inputs(picked(example, self.inputs, "inputs"), self.channels_first)
            if self.labels is None:
                return inputs, None
            return inputs, as_array(picked(example, self.labels, "labels"))
        except (ValueError, TypeError) as error:
            raise ValueError(f"{self.name}[{index}]: {error}") from error

    def example(self, index: int) -> Any:
        """One example as the source has it; errors as in `read`."""
        try:
            return self.examples[index]
        except Exception as error:
            raise ValueError(
                f"{self.name}[{index}] is not readable: {type(error).__name__}: {error}"
            ) from error

    def read_all(self, rows: Sequence[int]) -> Iterator[tuple[np.ndarray, np.ndarray | None]]:
        """`read` of several examples, in their order."""
        return read_in_order(self.read, rows, self.threaded)

    def fingerprint(self) -> str:
        """SHA-256 that stands for the inputs: of Hugging Face's own fingerprint and the length.

        Other libraries have none; of them up to 64 examples, evenly spread, are read for it.
        """
        count, own = len(self.examples), getattr(self.examples, "_fingerprint", None)
        digest = hashlib.sha256(f"{count} {own if isinstance(own, str) else ''}".encode())
        some = spread(count, 1 if isinstance(own, str) else _SAMPLED)
        for inputs, _ in replace(self, labels=None).read_all(some):
            digest.update(f"{inputs.dtype.str}{inputs.shape}".encode())
            digest.update(inputs.tobytes())
        return digest.hexdigest()


@dataclass(frozen=True, eq=False)
class SourceInputs(Lazy):
    """The inputs of a source as an array that is read where it is indexed.

    Args:
        source: of the examples.
        rows: int64 [N], which of them, in which order.
        example: any one of them, whose shape and dtype all have.
    """

    source: Source
    rows: np.ndarray
    example: np.ndarray

    @property
    def dtype(self) -> np.dtype:  # type: ignore[override]
        """Of all examples."""
        return self.example.dtype

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, ...)."""
        return (len(self.rows), *self.example.shape)

    @property
    def is_read(self) -> bool:
        """They are not."""
        return False

    @functools.cached_property
    def content_hash(self) -> str:
        """SHA-256 of the source's fingerprint and of which examples there are."""
        digest = hashlib.sha256(self.source.fingerprint().encode())
        digest.update(self.rows.tobytes())
        return digest.hexdigest()

    def __getitem__(self, rows: Any) -> np.ndarray:
        """The examples at an index, a slice or an array of indices."""
        chosen = self.rows[rows]
        places = np.atleast_1d(chosen).tolist()
        result = np.empty((len(places), *self.example.shape), self.dtype)
        source = replace(self.source, labels=None)
        for i, (inputs, _) in enumerate(source.read_all(places)):
            check_like(self.example, inputs, f"{source.name}[{places[i]}]")
            result[i] = inputs
        return result if np.ndim(chosen) else result[0]

    def subset(self, rows: np.ndarray | slice) -> SourceInputs:
        """The examples at some indices; nothing is read."""
        return replace(self, rows=self.rows[rows])


def read_in_order(
    read: Callable[[int], Value], rows: Sequence[int], threaded: bool
) -> Iterator[Value]:
    """What is read of some examples, in their order, by several threads where these may."""
    if not threaded:
        yield from map(read, rows)
        return
    for start in range(0, len(rows), _READ_AT_ONCE):
        yield from _readers().map(read, rows[start : start + _READ_AT_ONCE])


def check_like(first: np.ndarray, other: np.ndarray, what: str) -> None:
    """Refuse an example of another shape or dtype than the first.

    Raises:
        ValueError: naming it.
    """
    if (first.shape, first.dtype) != (other.shape, other.dtype):
        raise ValueError(
            f"{what} is {other.dtype} of shape {list(other.shape)}, and the first example "
            f"{first.dtype} of shape {list(first.shape)}: bring all to one, in the source or by a "
            "function"
        )


def spread(count: int, most: int) -> list[int]:
    """Up to so many indices, evenly spread over a count.

    >>> spread(10, 3), spread(2, 3)
    ([0, 4, 9], [0, 1])
    """
    return np.unique(np.linspace(0, count - 1, min(most, count)).astype(int)).tolist()


def picked(example: Any, key: Pick, what: str) -> Any:
    """A part of an example, by key, index or function."""
    if callable(key):
        return key(example)
    if isinstance(example, Mapping):
        if key not in example:
            hint = suggest(str(key), [str(name) for name in example], "keys")
            raise ValueError(f"it has no {key!r} for {what}={key!r}. {hint}")
        return example[key]
    if not isinstance(example, Sequence) or isinstance(key, str):
        raise ValueError(
            f"an example is a {type(example).__name__}, which {what}={key!r} does not fit: give a "
            "function of it"
        )
    if not -len(example) <= key < len(example):
        raise ValueError(f"it has {len(example)} parts, and none for {what}={key!r}")
    return example[key]


@functools.cache
def _readers() -> ThreadPoolExecutor:
    """Threads of their own: a source may decode images by the threads that decode."""
    return ThreadPoolExecutor(max_workers=visible_cores(), thread_name_prefix="sources")
