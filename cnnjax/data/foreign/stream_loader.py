"""The batches of a stream as training and evaluation take them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np

from cnnjax.data.by_name import over
from cnnjax.data.foreign.stream import Stream, flat
from cnnjax.data.loader import Batch


class StreamLoader:
    """The batches of a stream as training and evaluation take them, like those of a `Loader`.

    Args:
        data: the stream.
        check: of the labels of every batch; raises a ValueError for those that cannot be.
        process_index, process_count: this process's part of every batch, as of a `Loader`: each
            process draws all of the stream, and takes its part of the examples.

    Raises:
        ValueError: if the batches do not divide among the processes.
    """

    decodes = True  # every batch is made anew, which takes its time

    def __init__(
        self,
        data: Stream,
        check: Callable[[Any], None],
        process_index: int = 0,
        process_count: int = 1,
    ):
        self.data, self.check = data, check
        self.batch_size, self.steps = data.batch_size, data.steps_per_epoch
        if self.batch_size % process_count:
            raise ValueError(
                f"the batches of {data.name} have {self.batch_size} examples, which do not divide "
                f"among {process_count} processes: give batches of a multiple of {process_count}"
            )
        of_each = self.batch_size // process_count
        self._part = slice(process_index * of_each, (process_index + 1) * of_each)
        # The epoch begun last, and a hash of its first batch: what a resumed run must find again.
        self.witness: dict[str, Any] | None = None

    def batch(self, epoch: int, step: int) -> Batch:
        """The batch at (epoch, step), for which those before it are drawn."""
        return next(self._batches(epoch, step))[0]

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """The batches of an epoch from step `start` on, as of a `Loader`.

        "index" counts through the epoch; a batch of fewer examples than the first is filled up, and
        masked out, by those at its beginning.
        """
        for batch, witness in self._batches(epoch, start):
            self.witness = {"epoch": epoch, "first_batch": witness}
            yield batch

    def check_witness(self, witness: Mapping[str, Any] | None) -> None:
        """Whether the factory gives what it gave before a run was interrupted.

        Args:
            witness: of then.

        Raises:
            ValueError: if it does not, so that the position cannot be found again.
        """
        if witness and self.data.first_hash(witness["epoch"]) != witness["first_batch"]:
            raise ValueError(
                f"epoch {witness['epoch']} of {self.data.name} begins with another batch than "
                "before the run was interrupted, so that it cannot be resumed: its factory must be "
                "a function of the epoch"
            )
        self.witness = dict(witness) if witness else None

    def close(self) -> None:
        """Nothing: every epoch closes its iterator; as of a `Loader`."""

    def _batches(self, epoch: int, start: int) -> Iterator[tuple[Batch, str]]:
        size = self.batch_size
        for step, (arrays, witness) in enumerate(self.data.batches(epoch, start), start):
            count = len(next(iter(flat(arrays).values())))
            try:
                self.check(arrays["labels"])
            except ValueError as error:
                raise ValueError(
                    f"batch {step} of epoch {epoch} of {self.data.name}: {error}"
                ) from error
            rows, part = np.resize(np.arange(count), size), self._part
            take = partial(np.take, indices=rows[part], axis=0)
            yield (
                {
                    **{k: over(take, v) for k, v in arrays.items()},
                    "mask": np.arange(size)[part] < count,
                    "index": np.arange(step * size, (step + 1) * size, dtype=np.int32)[part],
                    "epoch": np.asarray(epoch, np.int32),
                },
                witness,
            )
