"""What the studies of ideas share: digits, and arms that are paired over the seeds."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import cnnjax as cj
from cnnjax.recipes import Experiment, ImageData, Options, comparison, for_every_seed
from experiments import _studies


@dataclass(frozen=True)
class IdeaOptions(Options):
    """Options of a study of an idea."""

    data: ImageData = "digits"


AnyOptions = TypeVar("AnyOptions", bound=IdeaOptions)
Value = TypeVar("Value")


def planned(
    name: str, description: str, options: IdeaOptions, training: cj.TrainingConfig, **what: Any
) -> Experiment:
    """The experiment of one arm; what the options of the study changed is kept with it.

    Args:
        name: of study and arm, e.g. "research/distillation/taught".
        description: of the arm.
        options: of one seed.
        training: how.
        what: other arguments of `Experiment`.
    """
    common = {field.name for field in dataclasses.fields(IdeaOptions)}
    own = {f.name: f.default for f in dataclasses.fields(options) if f.name not in common}
    made = Experiment(name, description, training=training, **what).with_options(options)
    return replace(made, changed={**made.changed, **_studies.other_than(own, options)})


def run_arms(
    arms: Mapping[str, Callable[[AnyOptions], cj.Run]], options: AnyOptions
) -> dict[str, list[cj.Run]]:
    """Train the arms of a study, each for every seed.

    Args:
        arms: name -> (options of one seed -> run).
        options: of the command line; `out` gets a folder per arm.
    """
    runs = {}
    for arm, train in arms.items():
        out = str(Path(options.out) / arm) if options.out else None
        runs[arm] = for_every_seed(replace(options, out=out), train)
    print(f"\n{comparison(runs)}")
    return runs


def measured(
    runs: Mapping[str, Sequence[cj.Run]], measure: Callable[[cj.Run], Value]
) -> dict[str, list[Value]]:
    """What is measured of the model of every run, by arm."""
    return {arm: [measure(run) for run in group] for arm, group in runs.items()}
