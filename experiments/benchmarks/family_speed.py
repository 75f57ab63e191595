"""The newer backbones beside Keras 3 (JAX backend) and torchvision: predicting and training.

Random weights of the same architecture; Keras has no ResNet18. Each measurement is a process of its
own; the peers alternate, and ratios are taken within a round. Predicting takes preprocessed float32
images, 1 and 32 at once, training random ones by SGD with momentum through `cj.fit`, `model.fit`
and a plain loop. What compiles, the first batch and the first epoch, is not counted. PyTorch runs
as it comes, and with glibc's allocator told to keep its memory, as cnnjax tells it. The peers may
be installed in environments of their own.

Command:   python -m experiments.benchmarks.family_speed [--keras-python FILE --torch-python FILE]
           [--only resnet50] [--part predict] [--rounds 1]; about 15 minutes a round on two cores
"""

from __future__ import annotations

import os
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import tyro

from experiments.benchmarks import peers
from experiments.benchmarks.families import BATCHES, NETS

Net = Literal["resnet18", "resnet50", "mobilenet_v2", "efficientnet_b0", "convnext_tiny"]


@dataclass(frozen=True)
class Config:
    """Options of the benchmark."""

    only: Net | None = None
    """Which net; None measures one after the other."""
    part: Literal["predict", "train"] | None = None
    """Which of the two; None measures both."""
    rounds: int = 1
    """Alternations of all peers."""
    size: int = 224
    """Height and width of the images of predicting."""
    train_size: int = 128
    """Height and width of those of training."""
    train_batch: int = 16
    """Images of a step."""
    batches: int = 3
    """Batches, and steps of an epoch, of a measurement."""
    keras_python: str = sys.executable
    """The interpreter that has Keras."""
    torch_python: str = sys.executable
    """The interpreter that has torchvision."""


def main(config: Config) -> None:
    """Alternate the peers and print medians and ratios."""
    for net in [config.only] if config.only else NETS:
        if config.part != "train":
            arguments: tuple[Any, ...] = (net, config.size, config.batches)
            titles = [f"batch {batch}, {config.size}x{config.size}" for batch in BATCHES]
            report(config, "predict", arguments, titles)
        if config.part != "predict":
            side, batch = config.train_size, config.train_batch
            arguments = (net, side, batch, config.batches)
            report(config, "train", arguments, [f"batch {batch}, {side}x{side}"])


def report(config: Config, part: str, arguments: tuple[Any, ...], titles: Sequence[str]) -> None:
    """Measure one net and print images/s and ratios, for each title."""
    everyone = {"cnnjax": (peers.Peer("cnnjax", {}), sys.executable)}
    if NETS[arguments[0]].keras:
        everyone["keras"] = (peers.Peer("keras", {"KERAS_BACKEND": "jax"}), config.keras_python)
    everyone["torch"] = (peers.Peer("torch", {}), config.torch_python)
    everyone["torch, tuned allocator"] = (peers.Peer("torch", peers.TUNED), config.torch_python)

    def rates_of(name: str, _: int) -> tuple[float, ...]:
        rates = peers.families(everyone[name][0], part, arguments, everyone[name][1]).rates
        return rates if part == "predict" else rates[1:]  # the first epoch compiles

    measured = peers.alternate(list(everyone), config.rounds, rates_of)
    for number, title in enumerate(titles):
        rates = {name: [one[number] for one in values] for name, values in measured.items()}
        print(f"\n{arguments[0]}, {part}, {title}, {os.cpu_count()} cores, medians:")
        for name, values in rates.items():
            ratio = peers.spread(peers.ratios(rates["cnnjax"], values))
            median = statistics.median(values)
            print(f"{name:24} {median:8,.1f} images/s   cnnjax / {name}: {ratio}")
    print(flush=True)


if __name__ == "__main__":
    main(
        tyro.cli(Config, prog="python -m experiments.benchmarks.family_speed", description=__doc__)
    )
