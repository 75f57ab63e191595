"""Any model by its name on data of one's own, from scratch or from weights of a file."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from cnnjax.config import TrainingConfig
from cnnjax.core import processes, trees
from cnnjax.models import BUILDERS, Model
from cnnjax.recipes.experiment import Experiment, Options
from cnnjax.recipes.many import for_every_seed, report_seeds
from cnnjax.recipes.run import build_model, images_for, load_data, run_experiment
from cnnjax.recipes.typed import with_settings
from cnnjax.training import Run
from cnnjax.transfer import base_layers

# Set aside where the data have no such part.
_VALIDATION = _TEST = 0.15

_SCRATCH_RATE, _HEAD_RATE, _FINE_RATE = 1e-3, 1e-2, 1e-4

_FREEZES_NOTHING = ("none",)


@dataclass(frozen=True)
class ModelTraining(Options):
    """Which model is trained, and how.

    Args:
        model: a name for `create_model`.
        weights: "imagenet" or a file; None: random.
        freeze: patterns of layers that stay as they are; () is with weights all but the head, and
            ("none",) nothing.
        image_size: (height, width) to which images of any size are brought; None: the model's own.
        arguments: of the model.
        settings: of the training, as text by name.
    """

    model: str = ""
    weights: str | None = None
    freeze: tuple[str, ...] = ()
    image_size: tuple[int, int] | None = None
    arguments: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, str] = field(default_factory=dict)

    @property
    def usual(self) -> TrainingConfig:
        """The settings where none are given: low rates for layers that are trained already."""
        if self.weights is None:
            rate = _SCRATCH_RATE
        else:
            rate = _FINE_RATE if self.freeze or "frozen" in self.settings else _HEAD_RATE
        return TrainingConfig(
            epochs=10,
            batch_size=32,
            optimizer="adamw",
            learning_rate=rate,
            schedule="one_cycle",
            weight_decay=0.01,
        )


def experiment(options: ModelTraining) -> Experiment:
    """The training that the options ask for."""
    images = images_for(options.model)
    if options.image_size is not None:
        if not images:
            raise ValueError(f"image_size is for images, which {options.model} does not take")
        images = {**images, "image_size": options.image_size}
    if images:  # as images are that it is asked about
        images = {**images, "resize": BUILDERS[options.model].resize}
    weights = {} if options.weights is None else {"weights": options.weights}
    training = with_settings(options.usual, options.settings)
    if options.freeze and training.frozen:
        raise ValueError(
            f"freeze={options.freeze} and frozen={training.frozen} say the same: give one"
        )
    if options.freeze not in ((), _FREEZES_NOTHING):
        training = replace(training, frozen=options.freeze)
    task = Experiment(
        name=f"train/{options.model}",
        description=f"{options.model} on {options.data}",
        model=options.model,
        arguments={**options.arguments, **weights},
        training=training,
        images=images,
        validation=_VALIDATION,
        test=_TEST,
    )
    return replace(task.with_options(options), changed={})  # there is no recipe to change


def train_model(options: ModelTraining) -> list[Run]:
    """Train a model for every seed that the options ask for."""
    runs = for_every_seed(options, _train)
    report_seeds(experiment(options), runs, options.out)
    return runs


def _train(options: ModelTraining) -> Run:
    """One seed."""
    task = experiment(options)
    if options.weights is None:
        return run_experiment(task, options.out)
    splits = processes.first_then_others(lambda: load_data(task))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        model = build_model(task, splits)
    for warning in caught:
        print(f"note: {warning.message}")
    training = task.training
    if not (options.freeze or training.frozen):
        training = replace(training, frozen=base_layers(model))
        print("all but the head stays as it is: --freeze none trains all of it")
    task = replace(task, training=training, facts={"base": _facts(model)})
    return run_experiment(task, options.out, splits=splits, model=model)


def _facts(base: Model) -> dict[str, Any]:
    """What the record says of the weights that a training began with."""
    hashed = trees.tree_hash(base.variables)
    return {"model": base.spec.name, "weights": base.spec.weights, "hash": hashed}
