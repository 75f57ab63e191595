"""Several devices, maybe of several processes: each has its part of every batch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec, Sharding

from cnnjax.core import processes

_AXIS = "data"

# Smaller arrays are not worth dividing.
_LEAST_DIVIDED = 1024


@dataclass(frozen=True)
class Devices:
    """Where a training computes.

    XLA divides the work of a step as the batch is divided and adds up the gradients, so that a
    model sees the whole batch, BatchNorm included: the result differs from that of one device by
    rounding only.

    With several processes the devices are those of all, as many of each, process by process:
    process p holds the p-th part of every batch, as `Loader` makes it.

    Args:
        count: number of devices of all processes together, >= 1.
        divided: whether the state of a training is divided among them too, as `fsdp` asks for.
    """

    count: int
    divided: bool = False

    @classmethod
    def for_batches_of(cls, batch_size: int, *, divided: bool = False) -> Devices:
        """As many devices as divide the batch, the same number of each process.

        Args:
            batch_size: that each program gets.
            divided: as in `Devices`.

        Raises:
            ValueError: if the batch does not divide among the processes.
        """
        together = processes.count()
        if batch_size % together:
            raise ValueError(
                f"a batch (batch_size / accumulate) of {batch_size} does not divide among "
                f"{together} processes: give a multiple of {together}"
            )
        there = min(len(devices) for devices in _by_process())
        of_each = max(n for n in range(1, there + 1) if batch_size // together % n == 0)
        return cls(together * of_each, divided)

    @property
    def stated(self) -> bool:
        """Whether programs must state where their results lie, which else XLA chooses."""
        return processes.count() > 1 or (self.divided and self.count > 1)

    @property
    def everywhere(self) -> Sharding | None:
        """Of results that every device has, for `jax.jit`; None where it need not be stated."""
        return self._sharding() if self.stated else None

    def layout(self, state: Any) -> Any:
        """Where the parts of a training's state lie; None where it need not be stated.

        Args:
            state: a pytree of arrays. Where it is divided, each array is along the longest of its
                axes that the devices divide, if it has one and is large enough to be worth it.
        """
        return jax.tree.map(self._layout_of, state) if self.stated else None

    def spread(self, state: Any) -> Any:
        """A training's state, by its layout; of several processes, of which each has it whole."""
        if not self.stated:
            return self.replicate(state)
        return jax.tree.map(_placed, state, self.layout(state))

    def replicate(self, tree: Any) -> Any:
        """Every array on each device; of several processes, of which each has it whole."""
        if processes.count() == 1:
            return jax.device_put(tree, self._sharding() if self.count > 1 else None)
        return jax.tree.map(lambda leaf: _placed(leaf, self._sharding()), tree)

    def place(self, batch: Mapping[str, Any]) -> dict[str, jax.Array]:
        """A batch {name: [N, ...] or scalar}, divided along its first axis.

        Args:
            batch: of several processes this one's part.

        Raises:
            ValueError: if it does not divide among the devices, as one of a stream may.
        """
        if self.count == 1:
            return dict(jax.device_put(batch))
        of_each = self.count // processes.count()
        for size in {len(leaf) for leaf in jax.tree.leaves(dict(batch)) if np.ndim(leaf)}:
            if size % of_each:
                raise ValueError(
                    f"a batch of {size} examples a process does not divide among its {of_each} "
                    f"devices: give batches of a multiple of {self.count} examples"
                )
        divided = jax.tree.map(
            lambda v: self._sharding(_AXIS) if np.ndim(v) else self._sharding(), dict(batch)
        )
        if processes.count() == 1:
            return dict(jax.device_put(dict(batch), divided))
        return jax.tree.map(_joined, dict(batch), divided)

    def place_steps(self, array: np.ndarray) -> Any:
        """What a chunk of steps reads, [steps, N], divided along its second axis."""
        if self.count == 1:
            return array
        sharding = self._sharding(None, _AXIS)
        if processes.count() == 1:
            return jax.device_put(array, sharding)
        return jax.make_array_from_process_local_data(sharding, array)

    def bytes_of_each(self, state: Any) -> int:
        """Bytes that a device holds of a training's state."""
        first = jax.local_devices()[0]
        return sum(
            shard.data.nbytes
            for leaf in jax.tree.leaves(state)
            for shard in leaf.addressable_shards
            if shard.device == first
        )

    def _layout_of(self, leaf: Any) -> Sharding:
        shape = np.shape(leaf)
        if self.divided and np.size(leaf) >= _LEAST_DIVIDED and not processes.is_key(leaf):
            for axis in sorted(range(len(shape)), key=lambda axis: -shape[axis]):
                if shape[axis] % self.count == 0:
                    return self._sharding(*[None] * axis, _AXIS)
        return self._sharding()

    def _sharding(self, *axes: str | None) -> NamedSharding:
        of_each = self.count // processes.count()
        chosen = [device for devices in _by_process() for device in devices[:of_each]]
        return NamedSharding(Mesh(np.array(chosen), (_AXIS,)), PartitionSpec(*axes))


def _by_process() -> list[list[Any]]:
    """The devices of each process; `jax.devices()` may have them in another order."""
    if processes.count() == 1:
        return [jax.local_devices()]
    return [jax.local_devices(index) for index in range(processes.count())]


def _placed(leaf: Any, sharding: NamedSharding) -> jax.Array:
    """An array that every process has whole, with the parts that lie here."""
    if processes.count() == 1:
        return jax.device_put(leaf, sharding)
    if isinstance(leaf, jax.Array) and leaf.sharding == sharding:
        return leaf
    # Not `device_put`, which compares every array across the processes.
    if processes.is_key(leaf):
        data = _placed(np.asarray(jax.random.key_data(leaf)), sharding)
        return jax.random.wrap_key_data(data, impl=jax.random.key_impl(leaf))
    host = np.asarray(leaf)
    return jax.make_array_from_callback(host.shape, sharding, lambda index: host[index])


def _joined(leaf: Any, sharding: NamedSharding) -> jax.Array:
    """The parts of all processes as one array, in the processes' order; of a scalar any."""
    host = np.asarray(leaf)
    if not host.ndim:
        return _placed(host, sharding)
    return jax.make_array_from_process_local_data(sharding, host)
