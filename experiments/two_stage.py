"""Two-stage transfer: new dense layers on a frozen base, then its top two blocks set free.

InceptionV3 with global average pooling, a dense layer of 1,024 and the logits. Stage 1 freezes all
of the base (RMSprop); stage 2 sets free what follows a cut (SGD, rate 1e-3, momentum 0.9): by the
name of the first layer that is trained, or by its number in Keras' list. mixed8, or 249, frees the
top two inception blocks; 172, which is often seen, cuts inside the block that ends in mixed6.

Command:   python -m experiments.two_stage --data FOLDER [--weights FILE] [--cut 172]

Reported:  no figure; 200 classes.

Ours:      MobileNet with ImageNet weights on dogs and cats (--backbone mobilenet --cut conv_dw_12),
           3 seeds: 98.23 ± 0.46 % test accuracy after stage 1, 96.90 ± 0.78 % after stage 2, which
           also trains the batch normalisation of the top.
"""

from dataclasses import dataclass

import cnnjax as cj
from cnnjax.cli import command
from cnnjax.experiment import Experiment, for_every_seed
from experiments._backbones import (
    Backbone,
    BackboneOptions,
    report_stages,
    train_in_stages,
)


@dataclass(frozen=True)
class TwoStageOptions(BackboneOptions):
    """Options of the experiment."""

    backbone: Backbone = "inception_v3"
    """The base."""
    learning_rate: float = 1e-3
    """Of the new layers in stage 1; Keras' default for RMSprop."""
    cut: str = "mixed8"
    """First layer that stage 2 trains, by name, or the number of layers that stay frozen."""


def experiment(options: TwoStageOptions) -> Experiment:
    """What both stages have in common, and the training of the first."""
    return Experiment(
        name=f"two_stage/{options.backbone}",
        description=f"two-stage transfer with {options.backbone}",
        model=options.backbone,
        training=cj.TrainingConfig(
            epochs=5, batch_size=32, optimizer="rmsprop", learning_rate=options.learning_rate,
            monitor=None,
        ),
        images=options.images,
        validation=0.2,
        test=0.2,
    ).with_options(options)  # fmt: skip


def main(options: TwoStageOptions) -> list[dict[str, cj.Run]]:
    """Both stages, for every seed."""
    results = for_every_seed(options, run)
    report_stages(experiment(options), results, options.out)
    return results


def run(options: TwoStageOptions) -> dict[str, cj.Run]:
    """Both stages of one seed."""
    cut = int(options.cut) if options.cut.isdigit() else options.cut
    head = {"units": (1024,), "pooling": "avg"}
    fine = {"optimizer": "sgd", "learning_rate": 1e-3, "momentum": 0.9}
    return train_in_stages(options, experiment(options), head, cut, fine)


if __name__ == "__main__":
    command(main, TwoStageOptions, "two_stage")
