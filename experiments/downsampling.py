"""Three ways to halve an image: max pooling, average pooling, convolutions of stride 2.

The MNIST convnet (RMSprop, batch 64, 5 epochs), trained in the same way for each. With stride 2 the
convolution before a pooling takes the larger step and the pooling is left out (the "strided CNN" of
Springenberg et al. 2015, sec. 3). All maps keep their sizes, so all nets have as many parameters.
The same question on the deep CIFAR-10 net: `cifar_choices`.

Command:   python -m experiments.downsampling --data-dir DIR [--seeds 5] [--train-examples 10000]

Reported:  max pooling is usually best.

Ours:      the rows downsampling of RESULTS.md and the claims; table and curves are in the
           folder of the runs.
"""

from dataclasses import replace
from functools import partial

import cnnjax as cj
from cnnjax.cli import command
from cnnjax.recipes import Claim, Experiment, run_variants, write_claims
from cnnjax.recipes.shipped import mnist_convnet
from experiments import _studies

WAYS = {
    "max": "max pooling",
    "average": "average pooling",
    "stride": "convolutions of stride 2 and no pooling",
}

NAME = "downsampling/mnist_convnet"

CLAIMS = tuple(
    Claim(
        f"On MNIST max pooling is better than {WAYS[way]}",
        f"{NAME}/max",
        f"{NAME}/{way}",
        "test_accuracy",
    )
    for way in ("average", "stride")
)

COLUMNS = {
    "parameters": _studies.parameters,
    "FLOPs an image": _studies.flops,
    "ms a step": _studies.step_milliseconds,
    "training": _studies.training_accuracy,
    "test": _studies.accuracy("test"),
}


def experiment(way: str, options: _studies.StudyOptions) -> Experiment:
    """The training with one of the three ways."""
    return Experiment(
        name=f"{NAME}/{way}",
        description=f"MNIST convnet with {WAYS[way]}",
        model="mnist_convnet",
        arguments={"downsampling": way},
        # All run to their last epoch, also on data with a part for validation.
        training=replace(mnist_convnet.RECIPES["reported"], monitor=None),
        train_examples=options.train_examples,
    ).with_options(options)


def main(options: _studies.StudyOptions) -> dict[str, list[cj.Run]]:
    """Train all three and compare them."""
    runs = run_variants({way: partial(experiment, way) for way in WAYS}, options)
    folder = _studies.folder_of(options, NAME)
    _studies.compare(folder / "downsampling.md", runs, COLUMNS)
    write_claims(folder, CLAIMS)
    return runs


if __name__ == "__main__":
    command(main, _studies.StudyOptions, "downsampling")
