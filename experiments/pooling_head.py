"""A dense head on the flattened last map against one on its global average.

The MNIST convnet (RMSprop, batch 64, 5 epochs, a tenth set aside for validation), 40 % of whose
parameters the head holds, or the convnet for small photos (RMSprop 1e-4, batch 20, 30 epochs), 93 %
at 150x150 pixels and 81 % at 96x96, trained in the same way with both heads. The dense layers keep
their width; behind the average (Lin et al. 2014, Network in network, sec. 3.2) the first of them
has as many inputs as the map has channels, not as many as it has values. The same question on the
deep CIFAR-10 net, 96 %: `cifar_choices`. What seconds say takes a machine that does nothing else.

Command:   python -m experiments.pooling_head --data-dir DIR [--seeds 5] [--train-examples 10000]
           [--model cats_convnet --data FOLDER [--image-size 96]]

Reported:  global average pooling has up to 80 % fewer parameters and is usually better.

Ours:      the rows pooling_head of RESULTS.md and the claims; table and curves are in the
           folder of the runs.
"""

from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

import cnnjax as cj
from cnnjax.cli import command
from cnnjax.recipes import Claim, Experiment, run_variants, write_claims
from cnnjax.recipes.shipped import mnist_convnet
from experiments import _studies

HEADS: dict[str, dict[str, Any]] = {"flatten": {}, "average": {"pooling": "avg"}}

# Both run to their last epoch, whatever the validation data say.
TRAINING = {
    "mnist_convnet": replace(mnist_convnet.RECIPES["reported"], monitor=None),
    "cats_convnet": cj.TrainingConfig(
        epochs=30, batch_size=20, optimizer="rmsprop", learning_rate=1e-4, monitor=None
    ),
}

VALIDATION = {"mnist_convnet": 0.1, "cats_convnet": 0.25}

# Validation accuracy whose first epoch the table names.
TARGET = {"mnist_convnet": 0.98, "cats_convnet": 0.7}

FLATTEN, AVERAGE = HEADS


def _claims(base: str) -> tuple[Claim, ...]:
    flat, mean = (f"pooling_head/{base}/{head}" for head in (FLATTEN, AVERAGE))
    said = f"With the global average in place of the flattened map {base}"
    return (
        Claim(f"{said} predicts better", mean, flat, "test_accuracy"),
        Claim(f"{said} overfits less", flat, mean, "gap"),
        Claim(f"{said} takes less time for an epoch", flat, mean, "seconds"),
    )


CLAIMS = {base: _claims(base) for base in TRAINING}


@dataclass(frozen=True)
class HeadOptions(_studies.StudyOptions):
    """Options of the experiment."""

    model: Literal["mnist_convnet", "cats_convnet"] = "mnist_convnet"
    """Which base."""
    image_size: int = 150
    """Height and width of the photos of cats_convnet."""


def experiment(head: str, options: HeadOptions) -> Experiment:
    """The training with one of the two heads."""
    photos = options.model == "cats_convnet"
    task = Experiment(
        name=f"pooling_head/{options.model}/{head}",
        description=f"{options.model}, dense layers on the last map: {head}",
        model=options.model,
        arguments=HEADS[head],
        training=TRAINING[options.model],
        images={"image_size": (options.image_size, options.image_size)} if photos else {},
        validation=VALIDATION[options.model],
        test=0.2 if photos else 0.0,
        one_logit=photos,
        train_examples=options.train_examples,
    ).with_options(options)
    if not photos:
        return task
    other = _studies.other_than({"image_size": HeadOptions.image_size}, options)
    return replace(task, changed={**task.changed, **other})


def main(options: HeadOptions) -> dict[str, list[cj.Run]]:
    """Train both, compare them and draw their curves."""
    runs = run_variants({head: partial(experiment, head) for head in HEADS}, options)
    folder = _studies.folder_of(options, f"pooling_head/{options.model}")
    target = TARGET[options.model]
    columns = {
        "parameters": _studies.parameters,
        "FLOPs an image": _studies.flops,
        "ms a step": _studies.step_milliseconds,
        "training": _studies.training_accuracy,
        "validation": _studies.accuracy("val"),
        "test": _studies.accuracy("test"),
        f"epochs to {100 * target:g} %": _studies.epochs_to(target),
    }
    _studies.compare(folder / "pooling_head.md", runs, columns)
    _studies.draw(folder / "pooling_head.png", runs, _studies.CURVES)
    write_claims(folder, CLAIMS[options.model])
    return runs


if __name__ == "__main__":
    command(main, HeadOptions, "pooling_head")
