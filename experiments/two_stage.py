"""Two-stage transfer: new dense layers on a frozen base, then its top two blocks set free.

The reported recipe is InceptionV3 at 299x299 with global average pooling, a dense layer of 1,024
and the logits of as many classes as the data have. Stage 1 freezes all of the base (RMSprop at
1e-3); stage 2 sets free what follows a cut (SGD, rate 1e-3, momentum 0.9): by the name of the first
layer that is trained, or by its number in Keras' list. mixed8, or 249, frees the top two inception
blocks; 172, which is often seen, cuts inside the block that ends in mixed6. The tuned recipe is
MobileNet at 224x224, whose batch normalisation stays as it is in stage 2; Adam in stage 1, and both
rates fall along a cosine. Options that are given go before the recipe and are recorded.

Command:   python -m experiments.two_stage --data FOLDER [--weights FILE] [--cut 172]
           [--recipe tuned]

Reported:  no figure; 200 classes.

Ours:      MobileNet .25 at 128x128 on dogs and cats, recipe reported, 3 seeds: 87.63 ± 3.07 % test
           accuracy after stage 1, 89.70 ± 0.46 % after stage 2.
"""

from dataclasses import dataclass, replace
from typing import Annotated, Any

import tyro

import cnnjax as cj
from cnnjax.cli import command
from cnnjax.recipes import Experiment, for_every_seed
from experiments._backbones import (
    TOP_BLOCKS,
    BackboneRecipeOptions,
    changed,
    report_stages,
    settled,
    train_in_stages,
)

TRAINING = {
    "reported": cj.TrainingConfig(batch_size=32, optimizer="rmsprop", monitor=None),
    "tuned": cj.TrainingConfig(batch_size=32, optimizer="adam", schedule="cosine", monitor=None),
}

# What the options are where they are not given.
RECIPES: dict[str, dict[str, Any]] = {
    "reported": {
        "backbone": "inception_v3",
        "alpha": 1.0,
        "image_size": 299,
        "learning_rate": 1e-3,
        "epochs": 5,
        "train_norm": True,
    },
    "tuned": {
        "backbone": "mobilenet",
        "alpha": 1.0,
        "image_size": None,
        "learning_rate": 1e-3,
        "epochs": 5,
        "train_norm": False,
    },
}

# Where the top two blocks begin.
CUTS = {**TOP_BLOCKS, "inception_v3": "mixed8", "mobilenet": "conv_dw_12"}


@dataclass(frozen=True)
class TwoStageOptions(BackboneRecipeOptions):
    """Options of the experiment."""

    cut: Annotated[str | None, tyro.conf.arg(metavar="LAYER|NUMBER")] = None
    """First layer that stage 2 trains, by name, or the number of layers that stay frozen; all
    freezes none; default: mixed8, of other bases the beginning of their last block."""
    train_norm: Annotated[bool | None, tyro.conf.arg(metavar="BOOL")] = None
    """Whether stage 2 also trains batch normalisation, on the statistics of its batches; default:
    as reported, which does; tuned does not."""


def recipe(options: TwoStageOptions) -> dict[str, Any]:
    """What the options are where they are not given."""
    chosen = RECIPES[options.recipe]
    return {**chosen, "cut": CUTS[options.backbone or chosen["backbone"]]}


def experiment(options: TwoStageOptions) -> Experiment:
    """What both stages have in common, and the training of the first."""
    chosen = settled(options, recipe(options))
    task = Experiment(
        name=f"two_stage/{chosen.backbone}",
        description=f"two-stage transfer with {chosen.backbone}",
        model=chosen.backbone,
        training=replace(TRAINING[options.recipe], learning_rate=chosen.learning_rate),
        recipe=options.recipe,
        images=chosen.images,
        validation=0.2,
        test=0.2,
    ).with_options(chosen)
    return replace(task, changed=changed(chosen, recipe(options)))


def main(options: TwoStageOptions) -> list[dict[str, cj.Run]]:
    """Both stages, for every seed."""
    results = for_every_seed(options, run)
    report_stages(experiment(options), results, options.out)
    return results


def run(options: TwoStageOptions) -> dict[str, cj.Run]:
    """Both stages of one seed."""
    options = settled(options, recipe(options))
    cut = str(options.cut)
    return train_in_stages(
        options,
        experiment(options),
        {"units": (1024,), "pooling": "avg"},
        int(cut) if cut.isdigit() else cut,
        {"optimizer": "sgd", "learning_rate": 1e-3, "momentum": 0.9},
        keep_norm=not options.train_norm,
    )


if __name__ == "__main__":
    command(main, TwoStageOptions, "two_stage")
