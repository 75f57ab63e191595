"""How deep and how wide a dense head: capacity against overfitting.

The MNIST convnet with one dense layer of 64 to 4,096 units, and with two and three of 512, trained
on few images so that there is something to overfit: RMSprop, batch 128, 12 epochs, 5,000 images, a
thirtieth of all (2,000) set aside for validation. The result is the epoch with the best validation
accuracy: RMSprop's last one is a matter of luck.

Command:   python -m experiments.dense_head --data-dir DIR [--seeds 10] [--heads 1x64 1x4096]
           [--train-examples 1000]

Reported:  more capacity, more overfitting.

Ours:      printed as a table, and written with the curves to the folder of the runs. Of the last
           epoch, 3 seeds: every head overfits, with 98.8 to 99.7 % of the training and 95.0 to
           97.6 % of the validation images right; the differences between heads are within the
           spread of the seeds.
"""

from dataclasses import dataclass
from functools import partial

import cnnjax as cj
from cnnjax.cli import command
from cnnjax.experiment import Experiment, Options, run_variants
from experiments import _studies

# Widths of the dense layers.
HEADS = {
    f"{len(widths)}x{widths[0]}": widths
    for widths in ((64,), (256,), (512,), (1024,), (4096,), (512,) * 2, (512,) * 3)
}

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
        name=f"dense_head/{head}",
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
    heads = _studies.chosen(options.heads, HEADS, "--heads")
    runs = run_variants({head: partial(experiment, head) for head in heads}, options)
    folder = _studies.folder_of(options, "dense_head")
    # A part of the heads leaves the table of all alone.
    stem = "-".join(heads) if options.heads else "dense_head"
    _studies.compare(folder / f"{stem}.md", runs, COLUMNS)
    _studies.draw(folder / f"{stem}.png", runs, _studies.CURVES)
    return runs


if __name__ == "__main__":
    command(main, HeadOptions, "dense_head")
