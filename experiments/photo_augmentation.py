"""Augmentation on photos: one net with it and without for as many epochs, on few photos and more.

The net of `cats_vs_dogs` with dropout, at 64x64, on 200 and on 2,000 photos of cats and dogs
(RMSprop 3e-4, batch 20). Arms of one seed start from the same weights and see the same photos in
the same order: `none` as they are, `flip` mirrored at random, `mild` also turned by up to 15
degrees, shifted and zoomed by a tenth, `reported` by the strengths of `cats_vs_dogs --cure
augmented`. For the gap the trained nets are tested on the training photos as they are: while
training they saw altered ones, which alone makes that accuracy lower.

Command:   python -m experiments.photo_augmentation [--seeds 5] [--sizes 200] [--arms none mild]
           [--image-size 150 --epochs 100]

Reported:  augmentation keeps a net from overfitting: the gap between training and test accuracy
           shrinks, and on unseen photos it is better.

Ours:      printed as a table, and written with the claims to the folder of the runs.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import cnnjax as cj
from cnnjax.cli import command
from cnnjax.recipes import (
    Claim,
    Experiment,
    ImageData,
    Measured,
    Options,
    run_variants,
    write_claims,
)
from cnnjax.recipes.shipped.cats_vs_dogs import AUGMENT, PLAIN
from experiments import _studies

ARMS = {
    "none": None,
    "flip": cj.augment.Augment(horizontal_flip=True),
    "mild": cj.augment.Augment(
        rotation=15, width_shift=0.1, height_shift=0.1, zoom=0.1, horizontal_flip=True
    ),
    "reported": AUGMENT,
}

SIZES = (200, 2000)

_FEW = 1000  # photos; fewer get more epochs
_EPOCHS, _EPOCHS_OF_FEW = 30, 100

COLUMNS = {
    "training": _studies.training_accuracy,
    "test": _studies.accuracy("test"),
    "seconds an epoch": _studies.epoch_seconds,
}


@dataclass(frozen=True)
class AugmentationOptions(Options):
    """Options of the experiment."""

    data: ImageData = "cats_vs_dogs_small"
    sizes: tuple[int, ...] = SIZES
    """Photos to train on."""
    arms: tuple[str, ...] = ()
    """Which to train of none, flip, mild, reported; default: none, mild."""
    image_size: int = 64
    """Height and width to which photos are brought, 46 at least."""


def claims(
    size: int, arm: str, options: AugmentationOptions, runs: Mapping[str, Sequence[cj.Run]]
) -> list[Claim | Measured]:
    """What is claimed of an augmentation on so many photos."""
    plain, augmented = f"photo_augmentation/{size}/none", f"photo_augmentation/{size}/{arm}"
    of = f"the augmentation {arm!r} on {size:,} photos"
    gaps = {
        way: _studies.plain_gaps(partial(experiment, size, way), options, runs[f"{size}/{way}"])
        for way in ("none", arm)
    }
    return [
        Claim(f"At equal epochs {of} is better on the test photos.", augmented, plain,
              "test_accuracy"),
        _studies.gap_claim(f"The gap between training and test accuracy is smaller with {of}",
                           ("none", gaps["none"]), (arm, gaps[arm])),
    ]  # fmt: skip


def experiment(size: int, arm: str, options: AugmentationOptions) -> Experiment:
    """The training on so many photos with one of the augmentations."""
    return Experiment(
        name=f"photo_augmentation/{size}/{arm}",
        description=f"dogs against cats from {size:,} photos, augmentation: {arm}",
        model="cats_convnet",
        arguments={"dropout": 0.5},
        training=replace(
            PLAIN,
            learning_rate=3e-4,
            epochs=_EPOCHS_OF_FEW if size < _FEW else _EPOCHS,
            augment=ARMS[arm],
        ),
        data="cats_vs_dogs_small",
        images={"image_size": (options.image_size, options.image_size)},
        validation=None,  # the test photos are looked at once, at the end
        test=0.2,
        train_examples=size,
        one_logit=True,
    ).with_options(options)


def main(options: AugmentationOptions) -> dict[str, list[cj.Run]]:
    """Train the arms on each number of photos, compare them, write what is claimed."""
    arms = _studies.chosen(options.arms or ("none", "mild"), ARMS, "--arms")
    variants = {
        f"{size}/{arm}": partial(experiment, size, arm) for size in options.sizes for arm in arms
    }
    runs = run_variants(variants, options)
    folder = _studies.folder_of(options, "photo_augmentation")
    _studies.compare(folder / "photo_augmentation.md", runs, COLUMNS)
    augmented = [arm for arm in arms if arm != "none"]
    if "none" in arms and augmented:
        write_claims(
            folder,
            [c for n in options.sizes for arm in augmented for c in claims(n, arm, options, runs)],
        )
    return runs


if __name__ == "__main__":
    command(main, AugmentationOptions, "photo_augmentation")
