"""How a training stops before its end: on request, or because the loss is no number."""

from __future__ import annotations

import signal
import threading
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

from cnnjax.core import processes


class NonFiniteLoss(ArithmeticError):
    """The loss, or what chooses the best epoch, became NaN or infinite."""


class NotFinite(ArithmeticError):
    """What became NaN or infinite, which is all that is known where it is seen.

    Args:
        what: e.g. "loss".
        value: that it became.
        step: of the epoch, counted from 1.
        undefined: whether it is a metric, while the loss is a number: then the data are to blame.
    """

    def __init__(self, what: str, value: float | str, step: int, *, undefined: bool = False):
        super().__init__(f"{what} became {value}")
        self.step, self.undefined = step, undefined


class Interrupted(KeyboardInterrupt):
    """A training that was stopped from outside, after saving what was done."""


def diverged(error: NotFinite, where: str, saved: str, rate: float | None) -> NonFiniteLoss:
    """A training whose numbers are none any more, which says what may help.

    Args:
        error: what was seen.
        where: the training stood then.
        saved: a clause that names the last good checkpoint.
        rate: the configured learning rate; None where something of the caller's takes its place.
    """
    was = "" if rate is None else f" (it was {rate:g})"
    advice = f"Try a smaller learning_rate{was}"
    if error.undefined:
        advice = (
            "The loss is a number, so this metric has nothing to measure in these data, e.g. no "
            "example of a class: monitor another one, or give data that have all that it counts"
        )
    return NonFiniteLoss(f"{error} in {where}; {saved}. {advice}")


def interrupted(where: str, directory: Path | None) -> Interrupted:
    """A training that was stopped, which says how it goes on.

    Args:
        where: it stood then.
        directory: of the run, where all is saved; None where it has none.
    """
    if directory is None:
        return Interrupted(f"stopped in {where}; nothing was saved, since no directory was given")
    return Interrupted(
        f"stopped in {where} and saved in {directory}: the same call with resume=True (on the "
        "command line: --resume) goes on from there"
    )


class StopSignals:
    """Ctrl-C and SIGTERM ask for a stop at the next step; a second Ctrl-C stops at once.

    Of several processes all stop after the same step, whichever got the signal.

    Attributes:
        requested: whether to stop now.
    """

    def __init__(self) -> None:
        self.requested = False
        self._asked = False
        self._several = processes.count() > 1
        self._before: dict[int, Any] = {}

    def __enter__(self) -> StopSignals:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def after(self, done: int) -> None:
        """Hear of the other processes after so many steps of the training.

        Raises:
            ProcessFailed: if another process failed or is lost.
        """
        if self._several:
            self.requested = processes.stops_after(done)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self._asked and number == signal.SIGINT:
            raise KeyboardInterrupt
        self._asked = True
        if self._several:
            processes.ask_to_stop()
        else:
            self.requested = True
