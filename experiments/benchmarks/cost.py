"""How the cost of a training grows with the work: images, resolution, batch, classes, devices.

One of them is varied at a time, by doublings, around the MNIST convnet at 28x28 with 64 images a
step; the sizes alternate within each round. A slope is the exponent b of `time = a size^b`, fitted
by least squares to the logarithms of a round: 1 where twice the work takes twice the time. Shown
are the median over the rounds and the range. An epoch is measured through `cj.fit`, without its
first one, which compiles; everything else is a step of its own, data at hand. Devices are those
that XLA makes of one CPU's cores, each measurement a process of its own: the cores stay as many, so
that a slope of 0 means that dividing the batch costs nothing. Memory is what a step needs at once:
arguments, results and temporary buffers.

Command:   python -m experiments.benchmarks.cost [--rounds 5] [--only batch] [--out cost.png]
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import tyro

from cnnjax.core.table import table
from experiments.benchmarks import peers

NET, SIDE, BATCH, CLASSES = "mnist_convnet", 28, 64, 10

Axis = Literal["images", "resolution", "batch", "classes", "devices"]
SIZES: dict[str, tuple[int, ...]] = {
    "images": (640, 1280, 2560, 5120),
    "resolution": (28, 56, 112),
    "batch": (16, 32, 64, 128, 256),
    "classes": (10, 100, 1000, 10_000),
    "devices": (1, 2),
}
_UNITS = {"resolution": "pixels a side", "batch": "images a step"}

_CHECKOUT = Path(__file__).resolve().parents[2]
_AT_LEAST = 0.1  # seconds of one measurement of a step


@dataclass(frozen=True)
class Config:
    """Options of the benchmark."""

    only: Axis | None = None
    """What is varied; None takes one after the other."""
    rounds: int = 5
    """Measurements of each size, alternating."""
    out: str | None = None
    """A PNG file with the figure; default: none is drawn."""


@dataclass(frozen=True)
class Growth:
    """What was measured along one axis.

    Args:
        sizes: what was varied.
        seconds: [rounds, sizes], of a step; along "images" of an epoch.
        memory: bytes of a step's program, of each size; None where it is the same.
    """

    sizes: tuple[int, ...]
    seconds: np.ndarray
    memory: tuple[int, ...] | None

    @property
    def slopes(self) -> list[float]:
        """The exponent of time, of each round."""
        return [slope(self.sizes, row) for row in self.seconds]


def slope(sizes: Sequence[float], values: Sequence[float] | np.ndarray) -> float:
    """The exponent b of `value = a size^b`, by least squares of the logarithms.

    >>> round(slope([1, 2, 4], [3, 12, 48]), 6)
    2.0
    """
    return float(np.polyfit(np.log(sizes), np.log(values), 1)[0])


def main(config: Config) -> None:
    """Measure, print a table, and draw."""
    import jax

    import cnnjax as cj
    from cnnjax.core.runtime import versions, visible_cores

    cj.configure_runtime()
    names = [config.only] if config.only else list(SIZES)
    grown = {name: measure(name, config.rounds) for name in names}
    print(
        f"{NET}, {visible_cores()} cores, {jax.default_backend()}, jax {versions()['jax']}, "
        f"medians of {config.rounds} rounds\n"
    )
    print(text(grown))
    if config.out:
        from cnnjax.plot import figures

        figures.save(draw(grown), Path(config.out))


def measure(axis: str, rounds: int) -> Growth:
    """Vary one thing.

    Args:
        axis: a name of `SIZES`.
        rounds: measurements of each size.
    """
    sizes = SIZES[axis]
    if axis == "images":
        of_size: dict[int, Callable[[], float]] = {n: _epoch_of(n) for n in sizes}
        memory = None
    elif axis == "devices":
        of_size, memory = {n: _on_devices(n) for n in sizes}, None
    else:
        steps = {n: _step(**_settings(axis, n)) for n in sizes}
        of_size = {n: seconds for n, (seconds, _) in steps.items()}
        memory = tuple(held for _, held in steps.values())
    names = {str(n): n for n in sizes}
    times = peers.alternate(list(names), rounds, lambda name, _: of_size[names[name]]())
    return Growth(sizes, np.array([times[name] for name in names]).T, memory)


def _settings(axis: str, size: int) -> dict[str, int]:
    name = {"resolution": "side", "batch": "batch", "classes": "classes"}[axis]
    return {"side": SIDE, "batch": BATCH, "classes": CLASSES} | {name: size}


def _step(side: int, batch: int, classes: int) -> tuple[Callable[[], float], int]:
    """(what measures seconds of a step, bytes of memory that it needs)."""
    import jax

    import cnnjax as cj
    from cnnjax.core.cost import cost_of
    from cnnjax.training import TrainState, make_optimizer, make_train_step

    model = cj.create_model(NET, input_shape=(side, side, 1), num_classes=classes)
    optimizer = make_optimizer(cj.TrainingConfig(), total_steps=1)
    rng = np.random.default_rng(0)
    data = jax.device_put(
        {
            "inputs": rng.integers(0, 256, (batch, side, side, 1), dtype=np.uint8),
            "labels": rng.integers(0, classes, batch).astype(np.int32),
        }
    )
    step = jax.jit(make_train_step(model, optimizer=optimizer), donate_argnums=0)
    held = cost_of(step.lower(TrainState.create(model, optimizer), data)).memory
    kept = [jax.block_until_ready(step(TrainState.create(model, optimizer), data)[0])]

    def seconds() -> float:
        began, count, state = time.perf_counter(), 0, kept.pop()
        while count < 3 or time.perf_counter() - began < _AT_LEAST:
            state, _ = jax.block_until_ready(step(state, data))
            count += 1
        kept.append(state)
        return (time.perf_counter() - began) / count

    return seconds, held


def _epoch_of(images: int) -> Callable[[], float]:
    """What measures seconds of an epoch of so many images."""
    import cnnjax as cj

    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (images, SIDE, SIDE, 1), dtype=np.uint8)
    data = pixels, rng.integers(0, CLASSES, images).astype(np.int32)
    model = cj.create_model(NET, input_shape=(SIDE, SIDE, 1), num_classes=CLASSES)

    def seconds() -> float:
        config = cj.TrainingConfig(epochs=2, batch_size=BATCH)
        return float(cj.fit(model, data, config, verbose=False).history["seconds"][1])

    return seconds


def _on_devices(count: int) -> Callable[[], float]:
    """What measures seconds of a step divided among so many devices, in a process of its own."""
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={count}"
    code = "from experiments.benchmarks import cost; cost.step_here()"

    def seconds() -> float:
        done = subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "XLA_FLAGS": flags.strip()},
            cwd=_CHECKOUT,
            capture_output=True,
            text=True,
            check=True,
        )
        return float(json.loads(done.stdout.strip().splitlines()[-1]))

    return seconds


def step_here() -> None:
    """Print seconds of a step of `cj.fit`, over an epoch, among all devices of this process."""
    import cnnjax as cj

    cj.configure_runtime()
    images = 20 * BATCH
    print(json.dumps(_epoch_of(images)() / (images / BATCH)))


def text(grown: Mapping[str, Growth]) -> str:
    """A row for each size, the slopes behind the first of each axis."""
    lines: list[Sequence[object]] = [("", "", "ms", "MiB", "slope of time", "of memory")]
    rules = []
    for name, one in grown.items():
        rules.append(len(lines))
        medians = 1e3 * np.median(one.seconds, axis=0)
        times, memory = peers.spread(one.slopes), "-"
        if one.memory:
            memory = f"{slope(one.sizes, one.memory):.2f}"
        for i, size in enumerate(one.sizes):
            held = f"{one.memory[i] / 2**20:,.1f}" if one.memory else "-"
            slopes = (times, memory) if i == 0 else ("", "")
            lines.append(("" if i else name, f"{size:,}", f"{medians[i]:,.1f}", held, *slopes))
    return table(lines, "<>", rules)


def draw(grown: Mapping[str, Growth]) -> Any:
    """Time against size, both logarithmic, with the fitted line; a panel for each axis."""
    from cnnjax.plot import figures

    figure = figures.new_figure(3.0 * len(grown), 2.8)
    for axes, (name, one) in zip(
        np.atleast_1d(figure.subplots(1, len(grown))), grown.items(), strict=True
    ):
        medians = 1e3 * np.median(one.seconds, axis=0)
        low, high = 1e3 * one.seconds.min(axis=0), 1e3 * one.seconds.max(axis=0)
        axes.errorbar(one.sizes, medians, [medians - low, high - medians], fmt="o", ms=4)
        b, a = np.polyfit(np.log(one.sizes), np.log(medians), 1)
        axes.plot(one.sizes, np.exp(a + b * np.log(one.sizes)), lw=1)
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xticks(one.sizes, [f"{size:,}" for size in one.sizes])
        axes.minorticks_off()
        axes.set_ylim(low.min() / 1.5, max(1.5 * high.max(), 10 * low.min()))  # a decade at least
        ends = [medians.min(), medians.max()]
        axes.set_yticks(ends, [f"{value:,.3g}" for value in ends])
        axes.set_xlabel(_UNITS.get(name, name))
        axes.set_ylabel("ms an epoch" if name == "images" else "ms a step")
        axes.set_title(f"slope {statistics.median(one.slopes):.2f}", fontsize="medium")
    return figure


if __name__ == "__main__":
    main(tyro.cli(Config, prog="python -m experiments.benchmarks.cost", description=__doc__))
