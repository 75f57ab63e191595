"""The forms of an epoch behind one interface: a Python loop, and chunks of steps in a scan."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax import Array

from cnnjax.config import TrainingConfig
from cnnjax.core import processes
from cnnjax.core.runtime import compiler_options
from cnnjax.data import Loader, StreamLoader, prefetch
from cnnjax.training import scans
from cnnjax.training.devices import Devices
from cnnjax.training.own_step import State
from cnnjax.training.residency import fits

# Of batches that are sent together: enough that the device does not wait for the next dispatch, and
# little beside what a step needs.
_STAGED_BYTES = 256 * 2**20
_STAGED_STEPS = 64

Sums = dict[str, Array]


class Dispatched(NamedTuple):
    """One dispatch, whose arrays the device may still be computing.

    Args:
        state: after it; it is donated to the next one.
        step: steps of the epoch that are done then.
        sums: of its steps, [k] each, or of a single one.
        data_seconds: for which the loop waited for its data, not for the device.
    """

    state: State
    step: int
    sums: Sums
    data_seconds: float


class Dispatcher:
    """Runs the steps of an epoch in the form that suits the device.

    On CPUs a Python loop over a jitted step: XLA:CPU runs convolutions inside a loop of its own on
    one thread. On accelerators chunks of `steps_per_dispatch` steps as one `lax.scan`: over a data
    set that stays on the device where it fits there, else over batches that are sent together. All
    visit the same batches in the same order.

    Args:
        step: the training step.
        loader: of the training data.
        config: its steps_per_dispatch, checkpoint_every and deterministic.
        devices: among which the batches are divided.
        every: numbers of steps of the training, at multiples of which a chunk ends.
        layout: where the parts of the state lie, as `Devices.layout` has it.
    """

    def __init__(
        self,
        step: Callable[[Any, Any], tuple[Any, Sums]],
        loader: Loader | StreamLoader,
        config: TrainingConfig,
        devices: Devices,
        every: Sequence[int] = (),
        layout: Any = None,
    ):
        self.loader, self.devices, self.every = loader, devices, every
        self.step, self.config = step, config
        resident = processes.agreed(lambda: fits(loader))  # as the memory of the first one has it
        self.chunk = chunk_size(config, loader, resident)
        if self.chunk == 1:
            program, self._form = step, self._steps_one_by_one
        elif resident:
            assert isinstance(loader, Loader)
            arrays = jax.tree.map(np.asarray, loader.data.arrays)
            program, self._form = scans.resident(step, arrays), self._steps_in_chunks
            self._examples = devices.replicate(scans.flat(arrays))
        else:
            program, self._form = scans.staged(step, loader.batch(0, 0)), self._steps_sent_together
        options = compiler_options(config.deterministic, recomputed=config.remat != "none")
        self._program = jax.jit(
            program,
            donate_argnums=0,
            out_shardings=None if layout is None else (layout, devices.everywhere),
            compiler_options=options,
        )

    def run(self, state: State, epoch: int, start: int) -> Iterator[Dispatched]:
        """Run an epoch from step `start` on.

        Args:
            state: before; it is donated, use the yielded one.
            epoch: counted from 0.
            start: first step within the epoch.
        """
        return self._form(state, epoch, start)

    def _steps_one_by_one(self, state: State, epoch: int, start: int) -> Iterator[Dispatched]:
        batches = prefetch(
            self.loader.epoch(epoch, start),
            place=self.devices.place,
            threaded=self.loader.decodes,
        )
        for step, (batch, seconds) in enumerate(_timed(batches), start + 1):
            state, sums = self._program(state, batch)
            yield Dispatched(state, step, sums, seconds)

    def _steps_in_chunks(self, state: State, epoch: int, start: int) -> Iterator[Dispatched]:
        assert isinstance(self.loader, Loader)
        indices, mask = self.loader.order(epoch)
        for begin, end in self._bounds(epoch, start):
            state, sums = self._program(
                state,
                self._examples,
                self.devices.place_steps(indices[begin:end]),
                self.devices.place_steps(mask[begin:end]),
                np.asarray(epoch, np.int32),
            )
            yield Dispatched(state, end, sums, 0.0)  # the data are on the device

    def _steps_sent_together(self, state: State, epoch: int, start: int) -> Iterator[Dispatched]:
        bounds = list(self._bounds(epoch, start))
        sizes = [end - begin for begin, end in bounds]
        groups = scans.in_groups(self.loader.epoch(epoch, start), sizes)
        sent = prefetch(
            map(scans.stacked, groups),
            place=self._sent,
            threaded=True,
        )
        for (_, end), (rows, seconds) in zip(bounds, _timed(sent), strict=True):
            state, sums = self._program(state, rows, np.asarray(epoch, np.int32))
            yield Dispatched(state, end, sums, seconds)

    def _sent(self, rows: Any) -> Any:
        """Rows of several steps on their way to the devices, also where there is a single one."""
        placed = jax.tree.map(self.devices.place_steps, rows)
        return jax.device_put(placed) if self.devices.count == 1 else placed

    def _bounds(self, epoch: int, start: int) -> Iterator[tuple[int, int]]:
        """First and last step, exclusive, of each dispatch of an epoch."""
        end, before = start, epoch * self.loader.steps
        while (begin := end) < self.loader.steps:
            due = [n - (before + begin) % n for n in self.every]
            end = min(begin + min([self.chunk, *due]), self.loader.steps)
            yield begin, end


def _timed(batches: Iterable[Any]) -> Iterator[tuple[Any, float]]:
    """Batches, each with the seconds that it was waited for."""
    source = iter(batches)
    while True:
        began = time.perf_counter()
        batch = next(source, None)
        if batch is None:
            return
        yield batch, time.perf_counter() - began


def chunk_size(config: TrainingConfig, loader: Loader | StreamLoader, resident: bool) -> int:
    """Steps of one dispatch.

    Args:
        config: its steps_per_dispatch and checkpoint_every.
        loader: of the training data.
        resident: whether these stay on the device.
    """
    most = loader.steps
    if config.steps_per_dispatch is not None:
        return min(config.steps_per_dispatch, most)
    if jax.default_backend() == "cpu":
        return 1
    most = min(most, config.checkpoint_every or most)
    if resident:
        return most
    size = sum(array.nbytes for array in jax.tree.leaves(loader.batch(0, 0)))
    return max(min(most, _STAGED_STEPS, _STAGED_BYTES // size), 1)
