"""Progress for people: a bar on a terminal, one line an epoch elsewhere."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

_REDRAW_SECONDS = 0.3


class Progress:
    """Shows a training.

    Args:
        epochs: of the whole training.
        steps: an epoch.
        batch_size: to compute images/s.
        verbose: False shows nothing.
    """

    def __init__(self, epochs: int, steps: int, batch_size: int, verbose: bool = True):
        self.epochs, self.steps, self.batch_size = epochs, steps, batch_size
        self.verbose = verbose
        self._bar: Any = None
        self._task: Any = None
        self._last_draw = 0.0
        self._started = (0.0, 0)

    def start_epoch(self, epoch: int, step: int) -> None:
        """Begin to show an epoch, counted from 0, at a step within it."""
        self._started = (time.perf_counter(), step)
        self._last_draw = time.perf_counter()
        if not (self.verbose and _terminal()):
            return
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Bar

        self._bar = Bar(
            TextColumn(f"epoch {epoch + 1:>{len(str(self.epochs))}}/{self.epochs}"),
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            TextColumn("{task.fields[text]}"),
            TimeRemainingColumn(),
            transient=True,
        )
        self._task = self._bar.add_task("", total=self.steps, completed=step, text="")
        self._bar.start()

    def due(self) -> bool:
        """Whether it is time to redraw, which costs a look at the device."""
        return self._bar is not None and time.perf_counter() - self._last_draw > _REDRAW_SECONDS

    def update(self, step: int, means: Mapping[str, float]) -> None:
        """Redraw the bar at a step with the epoch's means so far."""
        self._last_draw = time.perf_counter()
        if self._bar is not None:
            text = f"loss {means['loss']:.4f}  accuracy {means['accuracy']:.4f}"
            text += f"  {self.rate(step):,.0f} images/s"
            self._bar.update(self._task, completed=step, text=text)

    def rate(self, step: int) -> float:
        """Images a second since the epoch was started."""
        began, first = self._started
        return (step - first) * self.batch_size / max(time.perf_counter() - began, 1e-9)

    def end_epoch(self, line: str) -> None:
        """Replace the bar by a line."""
        self.stop()
        if self.verbose:
            print(line, flush=True)

    def stop(self) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


def _terminal() -> bool:
    from rich.console import Console

    console = Console()
    return console.is_terminal and not console.is_jupyter


def epoch_line(epochs: int, record: Mapping[str, Any]) -> str:
    """The line that stays for an epoch."""
    parts = [f"epoch {record['epoch']:>{len(str(epochs))}}/{epochs}"]
    parts += [f"loss {record['loss']:.4f}", f"accuracy {record['accuracy']:.4f}"]
    if "val_loss" in record:
        parts += [
            f"val_loss {record['val_loss']:.4f}",
            f"val_accuracy {record['val_accuracy']:.4f}",
        ]
    parts.append(f"{record['images_per_second']:,.0f} images/s")
    return "  ".join(parts)
