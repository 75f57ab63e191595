"""What the studies of architectures share: their columns, their table, the place for both."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any, TypeVar

import numpy as np
import tyro

import cnnjax as cj
from cnnjax.core.storage import write_text
from cnnjax.core.text import suggest
from cnnjax.metrics import mean_and_deviation
from cnnjax.plot import figures
from cnnjax.recipes import (
    RUNS,
    Experiment,
    Measured,
    Options,
    comparison,
    for_every_seed,
    load_data,
    mean_curve,
    report_seeds,
    run_experiment,
    run_variants,
)
from cnnjax.runs.results import spread

# What a cell says of the runs of one variant.
Column = Callable[[Sequence[cj.Run]], str]

# What a figure of accuracies shows: label -> key of `Run.history`.
CURVES = {"training accuracy": "accuracy", "validation accuracy": "val_accuracy"}


@dataclass(frozen=True)
class StudyOptions(Options):
    """Options of a study that can be had for less time on fewer images."""

    train_examples: Annotated[int | None, tyro.conf.arg(metavar="INT")] = None
    """Images to train on; default: all that are not set aside."""


# What is done to the data of a variant, whose order of examples stays: (splits, seed) -> splits.
Change = Callable[[cj.data.Splits, int], cj.data.Splits]

AnyOptions = TypeVar("AnyOptions", bound=Options)


def run_changed(
    variants: Mapping[str, tuple[Callable[[AnyOptions], Experiment], Change]], options: AnyOptions
) -> dict[str, list[cj.Run]]:
    """`run_variants` of variants that differ in what is done to their data.

    Args:
        variants: name -> (options -> experiment, change of its data).
        options: of the command line; `out` gets a folder per variant.
    """
    runs: dict[str, list[cj.Run]] = {}
    for name, (make, change) in variants.items():
        out = str(Path(options.out) / name) if options.out else None
        told = replace(options, out=out)
        runs[name] = for_every_seed(told, partial(_train_changed, make, change))
        report_seeds(make(told), runs[name], out)
    print(f"\n{comparison(runs)}")
    return runs


def _train_changed(
    make: Callable[[AnyOptions], Experiment], change: Change, options: AnyOptions
) -> cj.Run:
    experiment = make(options)
    splits = change(load_data(experiment), options.seed)
    return run_experiment(experiment, options.out, splits=splits)


def map_images(
    splits: cj.data.Splits, change: Callable[[np.ndarray], np.ndarray]
) -> cj.data.Splits:
    """Splits whose images of every part went through a function of uint8 [N, H, W, C].

    They have no source: what `load` says of the data would not make them again.
    """
    parts = {
        name: replace(part, inputs=change(np.asarray(part.inputs[:])))
        for name, part in splits.parts.items()
    }
    return cj.data.Splits(parts["train"], parts.get("validation"), parts.get("test"))


def plain_gaps(
    make: Callable[[AnyOptions], Experiment], options: AnyOptions, runs: Sequence[cj.Run]
) -> list[float]:
    """Accuracy on the training images as they are minus that on the test images, of each model.

    What a run has recorded was measured while training, on altered images and with units dropped:
    that alone is lower, whether a net overfits or not.

    Args:
        make: options -> experiment, of the data.
        options: of the command line; their first seed is that of the first run.
        runs: one a seed.
    """
    found = []
    for seed, run in enumerate(runs, start=options.seed):
        train = load_data(make(replace(options, seed=seed)), lambda _: None).train
        found.append(cj.evaluate(run.model, train)["accuracy"] - run.metrics["test_accuracy"])
    return found


def gap_claim(
    text: str, first: tuple[str, Sequence[float]], second: tuple[str, Sequence[float]]
) -> Measured:
    """That the first arm has the larger gap.

    Args:
        text: what is claimed.
        first, second: name of the arm and its `plain_gaps`.
    """
    metric = "accuracy on training images as they are minus that on test images"
    return Measured(text, *first, *second, pairs="seeds", metric=metric)


def other_than(defaults: Mapping[str, Any], options: Any) -> dict[str, Any]:
    """The options that were given with another value, for a record's `changed`.

    Args:
        defaults: name of an option -> its value where nothing is given.
        options: of the command line; None stands for the default.
    """
    given = {name: getattr(options, name) for name in defaults}
    return {k: v for k, v in given.items() if v is not None and v != defaults[k]}


def folder_of(options: Options, name: str) -> Path:
    """Where a study puts what belongs to all of its runs: their common folder."""
    return Path(options.out).expanduser() if options.out else RUNS / name


def write_table(file: Path, head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table and write it as Markdown, with columns that are aligned in either.

    Args:
        file: to write.
        head: names of the columns.
        rows: as many cells each.
    """
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    lines = [head, ["-" * width for width in widths], *rows]
    text = "\n".join(
        f"| {' | '.join(cell.ljust(w) for cell, w in zip(line, widths, strict=True))} |"
        for line in lines
    )
    write_text(file, f"{text}\n")
    print(f"\n{text}\n\ntable:  {file}")


def compare(
    file: Path, runs: Mapping[str, Sequence[cj.Run]], columns: Mapping[str, Column]
) -> None:
    """Write and print the table of a study, a row a variant.

    Args:
        file: to write.
        runs: variant -> runs, one a seed.
        columns: heading -> cell.
    """
    rows = [[name, *(cell(group) for cell in columns.values())] for name, group in runs.items()]
    write_table(file, ["", *columns], rows)


def draw(file: Path, runs: Mapping[str, Sequence[cj.Run]], panels: Mapping[str, str]) -> None:
    """Draw the curves of a study, the mean of each variant in a band of a deviation.

    Args:
        file: to write.
        runs: variant -> runs, one a seed.
        panels: label -> key of `Run.history`; one that the runs have not is left out.
    """
    known = next(iter(runs.values()))[0].history
    curves: dict[str, dict[str, Any]] = {
        label: {name: mean_curve(group, key) for name, group in runs.items()}
        for label, key in panels.items()
        if key in known
    }
    figures.save(figures.mean_curves(curves, "epoch"), file)
    print(f"figure: {file}")


def chosen(names: Iterable[str], known: Iterable[str], option: str) -> tuple[str, ...]:
    """The variants that are asked for, all where none is.

    Raises:
        ValueError: if there is no such variant.
    """
    names, known = tuple(names), tuple(known)
    for name in names:
        if name not in known:
            raise ValueError(f"{option} has no {name!r}. {suggest(name, known)}")
    return names or known


def run_arms(
    name: str,
    make: Callable[[str, AnyOptions], Experiment],
    known: Iterable[str],
    wanted: Sequence[str],
    options: AnyOptions,
    columns: Mapping[str, Column],
) -> dict[str, list[cj.Run]]:
    """Train the arms of a study, compare them and draw their curves.

    Args:
        name: of the study.
        make: name of an arm, options -> experiment.
        known: names of all arms.
        wanted: those to train; none: all.
        options: of the command line.
        columns: of the table.
    """
    runs = run_variants({arm: partial(make, arm) for arm in wanted or known}, options)
    # A part of the arms leaves the table of all alone.
    stem = folder_of(options, name) / ("-".join(runs) if wanted else name)
    compare(stem.with_name(f"{stem.name}.md"), runs, columns)
    draw(stem.with_name(f"{stem.name}.png"), runs, CURVES)
    return runs


def parameters(runs: Sequence[cj.Run]) -> str:
    """Number of trained values."""
    return f"{cj.summary(runs[0].model).trainable:,}"


def flops(runs: Sequence[cj.Run]) -> str:
    """Operations for one image, forward."""
    return f"{cj.summary(runs[0].model).flops:,}"


def seconds_per_epoch(runs: Sequence[cj.Run]) -> float:
    """Median over the epochs of all runs but their first ones, in which the step is compiled."""
    return float(np.median(np.concatenate([_steady(run, "seconds") for run in runs])))


def epoch_seconds(runs: Sequence[cj.Run]) -> str:
    """`seconds_per_epoch` as a cell."""
    return f"{seconds_per_epoch(runs):.1f}"


def step_milliseconds(runs: Sequence[cj.Run]) -> str:
    """Time of a training step."""
    return f"{1000 * seconds_per_epoch(runs) / runs[0].history['step'][0]:.1f}"


def images_per_second(runs: Sequence[cj.Run]) -> str:
    """In training, as `seconds_per_epoch` is taken."""
    rates = np.concatenate([_steady(run, "images_per_second") for run in runs])
    return f"{np.median(rates):,.0f}"


def accuracy(part: str) -> Column:
    """Percent, mean and deviation, of "val" or "test", of the run's model; "" without such data."""
    return partial(_accuracy, part)


def training_accuracy(runs: Sequence[cj.Run]) -> str:
    """Percent, mean and deviation, of the epoch of the run's model, while it was training."""
    return spread([run.history["accuracy"][run.best_epoch - 1] for run in runs])


def best_epoch(runs: Sequence[cj.Run]) -> str:
    """The epoch of the run's model: mean and deviation over the seeds."""
    return mean_and_deviation([run.best_epoch for run in runs], 1)


def epochs_to(target: float) -> Column:
    """The first epoch with so much validation accuracy: mean and deviation over the seeds."""
    return partial(_epochs_to, target)


def _steady(run: cj.Run, key: str) -> np.ndarray:
    values = run.history[key]
    return values[1:] if len(values) > 1 else values


def _accuracy(part: str, runs: Sequence[cj.Run]) -> str:
    key = f"{part}_accuracy"
    values = [run.metrics[key] for run in runs if key in run.metrics]
    return spread(values) if values else ""


def _epochs_to(target: float, runs: Sequence[cj.Run]) -> str:
    reached = [run.history["val_accuracy"] >= target for run in runs]
    epochs = [int(np.argmax(hits)) + 1 for hits in reached if hits.any()]
    if not epochs:
        return "never"
    text = mean_and_deviation(epochs, 1)
    missing = len(runs) - len(epochs)
    return f"{text}, never in {missing} of {len(runs)}" if missing else text
