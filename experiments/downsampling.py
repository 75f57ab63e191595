"""Three ways to halve a picture: max pooling, average pooling, convolutions of stride 2.

The MNIST convnet (RMSprop, batch 64, 5 epochs) or the deep CIFAR-10 net (batch 128, 20 epochs),
trained in the same way for each. With stride 2 the convolution before a pooling takes the larger
step and the pooling is left out (the "strided CNN" of Springenberg et al. 2015, sec. 3).

Command:   python -m experiments.downsampling --data-dir DIR [--model cifar_deep --data cifar10]

Reported:  max pooling is usually best.

Ours:      MNIST convnet, 3 seeds: max 99.20 ± 0.06 %, average 99.12 ± 0.10 %, stride 2
           98.95 ± 0.06 % with half the time of a step.
"""

from dataclasses import dataclass
from functools import partial
from typing import Literal

import cnnjax as cj
from cnnjax.cli import command
from cnnjax.experiment import Experiment, Options, run_variants
from experiments import cifar10, mnist_convnet

WAYS = {
    "max": "max pooling",
    "average": "average pooling",
    "stride": "convolutions of stride 2 and no pooling",
}

TRAINING = {
    "mnist_convnet": mnist_convnet.RECIPES["reported"],
    "cifar_deep": cifar10.RECIPES["reported"],
}


@dataclass(frozen=True)
class DownsamplingOptions(Options):
    """Options of the experiment."""

    model: Literal["mnist_convnet", "cifar_deep"] = "mnist_convnet"
    """Which net."""


def experiment(way: str, options: DownsamplingOptions) -> Experiment:
    """The training with one of the three ways."""
    return Experiment(
        name=f"downsampling/{options.model}/{way}",
        description=f"{options.model} with {WAYS[way]}",
        model=options.model,
        arguments={"downsampling": way},
        training=TRAINING[options.model],
        data=options.data,
    ).with_options(options)


def main(options: DownsamplingOptions) -> dict[str, list[cj.Run]]:
    """Train all three and print them side by side."""
    return run_variants({way: partial(experiment, way) for way in WAYS}, options)


if __name__ == "__main__":
    command(main, DownsamplingOptions, "downsampling")
