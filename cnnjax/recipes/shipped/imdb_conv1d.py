"""Sentiment of film reviews by 1-D convolutions, or model=gru or lstm."""

from dataclasses import dataclass
from typing import Annotated, Literal

import tyro

from cnnjax.config import TrainingConfig
from cnnjax.recipes.experiment import Experiment, Recipe, RecipeOptions

MODELS = {
    "conv1d": "two 1-D convolutions",
    "gru": "a GRU of 64 units",
    "lstm": "an LSTM of 64 units",
}

REPORTED = {"val_accuracy": 0.85}

RECIPES = {
    # Keras' fit returns the model of the last epoch, whatever the validation data say.
    "reported": TrainingConfig(
        epochs=10, batch_size=128, optimizer="rmsprop", learning_rate=1e-4, monitor=None
    ),
    "tuned": TrainingConfig(
        epochs=4,
        batch_size=64,
        optimizer="adamw",
        learning_rate=2e-3,
        schedule="one_cycle",
        weight_decay=0.05,
        average=0.99,
        monitor="accuracy",
    ),
}

_LENGTH, _LENGTH_OF_TEMPLATES = 500, 64


@dataclass(frozen=True)
class ImdbOptions(RecipeOptions):
    """Options of the experiment."""

    data: str = "imdb_reviews"
    """imdb_reviews or another data set of text and label; templates; a .csv file; or a folder with
    a folder of .txt files per class."""
    model: Literal["conv1d", "gru", "lstm"] = "conv1d"
    """Which net."""
    vocabulary: Annotated[int | None, tyro.conf.arg(metavar="INT")] = None
    """Numbers of words; default: 10,000, or as many as the texts of training have."""
    length: Annotated[int | None, tyro.conf.arg(metavar="INT")] = None
    """Of a text, in words; longer ones are cut at the front. Default: 500, of templates 64."""
    text_column: str = "text"
    """Of a .csv file."""
    label_column: str = "label"
    """Of a .csv file."""
    classes: tuple[str, ...] = ()
    """Class folders to use, in the order of their labels; default: all, sorted."""


def experiment(options: ImdbOptions) -> Experiment:
    """The training that the options ask for."""
    length = options.length
    if length is None:
        length = _LENGTH_OF_TEMPLATES if options.data == "templates" else _LENGTH
    return Experiment(
        name=f"imdb_conv1d/{options.model}",
        description=f"sentiment of reviews by {MODELS[options.model]}",
        model="imdb_conv1d" if options.model == "conv1d" else "imdb_gru",
        arguments={} if options.model == "conv1d" else {"cell": options.model},
        training=RECIPES[options.recipe],
        data="imdb_reviews",
        texts={
            "vocabulary_size": options.vocabulary,
            "length": length,
            "class_names": options.classes or None,
            "text_column": options.text_column,
            "label_column": options.label_column,
        },
        validation=0.2,
        validation_last=options.recipe == "reported",
        test=0.2,
        one_logit=True,
        recipe=options.recipe,
        reported=REPORTED if options.model == "conv1d" else {},
    ).with_options(options)


RECIPE = Recipe(ImdbOptions, experiment)
