"""Functions that a run was given, from where its record says, or an error that asks for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

from cnnjax.core.importing import imported
from cnnjax.core.text import first_sentence, plain
from cnnjax.metrics import Measure
from cnnjax.metrics.shipped import from_call
from cnnjax.runs import RunDirectory, RunError
from cnnjax.training.objective import Objective
from cnnjax.training.own_step import Step


def metrics_of(
    run: RunDirectory,
    names: Sequence[str],
    given: Mapping[str, Measure],
    paths: Mapping[str, Any],
) -> dict[str, Measure]:
    """The metrics of a run in its order, imported where they are not given, and others given."""
    known = paths.get("metrics", {})
    if missing := [name for name in names if name not in given and name not in known]:
        raise needed(run, "metrics", ", ".join(missing))
    own = {n: given[n] if n in given else _metric(run, known[n]) for n in names}
    return {**own, **given}


def _metric(run: RunDirectory, path: Any) -> Measure:
    """A metric by the call that makes it, if it is shipped, or from where the run had it."""
    shipped = from_call(path)
    return imported_function(run, "metrics", path) if shipped is None else shipped


def objective_of(run: RunDirectory, config: Mapping[str, Any]) -> Objective | None:
    """The objective of a run, imported; None where it had none."""
    if "objective" not in config:
        return None
    objective: Objective = imported_function(run, "objective", config["objective"])
    return objective


def step_of(run: RunDirectory, config: Mapping[str, Any]) -> Step | None:
    """The step of one's own of a run, its functions imported; None where it had none."""
    if "step" not in config:
        return None
    return Step(*(imported_function(run, "step", config["step"][f.name]) for f in fields(Step)))


def at_its_path(run: RunDirectory, argument: str, name: str, paths: Mapping[str, Any]) -> Any:
    """A function that a record has by its name, and maybe by the path to import it from."""
    if argument not in paths:
        raise needed(run, argument, f"the function {name}")
    return imported_function(run, argument, paths[argument])


def imported_function(run: RunDirectory, argument: str, path: Any) -> Any:
    """A function from where the run had it."""
    try:
        function = imported(path)
    except Exception as error:  # the module's code is another's, and may raise anything
        raise RunError(
            f"the {argument} of {run.path} cannot be imported from {plain(path)}: "
            f"{first_sentence(error)}"
        ) from error
    if function is None:
        raise needed(run, argument, f"the function {plain(path)}")
    return function


def needed(run: RunDirectory, argument: str, what: str) -> RunError:
    """The error that asks for an argument; what: that the run was trained with."""
    return RunError(
        f"{run.path} was trained with {what} as its {argument}, which a record cannot hold: "
        f"give it in Python, cj.reproduce(run, {argument}=...)"
    )
