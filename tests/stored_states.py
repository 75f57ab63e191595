"""Training states to and from checkpoints, as `fit` saves and loads them."""

from __future__ import annotations

from typing import Any

from cnnjax.runs import Checkpoints
from cnnjax.training import TrainState
from cnnjax.training.named_trees import named_trees, state_of


def save(checkpoints: Checkpoints, state: TrainState, progress: Any, *, best: bool = False) -> None:
    checkpoints.save(int(state.step), named_trees(state), progress, best=best)


def load(checkpoints: Checkpoints, template: TrainState) -> tuple[TrainState, dict[str, Any]]:
    items, progress = checkpoints.load()
    return state_of(items, template, checkpoints.directory), progress
