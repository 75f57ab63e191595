"""What the caller of `fit` gave in place of the usual."""

from __future__ import annotations

from dataclasses import dataclass

from cnnjax import metrics
from cnnjax.training.given_optimizer import Optimizer
from cnnjax.training.objective import Objective


@dataclass(frozen=True)
class Given:
    """Functions of the caller's, each None where the usual one is taken.

    Args:
        loss, optimizer, objective: as in `fit`.
    """

    loss: metrics.Loss | None = None
    optimizer: Optimizer | None = None
    objective: Objective | None = None
