"""One step for all trainings that differ in nothing it depends on, so that it compiles once."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import jax
import optax

from cnnjax.config import OPTIMIZER, STEP, TrainingConfig, has_end
from cnnjax.core.settings import only, values
from cnnjax.metrics import Measure
from cnnjax.models import Model
from cnnjax.training.batches import Batch
from cnnjax.training.given import Given
from cnnjax.training.given_optimizer import made, takes_total_steps
from cnnjax.training.optim import make_optimizer
from cnnjax.training.own_step import make_own_step
from cnnjax.training.schedules import make_schedule
from cnnjax.training.step import EvalStep, make_eval_step, make_train_step

# Of the last few kinds: a sweep alternates between few, and a compiled net takes its memory.
_KEPT = 4


@dataclass(frozen=True)
class Steps:
    """What one training shares with another.

    Args:
        optimizer: of the state; None beside a step of the caller's own.
        schedule: step -> learning rate; None for an optimiser or a step of the caller's own.
        train: the training step.
        evaluate: the evaluation step.
        measures: what both sum up beside the loss: the metrics of the task, then the caller's.
    """

    optimizer: optax.GradientTransformation | None
    schedule: Callable[[int], Any] | None
    train: Callable[[Any, Batch], tuple[Any, dict[str, Any]]]
    evaluate: EvalStep
    measures: Mapping[str, Measure]


def make_steps(
    model: Model,
    given: Given,
    config: TrainingConfig,
    total: int,
) -> Steps:
    """The steps of a training; the same objects where one before had the same settings.

    `jax.jit` knows functions by identity: for the same object nothing is traced or compiled again.

    Args:
        model: its architecture and spec; not its weights.
        given: to `fit` in place of the usual.
        config: how; what belongs neither to the step nor to the optimiser makes no difference.
        total: number of steps that the schedule lasts.
    """
    shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), model)
    own = only(config, STEP, OPTIMIZER)
    if config.schedule == "plateau":  # of all steps those of an epoch alone matter
        own, total = replace(own, epochs=1), total // config.epochs
    elif not has_end(config.schedule) and not takes_total_steps(given.optimizer):
        total = 1
    kind = _Kind(shapes, given, own, total)
    try:
        hash(kind)
    except TypeError:  # a loss, objective or augmentation that cannot be a key
        return _steps.__wrapped__(kind)
    return _steps(kind)


def forget() -> None:
    """Make all steps anew from here on, as is needed after the code of a model was changed."""
    _steps.cache_clear()


class _Kind:
    """All that the steps depend on, as a key."""

    def __init__(
        self,
        model: Model,
        given: Given,
        config: TrainingConfig,
        total: int,
    ):
        self.model, self.given, self.config, self.total = model, given, config, total
        self._key = (model.static, model.spec, given, config, total)
        # A model may have got variables that its module's own `init` does not make.
        self._shapes = jax.tree.structure(model.variables), tuple(jax.tree.leaves(model.variables))

    def __hash__(self) -> int:
        return hash(self._key)

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, _Kind) and self._key == other._key and self._shapes == other._shapes
        )


@functools.lru_cache(maxsize=_KEPT)
def _steps(kind: _Kind) -> Steps:
    config, model, given = kind.config, kind.model, kind.given
    metrics, measures = dict(given.metrics), given.measures(model)
    evaluate = make_eval_step(model, given.loss, metrics=metrics, precision=config.precision)
    if given.step is not None:
        own = make_own_step(given.step, model, measures, config.augment)
        return Steps(None, None, own, evaluate, measures)
    if given.optimizer is None:
        optimizer = make_optimizer(config, kind.total, model)
    else:
        optimizer = made(given.optimizer, kind.total)
    arguments = {**values(config, STEP), "objective": given.objective, "metrics": metrics}
    return Steps(
        optimizer,
        None if given.optimizer is not None else make_schedule(config, kind.total),
        make_train_step(model, given.loss, optimizer, **arguments),
        evaluate,
        measures,
    )
