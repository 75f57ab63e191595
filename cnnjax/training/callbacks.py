"""What looks on at a training and may ask it to stop: functions of a `Moment`, `Callback`s."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp

from cnnjax.core.checks import whole_number
from cnnjax.core.processes import on_host
from cnnjax.core.text import plain, qualified_name, without_address
from cnnjax.models import Model
from cnnjax.training.own_step import State
from cnnjax.training.selection import copied


class Moment:
    """A moment of a training, in copies, as a callback sees it.

    `state` and `model` are made when they are asked for; `stop()` ends the training.

    Attributes:
        record: what there is to say, by name. At an epoch's end a copy of its line of
            metrics.jsonl; within an epoch its number, the steps of the training so far, the
            learning rate and the means over the epoch's examples so far.
        epoch: counted from 1.
        step: steps of the training so far.
    """

    def __init__(
        self,
        record: Mapping[str, Any],
        state: State,
        model: Model,
        stop: Callable[[], None],
    ):
        self.record: dict[str, Any] = copy.deepcopy(dict(record))
        self.epoch, self.step = int(record["epoch"]), int(record["step"])
        self._state: State | None = state
        self._model, self._stop = model, stop

    @cached_property
    def state(self) -> State:
        """The state of the training, in NumPy arrays.

        Raises:
            ValueError: once the callback has returned.
        """
        return copied(self._present("state"))

    @cached_property
    def model(self) -> Model:
        """The model as it would be evaluated now.

        Raises:
            ValueError: once the callback has returned.
        """
        variables = self._present("model").variables()
        return self._model.replace(
            variables=jax.tree.map(lambda leaf: jnp.array(on_host(leaf)), variables)
        )

    def stop(self) -> None:
        """Ask the training to end with this step: the epoch is closed, validated and recorded.

        The run is not failed: `fit` returns its result, and run.json says who stopped it and where.
        It stays stopped where it is resumed.
        """
        self._stop()

    def pass_by(self) -> None:
        """From here on the training goes on, and its arrays are no longer this moment's."""
        self._state = None

    def _present(self, what: str) -> State:
        if self._state is None:
            raise ValueError(
                f"{what} was asked of the moment of epoch {self.epoch}, step {self.step}, which "
                f"has passed: ask for it within the callback"
            )
        return self._state


class Callback:
    """What looks on at a training: subclass it and write one of its methods, or both.

    What it sees are copies, so that a training with it has the same bits as one without, unless it
    asks for a stop. An error that it raises ends the training, whose last checkpoint remains.

    Attributes:
        every: number of steps of the training, counted from its beginning, from one call of
            `on_step` to the next; None where there is no such method. Each call waits for the
            device. In the scanned form of an epoch it ends a chunk of steps, and a chunk of each
            length is compiled: a number that divides the steps of an epoch makes the fewest.

    >>> import cnnjax as cj
    >>> class Losses(cj.training.Callback):
    ...     every = 10
    ...     def __init__(self):
    ...         self.seen = []
    ...     def on_step(self, moment):
    ...         self.seen.append(moment.record["loss"])
    ...         if len(self.seen) == 3:
    ...             moment.stop()
    >>> losses = Losses()
    >>> run = cj.fit(cj.create_model("mlp", units=(8,)), cj.data.load("digits"),
    ...              callbacks=[losses], verbose=False)
    >>> run.history["step"].tolist(), len(losses.seen)
    ([23.0, 30.0], 3)
    """

    every: int | None = None

    def on_step(self, moment: Moment) -> None:
        """Called after every so many steps."""

    def on_epoch(self, moment: Moment) -> None:
        """Called at the end of each epoch, whose line is in metrics.jsonl then."""


class StopAt(Callback):
    """Stops a training after so many steps, where one that is trained again was stopped.

    Args:
        step: of the training, counted from 1.
    """

    def __init__(self, step: int):
        self.every = step

    def on_step(self, moment: Moment) -> None:
        """Stop."""
        moment.stop()


Observer = Callable[[Moment], object] | Callback


def check_callbacks(callbacks: Any) -> tuple[Callback, ...]:
    """The callbacks given to `fit`, in their order; a function becomes one.

    Raises:
        ValueError: if they are no sequence of functions and Callbacks, or one would be ignored.
    """
    if isinstance(callbacks, str) or not isinstance(callbacks, Sequence):
        raise ValueError(_wanted(callbacks))
    return tuple(map(_checked, callbacks))


def name_of(callback: Callback) -> str:
    """A callback as records name it."""
    function = callback.function if isinstance(callback, _AtEpochs) else type(callback)
    return plain(without_address(qualified_name(function)))


class _AtEpochs(Callback):
    """A function that is called at the end of each epoch."""

    def __init__(self, function: Callable[[Moment], object]):
        self.function = function

    def on_epoch(self, moment: Moment) -> None:
        self.function(moment)


def _checked(callback: Any) -> Callback:
    if isinstance(callback, type) and issubclass(callback, Callback):
        name = callback.__name__
        raise ValueError(f"callbacks holds the class {name}: give an object of it, {name}()")
    if not isinstance(callback, Callback):
        if not callable(callback):
            raise ValueError(_wanted(callback))
        return _AtEpochs(callback)
    name, every = type(callback).__name__, callback.every
    if every is not None:
        whole_number(f"every of {name}", every)
    if (every is not None) != (type(callback).on_step is not Callback.on_step):
        raise ValueError(
            f"every={every!r} of {name} does not fit its methods: every says after how many steps "
            "on_step is called, so a callback has both or neither"
        )
    return callback


def _wanted(given: Any) -> str:
    return (
        "callbacks must be a sequence of functions of a Moment, or of cj.training.Callback "
        f"objects, got {plain(without_address(repr(given)))}"
    )
