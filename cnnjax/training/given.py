"""What the caller of `fit` gave in place of the usual."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from cnnjax.metrics import Loss, Measure, checked
from cnnjax.models import Model
from cnnjax.task import Task
from cnnjax.training.given_optimizer import Optimizer
from cnnjax.training.objective import Objective
from cnnjax.training.own_step import Step


@dataclass(frozen=True)
class Given:
    """Functions of the caller's, each None where the usual one is taken.

    Args:
        loss, optimizer, objective, step: as in `fit`.
        metrics: (name, metric) pairs of what is measured beside the metrics of the task.
    """

    loss: Loss | None = None
    optimizer: Optimizer | None = None
    objective: Objective | None = None
    metrics: tuple[tuple[str, Measure], ...] = ()
    step: Step | None = None

    @classmethod
    def checked(
        cls,
        task: Task,
        loss: Loss | None = None,
        optimizer: Optimizer | None = None,
        objective: Objective | None = None,
        metrics: Mapping[str, Measure] | None = None,
        step: Step | None = None,
    ) -> Given:
        """Of arguments of `fit`; errors as `metrics.checked` has them."""
        named = tuple(checked(metrics, task.metrics).items())
        return cls(loss, optimizer, objective, named, step)

    def measures(self, model: Model) -> dict[str, Measure]:
        """All that is measured beside the loss: the metrics of the task, then the caller's."""
        return {**model.spec.task.metrics, **dict(self.metrics)}
