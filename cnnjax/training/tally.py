"""The sums of an epoch's steps, which stay on the device until they are looked at."""

from __future__ import annotations

from collections.abc import Mapping

import jax
import numpy as np

from cnnjax import metrics
from cnnjax.training.dispatch import Sums
from cnnjax.training.stopping import NotFinite

# Dispatches that may wait on the device: enough to keep it busy.
AHEAD = 4


class Tally:
    """Sums that the device may not have computed yet; none is fetched step by step."""

    def __init__(self) -> None:
        # Each with the steps of the epoch done after it.
        self._pending: list[tuple[int, Sums]] = []

    def __len__(self) -> int:
        """Number of dispatches that are not fetched."""
        return len(self._pending)

    def add(self, step: int, sums: Sums) -> None:
        """Take the sums of a dispatch, and wait where too many are not computed.

        Args:
            step: steps of the epoch done after it.
            sums: of its steps, [k] each, or of a single one.
        """
        self._pending.append((step, sums))
        if len(self._pending) > AHEAD:
            # The device keeps its queue full; people see where it really is.
            jax.block_until_ready(self._pending[-AHEAD])

    def fetch(self, totals: Mapping[str, float], leave: int = 0) -> dict[str, float]:
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
        for done, sums in ready:
            host = {k: np.atleast_1d(v) for k, v in jax.device_get(sums).items()}
            steps = len(host["loss"])
            for i in range(steps):
                one = {k: v[i] for k, v in host.items()}
                if not np.isfinite(one["loss"]):
                    raise NotFinite("loss", float(one["loss"]), done - steps + i + 1)
                result = metrics.add(result, one)
        return result
