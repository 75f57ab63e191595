"""Choices in the deep CIFAR-10 net, each against the net as it is: head, pooling, augmentation.

RMSprop, batch 128, 20 epochs, a fifth of the training data set aside. `base` is the net as it is:
max pooling, a dense layer on the flattened last map, which holds 96 % of its parameters, pictures
as they are. Every other arm differs from it in one thing and starts, where it has the same layers,
from the same values; one seed's arms see the same pictures in the same order.

- `average_head`: the dense layer gets the averages of the last map's channels (global average
  pooling, Lin et al. 2014, Network in network, sec. 3.2);
- `average_pooling`; `stride`: no pooling, the convolutions before it have stride 2 (the "strided
  CNN" of Springenberg et al. 2015, sec. 3). Both have as many parameters as the base;
- `flip`, `crops`, `mild`: augmentation by mirrored copies, also cut out up to 2 pixels off, or
  shifted by up to a tenth.

On one core a run on all images takes half an hour, one on 5,000 images with 2,000 for validation
about 7 minutes.

Command:   python -m experiments.cifar_choices --data-dir DIR --seeds 5 [--arms base average_head]
           [--train-examples 5000 --validation 0.04]

Reported:  global average pooling has up to 80 % fewer parameters and usually predicts better; max
           pooling is usually best; with augmentation the gap between training and test accuracy
           shrinks.

Ours:      printed as a table, and written with the curves to the folder of the runs.
"""

from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import cnnjax as cj
from cnnjax.cli import command
from cnnjax.experiment import Experiment, PictureData, run_variants
from experiments import _studies
from experiments.cifar10 import AUGMENTS, RECIPES

BASE = "base"

# What an arm changes of the model.
_ARGUMENTS: dict[str, dict[str, Any]] = {
    "average_head": {"pooling": "avg"},
    "average_pooling": {"downsampling": "average"},
    "stride": {"downsampling": "stride"},
}

_AUGMENTED = ("flip", "crops", "mild")

ARMS = (BASE, *_ARGUMENTS, *_AUGMENTED)

COLUMNS = {
    "parameters": _studies.parameters,
    "ms a step": _studies.step_milliseconds,
    "training": _studies.training_accuracy,
    "validation": _studies.accuracy("val"),
    "test": _studies.accuracy("test"),
}


@dataclass(frozen=True)
class ChoiceOptions(_studies.StudyOptions):
    """Options of the experiment."""

    arms: tuple[str, ...] = ()
    """Which to train; default: all."""
    validation: float = 0.2
    """Fraction of the training data that is set aside, in [0, 1)."""
    data: PictureData = "cifar10"


def experiment(arm: str, options: ChoiceOptions) -> Experiment:
    """The training of one of the arms."""
    return Experiment(
        name=f"cifar_choices/{arm}",
        description=f"four convolutions on CIFAR-10: {arm.replace('_', ' ')}",
        model="cifar_deep",
        arguments=_ARGUMENTS.get(arm, {}),
        training=replace(RECIPES["reported"], augment=AUGMENTS[arm if arm in AUGMENTS else "none"]),
        validation=options.validation,
        train_examples=options.train_examples,
    ).with_options(options)


def main(options: ChoiceOptions) -> dict[str, list[cj.Run]]:
    """Train the arms, compare them and draw their curves."""
    arms = _studies.chosen(options.arms, ARMS, "--arms")
    runs = run_variants({arm: partial(experiment, arm) for arm in arms}, options)
    folder = _studies.folder_of(options, "cifar_choices")
    # A part of the arms leaves the table of all alone.
    stem = "-".join(arms) if options.arms else "cifar_choices"
    _studies.compare(folder / f"{stem}.md", runs, COLUMNS)
    _studies.draw(folder / f"{stem}.png", runs, _studies.CURVES)
    return runs


if __name__ == "__main__":
    command(main, ChoiceOptions, "cifar_choices")
