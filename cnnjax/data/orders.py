"""Random orders of epochs, of which the next one is made while the one before is used."""

from __future__ import annotations

import threading
from concurrent.futures import Future

import numpy as np

from cnnjax.core import rng
from cnnjax.data.pixels.decoding import decoders

# An order of fewer examples takes a few milliseconds.
_WORTH_A_THREAD = 2**16


class Orders:
    """Orders of examples, a pure function of the seed and the epoch.

    Args:
        count: of examples.
        seed: of the orders.
    """

    def __init__(self, count: int, seed: int):
        self._count, self._seed = count, seed
        self._lock = threading.Lock()
        self._last: tuple[int, np.ndarray] | None = None
        self._next: tuple[int, Future[np.ndarray]] | None = None

    def __call__(self, epoch: int) -> np.ndarray:
        """That of an epoch, int64 [N]."""
        with self._lock:
            if self._last is None or self._last[0] != epoch:
                self._last = epoch, self._order(epoch)
            return self._last[1]

    def _order(self, epoch: int) -> np.ndarray:
        if self._count < _WORTH_A_THREAD:
            return self._made(epoch)
        begun = self._next is not None and self._next[0] == epoch
        order = self._next[1].result() if begun and self._next else self._made(epoch)
        self._next = epoch + 1, decoders().submit(self._made, epoch + 1)
        return order

    def _made(self, epoch: int) -> np.ndarray:
        return rng.permutation(self._count, self._seed, "order", epoch)

    def __reduce__(self) -> tuple[type[Orders], tuple[int, int]]:
        return Orders, (self._count, self._seed)
