"""Progress for people: a bar over the whole training on a terminal, one line per epoch anywhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from typing import Any

from cnnjax import metrics
from cnnjax.core.terminal import drawable

_REDRAW_SECONDS = 0.3


class Progress:
    """Shows a training.

    Args:
        epochs: of the whole training.
        steps: per epoch.
        batch_size: to show images per second.
        verbose: False shows nothing.
    """

    def __init__(self, epochs: int, steps: int, batch_size: int, verbose: bool = True):
        self.epochs, self.steps, self.batch_size = epochs, steps, batch_size
        self.verbose = verbose
        self._bar: Any = None
        self._task: Any = None
        self._epoch = 0
        self._last_draw = 0.0
        self._timed_from: tuple[float, int] | None = None  # after the compilation

    def start_epoch(self, epoch: int, step: int) -> None:
        """Begin to show an epoch, counted from 0, at a step within it."""
        self._epoch, self._timed_from = epoch, None
        self._last_draw = time.perf_counter()
        if self._bar is None and self.verbose and _terminal():
            self._start_bar(epoch * self.steps + step)

    def due(self) -> bool:
        """Whether it is time to redraw, which costs a look at the device."""
        return self._bar is not None and time.perf_counter() - self._last_draw > _REDRAW_SECONDS

    def update(self, step: int, means: Mapping[str, float]) -> None:
        """Redraw the bar with the steps of the epoch that are done and their means."""
        now = time.perf_counter()
        self._last_draw = now
        if self._bar is None:
            return
        text = _means(means)
        if self._timed_from is None:
            self._timed_from = (now, step)
        elif step > self._timed_from[1]:
            began, first = self._timed_from
            text += f"  {(step - first) * self.batch_size / (now - began):,.0f} img/s"
        self._bar.update(
            self._task,
            completed=self._epoch * self.steps + step,
            epoch=f"{self._epoch + 1}/{self.epochs}",
            text=text,
        )

    def end_epoch(self, line: str) -> None:
        """Leave a line for the epoch."""
        if not self.verbose:
            return
        if self._bar is None:
            print(line, flush=True)
        else:
            self._bar.console.print(line, highlight=False, soft_wrap=True)

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *error: object) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def _start_bar(self, done: int) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Bar

        self._bar = Bar(
            TextColumn("epoch {task.fields[epoch]}"),
            BarColumn(bar_width=24),
            TextColumn("{task.completed}/{task.total}"),
            TextColumn("{task.fields[text]}"),
            TimeRemainingColumn(),
            console=Console(file=drawable(sys.stdout)),
            transient=True,
        )
        total = self.epochs * self.steps
        epoch = f"{self._epoch + 1}/{self.epochs}"
        self._task = self._bar.add_task(
            "", total=total, completed=done, epoch=epoch, text="compiling"
        )
        self._bar.start()


def _terminal() -> bool:
    from rich.console import Console

    console = Console()
    return console.is_terminal and not console.is_jupyter


def epoch_line(epochs: int, record: Mapping[str, Any]) -> str:
    """The line that stays for an epoch."""
    parts = [f"epoch {record['epoch']:>{len(str(epochs))}}/{epochs}"]
    parts.append(_means(record))
    if "val_loss" in record:
        parts.append("val " + _means(record, "val_"))
    parts.append(f"{record['images_per_second']:,.0f} img/s")
    return "  ".join(parts)


def _means(record: Mapping[str, Any], prefix: str = "") -> str:
    metric = metrics.quality(record)
    short = {"accuracy": "acc", "absolute_error": "error"}.get(metric, metric)
    loss = f"loss {record[prefix + 'loss']:.4f}"
    # An objective may measure what validation does not.
    if metric == "loss" or prefix + metric not in record:
        return loss
    return f"{loss}  {short} {record[prefix + metric]:.4f}"
