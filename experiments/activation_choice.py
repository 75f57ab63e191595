"""ReLU against sigmoid against tanh in the hidden layers of the MNIST convnet.

Trained in the same way for each: RMSprop, batch 64, 5 epochs, a tenth of the training data set
aside for validation. The table names the first epoch with 98 % of the validation images right; the
figure shows training loss and validation accuracy over the epochs.

Command:   python -m experiments.activation_choice --data-dir DIR [--seeds 3]
           [--train-examples 10000]

Reported:  ReLU is the fastest to learn.

Ours:      the rows activation_choice of RESULTS.md and its claims; the table printed has
           milliseconds a step and the first epoch with 98 % of the validation images right.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

import cnnjax as cj
from cnnjax.cli import command
from cnnjax.recipes import Claim, Experiment, Measured, run_variants, write_claims
from cnnjax.recipes.shipped.mnist_convnet import RECIPES
from experiments import _studies

ACTIVATIONS = ("relu", "sigmoid", "tanh")

NAME = "activation_choice"

CLAIMS = tuple(
    Claim(
        f"ReLU ends at a better accuracy than {other}",
        f"{NAME}/relu",
        f"{NAME}/{other}",
        "test_accuracy",
    )
    for other in ("tanh", "sigmoid")
)

COLUMNS = {
    "parameters": _studies.parameters,
    "ms a step": _studies.step_milliseconds,
    "validation": _studies.accuracy("val"),
    "test": _studies.accuracy("test"),
    "epochs to 98 %": _studies.epochs_to(0.98),
    "seconds an epoch": _studies.epoch_seconds,
}

CURVES = {"training loss": "loss", "validation accuracy": "val_accuracy"}


def experiment(activation: str, options: _studies.StudyOptions) -> Experiment:
    """The training with one of the three functions."""
    return Experiment(
        name=f"{NAME}/{activation}",
        description=f"MNIST convnet with {activation}",
        model="mnist_convnet",
        arguments={"activation": activation},
        # All run to their last epoch, whatever the validation data say.
        training=replace(RECIPES["reported"], monitor=None),
        validation=0.1,
        train_examples=options.train_examples,
    ).with_options(options)


def speed_claims(runs: Mapping[str, Sequence[cj.Run]]) -> list[Measured]:
    """That ReLU is the fastest to learn: ahead when all have seen every image once.

    Args:
        runs: activation -> runs, of the same seeds.
    """
    first = {
        name: [run.history["val_accuracy"][0] for run in group] for name, group in runs.items()
    }
    return [
        Measured(
            text=f"ReLU learns faster than {other}: it is ahead after one epoch",
            first_name="relu",
            first=first["relu"],
            second_name=other,
            second=first[other],
            pairs="seeds",
            metric="validation accuracy after one epoch",
        )
        for other in ("tanh", "sigmoid")
    ]


def main(options: _studies.StudyOptions) -> dict[str, list[cj.Run]]:
    """Train all three, compare them and draw their curves."""
    runs = run_variants({name: partial(experiment, name) for name in ACTIVATIONS}, options)
    folder = _studies.folder_of(options, NAME)
    _studies.compare(folder / "activation_choice.md", runs, COLUMNS)
    _studies.draw(folder / "activation_choice.png", runs, CURVES)
    write_claims(folder, [*CLAIMS, *speed_claims(runs)])
    return runs


if __name__ == "__main__":
    command(main, _studies.StudyOptions, NAME)
