"""The MNIST convnet on the 1,797 real digits that come with the package: under a minute."""

from dataclasses import dataclass

from cnnjax.augment import Augment
from cnnjax.config import TrainingConfig
from cnnjax.recipes.experiment import Experiment, ImageData, Options, Recipe


@dataclass(frozen=True)
class QuickstartOptions(Options):
    """Options of the quickstart."""

    data: ImageData = "digits"


def experiment(options: QuickstartOptions) -> Experiment:
    """The training that the options ask for."""
    return Experiment(
        name="quickstart",
        description="the MNIST convnet on real handwritten digits",
        model="mnist_convnet",
        training=TrainingConfig(
            epochs=25,
            batch_size=32,
            optimizer="adam",
            learning_rate=2e-3,
            schedule="cosine",
            augment=Augment(width_shift=2, height_shift=2),
            monitor=None,
        ),
        data="digits",
        validation=0.1,
    ).with_options(options)


RECIPE = Recipe(QuickstartOptions, experiment)
