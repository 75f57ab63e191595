"""Choices in the deep CIFAR-10 net, each against the net as it is: head, pooling, augmentation.

RMSprop, batch 128, 20 epochs, the last fifth of the training data set aside. `base` is the net as
it is: max pooling, a dense layer on the flattened last map, which holds 96 % of its parameters,
images as they are. Every other arm differs from it in one thing and starts, where it has the same
layers, from the same values; one seed's arms see the same images in the same order.

- `average_head`: the dense layer gets the averages of the last map's channels (global average
  pooling, Lin et al. 2014, Network in network, sec. 3.2);
- `average_pooling`; `stride`: no pooling, the convolutions before it have stride 2 (the "strided
  CNN" of Springenberg et al. 2015, sec. 3). Both have as many parameters as the base;
- `flip`, `crops`, `mild`: augmentation by mirrored copies, also cut out up to 2 pixels off, or
  shifted by up to a tenth. Which of them to claim anything of is chosen by the validation accuracy
  of other seeds than those that decide the claim.

For the gap with augmentation the trained nets are tested on the training images as they are: while
training they saw altered ones, which alone makes that accuracy lower. Seconds are those of the
median epoch but the first, of arms one after another: what they say takes a machine that does
nothing else.

On one core a run on all images takes three quarters of an hour, one on 2,000 images with batches of
32 about 3 minutes.

Command:   python -m experiments.cifar_choices --data-dir DIR --seeds 5 [--arms base average_head]
           [--train-examples 2000 --validation 0.02 --batch-size 32]

Reported:  global average pooling has up to 80 % fewer parameters and usually predicts better; max
           pooling is usually best; with augmentation the gap between training and test accuracy
           shrinks.

Ours:      the rows cifar_choices of RESULTS.md and the claims; table and curves are in the
           folder of the runs.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import cnnjax as cj
from cnnjax.cli import command
from cnnjax.recipes import Claim, Experiment, ImageData, Measured, write_claims
from cnnjax.recipes.shipped.cifar10 import AUGMENTS, RECIPES
from experiments import _studies

BASE = "base"

# What an arm changes of the model.
_ARGUMENTS: dict[str, dict[str, Any]] = {
    "average_head": {"pooling": "avg"},
    "average_pooling": {"downsampling": "average"},
    "stride": {"downsampling": "stride"},
}

_AUGMENTED = ("flip", "crops", "mild")

ARMS = (BASE, *_ARGUMENTS, *_AUGMENTED)

NAME = "cifar_choices"


def _claim(text: str, first: str, second: str, metric: str, by: float = 0.0) -> Claim:
    return Claim(text, f"{NAME}/{first}", f"{NAME}/{second}", metric, by)


CLAIMS = (
    _claim(
        "On CIFAR-10 the head on averages leaves out more than 80 % of the net's parameters",
        BASE, "average_head", "parameters", by=0.8 * 1_676_842,
    ),
    _claim(
        "On CIFAR-10 the head on averages predicts better than that on the flattened map",
        "average_head", BASE, "test_accuracy",
    ),
    _claim(
        "On CIFAR-10 the head on averages overfits less than that on the flattened map",
        BASE, "average_head", "gap",
    ),
    _claim(
        "On CIFAR-10 an epoch with the head on averages takes less time",
        BASE, "average_head", "seconds",
    ),
    _claim(
        "On CIFAR-10 max pooling is better than average pooling",
        BASE, "average_pooling", "test_accuracy",
    ),
    _claim(
        "On CIFAR-10 max pooling is better than convolutions of stride 2",
        BASE, "stride", "test_accuracy",
    ),
    _claim(
        "On CIFAR-10 mirrored copies make the test accuracy better at equal epochs",
        "flip", BASE, "test_accuracy",
    ),
)  # fmt: skip

# Arms of which the first is to have the larger gap between training and test accuracy.
GAPS = {
    "On CIFAR-10 mirrored copies shrink the gap between training and test accuracy": (BASE, "flip"),
    "On CIFAR-10 mirrored and shifted copies shrink the gap further than mirrored ones":
        ("flip", "mild"),
}  # fmt: skip

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
    batch_size: int = 128
    """Images a step; on few images less, so that an epoch has steps enough."""
    data: ImageData = "cifar10"


def experiment(arm: str, options: ChoiceOptions) -> Experiment:
    """The training of one of the arms."""
    training = RECIPES["reported"]
    task = Experiment(
        name=f"{NAME}/{arm}",
        description=f"four convolutions on CIFAR-10: {arm.replace('_', ' ')}",
        model="cifar_deep",
        arguments=_ARGUMENTS.get(arm, {}),
        training=replace(training, batch_size=options.batch_size, augment=AUGMENTS.get(arm)),
        data="cifar10",
        validation=options.validation,
        validation_last=True,
        train_examples=options.train_examples,
    ).with_options(options)
    other = _studies.other_than({"batch_size": training.batch_size}, options)
    return replace(task, changed={**task.changed, **other})


def gap_claims(options: ChoiceOptions, runs: Mapping[str, Sequence[cj.Run]]) -> list[Measured]:
    """The claims of `GAPS` whose arms were trained."""
    claims = {text: arms for text, arms in GAPS.items() if {*arms} <= {*runs}}
    gaps = {
        arm: _studies.plain_gaps(partial(experiment, arm), options, runs[arm])
        for arm in sorted({arm for arms in claims.values() for arm in arms})
    }
    return [
        _studies.gap_claim(text, (first, gaps[first]), (second, gaps[second]))
        for text, (first, second) in claims.items()
    ]


def main(options: ChoiceOptions) -> dict[str, list[cj.Run]]:
    """Train the arms, compare them and draw their curves."""
    _studies.chosen(options.arms, ARMS, "--arms")
    runs = _studies.run_arms(NAME, experiment, ARMS, options.arms, options, COLUMNS)
    write_claims(_studies.folder_of(options, NAME), [*CLAIMS, *gap_claims(options, runs)])
    return runs


if __name__ == "__main__":
    command(main, ChoiceOptions, NAME)
