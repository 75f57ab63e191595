"""The callbacks and loggers of a training, and when each is due."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from types import TracebackType
from typing import Any

from cnnjax.core import processes
from cnnjax.models import Model
from cnnjax.training.callbacks import Callback, Moment, name_of
from cnnjax.training.dispatch import Dispatched, Dispatcher
from cnnjax.training.loggers import Beginning, Logger
from cnnjax.training.own_step import State
from cnnjax.training.position import Position
from cnnjax.training.profile import Profile


class Hooks:
    """Calls those who look on; loggers are finished at the end of the `with` block.

    Args:
        callbacks, loggers: checked.
        model: that is trained.
        position: whose `stopped` is set where a callback asks for it.

    Attributes:
        every: after how many steps of the training one is due, each number once.
        outcome: the status and the results that loggers are told at the end.
    """

    def __init__(
        self,
        callbacks: Sequence[Callback],
        loggers: Sequence[Logger],
        model: Model,
        position: Position,
    ):
        self.callbacks, self.loggers = callbacks, loggers
        self.model, self.position = model, position
        everys = [*(c.every for c in callbacks), *(logger.every for logger in loggers)]
        self.every = tuple(sorted({n for n in everys if n is not None}))
        if not processes.is_first():
            self.loggers = ()  # their numbers are those of all
        self.outcome: tuple[str, Mapping[str, float]] | None = None
        self._profile = _only_profile(callbacks)
        self._started = ExitStack()

    def __enter__(self) -> Hooks:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._started.__exit__(kind, error, trace)
        if kind is None and self._profile:
            self._profile.end()

    def start(self, beginning: Beginning) -> None:
        """Start the loggers."""
        for logger in self.loggers:
            self._started.push(partial(self._finish, logger))
            logger.start(beginning)

    def dispatches(
        self, dispatcher: Dispatcher, batch: Mapping[str, Any], state: State
    ) -> Iterator[Dispatched]:
        """The dispatches of an epoch, or of the rest of it, profiled where that is asked for.

        Args:
            dispatcher: of the training.
            batch: any one of the training.
            state: before them.
        """
        epoch, start = self.position.epoch, self.position.step
        if self._profile is None:
            return dispatcher.run(state, epoch, start)
        return self._profile.over(dispatcher, batch, state, epoch, start)

    def due(self, before: int, after: int) -> bool:
        """Whether somebody is to be called between two numbers of steps of the training."""
        return any(_due(n, before, after) for n in self.every)

    def on_step(
        self, before: int, record: Mapping[str, Any], state: State, *, at_end: bool
    ) -> None:
        """Call whoever is due after a dispatch.

        Args:
            before: steps of the training before it.
            record: up to now.
            state: now.
            at_end: whether the epoch ends here, of which the loggers get a line anyway.
        """
        step = int(record["step"])
        for callback in self.callbacks:
            if _due(callback.every, before, step):
                self._call(callback, "on_step", record, state)
        self._agree()
        if at_end or self.position.stopped:
            return
        for logger in self.loggers:
            if _due(logger.every, before, step):
                logger.log(dict(record))

    def on_epoch(self, record: Mapping[str, Any], state: State) -> None:
        """Call all at the end of an epoch."""
        try:
            for callback in self.callbacks:
                self._call(callback, "on_epoch", record, state)
        finally:  # after an error of theirs, too, all processes come to the checkpoint
            self._agree()
        for logger in self.loggers:
            logger.log(dict(record))

    def _agree(self) -> None:
        """Of several processes the first one's callbacks decide whether it is over."""
        if self.callbacks:
            self.position.stopped = processes.agreed(lambda: self.position.stopped)

    def _call(
        self, callback: Callback, method: str, record: Mapping[str, Any], state: State
    ) -> None:
        stop = partial(self.position.stop, name_of(callback), record)
        moment = Moment(record, state, self.model, stop)
        try:
            getattr(callback, method)(moment)
        finally:
            moment.pass_by()

    def _finish(
        self,
        logger: Logger,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        interrupted = kind is not None and issubclass(kind, KeyboardInterrupt)
        status, results = self.outcome or ("interrupted" if interrupted else "failed", {})
        logger.finish(status, results)


def _only_profile(callbacks: Sequence[Callback]) -> Profile | None:
    profiles = [callback for callback in callbacks if isinstance(callback, Profile)]
    if len(profiles) > 1:
        raise ValueError(f"callbacks must hold one Profile at most, got {len(profiles)}")
    if profiles and (count := processes.count()) > 1:
        raise ValueError(
            f"a Profile measures a single process, and there are {count}: measure one with its "
            "devices alone"
        )
    if profiles and profiles[0].used:
        raise ValueError(
            "callbacks holds a Profile that has seen a training already: make another one"
        )
    return profiles[0] if profiles else None


def _due(every: int | None, before: int, after: int) -> bool:
    return every is not None and after // every > before // every
