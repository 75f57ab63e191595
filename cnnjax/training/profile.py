"""A look at the speed of a training: a trace of some steps, and what of the device a step uses."""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Generator, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax

from cnnjax.core import processes
from cnnjax.core.checks import whole_number
from cnnjax.core.cost import cost_of
from cnnjax.core.places import expanded
from cnnjax.core.program import program
from cnnjax.core.runtime import compiler_options
from cnnjax.core.storage import write_text
from cnnjax.core.text import plain
from cnnjax.training.callbacks import Callback
from cnnjax.training.dispatch import Dispatched, Dispatcher
from cnnjax.training.own_step import State
from cnnjax.training.speed import Interval, figures, text

FIGURES = "profile.json"

_SWITCH_SECONDS = 1e-4


class Profile(Callback):
    """Measures some steps of a training and traces others, once; one of `fit`'s callbacks.

    After the first steps, and the first chunk of each length, which compile, it measures `steps`,
    whose completion another thread awaits, so that nothing waits that else would not. Then the next
    `traced` are recorded by `jax.profiler`, which slows them down. At last a table is printed, and
    written as profile.json. The bits of the training are the same with and without.

    Of a scanned epoch a dispatch, which is a chunk of steps, is measured or traced as a whole: give
    `steps_per_dispatch` where an epoch is one chunk and the epochs are few. A training that is over
    before is said to be, and shown as far as it was measured.

    Args:
        directory: for profile.json and the trace, which xprof, TensorBoard's profiler and Perfetto
            show.
        steps: that are measured, >= 1.
        skipped: first ones that are not, >= 1.
        traced: that are traced, >= 1.

    Attributes:
        figures: what profile.json has, once it is measured; else None.

    Raises:
        ValueError: for a number of steps that is none.

    >>> import tempfile, cnnjax as cj
    >>> profile = cj.training.Profile(tempfile.mkdtemp(), steps=10)
    >>> run = cj.fit(cj.create_model("mlp", units=(8,)), cj.data.load("digits"),
    ...              callbacks=[profile], verbose=False)  # doctest: +ELLIPSIS
    <BLANKLINE>
    profile of 10 steps in ...
    >>> profile.figures["steps"]
    10
    """

    def __init__(
        self, directory: str | Path, *, steps: int = 30, skipped: int = 5, traced: int = 5
    ):
        for name, value in (("steps", steps), ("skipped", skipped), ("traced", traced)):
            whole_number(f"{name} of a Profile", value)
        self.directory = expanded(directory)
        self.skipped, self.traced = skipped, traced
        self.steps = steps
        self.figures: dict[str, Any] | None = None
        self._intervals = _Intervals(skipped)
        self._program: tuple[Dispatcher, Any, Any] | None = None

    @property
    def used(self) -> bool:
        """Whether it has seen a training."""
        return self._program is not None

    def over(
        self, dispatcher: Dispatcher, batch: Mapping[str, Any], state: State, epoch: int, start: int
    ) -> Iterator[Dispatched]:
        """The dispatches of an epoch, of which some are measured.

        Args:
            dispatcher: of the training.
            batch: of the training, of which only the shapes matter.
            state, epoch, start: as `Dispatcher.run` has them.
        """
        dispatches = dispatcher.run(state, epoch, start)
        if self.figures is None:
            self.directory.mkdir(parents=True, exist_ok=True)
            shapes = _shapes((state, dispatcher.devices.place(batch)), dispatcher.devices.count)
            self._program = (dispatcher, *shapes)
            done = yield from self._measured(dispatches, start)
            if self._intervals.timed >= self.steps and done < dispatcher.loader.steps:
                yield from self._recorded(dispatches, done)
        yield from dispatches

    def end(self) -> None:
        """At the end of a training that was too short, show what was measured."""
        if self.figures is None:
            self._finish()

    def _measured(
        self, dispatches: Iterator[Dispatched], done: int
    ) -> Generator[Dispatched, None, int]:
        """The dispatches up to the end of what is to be measured, or of the epoch; its steps."""
        one = None
        with ThreadPoolExecutor(1) as waiter, _quick_threads():
            began = waiter.submit(time.perf_counter)
            while self._intervals.timed < self.steps:
                if (one := next(dispatches, None)) is None:
                    return done
                ended = waiter.submit(_ready, one.sums)
                self._intervals.add(Interval(one.step - done, one.data_seconds, began, ended))
                began, done = ended, one.step
                yield one
        jax.block_until_ready(one and one.sums)  # so that the trace begins with what follows
        return done

    def _recorded(self, dispatches: Iterator[Dispatched], done: int) -> Iterator[Dispatched]:
        """The dispatches that are traced."""
        options = jax.profiler.ProfileOptions()
        options.python_tracer_level = 0  # every call of Python would hide the rest
        until, one = done + self.traced, None
        with jax.profiler.trace(self.directory, profiler_options=options):
            while done < until and (one := next(dispatches, None)) is not None:
                done = one.step
                jax.block_until_ready(one.sums)
                yield one
        self._finish()

    def _finish(self) -> None:
        """Compute the figures, write and print them."""
        timed = self._intervals.kept
        if not timed or self._program is None:
            _say(
                f"nothing was profiled: the training was over after {self._intervals.seen} steps, "
                "which it needs to warm up: give it more epochs, or a smaller steps_per_dispatch"
            )
            return
        dispatcher, state, batch = self._program
        config = dispatcher.config
        options = compiler_options(config.deterministic, recomputed=config.remat != "none")
        step = jax.jit(dispatcher.step, donate_argnums=0, compiler_options=options)
        traced = step.trace(state, batch)
        self.figures = figures(
            timed,
            cost_of(traced.lower()),
            dispatcher.devices.count,
            config.batch_size,
            config.precision,
            loops=not {"scan", "while"}.isdisjoint(program(traced)["counts"]),
        )
        if processes.is_first():
            write_text(self.directory / FIGURES, json.dumps(self.figures, indent=1) + "\n")
        _say(
            f"profile of {self.figures['steps']} steps in {plain(self.directory)}\n"
            f"{text(self.figures)}"
        )


class _Intervals:
    """The dispatches that are measured: not the first ones, nor the first one of each length."""

    def __init__(self, skipped: int):
        self.skipped, self.seen, self.timed = skipped, 0, 0
        self.kept: list[Interval] = []
        self._lengths: set[int] = set()

    def add(self, one: Interval) -> None:
        """Count a dispatch, and keep it where it is no warming up."""
        warm = one.steps in self._lengths and self.seen >= self.skipped
        self._lengths.add(one.steps)
        self.seen += one.steps
        if warm:
            self.kept.append(one)
            self.timed += one.steps


@contextlib.contextmanager
def _quick_threads() -> Iterator[None]:
    """Let a thread that wakes up see the clock at once, and not after Python's usual 5 ms."""
    usual = sys.getswitchinterval()
    sys.setswitchinterval(_SWITCH_SECONDS)
    try:
        yield
    finally:
        sys.setswitchinterval(usual)


def _say(text: str) -> None:
    """Print from the first of several processes."""
    if processes.is_first():
        print(f"\n{text}")


def _ready(sums: Any) -> float:
    jax.block_until_ready(sums)
    return time.perf_counter()


def _shapes(tree: Any, devices: int) -> Any:
    """The shapes of arrays, which are donated, and where they lie if that is on several devices."""
    return jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(
            leaf.shape,
            leaf.dtype,
            sharding=leaf.sharding if devices > 1 else None,
            weak_type=leaf.weak_type,
        ),
        tree,
    )
