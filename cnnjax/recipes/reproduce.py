"""Run what a run directory records once more, and compare every bit of the result."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import optax

from cnnjax import data as data_sources
from cnnjax.config import FEED, FILES, OPTIMIZER, SAMPLERS, SCHEDULES, TrainingConfig, changeable
from cnnjax.core import processes, trees
from cnnjax.core.settings import from_dict, values
from cnnjax.core.text import counted, plain
from cnnjax.data import DataNotFound
from cnnjax.metrics import Loss, Measure
from cnnjax.metrics import recorded as recorded_value
from cnnjax.models import Model
from cnnjax.models.saved import from_spec
from cnnjax.models.saved_spec import MODEL_FILE, read_spec
from cnnjax.nn import current_conv_engine
from cnnjax.recipes.run_functions import (
    at_its_path,
    metrics_of,
    needed,
    objective_of,
    step_of,
)
from cnnjax.runs import RunDirectory, RunError
from cnnjax.runs.compare import circumstances, result_changes
from cnnjax.runs.contents import CONFIG_FILE
from cnnjax.runs.record import is_finished
from cnnjax.runs.resuming import GIVEN
from cnnjax.runs.seal import not_understood
from cnnjax.task import TASKS
from cnnjax.training import Run, fit
from cnnjax.training.callbacks import StopAt
from cnnjax.training.computation import identity_of
from cnnjax.training.facts import IMPORT_PATHS, loss_name, recorded_settings
from cnnjax.training.given import Given
from cnnjax.training.given_optimizer import Optimizer
from cnnjax.training.identity import changes, recorded, refusal
from cnnjax.training.named_trees import opt_state_hash
from cnnjax.training.objective import Objective
from cnnjax.training.own_step import Step

# Names of functions that are cnnjax's own, by setting.
_KNOWN = {"schedule": SCHEDULES, "sampler": SAMPLERS}


@dataclass(frozen=True)
class Reproduction:
    """What came of `reproduce`.

    Args:
        run: the new run.
        results: what of the result is not the same, a line each; empty if every bit is.
        circumstances: what else differs, which may be why: settings, code, versions, machine, data.
    """

    run: Run
    results: list[str]
    circumstances: list[str]

    @property
    def same(self) -> bool:
        """Whether parameters, metrics and history are equal to the bit."""
        return not self.results

    def __str__(self) -> str:
        epochs = len(self.run.history["epoch"])
        if self.same:
            lines = [
                f"the same to the bit: parameters {self.run.parameter_hash[:16]}..., "
                f"{counted(len(self.run.metrics), 'metric')}, {counted(epochs, 'epoch')}"
            ]
        else:
            lines = ["not the same:", *(f"  {line}" for line in self.results)]
        if self.circumstances:
            lines += ["although these differ:" if self.same else "what else differs:"]
            lines += [f"  {line}" for line in self.circumstances]
        elif not self.same:
            lines.append("no difference of settings, code, versions, machine or data is known")
        return "\n".join(lines)


def reproduce(
    directory: str | Path,
    data: data_sources.Splits | data_sources.Dataset | tuple[np.ndarray, np.ndarray] | None = None,
    model: Model | None = None,
    loss: Loss | None = None,
    optimizer: Optimizer | None = None,
    *,
    objective: Objective | None = None,
    step: Step | None = None,
    augment: Callable | None = None,
    schedule: Callable | None = None,
    sampler: Callable | None = None,
    opt_state: optax.OptState | None = None,
    data_dir: str | Path | None = None,
    out: str | Path | None = None,
    allow_changed: Sequence[str] = (),
    verbose: bool = True,
    metrics: Mapping[str, Measure] | None = None,
) -> Reproduction:
    """Train again as a run directory records it, and compare.

    A run that a callback stopped is stopped at the same step.

    Args:
        directory: of a finished run, of an experiment or of `fit`.
        data, model, loss, optimizer, objective, step, augment, schedule, sampler, opt_state: what
            the run was given in Python, where the record cannot tell: arrays, a module of one's
            own, functions. Functions at the top of a module are imported from where they were, and
            so are metrics; of other ones an error says which are needed.
        data_dir: where TFDS keeps its data, as in `data.load`.
        out: a directory for the new run; None keeps nothing on disk.
        allow_changed: what may differ from what the run was started with, which else is an error;
            names as in `TrainingConfig`.
        verbose: show progress.
        metrics: those that the run was given.

    Returns:
        A Reproduction; print it.

    Raises:
        RunError: if the directory is no finished run or damaged, or something is needed that was
            not recorded, or module, loss, optimiser, augmentation, sampler or the computation of a
            step is another one and not in allow_changed.
    """
    allowed, verbose = changeable(allow_changed), verbose and processes.is_first()
    run = RunDirectory(directory)
    record, config, epochs = run.record(), run.config(), run.epochs()
    if not is_finished(record):
        raise RunError(
            f"{run.path} is not finished (status: {record.get('status')}): there is no result to "
            "compare with; go on with it first (resume=True, on the command line --resume)"
        )
    try:
        functions = {"augment": augment, "schedule": schedule, "sampler": sampler}
        paths = record.get(IMPORT_PATHS, {})  # which earlier versions did not record
        training = _training(run, config, optimizer, functions, paths)
        loss = loss or _loss(run, config, paths, model)
        objective, step = objective or objective_of(run, config), step or step_of(run, config)
        metrics = metrics_of(run, config.get("metrics", ()), metrics or {}, paths)
        if "opt_state" in config and opt_state is None:
            raise needed(run, "opt_state", "the Run.opt_state of another run")
        splits = _data(run, record, data, data_dir, print if verbose else None)
        model = model or _model(run, record, training.seed)
        now = {
            "settings": recorded_settings(training, optimizer),
            "loss": loss_name(loss, model.spec.task),
            "conv_engine": current_conv_engine(),
            "opt_state": None if opt_state is None else opt_state_hash(opt_state),
        }
        given = Given.checked(model.spec.task, loss, optimizer, objective, metrics, step)
        differing = circumstances(run, record, config, splits, model, now)
        try:
            identity = identity_of(model, splits, training, given)
        except ValueError as error:
            raise RunError(
                f"{run.path} cannot be trained again as it was ({plain(error)})"
                + "".join(f"; {line}" for line in differing[:1])
            ) from error
        differing += _compared(run, record, identity, allowed)
    except (KeyError, TypeError, AttributeError) as error:
        raise not_understood(run.path, error) from error
    if verbose and differing:
        print("\n".join(["other than then:", *(f"  {line}" for line in differing)]))
    facts: dict[str, str] | None = {"reproduces": str(run.path)}
    if out is None:  # what belongs to files makes no difference to the result
        training, facts = replace(training, **values(TrainingConfig, FEED, FILES)), None
    stops = [StopAt(record["stopped"]["step"])] if "stopped" in record else []
    again = fit(
        model, splits, training, loss, optimizer, out,
        objective=objective, step=step, opt_state=opt_state, verbose=verbose, record=facts,
        callbacks=stops, metrics=metrics,
    )  # fmt: skip
    results = {name: recorded_value(value) for name, value in again.metrics.items()}
    result = {"parameters": again.parameter_hash, **results}
    return Reproduction(again, result_changes(record, epochs, result, again.history), differing)


def _data(
    run: RunDirectory,
    record: Mapping[str, Any],
    data: Any,
    data_dir: str | Path | None,
    progress: Callable[[str], None] | None,
) -> data_sources.Splits:
    if data is not None:
        return data_sources.as_splits(data)
    if record["source"] is None:
        parts = ", ".join(f"{name} {part['name']!r}" for name, part in record["data"].items())
        made = f"arrays, or parts that cj.data.load did not make, ({parts})"
        raise needed(run, "data", made)
    try:
        return processes.first_then_others(
            lambda: data_sources.reload(record["source"], data_dir=data_dir, progress=progress)
        )
    except DataNotFound as error:
        raise RunError(
            f"{error}; or give the data in Python, cj.reproduce(run, data=...)"
        ) from None
    except (ValueError, TypeError, LookupError, ArithmeticError) as error:
        raise RunError(
            f"the data of {run.path} cannot be made again from its record ({plain(error)}): give "
            "them in Python, cj.reproduce(run, data=...)"
        ) from error


def _training(
    run: RunDirectory,
    config: Mapping[str, Any],
    optimizer: Optimizer | None,
    functions: Mapping[str, Callable | None],
    paths: Mapping[str, Any],
) -> TrainingConfig:
    settings = {**config["training"], "resume": False, "allow_changed": ()}
    for name, function in functions.items():
        recorded_name = settings.get(name)
        if function is not None:
            settings[name] = function
        elif isinstance(recorded_name, str) and recorded_name not in _KNOWN.get(name, ()):
            settings[name] = at_its_path(run, name, recorded_name, paths)
    if settings["optimizer"] == GIVEN:
        if optimizer is None:
            raise needed(run, "optimizer", "an optax transformation")
        settings |= values(TrainingConfig, OPTIMIZER)
    try:
        training: TrainingConfig = from_dict(TrainingConfig, settings)
    except (ValueError, OverflowError) as error:
        raise RunError(
            f"{run.path / CONFIG_FILE} holds no training that there can be: {plain(error)}"
        ) from None
    return training


def _loss(
    run: RunDirectory, config: Mapping[str, Any], paths: Mapping[str, Any], model: Model | None
) -> Loss | None:
    """The loss of a run, imported; None of the usual one of its task."""
    tasks = [*TASKS.values(), *([model.spec.task] if model else [])]
    if config["loss"] in [loss_name(None, task) for task in tasks]:
        return None
    loss: Loss = at_its_path(run, "loss", config["loss"], paths)
    return loss


def _model(run: RunDirectory, record: Mapping[str, Any], seed: int) -> Model:
    spec = read_spec(run.path)
    if spec.arguments is None:
        raise needed(run, "model", f"a module of the class {spec.name}")
    if spec.weights:
        raise needed(run, "model", f"{spec.name} with the weights of {spec.weights}")
    # An experiment's model has the training's seed; a call of create_model often none.
    for tried in dict.fromkeys((0, seed)):
        try:
            model = from_spec(spec, tried)
        except (ValueError, TypeError, LookupError, ArithmeticError) as error:
            raise RunError(
                f"the model that {run.path / MODEL_FILE} describes cannot be built: {plain(error)}"
            ) from error
        if trees.tree_hash(model.variables) == record.get("initial_hash"):
            break
    return model


def _compared(
    run: RunDirectory, record: Mapping[str, Any], now: Mapping[str, Any], allowed: tuple[str, ...]
) -> list[str]:
    """What is computed otherwise and may be, and what could not be compared.

    Raises:
        RunError: for what may not.
    """
    lines = []
    for other in record.get("resumed", []):
        lines += [f"the run was resumed with a change: {text}" for text in other.get("changed", [])]
    then = recorded({k: v for k, v in record.items() if k != "resumed"}, run.path)
    if then is None:
        return [*lines, "the computation of a step was not recorded, so it could not be compared"]
    found, remarks = changes(then, now)
    if refused := [change for change in found if not change.allowed_by(allowed)]:
        raise RunError(f"this is not the run of {run.path}: {refusal(refused)}")
    return [*lines, *(change.text for change in found), *remarks]
