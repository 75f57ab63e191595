"""Dogs against cats from 2,000 images; cure=augmented is one against overfitting."""

from dataclasses import dataclass, replace
from typing import Annotated, Literal

import tyro

from cnnjax.augment import Augment
from cnnjax.config import TrainingConfig
from cnnjax.recipes.experiment import Experiment, ImageData, Recipe, RecipeOptions

AUGMENT = Augment(
    rotation=40,
    width_shift=0.2,
    height_shift=0.2,
    shear=0.2,
    zoom=0.2,
    horizontal_flip=True,
    fill_mode="nearest",
)

# Keras' fit returns the model of the last epoch, whatever the validation data say.
PLAIN = TrainingConfig(
    epochs=30, batch_size=20, optimizer="rmsprop", learning_rate=1e-4, monitor=None
)

CURES = {
    "plain": ("no cure", PLAIN, 0.0),
    "dropout": ("dropout", PLAIN, 0.5),
    "decay": ("L2 weight decay", replace(PLAIN, weight_decay=1e-3), 0.0),
    "augmented": (
        "dropout and augmentation",
        replace(PLAIN, epochs=100, augment=AUGMENT),
        0.5,
    ),
}

TUNED = TrainingConfig(
    epochs=60,
    batch_size=32,
    optimizer="adamw",
    learning_rate=1e-3,
    schedule="one_cycle",
    weight_decay=0.05,
    average=0.998,
    augment=Augment(
        rotation=15,
        width_shift=0.1,
        height_shift=0.1,
        zoom=0.2,
        horizontal_flip=True,
        brightness=(0.7, 1.3),
    ),
    monitor=None,
)

Cure = Literal["plain", "dropout", "decay", "augmented"]

REPORTED = {"augmented": {"val_accuracy": 0.81}}


@dataclass(frozen=True)
class CatsOptions(RecipeOptions):
    """Options of the experiment."""

    data: ImageData = "cats_vs_dogs_small"
    cure: Annotated[Cure | None, tyro.conf.arg(metavar="CURE")] = None
    """What is done against overfitting: plain (nothing), dropout, decay or augmented; default:
    plain, with --recipe tuned augmented, which is the one that it is for."""


def experiment(options: CatsOptions) -> Experiment:
    """The training that the options ask for."""
    cure = options.cure or ("augmented" if options.recipe == "tuned" else "plain")
    description, training, dropout = CURES[cure]
    if options.recipe == "tuned":
        if cure != "augmented":
            raise ValueError(f"--cure {cure} is for --recipe reported: the tuned one is augmented")
        training = TUNED
    return Experiment(
        name=f"cats_vs_dogs/{cure}",
        description=f"dogs against cats from scratch: {description}",
        model="cats_convnet",
        arguments={"dropout": dropout},
        training=training,
        data="cats_vs_dogs_small",
        images={"image_size": (150, 150)},
        validation=0.25,
        test=0.2,
        one_logit=True,
        smoothing=0.8,
        recipe=options.recipe,
        reported=REPORTED.get(cure, {}),
    ).with_options(options)


RECIPE = Recipe(CatsOptions, experiment)
