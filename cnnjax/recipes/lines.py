"""What is printed of runs: mean and spread, beside the reported figure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import jax
import numpy as np

from cnnjax.core.table import table
from cnnjax.core.text import counted
from cnnjax.metrics import deviation, mean_and_deviation, percent, quality
from cnnjax.recipes.experiment import Experiment
from cnnjax.runs.results import spread
from cnnjax.training import Run


def comparison(runs: Mapping[str, Sequence[Run]]) -> str:
    """A table of variants: parameters, accuracies and seconds, mean and spread over the seeds.

    Of models of values the accuracies are absolute errors.
    """
    rows: list[Sequence[str]] = [("", "parameters", "training", "validation", "test", "seconds")]
    for name, group in runs.items():
        count = sum(leaf.size for leaf in jax.tree.leaves(group[0].model.params))
        metric = quality(group[0].history)
        show = spread if metric == "accuracy" else mean_and_deviation
        cells = [show([run.history[metric][run.best_epoch - 1] for run in group])]
        for part in ("val", "test"):
            key = f"{part}_{metric}"
            known = [run.metrics[key] for run in group if key in run.metrics]
            cells.append(show(known) if known else "")
        seconds = float(np.mean([run.seconds for run in group]))
        rows.append((name, f"{count:,}", *cells, f"{seconds:.0f}"))
    return table(rows)


def result_line(experiment: Experiment, runs: Sequence[Run]) -> str:
    """The result beside the reported figure: mean and standard deviation over the seeds."""
    metric = quality(runs[0].history)
    key = next((k for k in (f"test_{metric}", f"val_{metric}") if k in runs[0].metrics), None)
    if key is None:
        return f"loss {runs[-1].history['loss'][-1]:.4f} on the training data"
    values = np.array([run.metrics[key] for run in runs])
    show: Callable[[float], str] = percent if metric == "accuracy" else "{:.4f}".format
    text = f"{experiment.model} {key.replace('_', ' ')}: {show(float(values.mean()))}"
    if len(runs) > 1:
        text += f" (standard deviation {show(deviation(values))} over {len(runs)} seeds)"
    if key in experiment.reported:
        text += f"; reported with Keras: {show(experiment.reported[key])}"
    seconds = float(np.mean([run.seconds for run in runs]))
    recipe = f"recipe {experiment.recipe}, " if experiment.recipe else ""
    epochs = counted(experiment.training.epochs, "epoch")
    text = f"{text}; {recipe}{epochs}, {seconds:.0f} s of training"
    waiting = [run.history["waiting"].mean() for run in runs if "waiting" in run.history]
    return f"{text}, {percent(float(np.mean(waiting)))} of it waiting for data" if waiting else text
