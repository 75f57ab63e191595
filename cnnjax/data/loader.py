"""Batches as a pure function of (seed, epoch, step, process), and prefetching to the device."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any

import jax
import numpy as np

from cnnjax.core.checks import whole_number
from cnnjax.data.by_name import named
from cnnjax.data.dataset import Dataset
from cnnjax.data.lazy import Lazy
from cnnjax.data.orders import Orders
from cnnjax.data.pixels.encoded_images import EncodedImages
from cnnjax.data.samplers import Sampler, as_sampler, sampled
from cnnjax.data.workers import Workers, check_workers

Batch = dict[str, np.ndarray]


@dataclass(frozen=True)
class Loader:
    """Batches of a data set.

    Args:
        data: what to load.
        batch_size: examples per step over all processes, >= 1.
        shuffle: a new order each epoch (training) or the data's own order (evaluation).
        seed: of the order.
        sampler: decides in place of shuffle which examples an epoch visits, in which order: a
            function (seed, epoch, data set) -> indices int [M], of one M in all epochs, or
            "balanced".
        process_index, process_count: this process's part of every batch; the parts of all
            processes joined are the batch that one process alone would see.
        workers: make batches in so many other processes, through grain, of data that is read batch
            by batch; 0: in threads of this one. The batches are the same.

    Raises:
        ValueError: for data without random access; if batch_size does not divide among the
            processes, or, when shuffling, exceeds the data; for a sampler that returns no indices;
            for workers that would have nothing to do, or without grain.
    """

    data: Dataset
    batch_size: int
    shuffle: bool = False
    seed: int = 0
    process_index: int = 0
    process_count: int = 1
    sampler: str | Sampler | None = None
    workers: int = 0

    def __post_init__(self) -> None:
        if not isinstance(self.data, Dataset):
            raise ValueError(
                f"data must be a Dataset, of random access, got {type(self.data).__name__}"
            )
        if len(self.data) == 0:
            raise ValueError(f"{self.data.name}: the data set is empty")
        if self.batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {self.batch_size}")
        if self.batch_size % self.process_count:
            raise ValueError(
                f"batch_size={self.batch_size} does not divide among {self.process_count} processes"
            )
        if not 0 <= self.process_index < self.process_count:
            raise ValueError(
                f"process_index={self.process_index} must lie in [0, {self.process_count})"
            )
        if self.shuffle and self.sampler is not None:
            raise ValueError("a sampler takes the place of shuffle=True: leave one of them out")
        if self.shuffle and self.batch_size > len(self.data):
            raise ValueError(
                f"batch_size={self.batch_size} is larger than the {len(self.data)} training "
                f"examples of {self.data.name}: choose at most {len(self.data)}"
            )
        if self.batch_size > self._count and self.sampler is not None:
            raise ValueError(
                f"batch_size={self.batch_size} is larger than the {self._count} examples of an "
                f"epoch that the sampler returns: choose at most {self._count}"
            )

        if whole_number("workers", self.workers, 0):
            check_workers(self.workers, self.data.name, self.decodes)

    @property
    def steps(self) -> int:
        """Steps per epoch; the last batch may be partly padding."""
        return -(-self._count // self.batch_size)

    @property
    def decodes(self) -> bool:
        """Whether every batch is read anew, as from files, which takes its time."""
        inputs = named(self.data.inputs, "inputs").values()
        return any(isinstance(one, Lazy) and not one.is_read for one in inputs)

    @property
    def witness(self) -> None:
        """Nothing: every batch can be asked for again, as those of a `StreamLoader` cannot."""

    def check_witness(self, witness: Mapping[str, Any] | None) -> None:
        """Nothing has to be found again; as of a `StreamLoader`."""

    def order(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """Which example stands where in an epoch.

        Returns:
            (indices int32 [steps, local batch], mask bool of that shape). Where the last batch has
            too few examples, those of the epoch's beginning fill it up, masked out.
        """
        return self._at(epoch, np.arange(self.steps * self.batch_size).reshape(self.steps, -1))

    def batch(self, epoch: int, step: int) -> Batch:
        """The batch at (epoch, step); fresh arrays, since devices may alias them."""
        begin = range(self.steps)[step] * self.batch_size
        return self._gather(epoch, *self._at(epoch, np.arange(begin, begin + self.batch_size)))

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """The batches of an epoch from step `start` on.

        Each is {"inputs": [B, ...], "labels": int32 [B, ...], "mask": bool [B], "index": int32 [B]
        (position in the data set), "epoch": int32 scalar}, and "weights", float32 [B], where the
        data set has them.
        """
        if self.workers:
            for step in range(start, self.steps):
                yield self._workers.batch(epoch * self.steps + step)
            return
        indices, mask = self.order(epoch)

        def made(step: int) -> Batch:
            return self._gather(epoch, indices[step], mask[step])

        steps = range(start, self.steps)
        yield from _two_at_a_time(made, steps) if self._overlaps else map(made, steps)

    def close(self) -> None:
        """End the processes of `workers`; whoever asks for a batch after that starts them anew."""
        if "_workers" in vars(self):
            self._workers.close()

    @cached_property
    def _count(self) -> int:
        """Examples that an epoch visits."""
        sampler = as_sampler(self.sampler)
        return len(self.data) if sampler is None else len(sampled(sampler, self.seed, 0, self.data))

    def _at(self, epoch: int, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Which examples stand at places of an epoch, [..., batch]; of every batch this part."""
        size = self.batch_size // self.process_count
        begin = self.process_index * size
        places = places[..., begin : begin + size]
        return self._order(epoch)[places % self._count].astype(np.int32), places < self._count

    def _order(self, epoch: int) -> np.ndarray:
        """The examples that an epoch visits, one after the other."""
        if (sampler := as_sampler(self.sampler)) is not None:
            order = sampled(sampler, self.seed, epoch, self.data)
            if len(order) != self._count:
                raise ValueError(
                    "a sampler must return as many indices in every epoch, got "
                    f"{self._count} in epoch 0 and {len(order)} in epoch {epoch}"
                )
            return order
        if self.shuffle:
            return self._orders(epoch)
        return np.arange(len(self.data))

    @property
    def _overlaps(self) -> bool:
        """Whether two batches may be read at a time: what others read may bear one only."""
        inputs = named(self.data.inputs, "inputs").values()
        return self.decodes and all(isinstance(one, np.ndarray | EncodedImages) for one in inputs)

    @cached_property
    def _orders(self) -> Orders:
        return Orders(len(self.data), self.seed)

    @cached_property
    def _workers(self) -> Workers:
        return Workers(partial(_batch, replace(self, workers=0)), self.workers)

    def _gather(self, epoch: int, indices: np.ndarray, mask: np.ndarray) -> Batch:
        batch = {name: _rows(array, indices) for name, array in self.data.arrays.items()}
        batch["mask"], batch["index"] = mask.copy(), indices.copy()
        batch["epoch"] = np.asarray(epoch, np.int32)
        return batch


def _batch(loader: Loader, number: int) -> Batch:
    """The batch of a number, counted through all epochs."""
    return loader.batch(*divmod(number, loader.steps))


def _rows(array: Any, indices: np.ndarray) -> Any:
    """Some examples of an array, or of each of several by name."""
    if isinstance(array, dict):
        return {name: _rows(one, indices) for name, one in array.items()}
    return array[indices]


def _two_at_a_time(made: Callable[[int], Batch], steps: range) -> Iterator[Batch]:
    """The batches of some steps; no thread that decodes waits for the last images of a batch."""
    with ThreadPoolExecutor(max_workers=2, thread_name_prefix="steps") as threads:
        waiting = deque(threads.submit(made, step) for step in steps[:2])
        try:
            for step in steps:
                batch = waiting.popleft().result()
                if step + 2 < steps.stop:
                    waiting.append(threads.submit(made, step + 2))
                yield batch
        finally:
            for future in waiting:
                future.cancel()


def prefetch(
    batches: Iterable[Batch],
    ahead: int = 2,
    place: Callable[[Batch], dict[str, jax.Array]] = jax.device_put,
    *,
    threaded: bool = False,
) -> Iterator[dict[str, jax.Array]]:
    """Put batches on the device ahead of their use; transfers run while the device computes.

    Args:
        batches: what to transfer.
        ahead: how many batches are under way, >= 1.
        place: puts a batch where it is to be, e.g. divided among several devices.
        threaded: make the batches in a thread of their own, which pays where making one takes long,
            as decoding does. They come in the same order.
    """
    waiting: deque[dict[str, jax.Array]] = deque()
    for batch in _in_a_thread(batches, ahead) if threaded else batches:
        waiting.append(place(batch))
        if len(waiting) > ahead:
            yield waiting.popleft()
    yield from waiting


def _in_a_thread(batches: Iterable[Batch], ahead: int) -> Iterator[Batch]:
    """The same batches, of which some are being made while the one before is used."""
    source = iter(batches)
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="batches") as thread:
        waiting = deque(thread.submit(next, source, None) for _ in range(ahead))
        try:
            while (batch := waiting.popleft().result()) is not None:
                waiting.append(thread.submit(next, source, None))
                yield batch
        finally:
            for future in waiting:
                future.cancel()
