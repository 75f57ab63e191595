"""Reviews by convolutions, a GRU and an LSTM of like size, with equal tuning effort.

The nets of `imdb_conv1d`. Each tries the same settings (Adam, two learning rates, words dropped or
not) with a seed of the search, the validation data choose, and the choice is trained again on fresh
seeds: the same texts, the same order, the same epochs for all nets; the best epoch by validation.
5,000 reviews of 200 words by default, which one CPU core can do; on a GPU the whole:
`--length 500 --train-examples 20000 --epochs 10`.

Time to equal accuracy: the seconds of training until the validation accuracy that both nets of a
pair reach, which is the best one of the worse of the two. Nets are trained one after another: what
seconds say takes a machine that does nothing else.

Command:   python -m experiments.conv_or_recurrent --data-dir DIR --seeds 5
           [--length 500 --train-examples 20000 --epochs 10]

Reported:  a 1-D convolution is about as good as a recurrent net and much cheaper.

Ours:      the study prints the table of the search, accuracies and seconds an epoch, and writes
           them to conv_or_recurrent.md, the curves to conv_or_recurrent.png.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Annotated, Any

import numpy as np
import tyro

import cnnjax as cj
from cnnjax.augment import WordDropout
from cnnjax.cli import command
from cnnjax.recipes import Claim, Experiment, Measured, Options, run_variants, write_claims
from cnnjax.recipes.shipped import imdb_conv1d
from experiments import _studies, _tuning

NAME = "conv_or_recurrent"

NETS = ("conv1d", "gru", "lstm")

GRID: dict[str, dict[str, Any]] = {
    f"{rate:g}{words}": {"learning_rate": rate, "augment": augment}
    for words, augment in (("", None), (", words dropped", WordDropout(0.2)))
    for rate in (1e-3, 3e-3)
}


@dataclass(frozen=True)
class ComparisonOptions(Options):
    """Options of the experiment."""

    data: str = "imdb_reviews"
    """imdb_reviews or another data set of text and label; templates; a .csv file; or a folder with
    a folder of .txt files per class."""
    length: int = 200
    """Of a text, in words; longer ones are cut at the front."""
    train_examples: Annotated[int | None, tyro.conf.arg(metavar="INT")] = 5000
    """Texts to train on; None: all that are not set aside."""


def name_of(net: str, options: ComparisonOptions) -> str:
    """The name of an experiment; of another size than usual a name of its own."""
    usual = ComparisonOptions()
    size = (options.length, options.train_examples)
    if size == (usual.length, usual.train_examples):
        return f"{NAME}/{net}"
    return f"{NAME}/{options.train_examples or 'all'}x{options.length}/{net}"


def claims_of(options: ComparisonOptions) -> list[Claim]:
    """On accuracy and time of an epoch, of the size that the options ask for."""
    conv, claims = name_of("conv1d", options), []
    for net, words in (("gru", "a GRU"), ("lstm", "an LSTM")):
        other = name_of(net, options)
        claims += [
            Claim(
                f"A 1-D convolution is right about as often as {words}, within a point",
                conv, other, "test_accuracy", within=0.01,
            ),
            Claim(
                f"An epoch of {words} takes longer than one of the 1-D convolution",
                other, conv, "seconds",
            ),
        ]  # fmt: skip
    return claims


CLAIMS = tuple(claims_of(ComparisonOptions()))


def experiment(net: str, settings: Mapping[str, Any], options: ComparisonOptions) -> Experiment:
    """The training of one net with settings of the grid."""
    texts = imdb_conv1d.ImdbOptions(data=options.data, model=net, length=options.length)  # type: ignore[arg-type]
    training = cj.TrainingConfig(
        epochs=6, batch_size=128, optimizer="adam", monitor="accuracy", **settings
    )
    plain = replace(
        imdb_conv1d.experiment(texts),
        name=name_of(net, options),
        training=training,
        train_examples=options.train_examples,
        validation_last=False,
        recipe="",
        reported={},
    )
    return plain.with_options(options)


def seconds_to_equal(first: cj.Run, second: cj.Run) -> tuple[float, float]:
    """Seconds of training until the validation accuracy that both runs reach, of either."""
    level = min(float(run.history["val_accuracy"].max()) for run in (first, second))
    epochs = [int(np.argmax(run.history["val_accuracy"] >= level)) for run in (first, second)]
    seconds = [
        float(np.cumsum(run.history["seconds"])[epoch])
        for run, epoch in zip((first, second), epochs, strict=True)
    ]
    return seconds[0], seconds[1]


def measured(runs: Mapping[str, Sequence[cj.Run]]) -> list[Measured]:
    """Claims on the time to equal accuracy."""
    claims = []
    for net in NETS[1:]:
        pairs = zip(runs[net], runs["conv1d"], strict=True)
        recurrent, conv = zip(*(seconds_to_equal(*pair) for pair in pairs), strict=True)
        claims.append(
            Measured(
                f"The 1-D convolution needs less time than the {net.upper()} to equal accuracy",
                net.upper(), recurrent, "1-D convolution", conv, pairs="seeds",
                metric="seconds of training",
            )
        )  # fmt: skip
    return claims


def main(options: ComparisonOptions) -> dict[str, list[cj.Run]]:
    """Search, confirm, compare, draw."""
    folder = _studies.folder_of(options, NAME)
    best = _tuning.search(folder, NETS, GRID, experiment, options)
    runs = run_variants({net: partial(experiment, net, best[net]) for net in NETS}, options)
    columns = {
        "parameters": _studies.parameters,
        "validation": _studies.accuracy("val"),
        "test": _studies.accuracy("test"),
        "best epoch": _studies.best_epoch,
        "seconds an epoch": _studies.epoch_seconds,
    }
    _studies.compare(folder / f"{NAME}.md", runs, columns)
    _studies.draw(folder / f"{NAME}.png", runs, _studies.CURVES)
    write_claims(folder, [*claims_of(options), *measured(runs)])
    return runs


if __name__ == "__main__":
    command(main, ComparisonOptions, NAME)
