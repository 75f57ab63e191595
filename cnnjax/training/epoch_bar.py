"""Progress for people: a bar on a terminal or in a notebook, one line per epoch anywhere."""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np

from cnnjax import metrics
from cnnjax.core.terminal import drawable

_REDRAW_SECONDS = 0.3
_SHORT = {"accuracy": "acc", "absolute_error": "error"}
_MOST_METRICS = 3  # in a line
_NOTEBOOK_SECONDS = 2.0  # of an epoch, after which a notebook shows a bar: short ones need none


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
        self._bar: _Bar | None = None
        self._epoch = 0
        self._last_draw = 0.0
        self._timed_from: tuple[float, int] | None = None  # after the compilation

    def start_epoch(self, epoch: int, step: int) -> None:
        """Begin to show an epoch, counted from 0, at a step within it."""
        self._epoch, self._timed_from = epoch, None
        self._last_draw = time.perf_counter()
        if self._bar is None and self.verbose:
            if _kernel():
                self._bar = _NotebookBar(self.epochs, self.steps)
            elif _terminal():
                self._bar = _TerminalBar(self.epochs, self.steps, epoch * self.steps + step)

    def due(self) -> bool:
        """Whether it is time to redraw, which costs a look at the device."""
        return self._bar is not None and time.perf_counter() - self._last_draw > _REDRAW_SECONDS

    def update(self, step: int, means: Mapping[str, Any]) -> None:
        """Redraw the bar with the steps of the epoch that are done and their means, but tables."""
        now = time.perf_counter()
        self._last_draw = now
        if self._bar is None:
            return
        text = _means({name: value for name, value in means.items() if not np.ndim(value)})
        if self._timed_from is None:
            self._timed_from = (now, step)
        elif step > self._timed_from[1]:
            began, first = self._timed_from
            text += f"  {(step - first) * self.batch_size / (now - began):,.0f} img/s"
        self._bar.update(self._epoch, step, text)

    def end_epoch(self, line: str) -> None:
        """Leave a line for the epoch."""
        if not self.verbose:
            return
        if self._bar is None:
            print(line, flush=True)
        else:
            self._bar.end_epoch(line)

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *error: object) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None


class _Bar(Protocol):
    """What shows steps, and lines of epochs."""

    def update(self, epoch: int, step: int, text: str) -> None: ...

    def end_epoch(self, line: str) -> None: ...

    def close(self) -> None: ...


class _TerminalBar:
    """One over the whole training, below the lines."""

    def __init__(self, epochs: int, steps: int, done: int):
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        self.epochs, self.steps = epochs, steps
        self._bar = Progress(
            TextColumn("epoch {task.fields[epoch]}"),
            BarColumn(bar_width=24),
            TextColumn("{task.completed}/{task.total}"),
            TextColumn("{task.fields[text]}"),
            TimeRemainingColumn(),
            console=Console(file=drawable(sys.stdout)),
            transient=True,
        )
        epoch = f"{done // steps + 1}/{epochs}"
        self._task = self._bar.add_task(
            "", total=epochs * steps, completed=done, epoch=epoch, text="compiling"
        )
        self._bar.start()

    def update(self, epoch: int, step: int, text: str) -> None:
        self._bar.update(
            self._task,
            completed=epoch * self.steps + step,
            epoch=f"{epoch + 1}/{self.epochs}",
            text=text,
        )

    def end_epoch(self, line: str) -> None:
        self._bar.console.print(line, highlight=False, soft_wrap=True)

    def close(self) -> None:
        self._bar.stop()


class _NotebookBar:
    """One an epoch that takes long, gone when its line is there."""

    def __init__(self, epochs: int, steps: int):
        self.epochs, self.steps = epochs, steps
        self._bar: Any = None
        self._began = time.perf_counter()

    def update(self, epoch: int, step: int, text: str) -> None:
        if self._bar is None:
            if time.perf_counter() - self._began < _NOTEBOOK_SECONDS:
                return
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # that without ipywidgets it is a text
                from tqdm.auto import tqdm
            name = f"epoch {epoch + 1}/{self.epochs}"
            # Not stderr, on which notebooks show everything as an error.
            self._bar = tqdm(
                total=self.steps, initial=step, desc=name, leave=False, file=sys.stdout
            )
        self._bar.n = step
        self._bar.set_postfix_str(text, refresh=False)
        self._bar.refresh()

    def end_epoch(self, line: str) -> None:
        self.close()
        print(line, flush=True)
        self._began = time.perf_counter()

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None


def _terminal() -> bool:
    from rich.console import Console

    console = Console()
    return console.is_terminal and not console.is_jupyter


def _kernel() -> bool:
    """Whether this is the kernel of a notebook."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    return shell is not None and "IPKernelApp" in shell.config


def epoch_line(epochs: int, record: Mapping[str, Any]) -> str:
    """The line that stays for an epoch."""
    parts = [f"epoch {record['epoch']:>{len(str(epochs))}}/{epochs}"]
    parts.append(_means(record))
    if "val_loss" in record:
        parts.append("val " + _means(record, "val_"))
    parts.append(f"{record['images_per_second']:,.0f} img/s")
    return "  ".join(parts)


def _means(record: Mapping[str, Any], prefix: str = "") -> str:
    """The loss and the first metrics that are numbers."""
    # An objective may measure what validation does not.
    measured = dict.fromkeys((metrics.quality(record), *metrics.scalars(record)))
    known = [name for name in measured if name != "loss" and prefix + name in record]
    figures = [f"{_SHORT.get(name, name)} {_figure(record[prefix + name])}" for name in known]
    return "  ".join([f"loss {record[prefix + 'loss']:.4f}", *figures[:_MOST_METRICS]])


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
