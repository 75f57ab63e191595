"""Schedules of the learning rate."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from optax import contrib

from cnnjax.config import TrainingConfig
from cnnjax.core.text import first_sentence
from cnnjax.training.own_step import State


def make_schedule(config: TrainingConfig, total_steps: int) -> optax.Schedule:
    """The learning rate as a function of the step.

    Args:
        config: its learning_rate, schedule and what belongs to that.
        total_steps: of the whole training, >= 1.

    Returns:
        step -> learning rate. That of "plateau" is constant, since what it depends on is in the
        state of the optimiser.

    Raises:
        ValueError: for a function that JAX cannot trace, or that makes no single number.

    >>> schedule = make_schedule(TrainingConfig(schedule="cosine", learning_rate=1.0), 100)
    >>> round(float(schedule(50)), 6)
    0.5
    """
    if callable(config.schedule):
        return _traceable(config.schedule)
    rate = config.learning_rate
    # The other schedules begin or end at 0, which of a single step would leave nothing.
    if config.schedule in ("constant", "plateau") or total_steps == 1:
        return optax.constant_schedule(rate)
    if config.schedule == "cosine":
        return optax.cosine_decay_schedule(rate, total_steps)
    if config.schedule == "exponential":
        return optax.exponential_decay(rate, total_steps, config.rate_decay)
    if config.schedule == "step":
        return optax.piecewise_constant_schedule(rate, _drops(config, total_steps))
    rise = max(round(config.warmup * total_steps), 1)
    if config.schedule == "warmup_cosine":
        end = max(total_steps, rise + 1)
        return optax.warmup_cosine_decay_schedule(0.0, rate, rise, end)
    return optax.join_schedules(
        [
            optax.linear_schedule(0.0, rate, rise),
            optax.linear_schedule(rate, 0.0, max(total_steps - rise, 1)),
        ],
        [rise],
    )


def _drops(config: TrainingConfig, total_steps: int) -> dict[int, float]:
    """The factor by each step, counted from 0, from which on the rate is lower."""
    steps = [round(at * total_steps) for at in config.rate_drops]
    return {step: config.rate_decay ** steps.count(step) for step in steps}


def _traceable(schedule: Callable) -> optax.Schedule:
    try:
        rate = jax.eval_shape(schedule, jax.ShapeDtypeStruct((), jnp.int32))
    except Exception as error:  # the code is another's, and may raise anything
        raise ValueError(
            "schedule must be a function of the step, an int32 scalar, that JAX can trace: "
            f"{first_sentence(error)}"
        ) from error
    if not isinstance(rate, int | float) and getattr(rate, "shape", None) != ():
        raise ValueError(f"schedule must return one rate for a step, a scalar, got {rate!r}")
    return schedule


def rate_of_last_step(schedule: optax.Schedule, state: State) -> float:
    """The learning rate with which the last step of a state was done.

    Args:
        schedule: of `make_schedule`.
        state: after at least a step.
    """
    rate = float(schedule(int(state.step) - 1))
    for plateau in nodes_of(state.opt_state, contrib.ReduceLROnPlateauState):
        rate *= float(plateau.scale)
    return rate


def plateau(config: TrainingConfig, total_steps: int) -> optax.GradientTransformation:
    """What scales the rate of the schedule "plateau" by the losses that its update gets.

    Args:
        config: its rate_decay, rate_patience and epochs.
        total_steps: of all these epochs.
    """
    return contrib.reduce_on_plateau(
        config.rate_decay,
        config.rate_patience,
        accumulation_size=max(total_steps // config.epochs, 1),
    )


def nodes_of(tree: Any, kind: type) -> list[Any]:
    """The nodes of a kind in the state of an optimiser."""
    leaves = jax.tree.leaves(tree, is_leaf=lambda node: isinstance(node, kind))
    return [leaf for leaf in leaves if isinstance(leaf, kind)]
