"""What the record of a run says of its training, as JSON, for config.json and run.json."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import optax

from cnnjax import metrics
from cnnjax.config import OPTIMIZER, TrainingConfig, to_dict
from cnnjax.core import target, trees
from cnnjax.core.importing import import_path
from cnnjax.core.settings import names
from cnnjax.core.text import qualified_name
from cnnjax.data import Dataset, Stream
from cnnjax.metrics.shipped import as_call
from cnnjax.models.saved import description
from cnnjax.nn import current_conv_engine
from cnnjax.runs.resuming import GIVEN
from cnnjax.task import USUAL_LOSSES, Task
from cnnjax.training.computation import Computation
from cnnjax.training.given_optimizer import Optimizer
from cnnjax.training.named_trees import opt_state_hash
from cnnjax.training.precision import meaning

# What in run.json says whence functions can be imported.
IMPORT_PATHS = "import_paths"


def recorded_config(
    computation: Computation, record: Mapping[str, Any], opt_state: optax.OptState | None
) -> dict[str, Any]:
    """Everything that decides the result beside the data, as config.json has it.

    Args:
        computation: of the training.
        record, opt_state: as in `fit`.
    """
    model, given = computation.model, computation.given
    config = {
        "training": recorded_settings(computation.config, given.optimizer),
        "loss": loss_name(given.loss, model.spec.task),
        "conv_engine": current_conv_engine(),
        "model": description(model),
        "experiment": record.get("experiment"),
    }
    if given.objective is not None:
        config["objective"] = recorded_function(given.objective)
    if given.metrics:
        config["metrics"] = [name for name, _ in given.metrics]
    if given.step is not None:
        parts = {f.name: getattr(given.step, f.name) for f in dataclasses.fields(given.step)}
        config["step"] = {name: recorded_function(part) for name, part in parts.items()}
    if opt_state is not None:
        config["opt_state"] = opt_state_hash(opt_state)
    return config


def recorded_given(
    computation: Computation,
    record: Mapping[str, Any] | None = None,
    opt_state: optax.OptState | None = None,
) -> dict[str, Any]:
    """By name all that decides the result but the weights; arguments as in `recorded_config`."""
    config = recorded_config(computation, record or {}, opt_state)
    settings = config.pop("training")
    parts = {f"{name} data": _prints(part) for name, part in computation.splits.parts.items()}
    return {**settings, **config, **parts}


def _prints(data: Dataset | Stream) -> list[str]:
    """Fingerprints of data, and of a stream's first batch, which may be another each time."""
    return [data.fingerprint, *([data.sample.fingerprint] if isinstance(data, Stream) else [])]


def recorded_facts(computation: Computation) -> dict[str, Any]:
    """What run.json says of data and model."""
    model, splits = computation.model, computation.splits
    return {
        "seed": computation.config.seed,
        "data": {
            name: {"name": data.name, "examples": len(data), "fingerprint": data.fingerprint}
            for name, data in splits.parts.items()
        },
        "source": splits.source,
        "model": model.spec.name,
        "precision": meaning(computation.config.precision, target.platform()),
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(model.params)),
        "initial_hash": trees.tree_hash(model.variables),
        **({IMPORT_PATHS: paths} if (paths := _import_paths(computation)) else {}),
    }


def _import_paths(computation: Computation) -> dict[str, Any]:
    """Whence the caller's functions can be imported, those that can be, by argument or setting.

    Of a shipped metric the call that makes it stands there.
    """
    config, given = computation.config, computation.given
    functions = {name: getattr(config, name) for name in ("augment", "schedule", "sampler")}
    functions["loss"] = given.loss
    paths: dict[str, Any] = _paths_of(functions)
    calls = {name: as_call(measure) for name, measure in given.metrics}
    measures = _paths_of(dict(given.metrics)) | {k: v for k, v in calls.items() if v is not None}
    return paths | ({"metrics": measures} if measures else {})


def _paths_of(functions: Mapping[str, Any]) -> dict[str, str]:
    paths = {name: import_path(function) for name, function in functions.items()}
    return {name: path for name, path in paths.items() if path is not None}


def loss_name(loss: metrics.Loss | None, task: Task) -> str:
    """A loss as records name it; None is the usual one of the task."""
    usual = USUAL_LOSSES.get(task.loss) or qualified_name(task.loss)
    return usual if loss is None else qualified_name(loss)


def recorded_function(function: Callable) -> str:
    """A function of the caller's as records have it: whence to import it, else its name."""
    return import_path(function) or qualified_name(function)


def recorded_settings(config: TrainingConfig, optimizer: Optimizer | None) -> dict[str, Any]:
    """The configuration as it takes effect: what the caller gave instead is named as such."""
    settings = to_dict(config)
    if optimizer is not None:
        settings |= {**dict.fromkeys(names(config, OPTIMIZER)), "optimizer": GIVEN}
    return settings
