"""Where a training stands."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from cnnjax.metrics import packed, unpacked
from cnnjax.training.selection import Selection


@dataclass
class Position:
    """Where a training stands; all of it is in every checkpoint.

    Args:
        epochs: of the whole training.
        selection: of the best epoch so far.
        epoch: that it stands in, counted from 0; `epochs` at the end.
        step: steps of that epoch so far.
        totals: sums over the examples of that epoch so far.
        seconds: that the epoch took so far.
        data_seconds: of these, those spent waiting for data.
        stream: epoch begun last and hash of its first batch, where a stream is trained on.
        stopped: epoch and step in which a callback asked for the end, and by whom; None: none did.
    """

    epochs: int
    selection: Selection
    epoch: int = 0
    step: int = 0
    totals: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    data_seconds: float = 0.0
    stream: dict[str, Any] | None = None
    stopped: dict[str, Any] | None = None

    @property
    def is_over(self) -> bool:
        """Whether there is nothing left to train.

        A finished training that is prolonged goes on; one that was stopped early, or by a callback,
        stays stopped.
        """
        return self.epoch >= self.epochs or self.selection.is_over or self.stopped is not None

    @property
    def epochs_begun(self) -> int:
        """Number of epochs of which at least a step is done."""
        return self.epoch + (self.step > 0)

    def stop(self, by: str, record: Mapping[str, Any]) -> None:
        """Let the training end with a step, as somebody asks for, of several the first.

        Args:
            by: whom, as records name it.
            record: of the moment, with its epoch, counted from 1, and the steps of the training.
        """
        if self.stopped is None:
            self.stopped = {"epoch": record["epoch"], "step": record["step"], "by": by}

    def next_epoch(self) -> None:
        """Go to the beginning of the next epoch."""
        self.epoch, self.step, self.totals = self.epoch + 1, 0, {}
        self.seconds = self.data_seconds = 0.0

    def as_json(self) -> dict[str, Any]:
        """As checkpoints hold it, all but the state of the best epoch, by the names on disk."""
        return {
            "epoch": self.epoch,
            "step": self.step,
            "totals": packed(self.totals),
            "seconds": self.seconds,
            "waiting": self.data_seconds,
            "best": self.selection.score,
            "best_epoch": self.selection.best_epoch,
            "best_step": self.selection.best_step,
            "waited": self.selection.stale_epochs,
            "stopped": self.stopped,
            "stream": self.stream,
        }

    def restore(self, progress: Mapping[str, Any]) -> None:
        """Go to where `as_json` was taken; the state of the best epoch is left as it is."""
        self.epoch, self.step = progress["epoch"], progress["step"]
        self.totals = unpacked(progress["totals"])
        self.seconds, self.data_seconds = progress["seconds"], progress["waiting"]
        self.selection.score = progress["best"]
        self.selection.best_epoch = progress["best_epoch"]
        self.selection.best_step = progress["best_step"]
        self.selection.stale_epochs = progress["waited"]
        # Earlier versions had neither.
        self.stopped, self.stream = progress.get("stopped"), progress.get("stream")
