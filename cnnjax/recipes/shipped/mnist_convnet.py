"""MNIST by three 3x3 convolutions, 93,322 parameters; --recipe reported or tuned."""

from cnnjax.augment import Augment
from cnnjax.config import TrainingConfig
from cnnjax.recipes.experiment import Experiment, Recipe, RecipeOptions

REPORTED = {"test_accuracy": 0.9918}

RECIPES = {
    "reported": TrainingConfig(epochs=5, batch_size=64, optimizer="rmsprop"),
    "tuned": TrainingConfig(
        epochs=5,
        batch_size=64,
        optimizer="adamw",
        learning_rate=3e-3,
        schedule="one_cycle",
        weight_decay=0.01,
        average=0.998,
        augment=Augment(width_shift=1, height_shift=1),
    ),
}


def experiment(options: RecipeOptions) -> Experiment:
    """The training that the options ask for."""
    return Experiment(
        name="mnist_convnet",
        description="three convolutions on MNIST",
        model="mnist_convnet",
        training=RECIPES[options.recipe],
        recipe=options.recipe,
        reported=REPORTED,
    ).with_options(options)


RECIPE = Recipe(RecipeOptions, experiment)
