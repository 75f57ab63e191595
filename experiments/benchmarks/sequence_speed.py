"""Training throughput on texts: 1-D convolutions, GRU and LSTM, in cnnjax, Keras and PyTorch.

Each measurement is a process of its own that trains the net of `experiments.imdb_conv1d` (texts of
500 words, batch 128, RMSprop) through the library's own loop; all alternate, and ratios are taken
within a round, since the speed of a shared machine drifts. The first epoch, which compiles, is not
counted. The seconds are those of an epoch of 20,000 texts, four fifths of IMDB's, at that rate.

Command:   pip install -e ".[bench]" && python -m experiments.benchmarks.sequence_speed [--rounds 3]
"""

from __future__ import annotations

import os
import statistics
from dataclasses import dataclass
from typing import Literal

import tyro

from experiments.benchmarks import peers
from experiments.benchmarks.sequences import BATCH, NETS

_EPOCH = 20_000  # texts


@dataclass(frozen=True)
class Config:
    """Options of the benchmark."""

    net: Literal["conv1d", "gru", "lstm"] | None = None
    """Which net; None measures all."""
    rounds: int = 3
    """Alternations of all nets and peers."""
    steps: int = 12
    """Steps of an epoch."""
    epochs: int = 3
    """Epochs of a measurement, the first of which is not counted; at least 2."""


def main(config: Config) -> None:
    """Alternate nets and peers and print medians and ratios."""
    if config.epochs < 2:
        raise ValueError(f"epochs must be at least 2, the first compiles, got {config.epochs}")
    nets = (config.net,) if config.net else NETS
    everyone = {"cnnjax": peers.Peer("cnnjax", {}), **peers.others()}
    names = {f"{net}, {peer}": (net, peer) for net in nets for peer in everyone}

    def rate(name: str, _: int) -> float:
        net, peer = names[name]
        measured = peers.sequences(everyone[peer], net, config.steps, config.epochs)
        return statistics.median(measured.rates[1:])

    rates = peers.alternate(list(names), config.rounds, rate, _show)
    print(f"\ntexts of 500 words, batch {BATCH}, RMSprop, {os.cpu_count()} cores, medians:")
    head = f"{'':30}  texts/s  ms/step  s/epoch"
    print(f"{head}   cnnjax / peer         conv1d / net")
    for name, (net, peer) in names.items():
        value = statistics.median(rates[name])
        by_us = peers.spread(peers.ratios(rates[f"{net}, cnnjax"], rates[name]))
        fastest = f"conv1d, {peer}"
        by_conv = (
            peers.spread(peers.ratios(rates[fastest], rates[name])) if fastest in rates else ""
        )
        print(
            f"{name:30} {value:8,.0f} {1e3 * BATCH / value:8,.0f} {_EPOCH / value:8,.1f}   "
            f"{by_us:20}  {by_conv}",
            flush=True,
        )


def _show(number: int, rates: dict[str, float]) -> None:
    shown = "  ".join(f"{name} {rate:,.0f}" for name, rate in rates.items())
    print(f"round {number + 1}: texts/s  {shown}", flush=True)


if __name__ == "__main__":
    main(
        tyro.cli(
            Config, prog="python -m experiments.benchmarks.sequence_speed", description=__doc__
        )
    )
