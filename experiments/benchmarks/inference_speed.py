"""Prediction with the backbones: cnnjax against Keras 3 (JAX backend) and PyTorch.

Random weights of the same architecture, preprocessed float32 images, the top included. Each
measurement is a process of its own; the peers alternate, and ratios are taken within a round. Two
things are measured: images/s of repeated batches, the first of which, compiled, is not counted; and
the time from the start of the process to the end of its first prediction, of one image. For that
cnnjax runs with an empty compilation cache and with the one that the run before has filled.

Command:   pip install -e ".[bench]" && python -m experiments.benchmarks.inference_speed
"""

from __future__ import annotations

import os
import statistics
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from experiments.benchmarks import peers
from experiments.benchmarks.startup import EMPTY, WARM

BATCHES = {"vgg16": 3, "resnet50": 5, "mobilenet": 15}


@dataclass(frozen=True)
class Config:
    """Options of the benchmark."""

    model: Literal["vgg16", "resnet50", "mobilenet"] | None = None
    """Which net; None measures one after the other."""
    rounds: int = 5
    """Alternations of all peers."""
    batch: int = 16
    """Images at once."""
    start: bool = True
    """Measure the time to the first prediction as well."""


def main(config: Config) -> None:
    """Alternate the peers and print medians and ratios."""
    for model in [config.model] if config.model else BATCHES:
        throughput(model, config.rounds, config.batch)
        if config.start:
            first_prediction(model, config.rounds)


def throughput(model: str, rounds: int, batch: int) -> None:
    """Images/s of one net."""
    everyone = {"cnnjax": peers.Peer("cnnjax", {}), **peers.others()}

    def rate(name: str, _: int) -> float:
        return statistics.median(peers.infer(everyone[name], model, batch, BATCHES[model]).rates)

    rates = peers.alternate(list(everyone), rounds, rate, _shown("images/s"))
    print(f"\n{model}, batch {batch}, 224x224, {os.cpu_count()} cores, medians:")
    for name, values in rates.items():
        ratio = peers.spread(peers.ratios(rates["cnnjax"], values))
        print(f"{name:24} {statistics.median(values):8,.1f} images/s   cnnjax / {name}: {ratio}")
    print(flush=True)


def first_prediction(model: str, rounds: int) -> None:
    """Seconds from the start of the process to the first answer."""
    ours = peers.Peer("cnnjax", {})
    everyone = {EMPTY: ours, WARM: ours, **peers.others()}
    with tempfile.TemporaryDirectory() as folder:

        def seconds(name: str, number: int) -> float:
            # The warm run follows the one that fills a new cache.
            cache = {"CNNJAX_CACHE_DIR": str(Path(folder) / str(number))}
            return peers.infer(everyone[name], model, 1, 0, cache).seconds

        found = peers.alternate(list(everyone), rounds, seconds, _shown("s"))
    print(f"\n{model}, first prediction, s from the start of the process, medians:")
    for name, values in found.items():
        ratio = peers.spread(peers.ratios(values, found[WARM]))
        print(f"{name:24} {statistics.median(values):8.1f}   {name} / {WARM}: {ratio}")
    print(flush=True)


def _shown(unit: str) -> peers.Show:
    def show(number: int, values: dict[str, float]) -> None:
        shown = "  ".join(f"{name} {value:,.1f}" for name, value in values.items())
        print(f"round {number + 1}: {unit}  {shown}", flush=True)

    return show


if __name__ == "__main__":
    main(
        tyro.cli(
            Config, prog="python -m experiments.benchmarks.inference_speed", description=__doc__
        )
    )
