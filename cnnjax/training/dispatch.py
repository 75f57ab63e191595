"""The two forms of an epoch behind one interface: a Python loop, and chunks of steps in a scan."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from cnnjax.config import TrainingConfig
from cnnjax.core.runtime import compiler_options
from cnnjax.data import Loader, StreamLoader, prefetch
from cnnjax.training.devices import Devices
from cnnjax.training.own_step import State

# Larger data sets stay on the host and are fed batch by batch.
_DEVICE_DATA_BYTES = 8 * 2**30

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
    one thread. On accelerators chunks of `steps_per_dispatch` steps as one `lax.scan` over a data
    set that stays on the device. Both visit the same batches in the same order.

    Args:
        step: the training step.
        loader: of the training data.
        config: its steps_per_dispatch and deterministic.
        devices: among which the batches are divided.
        every: numbers of steps of the training, at multiples of which a chunk ends.
    """

    def __init__(
        self,
        step: Callable[[Any, Any], tuple[Any, Sums]],
        loader: Loader | StreamLoader,
        config: TrainingConfig,
        devices: Devices,
        every: Sequence[int] = (),
    ):
        self.loader, self.devices, self.every = loader, devices, every
        self.step, self.config = step, config
        self.chunk = 1 if isinstance(loader, StreamLoader) else _chunk_size(config, loader)
        options = compiler_options(config.deterministic)
        if isinstance(loader, StreamLoader) or self.chunk == 1:
            self._step = jax.jit(step, donate_argnums=0, compiler_options=options)
        else:
            self._examples = devices.replicate(jax.tree.map(np.asarray, loader.data.arrays))
            self._scan = jax.jit(_scan_of(step), donate_argnums=0, compiler_options=options)

    def run(self, state: State, epoch: int, start: int) -> Iterator[Dispatched]:
        """Run an epoch from step `start` on.

        Args:
            state: before; it is donated, use the yielded one.
            epoch: counted from 0.
            start: first step within the epoch.
        """
        form = self._steps_one_by_one if self.chunk == 1 else self._steps_in_chunks
        return form(state, epoch, start)

    def _steps_one_by_one(self, state: State, epoch: int, start: int) -> Iterator[Dispatched]:
        batches = prefetch(
            self.loader.epoch(epoch, start),
            place=self.devices.place,
            threaded=self.loader.decodes,
        )
        for step, (batch, seconds) in enumerate(_timed(batches), start + 1):
            state, sums = self._step(state, batch)
            yield Dispatched(state, step, sums, seconds)

    def _steps_in_chunks(self, state: State, epoch: int, start: int) -> Iterator[Dispatched]:
        assert isinstance(self.loader, Loader)
        indices, mask = self.loader.order(epoch)
        end, before = start, epoch * self.loader.steps
        while (begin := end) < self.loader.steps:
            due = [n - (before + begin) % n for n in self.every]
            end = min(begin + min([self.chunk, *due]), self.loader.steps)
            state, sums = self._scan(
                state,
                self._examples,
                self.devices.place_steps(indices[begin:end]),
                self.devices.place_steps(mask[begin:end]),
                np.asarray(epoch, np.int32),
            )
            yield Dispatched(state, end, sums, 0.0)  # the data are on the device


def _timed(batches: Iterator[dict[str, Array]]) -> Iterator[tuple[dict[str, Array], float]]:
    """Batches, each with the seconds that it was waited for."""
    while True:
        began = time.perf_counter()
        batch = next(batches, None)
        if batch is None:
            return
        yield batch, time.perf_counter() - began


def _chunk_size(config: TrainingConfig, loader: Loader) -> int:
    asked = config.steps_per_dispatch
    size = sum(one.nbytes for one in jax.tree.leaves(loader.data.inputs))
    stays = loader.decodes or size > _DEVICE_DATA_BYTES
    if asked is None:
        if stays or jax.default_backend() == "cpu":
            return 1
        return min(loader.steps, config.checkpoint_every or loader.steps)
    if stays and asked > 1:
        raise ValueError(
            f"steps_per_dispatch={asked} needs all training images on the device, and these stay "
            f"on the host ({size / 2**30:.1f} GiB, or files): leave it out"
        )
    return min(asked, loader.steps)


def _scan_of(step: Callable[[Any, Any], tuple[Any, Sums]]) -> Any:
    def scan(
        state: State, examples: Any, indices: Array, mask: Array, epoch: Array
    ) -> tuple[State, Sums]:
        def body(state: State, rows: tuple[Array, Array]) -> tuple[State, Sums]:
            index, valid = rows
            batch = {
                **jax.tree.map(lambda array: jnp.take(array, index, axis=0), examples),
                "mask": valid,
                "index": index,
                "epoch": epoch,
            }
            return step(state, batch)

        return jax.lax.scan(body, state, (indices, mask))

    return scan
