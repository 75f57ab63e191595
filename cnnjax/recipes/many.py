"""One experiment for several seeds, and several experiments side by side."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from cnnjax import data as data_sources
from cnnjax.core import processes
from cnnjax.core.places import expanded
from cnnjax.core.text import plain
from cnnjax.metrics import deviation, quality
from cnnjax.plot import figures
from cnnjax.recipes.experiment import Experiment, Options
from cnnjax.recipes.lines import comparison, result_line
from cnnjax.recipes.run import RUNS, run_experiment
from cnnjax.training import Run

AnyOptions = TypeVar("AnyOptions", bound=Options)
Outcome = TypeVar("Outcome")


def for_every_seed(options: AnyOptions, train: Callable[[AnyOptions], Outcome]) -> list[Outcome]:
    """What a training of one seed returns, for each of the options' seeds.

    Args:
        options: of the command line.
        train: called with the options of each seed, whose `out` is a folder of its own among
            several.

    Raises:
        ValueError: for less than one seed.
    """
    if options.seeds < 1:
        raise ValueError(f"seeds must be at least 1, got {options.seeds}")
    results = []
    for seed in range(options.seed, options.seed + options.seeds):
        out = options.out
        if out and options.seeds > 1:
            out = str(Path(out) / f"seed{seed}")
        results.append(train(replace(options, seed=seed, seeds=1, out=out)))
    return results


def run_seeds(
    make: Callable[[AnyOptions], Experiment],
    options: AnyOptions,
    splits: data_sources.Splits | None = None,
) -> list[Run]:
    """Run an experiment once for every seed that the options ask for.

    Args:
        make: options -> experiment; called with each seed.
        options: of the command line.
        splits: the data of all runs, instead of what the experiment names.

    Returns:
        The runs.
    """

    def train(one: AnyOptions) -> Run:
        return run_experiment(make(one), one.out, splits=splits)

    runs = for_every_seed(options, train)
    report_seeds(make(options), runs, options.out)
    return runs


def report_seeds(
    experiment: Experiment, runs: Sequence[Run], out: str | None = None, stage: str = ""
) -> None:
    """Print mean and spread of an experiment over several seeds, and draw its curves.

    Args:
        experiment: whose runs they are.
        runs: one a seed; of a single one nothing is printed or drawn.
        out: folder of all runs, which gets the figure; None: checkpoints/NAME.
        stage: of a training in several stages this one.
    """
    if len(runs) < 2 or not processes.is_first():
        return
    line = result_line(experiment, runs)
    print(f"{stage}: {line}" if stage else f"\n{line}")
    folder = expanded(out) if out else RUNS / experiment.name
    figure = folder / "-".join(filter(None, (experiment.recipe, stage, "seeds.png")))
    figures.save(draw_seeds(runs), figure)
    print(f"curves: {plain(figure, 4096)}")


def draw_seeds(runs: Sequence[Run]) -> Any:
    """Loss and accuracy of one experiment for several seeds: means in a band of a deviation.

    Args:
        runs: at least two.

    Returns:
        A matplotlib figure.
    """
    panels: dict[str, dict[str, np.ndarray]] = {}
    for metric in ("loss", quality(runs[0].history)):
        parts = {"training": metric, "validation": f"val_{metric}"}
        panels[metric.replace("_", " ")] = {
            name: mean_curve(runs, key) for name, key in parts.items() if key in runs[0].history
        }
    return figures.mean_curves(panels, "epoch")


def mean_curve(runs: Sequence[Run], metric: str) -> np.ndarray:
    """A metric over the epochs that all runs have.

    Args:
        runs: of one experiment.
        metric: of `Run.history`.

    Returns:
        float64 [3, epochs]: epoch, mean, standard deviation (of a single run 0).
    """
    length = min(len(run.history["epoch"]) for run in runs)
    values = np.stack([run.history[metric][:length] for run in runs])
    epochs = runs[0].history["epoch"][:length]
    return np.stack([epochs, values.mean(axis=0), deviation(values)])


def run_variants(
    variants: Mapping[str, Callable[[AnyOptions], Experiment]],
    options: AnyOptions,
    splits: data_sources.Splits | None = None,
) -> dict[str, list[Run]]:
    """Run several experiments, each for every seed, and print them side by side.

    Args:
        variants: name -> (options -> experiment).
        options: of the command line; `out` gets a folder per variant.
        splits: as in `run_seeds`.

    Returns:
        name -> runs.
    """
    runs: dict[str, list[Run]] = {}
    for name, make in variants.items():
        out = str(Path(options.out) / name) if options.out else None
        runs[name] = run_seeds(make, replace(options, out=out), splits)
    if processes.is_first():
        print(f"\n{comparison(runs)}")
    return runs
