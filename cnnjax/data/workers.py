"""Batches that other processes make, through grain: for slow storage, and for many cores a process.

Each of the processes makes every n-th batch, by the same loader as here, so that they are the same
batches in the same order for any number of processes, and can begin anywhere.
"""

from __future__ import annotations

import atexit
import functools
import multiprocessing
import os
import pickle
import signal
import threading
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import numpy as np

from cnnjax.core.runtime import visible_cores
from cnnjax.core.text import plain

# Of batches in each of grain's buffers, of which there are two for each process. With those under
# way between them six batches of each wait in shared memory.
_AHEAD = 2
_ENDLESS = 2**40


def check_workers(workers: int, name: str, decodes: bool) -> None:
    """Refuse workers that would have nothing to do, or cannot be.

    Args:
        workers: how many processes.
        name: of the data.
        decodes: whether batches take their time.

    Raises:
        ValueError: in one sentence.
    """
    if not decodes:
        raise ValueError(
            f"workers={workers} is for data that is read batch by batch, and {name} is at hand: "
            "leave it out"
        )
    try:
        import grain  # noqa: F401
    except ImportError:
        raise ValueError(
            f"workers={workers} needs grain, which is not installed: pip install 'cnnjax[grain]'"
        ) from None


@dataclass(frozen=True)
class _Batches:
    """What grain reads from: batch number `first + i` of all epochs, counted through."""

    make: Callable[[int], Any]
    first: int

    def __len__(self) -> int:
        return _ENDLESS

    def __getitem__(self, index: int) -> Any:
        return self.make(self.first + index)


class Workers:
    """Processes that make batches ahead; they are started by the first one that is asked for.

    Args:
        make: a batch by its number, a function that can be pickled.
        count: of processes, >= 1.
    """

    def __init__(self, make: Callable[[int], Any], count: int):
        self._make, self._count = make, count
        self._batches: Any = None  # grain's iterator
        self._next = 0

    def batch(self, number: int) -> Any:
        """The batch of a number; to go on from the one before is quick, all else starts anew."""
        if self._batches is None or number != self._next:
            self.close()
            self._batches, self._next = self._started(number), number
        try:
            batch = next(self._batches)
        except RuntimeError as error:
            if not str(error).startswith("Worker process was terminated"):
                raise
            raise RuntimeError(
                f"one of workers={self._count} has ended before its time, for what stands above, "
                "for want of memory or of room in /dev/shm, or since the script, which each of "
                "them imports, does not train under if __name__ == '__main__'"
            ) from error
        self._next += 1
        # Out of shared memory, of which there is little, and which goes with grain's own array.
        return jax.tree.map(np.array, batch)

    def close(self) -> None:
        """End the processes."""
        if self._batches is not None:
            self._batches.close()
            self._batches = None

    __del__ = close

    def _started(self, first: int) -> Any:
        import cloudpickle
        from absl import flags
        from grain import MapDataset, MultiprocessingOptions, ReadOptions

        try:
            cloudpickle.dumps(self._make)
        except (TypeError, AttributeError, pickle.PicklingError) as error:
            raise ValueError(
                f"workers={self._count} is for data and a sampler that can be sent to other "
                f"processes: {plain(error)}"
            ) from None
        if not flags.FLAGS.is_parsed():  # grain asks them, as of a program of absl's
            flags.FLAGS.mark_as_parsed()
        _running().add(self)
        one = ReadOptions(num_threads=1, prefetch_buffer_size=1)  # its threads decode
        batches = MapDataset.source(_Batches(self._make, first)).to_iter_dataset(one)
        options = MultiprocessingOptions(self._count, per_worker_buffer_size=_AHEAD)
        cores = max(visible_cores() // self._count, 1)
        return iter(batches.mp_prefetch(options, partial(_begin, cores)))


@functools.cache
def _running() -> weakref.WeakSet[Workers]:
    """All that were started; they end before the modules that they need do."""
    running: weakref.WeakSet[Workers] = weakref.WeakSet()

    def close() -> None:
        for workers in list(running):
            workers.close()

    atexit.register(close)
    return running


def _begin(cores: int, index: int, count: int) -> None:
    """Have a worker decode by its share of the cores, and end with the process it works for."""
    os.environ["NPROC"] = str(cores)
    # What stops a training comes to all of its processes, and the training has yet to be saved.
    for asked_to_stop in (signal.SIGINT, signal.SIGTERM):
        signal.signal(asked_to_stop, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, name="end with parent", daemon=True).start()


def _end_with_parent() -> None:
    # A process that is killed cannot end its workers, which would wait for ever.
    if (parent := multiprocessing.parent_process()) is not None:
        parent.join()
        os._exit(1)
