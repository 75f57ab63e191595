"""What freezing saves: compilation, work, time and memory of a training step.

A backbone with a head of its own is trained as a whole, from its top block on, and in its head
alone. Frozen layers get no gradient, so all but their forward pass disappears from the program.
Compilation is that of an empty cache; the steps of the three alternate within each round, and a
time is the median over the rounds. FLOPs are XLA's count, memory its temporary buffers at peak.

Command:   python -m experiments.benchmarks.freezing [--model vgg16] [--rounds 5]
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import jax
import numpy as np
import tyro

import cnnjax as cj
from cnnjax.core.runtime import visible_cores
from cnnjax.core.table import table
from cnnjax.training import TrainState, make_optimizer, make_train_step
from cnnjax.transfer import Head, base_layers, layers_before, replace_head
from experiments.benchmarks import peers

# The first layer of each top block.
TOP_BLOCKS = {"vgg16": "block5_conv1", "mobilenet": "conv_dw_13"}


@dataclass(frozen=True)
class Config:
    """Options of the benchmark."""

    model: Literal["vgg16", "mobilenet"] | None = None
    """Which backbone; None measures both."""
    size: int = 150
    """Height and width of the images."""
    batch: int = 20
    """Images a step."""
    units: int = 256
    """Width of the head's hidden layer."""
    rounds: int = 5
    """Alternations of the three."""


@dataclass(frozen=True)
class Row:
    """What a training step takes.

    Args:
        trained: number of parameters that are trained.
        compile_seconds: from Python to a program.
        flops: of a step.
        step_seconds: median.
        temporary_bytes: peak of the temporary buffers.
    """

    trained: int
    compile_seconds: float
    flops: float
    step_seconds: float
    temporary_bytes: int


def main(config: Config) -> None:
    """Measure and print a table per backbone."""
    cj.configure_runtime(compilation_cache=False)
    for name in [config.model] if config.model else TOP_BLOCKS:
        base = cj.create_model(name, include_top=False, input_shape=(config.size, config.size, 3))
        model = replace_head(base, Head(1, units=(config.units,), dropout=0.5))
        cuts = {
            "all trained": (),
            f"{TOP_BLOCKS[name]} on": layers_before(model, TOP_BLOCKS[name]),
            "base frozen": base_layers(model),
        }
        print(
            f"{name}, {config.size}x{config.size}, batch {config.batch}, RMSprop, "
            f"{jax.default_backend()}, {visible_cores()} cores, medians of {config.rounds}:"
        )
        print(text(measure(model, cuts, config.batch, config.rounds)), flush=True)


def measure(
    model: cj.Model, cuts: Mapping[str, Sequence[str]], batch: int, rounds: int
) -> dict[str, Row]:
    """A row for each way to freeze.

    Args:
        model: with a head.
        cuts: name -> frozen layers.
        batch: images a step.
        rounds: alternations of the steps.
    """
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (batch, *model.spec.input_shape), dtype=np.uint8)
    data = jax.device_put({"inputs": images, "labels": np.arange(batch, dtype=np.int32) % 2})
    optimizer = make_optimizer(cj.TrainingConfig(learning_rate=1e-5), rounds)
    states: dict[str, TrainState] = {}
    programs: dict[str, Any] = {}
    compiling: dict[str, float] = {}
    for name, frozen in cuts.items():
        states[name] = TrainState.create(model, optimizer, frozen=frozen)
        step = jax.jit(make_train_step(model, None, optimizer, frozen), donate_argnums=0)
        began = time.perf_counter()
        programs[name] = step.lower(states[name], data).compile()
        compiling[name] = time.perf_counter() - began
        states[name], _ = jax.block_until_ready(programs[name](states[name], data))

    def seconds(name: str, _: int) -> float:
        began = time.perf_counter()
        states[name], _ = jax.block_until_ready(programs[name](states[name], data))
        return time.perf_counter() - began

    times = peers.alternate(list(cuts), rounds, seconds)
    return {
        name: Row(
            trained=sum(leaf.size for leaf in jax.tree.leaves(states[name].trained)),
            compile_seconds=compiling[name],
            flops=_flops(program),
            step_seconds=statistics.median(times[name]),
            temporary_bytes=int(program.memory_analysis().temp_size_in_bytes),
        )
        for name, program in programs.items()
    }


def text(rows: Mapping[str, Row]) -> str:
    """The table, with the shares of the first row behind each figure."""
    first = next(iter(rows.values()))

    def share(value: float, of: float) -> str:
        return f"{100 * value / of:4.0f} %"

    lines: list[Sequence[str]] = [("", "trained", "compile s", "GFLOP", "step ms", "temporary MiB")]
    for name, row in rows.items():
        cells = [
            (row.compile_seconds, first.compile_seconds, 1.0, 1),
            (row.flops, first.flops, 1e-9, 1),
            (row.step_seconds, first.step_seconds, 1e3, 0),
            (row.temporary_bytes, first.temporary_bytes, 2.0**-20, 0),
        ]
        shown = [f"{v * unit:,.{digits}f} {share(v, of)}" for v, of, unit, digits in cells]
        lines.append((name, f"{row.trained:,}", *shown))
    return table(lines)


def _flops(program: Any) -> float:
    analysis = program.cost_analysis()
    return float((analysis[0] if isinstance(analysis, list) else analysis)["flops"])


if __name__ == "__main__":
    main(tyro.cli(Config, prog="python -m experiments.benchmarks.freezing", description=__doc__))
