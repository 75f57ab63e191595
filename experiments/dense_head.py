"""How deep and how wide a dense head: capacity against overfitting.

The MNIST convnet with one dense layer of 64 to 4,096 units, and with two and three of 512, trained
on few images so that there is something to overfit: RMSprop, batch 128, 12 epochs, 5,000 images, a
thirtieth of all (2,000) set aside for validation. The result is the epoch with the best validation
accuracy: RMSprop's last one is a matter of luck. That was chosen after runs to the last epoch,
below, had told no heads apart. As the epoch is chosen by the validation accuracy, the gap to it is
smaller than on data that chose nothing, for all heads.

Command:   python -m experiments.dense_head --data-dir DIR [--seeds 10] [--heads 1x64 1x4096]
           [--train-examples 1000]

Reported:  more capacity, more overfitting.

Ours:      the rows dense_head of RESULTS.md and the claims; table and curves are in the folder
           of the runs.
"""

from dataclasses import dataclass

import cnnjax as cj
from cnnjax.cli import command
from cnnjax.recipes import Claim, Experiment, Options, write_claims
from experiments import _studies

# Widths of the dense layers.
HEADS = {
    f"{len(widths)}x{widths[0]}": widths
    for widths in ((64,), (256,), (512,), (1024,), (4096,), (512,) * 2, (512,) * 3)
}

NAME = "dense_head"


def _claim(text: str, first: str, second: str, metric: str) -> Claim:
    return Claim(text, f"{NAME}/{first}", f"{NAME}/{second}", metric)


CLAIMS = (
    _claim("A dense head of 4,096 units overfits more than one of 64", "1x4096", "1x64", "gap"),
    _claim("Three dense layers of 512 units overfit more than one", "3x512", "1x512", "gap"),
    _claim(
        "A dense head of 4,096 units fits the training images better than one of 64",
        "1x4096",
        "1x64",
        "accuracy",
    ),
    _claim(
        "A dense head of 4,096 units predicts better than one of 64",
        "1x4096",
        "1x64",
        "test_accuracy",
    ),
    _claim(
        "Three dense layers of 512 units predict better than one", "3x512", "1x512", "test_accuracy"
    ),
)

COLUMNS = {
    "parameters": _studies.parameters,
    "ms a step": _studies.step_milliseconds,
    "best epoch": _studies.best_epoch,
    "training": _studies.training_accuracy,
    "validation": _studies.accuracy("val"),
    "test": _studies.accuracy("test"),
}


@dataclass(frozen=True)
class HeadOptions(Options):
    """Options of the experiment."""

    heads: tuple[str, ...] = ()
    """Which to train; default: all."""
    train_examples: int = 5000
    """Number of images to train on."""


def experiment(head: str, options: HeadOptions) -> Experiment:
    """The training with one of the heads."""
    widths = HEADS[head]
    return Experiment(
        name=f"{NAME}/{head}",
        description=f"MNIST convnet with {len(widths)} dense layers of {widths[0]} units",
        model="mnist_convnet",
        arguments={"head": widths},
        training=cj.TrainingConfig(
            epochs=12, batch_size=128, optimizer="rmsprop", monitor="accuracy"
        ),
        validation=1 / 30,
        train_examples=options.train_examples,
    ).with_options(options)


def main(options: HeadOptions) -> dict[str, list[cj.Run]]:
    """Train the heads, compare them and draw their curves."""
    _studies.chosen(options.heads, HEADS, "--heads")
    runs = _studies.run_arms(NAME, experiment, HEADS, options.heads, options, COLUMNS)
    write_claims(_studies.folder_of(options, NAME), CLAIMS)
    return runs


if __name__ == "__main__":
    command(main, HeadOptions, NAME)
