"""From the start of the process to a trained net: first step, first epoch, and memory.

A process of its own trains on a single batch ("first step") and another one over a first epoch of
the real number of examples; each ends when the library's own loop has returned and its result is
there, so all of importing, preparing data and compiling counts. (That of `cj.fit` includes its
check of the trained parameters, which compiles a second program.) cnnjax runs twice, with an empty
compilation cache and with the one that the run before has filled; Keras and PyTorch run as they
come. Peers alternate; ratios are taken within a round.

Command:   pip install -e ".[bench]" && python -m experiments.benchmarks.startup [--rounds 3]
"""

from __future__ import annotations

import os
import statistics
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from cnnjax.core.table import table
from experiments.benchmarks import peers
from experiments.benchmarks.twins import SETTINGS

EMPTY, WARM = "cnnjax, empty cache", "cnnjax, warm cache"


@dataclass(frozen=True)
class Config:
    """Options of the benchmark."""

    model: Literal["mnist_convnet", "lenet", "cifar_deep"] | None = None
    """Which net; None measures one after the other."""
    rounds: int = 3
    """Alternations of all peers."""
    examples: int | None = None
    """Examples of the first epoch; None takes as many as the real data set has."""


@dataclass(frozen=True)
class Start:
    """Seconds from the start of the process, and the peak memory of the one with the epoch."""

    first_step: float
    first_epoch: float
    peak_mib: float


def main(config: Config) -> None:
    """Alternate the peers and print medians and ratios."""
    for model in [config.model] if config.model else SETTINGS:
        measure_model(model, config.rounds, config.examples or SETTINGS[model].examples)


def measure_model(model: str, rounds: int, examples: int) -> None:
    """Measure one net and print its figures."""
    # EMPTY comes before WARM: within a round the first finds no cache and fills it for the second.
    ours = peers.Peer("cnnjax", {"CNNJAX_COMPILATION_CACHE": "1"})
    everyone = {EMPTY: ours, WARM: ours, **peers.others()}
    with tempfile.TemporaryDirectory() as folder:

        def start(name: str, number: int) -> Start:
            caches = Path(folder) / str(number)
            return _start(everyone[name], model, examples, caches)

        starts = peers.alternate(list(everyone), rounds, start, _show)
    print(f"\n{model}, first epoch of {examples:,} images, {os.cpu_count()} cores, medians:")
    _print_table(starts)


def _start(peer: peers.Peer, model: str, examples: int, caches: Path) -> Start:
    def trained(size: int, kind: str) -> peers.Measured:
        # A cache for each of the two, lest the first step fill that of the epoch.
        return peers.train(peer, model, size, 1, {"CNNJAX_CACHE_DIR": str(caches / kind)})

    step, epoch = trained(SETTINGS[model].batch, "step"), trained(examples, "epoch")
    return Start(step.seconds, epoch.seconds, epoch.peak_mib)


def _show(number: int, starts: dict[str, Start]) -> None:
    shown = "  ".join(f"{n} {s.first_step:.1f} {s.first_epoch:.1f}" for n, s in starts.items())
    print(f"round {number + 1}: s  {shown}", flush=True)


def _print_table(starts: dict[str, list[Start]]) -> None:
    rows = [("", "first step s", "first epoch s", "peak MiB")]
    for name, found in starts.items():
        step = statistics.median(s.first_step for s in found)
        epoch = statistics.median(s.first_epoch for s in found)
        peak = statistics.median(s.peak_mib for s in found)
        rows.append((name, f"{step:.1f}", f"{epoch:.1f}", f"{peak:,.0f}"))
    print(table(rows))
    print("first epoch:")
    epochs = {name: [s.first_epoch for s in found] for name, found in starts.items()}
    for name, values in epochs.items():
        if name not in (EMPTY, WARM):
            shown = "   ".join(
                f"{name} / {our}: {peers.spread(peers.ratios(values, epochs[our]))}"
                for our in (EMPTY, WARM)
            )
            print(shown, flush=True)
    print()


if __name__ == "__main__":
    main(tyro.cli(Config, prog="python -m experiments.benchmarks.startup", description=__doc__))
