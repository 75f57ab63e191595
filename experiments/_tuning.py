"""Equal tuning effort: every arm tries the same settings, and validation data choose among them.

The search trains with a seed of its own, so that what it chose is confirmed on fresh ones. It needs
no run directories; what it found is kept in a file, from which it goes on.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import cnnjax as cj
from cnnjax.core.describe import describe
from cnnjax.core.storage import write_text
from cnnjax.recipes import Experiment, Options, build_model, load_data
from experiments import _studies

AnyOptions = TypeVar("AnyOptions", bound=Options)

SEED = 1000  # of the search

# Settings by their label: fields of `TrainingConfig`.
Grid = Mapping[str, Mapping[str, Any]]


def search(
    folder: Path,
    arms: Iterable[str],
    grid: Grid,
    make: Callable[[str, Mapping[str, Any], AnyOptions], Experiment],
    options: AnyOptions,
    splits: cj.data.Splits | None = None,
) -> dict[str, Mapping[str, Any]]:
    """Try all settings for every arm and choose by validation; print and write the table.

    Args:
        folder: of the study, which gets search.md and search.json.
        arms: names.
        grid: label -> settings, the same for all arms.
        make: (arm, settings, options) -> experiment, whose `training.monitor` decides.
        options: of the command line; the seed becomes that of the search. With `resume` what
            search.json holds of the same training is not trained again.
        splits: the data, instead of what the experiments name.

    Returns:
        arm -> its best settings.
    """
    searched = replace(options, seed=SEED, seeds=1, out=None, resume=False, checkpoint_every=None)
    file = folder / "search.json"
    folder.mkdir(parents=True, exist_ok=True)
    known = json.loads(file.read_text()) if options.resume and file.is_file() else {}
    values: dict[str, dict[str, float]] = {}
    for arm in arms:
        values[arm] = {}
        for label, settings in grid.items():
            experiment = make(arm, settings, searched)
            key = json.dumps(describe(experiment), sort_keys=True)
            if key not in known:
                known[key] = _validated(experiment, splits)
                write_text(file, json.dumps(known, indent=1))
            values[arm][label] = known[key]
            print(f"search: {arm}, {label}: {known[key]:.4f}", flush=True)
    smaller = make(arm, settings, searched).training.monitor == "loss"
    choose = min if smaller else max
    best = {arm: choose(row, key=row.__getitem__) for arm, row in values.items()}
    what = "validation loss" if smaller else "validation accuracy"
    rows = [[arm, *(f"{v:.4f}" for v in row.values()), best[arm]] for arm, row in values.items()]
    _studies.write_table(folder / "search.md", [what, *grid, "chosen"], rows)
    return {arm: grid[label] for arm, label in best.items()}


def _validated(experiment: Experiment, splits: cj.data.Splits | None) -> float:
    """What a training reaches on the validation data, by the metric that it monitors."""
    splits = splits or load_data(experiment, lambda _: None)
    searched = replace(splits, test=None)
    model = build_model(experiment, searched)
    run = cj.fit(model, searched, experiment.training, verbose=False)
    return float(run.metrics[f"val_{experiment.training.monitor}"])
