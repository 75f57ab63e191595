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
from dataclasses import dataclass
from typing import Literal

import tyro

from experiments.benchmarks import peers
from experiments.benchmarks.families import NETS

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
            for batch in (1, 32):
                arguments = (net, config.size, batch, config.batches * (1 if batch > 1 else 8))
                report(config, "predict", arguments, f"batch {batch}, {config.size}x{config.size}")
        if config.part != "predict":
            arguments = (net, config.train_size, config.train_batch, config.batches)
            sizes = f"batch {config.train_batch}, {config.train_size}x{config.train_size}"
            report(config, "train", arguments, sizes)


def report(config: Config, part: str, arguments: tuple[str, int, int, int], sizes: str) -> None:
    """Measure one net and print images/s and ratios."""
    everyone = {"cnnjax": (peers.Peer("cnnjax", {}), sys.executable)}
    if NETS[arguments[0]].keras:
        everyone["keras"] = (peers.Peer("keras", {"KERAS_BACKEND": "jax"}), config.keras_python)
    everyone["torch"] = (peers.Peer("torch", {}), config.torch_python)
    everyone["torch, tuned allocator"] = (peers.Peer("torch", peers.TUNED), config.torch_python)

    def rate(name: str, _: int) -> float:
        peer, python = everyone[name]
        rates = peers.families(peer, part, arguments, python).rates
        return statistics.median(rates if part == "predict" else rates[1:])

    rates = peers.alternate(list(everyone), config.rounds, rate)
    print(f"\n{arguments[0]}, {part}, {sizes}, {os.cpu_count()} cores, medians:")
    for name, values in rates.items():
        ratio = peers.spread(peers.ratios(rates["cnnjax"], values))
        print(f"{name:24} {statistics.median(values):8,.1f} images/s   cnnjax / {name}: {ratio}")
    print(flush=True)


if __name__ == "__main__":
    main(
        tyro.cli(Config, prog="python -m experiments.benchmarks.family_speed", description=__doc__)
    )
