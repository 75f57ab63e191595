"""Batches that come one after the other, of a source without random access."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from cnnjax.core.checks import check_channels_last, whole_number
from cnnjax.core.text import plain
from cnnjax.data.by_name import checked_inputs, named, over
from cnnjax.data.dataset import Dataset, finite_weights
from cnnjax.data.foreign.values import as_array, in_a_known_dtype
from cnnjax.data.given_arrays import named_labels
from cnnjax.data.label_kinds import check_names, task_labels
from cnnjax.task import Task

_PARTS = ("inputs", "labels", "weights")


@dataclass(frozen=True, eq=False)
class Stream:
    """Batches of a factory; make one with `stream`.

    Args:
        factory: epoch, counted from 0 -> an iterator of batches.
        steps_per_epoch: batches that are taken of it.
        label_names, name, task: as in `from_arrays`.
    """

    factory: Callable[[int], Any]
    steps_per_epoch: int
    label_names: tuple[str, ...] = ()
    name: str = "stream"
    task: str | Task | Mapping[str, str | Task] | None = None

    def __repr__(self) -> str:
        return f"Stream({plain(self.name)!r}, {self.steps_per_epoch:,} batches an epoch)"

    def __len__(self) -> int:
        """Examples in an epoch, if all batches are full."""
        return self.steps_per_epoch * self.batch_size

    @property
    def batch_size(self) -> int:
        """Examples in the first batch; no other one has more."""
        return len(self.sample)

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Of one example."""
        return self.sample.input_shape

    @property
    def holds_images(self) -> bool:
        """Whether the inputs are (H, W, C)."""
        return self.sample.holds_images

    @cached_property
    def sample(self) -> Dataset:
        """The first batch of the first epoch."""
        first = self._first(0)
        inputs, labels, weights = first["inputs"], first["labels"], first.get("weights")
        return Dataset(inputs, labels, self.label_names, self.name, weights=weights)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of steps and first batch, its first 16 digits; "not a function of the epoch"
        where the factory gives another first batch when it is called again.
        """
        first = self.first_hash(0)
        if first != _hash(self.sample.arrays):
            return "not a function of the epoch"
        return hashlib.sha256(f"{self.steps_per_epoch} {first}".encode()).hexdigest()[:16]

    def first_hash(self, epoch: int) -> str:
        """SHA-256 of the first batch of an epoch, the first 16 digits."""
        return _hash(self._first(epoch))

    def batches(self, epoch: int, start: int = 0) -> Iterator[tuple[dict[str, Any], str]]:
        """The batches of an epoch from step `start` on, those before are drawn and dropped.

        Args:
            epoch: counted from 0.
            start: counted from 0.

        Returns:
            (arrays, each of one length, hash of the epoch's first batch), step by step.

        Raises:
            ValueError: if the iterator ends before its time, or for a batch that is none or does
                not look like the first one, with its number and epoch.
        """
        iterator, first = self._begun(epoch)
        try:
            witness = _hash(self._arrays(first, epoch, 0))
            given = itertools.chain([first], iterator)
            for step, batch in zip(range(self.steps_per_epoch), given, strict=False):
                if step < start:
                    continue
                arrays = self._arrays(batch, epoch, step)
                self._check_like_first(arrays, self._where(epoch, step))
                yield arrays, witness
        finally:
            _close(iterator)
        if step + 1 < self.steps_per_epoch:
            raise ValueError(
                f"{self._where(epoch)} ended after {step + 1} of {self.steps_per_epoch} steps: "
                "give a smaller steps_per_epoch, or a factory of longer iterators"
            )

    def _first(self, epoch: int) -> dict[str, Any]:
        """The first batch of an epoch."""
        iterator, first = self._begun(epoch)
        _close(iterator)
        return self._arrays(first, epoch, 0)

    def _begun(self, epoch: int) -> tuple[Iterator, Any]:
        """The iterator of an epoch, and its first batch."""
        made = self.factory(epoch)
        try:
            iterator = iter(made)
        except TypeError:
            raise ValueError(
                f"the factory of {self.name} must return an iterator of batches, got "
                f"{type(made).__name__}"
            ) from None
        for first in iterator:
            return iterator, first
        raise ValueError(f"{self._where(epoch)} is empty")

    def _arrays(self, batch: Any, epoch: int, step: int) -> dict[str, Any]:
        """What a batch holds, by name."""
        where = self._where(epoch, step)
        try:
            parts = {name: over(as_array, value) for name, value in _by_name(batch).items()}
            several = isinstance(parts["inputs"], Mapping)
            inputs: Any = parts["inputs"] if several else _as_inputs(parts["inputs"])
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from error
        inputs = checked_inputs(inputs, where) if several else inputs
        arrays = {"inputs": inputs, "labels": self._labels(parts["labels"], inputs, where)}
        count, *others = {len(one) for one in flat(arrays).values()}
        if others or not count or (not several and inputs.ndim < 2):
            shapes = {what: list(one.shape) for what, one in flat(arrays).items()}
            raise ValueError(
                f"{where} must hold as many inputs as labels, one at least, got "
                f"{' and '.join(f'{what} of shape {shape}' for what, shape in shapes.items())}"
            )
        if "weights" in parts:
            arrays["weights"] = finite_weights(parts["weights"], count, where)
        return arrays

    def _labels(self, labels: Any, inputs: Any, where: str) -> Any:
        """Labels as the task has them, by name where they are."""
        if isinstance(labels, Mapping):
            if self.label_names:
                raise ValueError(
                    f"{where}: label_names are for labels of one array: give the model those by "
                    "name"
                )
            return named_labels(labels, where, self.task)
        of_images = not isinstance(inputs, Mapping) and inputs.ndim == 4
        kept = task_labels(labels, self.task, where, inputs.shape[:3] if of_images else ())
        check_names(self.label_names, kept, where)
        return kept

    def _check_like_first(self, batch: Mapping[str, Any], where: str) -> None:
        arrays, first = flat(batch), flat(self.sample.arrays)
        if arrays.keys() != first.keys():
            raise ValueError(f"{where} holds {', '.join(arrays)}, the first {', '.join(first)}")
        for name, array in arrays.items():
            like = array.shape[1:] == first[name].shape[1:] and array.dtype == first[name].dtype
            if not like or len(array) > len(first[name]):
                raise ValueError(
                    f"{where} has {name} {array.dtype} of shape {list(array.shape)}, and the first "
                    f"batch {first[name].dtype} of shape {list(first[name].shape)}"
                )

    def _where(self, epoch: int, step: int | None = None) -> str:
        epoch_of = f"epoch {epoch} of {self.name}"
        return epoch_of if step is None else f"batch {step} of {epoch_of}"


def stream(
    factory: Callable[[int], Any],
    steps_per_epoch: int,
    *,
    label_names: Sequence[str] = (),
    name: str = "stream",
    task: str | Task | Mapping[str, str | Task] | None = None,
) -> Stream:
    """Batches of a source without random access, as data to train, validate or test on.

    A run that is resumed draws the batches of its epoch once more and drops those that it has seen.
    For that the factory has to be a function of the epoch: a hash of the epoch's first batch is in
    every checkpoint, and where it is another one the run is refused. Evaluation takes epoch 0, the
    same each time.

    Args:
        factory: epoch, counted from 0 -> an iterator of batches, which are {"inputs": [N, ...],
            "labels": [N, ...]} with "weights" [N] if there are some, or (inputs, labels) or
            (inputs, labels, weights), arrays or tensors as in `from_arrays`, {name: these} of
            several inputs or labels. It is called again
            for every epoch; a batch may have fewer examples than the first, which is filled up and
            masked. `TrainingConfig.batch_size` must be that of the first.
        steps_per_epoch: batches taken of each iterator, >= 1; further ones are left.
        label_names, name, task: as in `from_arrays`.

    Returns:
        The stream, in place of a `Dataset` in `fit`, `Splits` and `evaluate`.

    Raises:
        ValueError: for arguments that cannot be; while it is used, for an iterator that ends before
            its time and for batches that are none, in one sentence.

    >>> def factory(epoch):
    ...     rng = np.random.default_rng(epoch)
    ...     while True:
    ...         labels = rng.integers(0, 2, 16)
    ...         yield labels[:, None, None, None] * np.ones((8, 8, 1)) * 255, labels
    >>> len(stream(factory, steps_per_epoch=10))
    160
    """
    if not callable(factory):
        raise ValueError(
            "factory must be a function of the epoch that returns an iterator of batches, got "
            f"{type(factory).__name__}: a single iterator is over after one epoch"
        )
    steps = whole_number("steps_per_epoch", steps_per_epoch)
    return Stream(factory, steps, tuple(map(str, label_names)), name, task)


def check_at_hand(data: Any, what: str) -> None:
    """Refuse a stream, of which no examples can be looked up.

    Args:
        data: a data set or a stream.
        what: looks them up, for the message.

    Raises:
        ValueError: for a stream.
    """
    if isinstance(data, Stream):
        raise ValueError(
            f"{what} needs all examples at hand, and {data.name} is a stream: give a Dataset, e.g. "
            "stream.sample, its first batch"
        )


def _close(iterator: Any) -> None:
    """Let an iterator go that may be a generator."""
    if callable(close := getattr(iterator, "close", None)):
        close()


def _by_name(batch: Any) -> dict[str, Any]:
    if isinstance(batch, tuple | list) and len(batch) in (2, 3):
        return dict(zip(_PARTS, batch, strict=False))
    names = set(batch) if isinstance(batch, Mapping) else set()
    if not {"inputs", "labels"} <= names <= set(_PARTS):
        holds = f" of {', '.join(map(repr, batch))}" if names else ""
        raise ValueError(
            "must be (inputs, labels), (inputs, labels, weights) or a dict of these, got "
            f"{type(batch).__name__}{holds}"
        )
    return dict(batch)


def _as_inputs(inputs: np.ndarray) -> np.ndarray:
    """A single input of a batch in a dtype that a data set has; grey images with a channel."""
    check_channels_last("inputs", inputs.shape)
    if inputs.dtype == np.uint8 and inputs.ndim == 3:
        inputs = inputs[..., None]
    return in_a_known_dtype(inputs, inputs.ndim - 1)


def flat(arrays: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Arrays by what to call them, those of several inputs or labels one by one."""
    return {what: one for name, value in arrays.items() for what, one in named(value, name).items()}


def _hash(arrays: Mapping[str, Any]) -> str:
    digest = hashlib.sha256()
    for name, array in flat(arrays).items():
        digest.update(f"{name} {array.dtype.str}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()[:16]
