"""Several devices: every batch divided among them, everything else on each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec, Sharding

_AXIS = "data"


@dataclass(frozen=True)
class Devices:
    """Where a training computes.

    XLA divides the work of a step as the batch is divided and adds up the gradients, so that a
    model sees the whole batch, BatchNorm included: the result differs from that of one device by
    rounding only.

    Args:
        count: number of devices, >= 1.
    """

    count: int

    @classmethod
    def for_batches_of(cls, batch_size: int) -> Devices:
        """As many of this process's devices as divide the batch."""
        there = jax.local_device_count()
        return cls(max(n for n in range(1, there + 1) if batch_size % n == 0))

    def replicate(self, tree: Any) -> Any:
        """Every array on each device."""
        return jax.device_put(tree, self._sharding() if self.count > 1 else None)

    def place(self, batch: Mapping[str, Any]) -> dict[str, jax.Array]:
        """A batch {name: [N, ...] or scalar}, divided along its first axis."""
        if self.count == 1:
            return dict(jax.device_put(batch))
        divided = jax.tree.map(
            lambda v: self._sharding(_AXIS) if np.ndim(v) else self._sharding(), dict(batch)
        )
        return dict(jax.device_put(dict(batch), divided))

    def place_steps(self, array: np.ndarray) -> Any:
        """What a chunk of steps reads, [steps, N], divided along its second axis."""
        return jax.device_put(array, self._sharding(None, _AXIS)) if self.count > 1 else array

    def _sharding(self, *axes: str | None) -> Sharding:
        mesh = Mesh(np.array(jax.local_devices()[: self.count]), (_AXIS,))
        return NamedSharding(mesh, PartitionSpec(*axes))
