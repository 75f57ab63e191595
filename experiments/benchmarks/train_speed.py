"""Training throughput: cnnjax against Keras 3 (JAX backend) and PyTorch, where they are installed.

Each measurement is a process of its own that trains the same architecture with the same optimiser
and batch size through the library's own loop (`cj.fit`, `model.fit`, a plain PyTorch loop); the
peers alternate, and ratios are taken within a round, since the speed of a shared machine drifts.
The first epoch, which compiles, is not counted.

Command:   pip install -e ".[bench]" && python -m experiments.benchmarks.train_speed [--rounds 5]
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import Literal

import tyro

from experiments.benchmarks import peers
from experiments.benchmarks.twins import SETTINGS

# Steps of an epoch and epochs: some ten seconds of cnnjax on two cores.
LENGTHS = {
    "mnist_convnet": (150, 4),
    "lenet": (40, 4),
    "cifar_deep": (12, 4),
    "cats_convnet": (8, 4),
    "mobilenet": (12, 4),
}

Net = Literal["mnist_convnet", "lenet", "cifar_deep", "cats_convnet", "mobilenet"]


@dataclass(frozen=True)
class Config:
    """Options of the benchmark."""

    model: Net | None = None
    """Which net; None measures one after the other."""
    rounds: int = 5
    """Alternations of all peers."""
    steps: int | None = None
    """Steps of an epoch; None takes as many as a steady figure needs."""


def main(config: Config) -> None:
    """Alternate the peers and print medians and ratios."""
    for model in [config.model] if config.model else LENGTHS:
        steps, epochs = LENGTHS[model]
        measure_model(model, config.rounds, config.steps or steps, epochs)


def measure_model(model: str, rounds: int, steps: int, epochs: int) -> None:
    """Measure one net and print its figures."""
    setting = SETTINGS[model]
    everyone = {"cnnjax": peers.Peer("cnnjax", {}), **peers.others()}

    def rate(name: str, _: int) -> float:
        measured = peers.train(everyone[name], model, steps * setting.batch, epochs)
        return statistics.median(measured.rates[1:])

    rates = peers.alternate(list(everyone), rounds, rate, _show)
    where = peers.device()
    optimizer = {"rmsprop": "RMSprop", "adam": "Adam"}[setting.optimizer]
    print(f"\n{model}, batch {setting.batch}, {optimizer}, {where}, medians:")
    for name, values in rates.items():
        ratio = peers.spread(peers.ratios(rates["cnnjax"], values))
        print(
            f"{name:24} {statistics.median(values):8,.0f} images/s   cnnjax / {name}: {ratio}",
            flush=True,
        )
    print()


def _show(number: int, rates: dict[str, float]) -> None:
    shown = "  ".join(f"{name} {rate:,.0f}" for name, rate in rates.items())
    print(f"round {number + 1}: images/s  {shown}", flush=True)


if __name__ == "__main__":
    main(tyro.cli(Config, prog="python -m experiments.benchmarks.train_speed", description=__doc__))
