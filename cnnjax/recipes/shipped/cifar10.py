"""CIFAR-10 by a net of one convolution, or model=deep of four; --recipe reported or tuned."""

from dataclasses import dataclass, replace
from typing import Literal

from cnnjax.augment import Augment
from cnnjax.config import TrainingConfig
from cnnjax.recipes.experiment import Experiment, ImageData, Recipe, RecipeOptions

MODELS = {
    "plain": "one convolution on CIFAR-10",
    "deep": "four convolutions on CIFAR-10",
}

REPORTED = {
    "plain": {"test_accuracy": 0.6728, "test_loss": 1.119, "val_accuracy": 0.6784},
    "deep": {"test_accuracy": 0.7639, "test_loss": 0.749, "val_accuracy": 0.7703},
}

RECIPES = {
    # Keras' fit returns the model of the last epoch, whatever the validation data say.
    "reported": TrainingConfig(epochs=20, batch_size=128, optimizer="rmsprop", monitor=None),
    "tuned": TrainingConfig(
        epochs=20,
        batch_size=128,
        optimizer="adamw",
        learning_rate=2e-3,
        schedule="one_cycle",
        weight_decay=0.05,
        average=0.998,
        augment=Augment(crop_padding=2, horizontal_flip=True),
        monitor=None,
    ),
}

AUGMENTS = {
    "none": None,
    "reported": Augment(
        rotation=40, width_shift=0.2, height_shift=0.2, zoom=0.2, horizontal_flip=True
    ),
    "mild": Augment(width_shift=0.1, height_shift=0.1, horizontal_flip=True),
    "flip": Augment(horizontal_flip=True),
    "crops": Augment(crop_padding=2, horizontal_flip=True),
}


@dataclass(frozen=True)
class CifarOptions(RecipeOptions):
    """Options of the experiment."""

    model: Literal["plain", "deep"] = "plain"
    """Which of the two nets."""
    augment: Literal["none", "reported", "mild", "flip", "crops"] = "none"
    """What is done to the training images of the reported recipe."""
    data: ImageData = "cifar10"


def experiment(options: CifarOptions) -> Experiment:
    """The training that the options ask for."""
    training = RECIPES[options.recipe]
    name = f"cifar10/{options.model}"
    if options.augment != "none":
        if options.recipe != "reported":
            raise ValueError("--augment is for --recipe reported: the tuned one has its own")
        training = replace(training, augment=AUGMENTS[options.augment])
        name += f"/augmented-{options.augment}"
    return Experiment(
        name=name,
        description=MODELS[options.model],
        model=f"cifar_{options.model}",
        training=training,
        data="cifar10",
        validation=0.2 if options.recipe == "reported" else 0.0,
        validation_last=options.recipe == "reported",
        recipe=options.recipe,
        reported=REPORTED[options.model] if options.augment == "none" else {},
    ).with_options(options)


RECIPE = Recipe(CifarOptions, experiment)
