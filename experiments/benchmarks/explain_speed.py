"""Looking inside: cnnjax against loops with hooks in PyTorch, and one at a time in Keras.

Random weights of the same architecture. Each measurement is a process of its own; the peers
alternate, and ratios are taken within a round. The first, compiled, call is not counted.

grad_cam   MobileNet at 224x224, its last maps, 64 images: cnnjax in one compiled program; PyTorch
           with hooks, all images at once (weights frozen, the way back ended at the layer), also
           with glibc's allocator told to keep its memory, as cnnjax does; and image by image.

filters    VGG19's block3_conv1, patterns of 64x64 after 40 steps of gradient ascent: cnnjax 64
           filters as one batch; Keras (JAX backend) one filter after the other, a few of which are
           timed: by one compiled step for all of them, and by one compiled for each.

Command:   pip install -e ".[bench]" && python -m experiments.benchmarks.explain_speed
"""

from __future__ import annotations

import importlib.util
import os
import statistics
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import tyro

from experiments.benchmarks import peers
from experiments.benchmarks.explainers import WORKERS


@dataclass(frozen=True)
class Case:
    """One thing to measure.

    Args:
        title: of its table.
        unit: what is counted in a second.
        count: explained at once.
        calls: after the first one, in each process.
        fewer: counts of the peers that take one after the other, whose rate does not depend on it.
    """

    title: str
    unit: str
    count: int
    calls: int
    fewer: Mapping[str, int] = field(default_factory=dict)


CASES = {
    "grad_cam": Case("Grad-CAM, MobileNet, 224x224, 64 images", "images/s", 64, 3),
    "filters": Case(
        "Filter patterns, VGG19 block3_conv1, 64x64, 40 steps, 64 filters", "filters/s", 64, 1,
        {"keras one by one": 8, "keras compiled each": 4},
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Config:
    """Options of the benchmark."""

    case: Literal["grad_cam", "filters"] | None = None
    """What to explain; None measures one after the other."""
    rounds: int = 5
    """Alternations of all peers."""


def main(config: Config) -> None:
    """Alternate the peers and print medians and ratios."""
    for name in [config.case] if config.case else CASES:
        measure(name, config.rounds)


def measure(name: str, rounds: int) -> None:
    """One case: who takes part is in `WORKERS` under "CASE, PEER"."""
    case, ours = CASES[name], f"{name}, cnnjax"
    everyone = [
        worker
        for worker in WORKERS
        if worker.startswith(f"{name}, ") and importlib.util.find_spec(_package(worker))
    ]

    def rate(worker: str, _: int) -> float:
        count = case.fewer.get(_peer(worker), case.count)
        return statistics.median(peers.explain(worker, count, case.calls).rates)

    def show(number: int, values: dict[str, float]) -> None:
        shown = "  ".join(f"{_peer(worker)} {value:,.2f}" for worker, value in values.items())
        print(f"round {number + 1}: {case.unit}  {shown}", flush=True)

    rates = peers.alternate(everyone, rounds, rate, show)
    print(f"\n{case.title}, {os.cpu_count()} cores, medians:")
    for worker, values in rates.items():
        ratio = peers.spread(peers.ratios(rates[ours], values))
        peer = _peer(worker)
        print(f"{peer:24} {statistics.median(values):8,.2f} {case.unit}   cnnjax / {peer}: {ratio}")
    print(flush=True)


def _peer(worker: str) -> str:
    return worker.partition(", ")[2]


def _package(worker: str) -> str:
    return _peer(worker).split()[0]


if __name__ == "__main__":
    main(
        tyro.cli(Config, prog="python -m experiments.benchmarks.explain_speed", description=__doc__)
    )
