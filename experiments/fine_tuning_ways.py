"""Four ways to fine-tune a pretrained base: a linear probe, all of it, adapters, RandAugment.

A linear head is trained on the frozen base. From there, for as many epochs once more, four ways:
`probe` leaves the base frozen; `plain` sets all of it free, at a lower rate; `lora` trains adapters
of low rank on its pointwise convolutions, beside the head, with the base frozen; `rand_augment` is
`plain` on images changed by RandAugment. Normalisation stays as it is throughout. All ways of a
seed have the same images, head and order; the rates rise and fall in one cycle. Nothing was tuned:
the rates are those of the other studies of pretrained bases.

Command:   python -m experiments.fine_tuning_ways --data FOLDER --weights FILE --seeds 3
           [--rank 4] [--magnitude 9] [--alpha 0.25 --image-size 96] [--epochs 6]

Reported:  adapters of rank 4 come near full fine-tuning with a fraction of its trained parameters
           (Hu et al. 2021, of language models); RandAugment raises ResNet-50 on ImageNet from 76.3
           to 77.6 % (Cubuk et al. 2020).

Ours:      test accuracy: probe 83.93 ± 0.49 %, plain 86.87 ± 0.40, lora 86.50 ± 0.35 with a
           twentieth of the trained parameters, rand_augment 87.43 ± 0.75, whose gap to the
           validation images is smaller by 7.27 points (3 seeds). That adapters come within a point
           of plain fine-tuning, and that RandAugment beats it, so few seeds do not decide. The rows
           fine_tuning_ways of RESULTS.md and their claims; three minutes of training a seed on one
           core.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

import cnnjax as cj
from cnnjax.cli import command
from cnnjax.core import trees
from cnnjax.metrics import mean_and_deviation
from cnnjax.recipes import Claim, Experiment, for_every_seed, load_data
from cnnjax.runs.results import spread
from experiments import _studies
from experiments._arms import FineArmOptions, train_arm, write_known
from experiments._backbones import build_base, changed, frozen_layers, with_head

NAME = "fine_tuning_ways"

ADAPTED = ("conv_pw_*",)

EPOCHS = 6  # of the head, and of each way after it


@dataclass(frozen=True)
class WaysOptions(FineArmOptions):
    """Options of the experiment."""

    rank: int = 4
    """Of the adapters."""
    magnitude: int = 9
    """Of RandAugment's two operations, 0 to 30."""


# What a record names where it is given otherwise.
DEFAULTS: dict[str, Any] = {
    name: getattr(WaysOptions, name)
    for name in (
        "backbone", "alpha", "image_size", "learning_rate", "fine_rate", "rank", "magnitude",
    )
}  # fmt: skip

WAYS = ("probe", "plain", "lora", "rand_augment")


def _claim(text: str, first: str, second: str, metric: str = "test_accuracy") -> Claim:
    return Claim(text, f"{NAME}/{first}", f"{NAME}/{second}", metric)


CLAIMS = (
    _claim("Fine-tuning all of the base beats a linear probe.", "plain", "probe"),
    _claim("Adapters beat a linear probe.", "lora", "probe"),
    replace(_claim("Adapters come within 1 point of fine-tuning all.", "lora", "plain"),
            within=0.01),
    _claim("RandAugment beats plain fine-tuning.", "rand_augment", "plain"),
    _claim("RandAugment makes the gap to the validation images smaller.", "plain", "rand_augment",
           "gap"),
)  # fmt: skip


def experiment(options: WaysOptions) -> Experiment:
    """What all ways have in common, and the training of the head."""
    task = Experiment(
        name=NAME,
        description=f"dogs against cats: four ways to fine-tune {options.backbone}",
        model=options.backbone,
        training=cj.TrainingConfig(
            epochs=EPOCHS, batch_size=20, optimizer="rmsprop", schedule="one_cycle",
            learning_rate=options.learning_rate, monitor=None,
        ),
        images=options.images,
        validation=0.2,
        test=0.2,
        one_logit=True,
    ).with_options(options)  # fmt: skip
    return replace(task, changed={**task.changed, **changed(options, DEFAULTS)})


def way(name: str, model: cj.Model, options: WaysOptions) -> tuple[cj.Model, dict[str, Any]]:
    """What one way trains, and how.

    Args:
        name: of `WAYS`.
        model: with a head that is trained.
        options: of the command line.

    Returns:
        The model to begin with, and settings of its training.
    """
    if name == "probe":
        return model, {"frozen": frozen_layers(model, "none")}
    if name == "lora":
        adapted = cj.transfer.lora(model, ADAPTED, options.rank, seed=options.seed)
        return adapted, {"frozen": cj.transfer.base_layers(adapted)}
    free = {
        "frozen": frozen_layers(model, "all", keep_norm=True),
        "learning_rate": options.fine_rate,
    }
    if name == "rand_augment":
        free["augment"] = cj.augment.Augment(rand_augment=(2, options.magnitude))
    return model, free


def main(options: WaysOptions) -> dict[str, list[cj.Run]]:
    """Train all ways for every seed, then write table and claims."""
    seeds = for_every_seed(options, run)
    runs = {arm: [arms[arm] for arms in seeds] for arm in seeds[0]}
    folder = _studies.folder_of(options, NAME)
    head = ["way", "trained parameters", "training", "validation", "test", "points above the probe"]
    rows = [_row(arm, runs, options) for arm in WAYS]
    _studies.write_table(folder / f"{NAME}.md", head, rows)
    write_known(folder, CLAIMS, {f"{NAME}/{arm}" for arm in runs})
    return runs


def run(options: WaysOptions) -> dict[str, cj.Run]:
    """All ways of one seed."""
    task = experiment(options)
    images = load_data(task)
    base = build_base(options, images)
    task = replace(task, facts=options.facts(base))
    new = with_head(base, task, images.train.label_names, pooling="avg")
    frozen = frozen_layers(new, "none")
    trained = train_arm(options, task, "head", images, new, frozen=frozen).model
    runs: dict[str, cj.Run] = {}
    for name in WAYS:
        model, training = way(name, trained, options)
        runs[name] = train_arm(options, task, name, images, model, **training)
    return runs


def trained_parameters(model: cj.Model, frozen: Sequence[str]) -> int:
    """How many numbers are trained where some layers are frozen."""
    params = trees.leaves(model.params)
    held = {path for path in params if any(trees.matches(path, pattern) for pattern in frozen)}
    return sum(int(np.size(leaf)) for path, leaf in params.items() if path not in held)


def _row(name: str, runs: Mapping[str, Sequence[cj.Run]], options: WaysOptions) -> list[str]:
    group = runs[name]
    tested = np.array([one.metrics["test_accuracy"] for one in group])
    probe = np.array([one.metrics["test_accuracy"] for one in runs["probe"]])
    plain = group[0].model
    _, training = way(name, cj.transfer.merged(plain) if name == "lora" else plain, options)
    return [
        name,
        f"{trained_parameters(plain, training['frozen']):,}",
        spread([one.history["accuracy"][-1] for one in group]),
        spread([one.metrics["val_accuracy"] for one in group]),
        spread(tested.tolist()),
        "" if name == "probe" else mean_and_deviation(100 * (tested - probe), 2),
    ]


if __name__ == "__main__":
    command(main, WaysOptions, NAME)
