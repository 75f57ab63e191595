"""How much of a pretrained base to set free: nothing, its top, half of it, all of it.

A head is trained on the frozen base. From there everything is trained further with nothing of the
base free, with its last two blocks, its upper half, and all of it; and once more from a random
head, for as many epochs in all. Normalisation stays as it is. All arms of a seed have the same
photos, head and order. The head has 20 epochs on 200 photos and 5 on 2,000, and so has the rest;
the rates rise and fall in one cycle.

The gap is the accuracy on the training photos, while training, minus that on the validation photos.
Both ways to free all of it have as many epochs, but a random head has the low rate from the
beginning: that it ends below could come of the head as well as of a damaged base. `random/none`,
the same head on the frozen base, tells them apart.

Command:   python -m experiments.how_much_to_free --data FOLDER --weights FILE --seeds 3
           [--photos 200] [--free none all] [--alpha 1 --image-size 224]

Reported:  free few layers, because low ones are generic and more free parameters overfit; train the
           head before, because a base that is freed under a random head is damaged; the whole
           network can be fine-tuned as well.

Ours:      how_much_to_free.md and .png in the folder of the runs, and `cnnjax results` for what
           holds of the claims.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

import cnnjax as cj
from cnnjax.cli import command
from cnnjax.plot import figures
from cnnjax.recipes import Claim, Experiment, for_every_seed, load_data
from cnnjax.runs.results import spread
from experiments import _studies
from experiments._arms import FineArmOptions, gap, point, train_arm, write_known
from experiments._backbones import (
    build_base,
    changed,
    frozen_layers,
    with_head,
)

NAME = "how_much_to_free"

PHOTOS = (200, 2000)

FREE = ("none", "conv_dw_12", "conv_dw_6", "all")

BATCH, LEAST_EPOCHS, LEAST_STEPS = 20, 5, 200


def _claims(photos: int) -> tuple[Claim, ...]:
    """What is claimed of the arms on so many photos."""

    def claim(text: str, first: str, second: str, metric: str = "test_accuracy") -> Claim:
        arm = f"{NAME}/{photos}"
        return Claim(f"On {photos:,} photos {text}.", f"{arm}/{first}", f"{arm}/{second}", metric)

    top, every, nothing = "trained/conv_dw_12", "trained/all", "trained/none"
    return (
        claim("freeing the last two blocks beats the frozen base", top, nothing),
        claim("freeing the whole network beats the frozen base", every, nothing),
        claim("freeing few layers beats freeing all", top, every),
        claim("more free layers overfit more", every, nothing, "gap"),
        claim("the last two blocks overfit less than all", every, top, "gap"),
        claim("training the head first beats freeing all under a random one", every, "random/all"),
        claim("a base freed under a random head is damaged", "random/none", "random/all"),
    )


CLAIMS = tuple(claim for photos in PHOTOS for claim in _claims(photos))


@dataclass(frozen=True)
class FreeingOptions(FineArmOptions):
    """Options of the experiment."""

    photos: tuple[int, ...] = PHOTOS
    """Numbers of training photos."""
    free: tuple[str, ...] = FREE
    """First layers that are trained; none: the head alone; all: the whole network."""
    train_norm: bool = False
    """Whether freed batch normalisation is trained too, on the statistics of its batches."""


# What a record names where it is given otherwise.
DEFAULTS: dict[str, Any] = {
    name: getattr(FreeingOptions, name)
    for name in ("backbone", "alpha", "image_size", "learning_rate", "fine_rate", "train_norm")
}


def experiment(photos: int, options: FreeingOptions) -> Experiment:
    """What all arms on so many photos have in common, and the training of the head."""
    epochs = max(LEAST_EPOCHS, math.ceil(LEAST_STEPS / math.ceil(photos / BATCH)))
    task = Experiment(
        name=NAME,
        description=f"{options.backbone} on {photos:,} photos, more or less of it set free",
        model=options.backbone,
        training=cj.TrainingConfig(
            epochs=epochs, batch_size=BATCH, optimizer="rmsprop", schedule="one_cycle",
            learning_rate=options.learning_rate, monitor=None,
        ),
        images=options.images,
        validation=0.2,
        test=0.2,
        train_examples=photos,
        one_logit=True,
    ).with_options(options)  # fmt: skip
    return replace(task, changed={**task.changed, **changed(options, DEFAULTS)})


def main(options: FreeingOptions) -> dict[str, list[cj.Run]]:
    """Train all arms for every seed, then write table, figure and claims."""
    if not options.photos or not options.free:
        raise ValueError(
            f"photos and free must hold at least one each, got {options.photos}, {options.free}"
        )
    seeds = for_every_seed(options, run)
    runs = {arm: [arms[arm] for arms in seeds] for arm in seeds[0]}
    folder = _studies.folder_of(options, NAME)
    head = ["photos", "head", "free from", "free layers", "training", "validation", "gap", "test"]
    free = free_layers(next(iter(seeds[0].values())).model, options)
    rows = [_row(arm, group, free) for arm, group in runs.items()]
    _studies.write_table(folder / f"{NAME}.md", head, rows)
    figures.save(draw(runs, free), folder / f"{NAME}.png")
    print(f"figure: {folder / NAME}.png")
    write_known(folder, CLAIMS, {f"{NAME}/{arm}" for arm in runs})
    return runs


def run(options: FreeingOptions) -> dict[str, cj.Run]:
    """All arms of one seed: "PHOTOS/HEAD/FIRST FREE LAYER" -> run."""
    runs: dict[str, cj.Run] = {}
    for count in options.photos:
        task = experiment(count, options)
        photos = load_data(task)
        base = build_base(options, photos)
        task = replace(task, facts=options.facts(base))
        new = with_head(base, task, photos.train.label_names, units=(256,), pooling="avg")
        levels = {name: frozen_layers(new, name, not options.train_norm) for name in options.free}
        frozen = frozen_layers(new, "none")
        trained = train_arm(options, task, f"{count}/head", photos, new, frozen=frozen).model
        epochs = task.training.epochs
        for head, start, length in (("trained", trained, epochs), ("random", new, 2 * epochs)):
            for level, frozen in levels.items():
                arm = f"{count}/{head}/{level}"
                fine = {"learning_rate": options.fine_rate, "epochs": length, "frozen": frozen}
                runs[arm] = train_arm(options, task, arm, photos, start, **fine)
    return runs


def draw(runs: Mapping[str, Sequence[cj.Run]], free: Mapping[str, int]) -> Any:
    """Test accuracy and gap against the number of free layers; a curve for photos and head.

    Args:
        runs: "PHOTOS/HEAD/FIRST FREE LAYER" -> runs, one a seed.
        free: of `free_layers`.

    Returns:
        A matplotlib figure.
    """
    panels: dict[str, dict[str, list[tuple[float, float, float]]]] = {
        "test accuracy": {},
        "gap": {},
    }
    for arm, group in runs.items():
        photos, head, level = arm.split("/")
        curve, x = f"{int(photos):,} photos, {head} head", free[level]
        measures = [one.metrics["test_accuracy"] for one in group], [gap(one) for one in group]
        for panel, values in zip(panels.values(), measures, strict=True):
            panel.setdefault(curve, []).append(point(values, x))
    drawn = {
        name: {curve: np.array(sorted(points)).T for curve, points in panel.items()}
        for name, panel in panels.items()
    }
    return figures.mean_curves(drawn, "layers of the base that are free")


def free_layers(model: cj.Model, options: FreeingOptions) -> dict[str, int]:
    """First free layer -> number of layers of the base with weights that are trained."""
    base = {*cj.transfer.base_layers(model)}
    return {
        level: len(base - {*frozen_layers(model, level, not options.train_norm)})
        for level in options.free
    }


def _row(arm: str, group: Sequence[cj.Run], free: Mapping[str, int]) -> list[str]:
    photos, head, level = arm.split("/")
    training = [one.history["accuracy"][-1] for one in group]
    parts = [[one.metrics[f"{part}_accuracy"] for one in group] for part in ("val", "test")]
    measures = (training, parts[0], [gap(one) for one in group], parts[1])
    return [photos, head, level, str(free[level]), *map(spread, measures)]


if __name__ == "__main__":
    command(main, FreeingOptions, NAME)
