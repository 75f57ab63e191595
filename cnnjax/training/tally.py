"""The sums of an epoch's steps, which stay on the device until they are looked at."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from cnnjax import metrics
from cnnjax.training.dispatch import Sums
from cnnjax.training.stopping import NotFinite

# Dispatches that may wait on the device: enough to keep it busy.
AHEAD = 4

# Bytes that may: those of a large table for each step would fill the device.
_MOST_BYTES = 64 << 20


class Tally:
    """Sums that the device may not have computed yet; none is fetched step by step.

    Args:
        finite: whether a loss that is not is an error.
    """

    def __init__(self, *, finite: bool = True) -> None:
        self._finite = finite
        # Each with the steps of the epoch done after it.
        self._pending: list[tuple[int, Sums]] = []
        self._bytes = 0  # of one of them

    def __len__(self) -> int:
        """Number of dispatches that are not fetched."""
        return len(self._pending)

    @property
    def full(self) -> bool:
        """Whether it is time to fetch what is computed."""
        return len(self._pending) > 2 * AHEAD and len(self._pending) * self._bytes > _MOST_BYTES

    def add(self, step: int, sums: Sums) -> None:
        """Take the sums of a dispatch, and wait where too many are not computed.

        Args:
            step: steps of the epoch done after it.
            sums: of its steps, [k] each, or of a single one.
        """
        self._pending.append((step, sums))
        self._bytes = self._bytes or sum(leaf.nbytes for leaf in jax.tree.leaves(sums))
        if len(self._pending) > AHEAD:
            # The device keeps its queue full; people see where it really is.
            jax.block_until_ready(self._pending[-AHEAD])

    def fetch(self, totals: Mapping[str, Any], leave: int = 0) -> dict[str, Any]:
        """Totals with the sums of all but the last dispatches, which are then forgotten.

        Args:
            totals: of the epoch before.
            leave: number of dispatches that stay.

        Raises:
            NotFinite: for the first step whose loss is not finite.
        """
        cut = max(len(self._pending) - leave, 0)
        ready, self._pending = self._pending[:cut], self._pending[cut:]
        result = dict(totals)
        fetched = jax.device_get([sums for _, sums in ready])
        for (done, _), host in zip(ready, fetched, strict=True):
            stacked = np.ndim(host["loss"]) > 0
            steps = len(host["loss"]) if stacked else 1
            for i in range(steps):
                one = {k: _row(v, i) for k, v in host.items()} if stacked else host
                if self._finite and not np.isfinite(one["loss"]):
                    raise NotFinite("loss", float(one["loss"]), done - steps + i + 1)
                result = metrics.add(result, one)
        return result


def _row(sums: Any, step: int) -> Any:
    return sums[step] if isinstance(sums, np.ndarray) else jax.tree.map(lambda v: v[step], sums)
