"""How deep and how wide a dense head: capacity against overfitting.

The MNIST convnet with one dense layer of 64 to 4,096 units, and with two and three of 512, trained
on few images so that there is something to overfit: RMSprop, batch 128, 12 epochs, 5,000 images, a
tenth of all set aside for validation.

Command:   python -m experiments.dense_head --data-dir DIR [--seeds 3] [--train-examples 1000]

Reported:  more capacity, more overfitting.

Ours:      3 seeds: every head overfits, with 98.8 to 99.7 % of the training and 95.0 to 97.6 % of
           the validation images right; the differences between heads are within the spread of the
           seeds, which for RMSprop's last epoch is up to 3.5 points. Two layers of 512 are best
           (test 98.11 ± 0.33 %), one of 64 is worst (95.27 ± 3.39 %).
"""

from dataclasses import dataclass
from functools import partial

import cnnjax as cj
from cnnjax.cli import command
from cnnjax.experiment import Experiment, Options, run_variants

HEADS = ((64,), (256,), (512,), (1024,), (4096,), (512,) * 2, (512,) * 3)


@dataclass(frozen=True)
class HeadOptions(Options):
    """Options of the experiment."""

    train_examples: int = 5000
    """Number of images to train on."""


def experiment(head: tuple[int, ...], options: HeadOptions) -> Experiment:
    """The training with a head of these widths."""
    return Experiment(
        name=f"dense_head/{_name(head)}",
        description=f"MNIST convnet with {len(head)} dense layers of {head[0]} units",
        model="mnist_convnet",
        arguments={"head": head},
        training=cj.TrainingConfig(epochs=12, batch_size=128, optimizer="rmsprop", monitor=None),
        validation=0.1,
        train_examples=options.train_examples,
    ).with_options(options)


def main(options: HeadOptions) -> dict[str, list[cj.Run]]:
    """Train all and print them side by side."""
    return run_variants({_name(head): partial(experiment, head) for head in HEADS}, options)


def _name(head: tuple[int, ...]) -> str:
    return f"{len(head)}x{head[0]}"


if __name__ == "__main__":
    command(main, HeadOptions, "dense_head")
