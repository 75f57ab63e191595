"""MNIST by LeNet, two 5x5 convolutions; --recipe reported or tuned."""

from cnnjax.augment import Augment
from cnnjax.config import TrainingConfig
from cnnjax.recipes.experiment import Experiment, Recipe, RecipeOptions

REPORTED = {"test_accuracy": 0.9921, "test_loss": 0.0335, "val_accuracy": 0.9898}

RECIPES = {
    # Keras' fit returns the model of the last epoch, whatever the validation data say.
    "reported": TrainingConfig(epochs=20, batch_size=128, optimizer="adam", monitor=None),
    "tuned": TrainingConfig(
        epochs=10,
        batch_size=128,
        optimizer="adamw",
        learning_rate=3e-3,
        schedule="one_cycle",
        weight_decay=0.02,
        average=0.998,
        augment=Augment(width_shift=2, height_shift=2),
        monitor=None,
    ),
}


def experiment(options: RecipeOptions) -> Experiment:
    """The training that the options ask for."""
    return Experiment(
        name="mnist_lenet",
        description="LeNet on MNIST",
        model="lenet",
        training=RECIPES[options.recipe],
        validation=0.2 if options.recipe == "reported" else 0.0,
        validation_last=options.recipe == "reported",
        recipe=options.recipe,
        reported=REPORTED,
    ).with_options(options)


RECIPE = Recipe(RecipeOptions, experiment)
