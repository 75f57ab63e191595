"""Many seeds of one training: what a step of one costs beside others, in three ways.

alone        one replica after the other, each a compiled step of its own: what `cj.sweep` does.
interleaved  a step of each in turn, so that several are under way at once.
vmapped      all replicas in one program by `jax.vmap`, on the im2col engine, where a convolution
             with a kernel per replica is a batched matrix product.

The ways alternate within a round; times are per replica and step, ratios are taken within a round.

Command:   python -m experiments.benchmarks.many_seeds [--model mlp] [--replicas 8]
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tyro

import cnnjax as cj
from cnnjax.core.runtime import visible_cores
from cnnjax.training import TrainState, make_optimizer, make_train_step
from experiments.benchmarks import peers

# Batches that differ, so that nothing is computed once for all.
_BATCHES = 8

# Runs so many steps of every replica; seconds per replica and step.
Way = Callable[[int], float]


@dataclass(frozen=True)
class Config:
    """Options of the benchmark."""

    model: str | None = None
    """A name from `cnnjax list`; None measures mlp, mnist_convnet and lenet."""
    replicas: int = 8
    """How many train at once."""
    batch: int = 64
    """Images a step, of each."""
    steps: int = 20
    """Of each replica, in a measurement."""
    rounds: int = 5
    """Alternations of the three ways."""


def main(config: Config) -> None:
    """Measure and print a table per model."""
    cj.configure_runtime()
    for name in [config.model] if config.model else ("mlp", "mnist_convnet", "lenet"):
        ways = ways_of(name, config.replicas, config.batch)

        def seconds_of(way: str, _: int, ways: dict[str, Way] = ways) -> float:
            return ways[way](config.steps)

        times = peers.alternate(list(ways), config.rounds, seconds_of)
        print(
            f"{name}, batch {config.batch}, {config.replicas} replicas, {visible_cores()} cores, "
            f"{jax.default_backend()}, medians of {config.rounds}: ms per replica and step"
        )
        for way, seconds in times.items():
            ratios = [s / alone for s, alone in zip(seconds, times["alone"], strict=True)]
            print(
                f"  {way:11}  {1000 * statistics.median(seconds):7.2f}   / alone: "
                f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})",
                flush=True,
            )


def ways_of(name: str, replicas: int, batch: int) -> dict[str, Way]:
    """The three ways, compiled; each takes a number of steps and returns seconds a replica's step.

    Args:
        name: of the model.
        replicas: that train at once.
        batch: images a step, of each.
    """
    models = [cj.create_model(name, seed=seed) for seed in range(replicas)]
    optimizer = make_optimizer(cj.TrainingConfig(), total_steps=1)
    states = [TrainState.create(m, optimizer, seed=i) for i, m in enumerate(models)]
    rng = np.random.default_rng(0)
    spec = models[0].spec
    size = (_BATCHES, replicas, batch)
    images = rng.integers(0, 256, (*size, *spec.input_shape), dtype=np.uint8)
    labels = rng.integers(0, spec.num_classes, size).astype(np.int32)
    step = make_train_step(models[0], optimizer=optimizer)
    one = jax.jit(step)
    together = jax.jit(jax.vmap(step))
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *states)

    def own(i: int, replica: int) -> dict[str, Any]:
        at = (i % _BATCHES, replica)
        return {"inputs": images[at], "labels": labels[at]}

    def all_of(i: int) -> dict[str, Any]:
        return {"inputs": images[i % _BATCHES], "labels": labels[i % _BATCHES]}

    def alone(steps: int) -> float:
        def run() -> Any:
            last = []
            for replica, state in enumerate(states):
                for i in range(steps):
                    state, _ = one(state, own(i, replica))  # noqa: PLW2901
                last.append(jax.block_until_ready(state))
            return last

        return _seconds(run) / (steps * replicas)

    def interleaved(steps: int) -> float:
        def run() -> Any:
            current = list(states)
            for i in range(steps):
                for replica in range(replicas):
                    current[replica], _ = one(current[replica], own(i, replica))
            return current

        return _seconds(run) / (steps * replicas)

    def vmapped(steps: int) -> float:
        def run() -> Any:
            state = stacked
            with cj.nn.conv_engine("im2col"):
                for i in range(steps):
                    state, _ = together(state, all_of(i))
            return state

        return _seconds(run) / (steps * replicas)

    ways: dict[str, Way] = {"alone": alone, "interleaved": interleaved, "vmapped": vmapped}
    for way in ways.values():
        way(1)  # compiles
    return ways


def _seconds(run: Callable[[], Any]) -> float:
    began = time.perf_counter()
    jax.block_until_ready(run())
    return time.perf_counter() - began


if __name__ == "__main__":
    main(tyro.cli(Config, prog="python -m experiments.benchmarks.many_seeds", description=__doc__))
