"""Which epoch of a training is the best one, and when to wait no longer for a better one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax

from cnnjax.core.processes import is_key, key_of, on_host


class Selection:
    """The best epoch so far by a metric, usually of the validation data.

    Args:
        monitor: "loss", or another metric, which is a number; None takes the latest epoch for the
            best one.
        patience: number of epochs without a better one after which it is over; None: never.
        mode: whether "min" or "max" is best; None for the least loss, and the most of all else.
        part: what stands before its name in a record: "val_", or nothing before that of the
            training.

    Attributes:
        score: of the best epoch, higher is better; None before there is one, or without a monitor.
        best_epoch: counted from 1; 0 before there is one.
        best_step: steps of the training when it ended; None as for the score.
        stale_epochs: number of epochs since then.
        best_state: at its end, a copy in NumPy arrays; None as for the score.

    >>> selection = Selection("loss", patience=2)
    >>> [selection.update(i, i, {"val_loss": loss}, {}) for i, loss in enumerate((3, 1, 2, 2), 1)]
    [True, True, False, False]
    >>> selection.best_epoch, selection.is_over
    (2, True)
    """

    def __init__(
        self,
        monitor: str | None,
        patience: int | None = None,
        mode: str | None = None,
        part: str = "val_",
    ):
        self.monitor, self.patience, self.part = monitor, patience, part
        self.mode = mode or ("min" if monitor == "loss" else "max")
        self.score: float | None = None
        self.best_epoch = 0
        self.best_step: int | None = None
        self.stale_epochs = 0
        self.best_state: Any = None

    @property
    def is_over(self) -> bool:
        """Whether a better epoch was waited for long enough."""
        return self.patience is not None and self.stale_epochs >= self.patience

    def update(self, epoch: int, step: int, record: Mapping[str, float], state: Any) -> bool:
        """Compare an epoch with the best one so far; of equal ones the first is the best.

        Args:
            epoch: counted from 1.
            step: steps of the training so far.
            record: of the epoch, which has the monitored metric.
            state: any pytree of arrays, of which the best one is copied.

        Returns:
            Whether it is the best one by the monitored metric.
        """
        if self.monitor is None:
            self.best_epoch = epoch
            return False
        value = record[f"{self.part}{self.monitor}"]
        score = -value if self.mode == "min" else value
        if self.score is not None and not score > self.score:
            self.stale_epochs += 1
            return False
        self.score, self.best_epoch, self.best_step, self.stale_epochs = score, epoch, step, 0
        self.best_state = copied(state)
        return True


def copied(tree: Any) -> Any:
    """A tree in NumPy arrays, which no step donates; a typed random key stays one.

    All processes have to call it where an array is divided among them.
    """

    def copy(leaf: Any) -> Any:
        if not is_key(leaf):
            return on_host(leaf)
        return key_of(on_host(jax.random.key_data(leaf)), leaf)

    return jax.tree.map(copy, tree)
