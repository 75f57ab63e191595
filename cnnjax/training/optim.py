"""Optimisers with Keras' constants, and schedules of the learning rate."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array

from cnnjax.config import TrainingConfig

_KERAS_EPSILON = 1e-7  # optax's default is 1e-8


def make_schedule(config: TrainingConfig, total_steps: int) -> optax.Schedule:
    """The learning rate as a function of the step.

    Args:
        config: its learning_rate, schedule and warmup.
        total_steps: of the whole training, >= 1.

    Returns:
        step -> learning rate.

    >>> schedule = make_schedule(TrainingConfig(schedule="cosine", learning_rate=1.0), 100)
    >>> round(float(schedule(50)), 6)
    0.5
    """
    rate = config.learning_rate
    if config.schedule == "constant":
        return optax.constant_schedule(rate)
    if config.schedule == "cosine":
        return optax.cosine_decay_schedule(rate, total_steps)
    rise = max(round(config.warmup * total_steps), 1)
    return optax.join_schedules(
        [
            optax.linear_schedule(0.0, rate, rise),
            optax.linear_schedule(rate, 0.0, max(total_steps - rise, 1)),
        ],
        [rise],
    )


def make_optimizer(config: TrainingConfig, total_steps: int) -> optax.GradientTransformation:
    """The optimiser of a configuration.

    Args:
        config: its optimizer, learning_rate, schedule, momentum and weight_decay.
        total_steps: for the schedule.

    Returns:
        An optax transformation. "rmsprop", "adam" and "sgd" step as Keras' do, to rounding.
    """
    schedule = make_schedule(config, total_steps)
    decay = config.weight_decay
    decayed = optax.add_decayed_weights(decay, mask=_kernels) if decay else optax.identity()
    match config.optimizer:
        case "rmsprop":
            scale = optax.scale_by_rms(decay=0.9, eps=_KERAS_EPSILON, eps_in_sqrt=True)
            return optax.chain(decayed, scale, optax.scale_by_learning_rate(schedule))
        case "adam":
            return optax.chain(decayed, scale_by_adam(), optax.scale_by_learning_rate(schedule))
        case "adamw":
            return optax.chain(scale_by_adam(), decayed, optax.scale_by_learning_rate(schedule))
        case "sgd":
            momentum = optax.trace(config.momentum) if config.momentum else optax.identity()
            return optax.chain(decayed, momentum, optax.scale_by_learning_rate(schedule))
    raise ValueError(f"unknown optimizer {config.optimizer!r}")


class _AdamState(NamedTuple):
    steps: Array
    mu: optax.Updates
    nu: optax.Updates


def scale_by_adam(b1: float = 0.9, b2: float = 0.999) -> optax.GradientTransformation:
    """Adam as Keras computes it, with epsilon outside the bias correction.

    `u = sqrt(1 - b2^t) / (1 - b1^t) m / (sqrt(v) + eps)` (Kingma & Ba 2015, end of sec. 2), where
    optax adds epsilon to the corrected `sqrt(v / (1 - b2^t))`: at the first steps a 30 times
    smaller one.

    Args:
        b1: decay of the first moment. b2: of the second.
    """

    def init(params: optax.Params) -> _AdamState:
        zeros = jax.tree.map(jnp.zeros_like, params)
        return _AdamState(jnp.zeros((), jnp.int32), zeros, zeros)

    def update(
        updates: optax.Updates, state: _AdamState, params: optax.Params | None = None
    ) -> tuple[optax.Updates, _AdamState]:
        del params
        done = state.steps + 1
        t = done.astype(jnp.float32)
        mu = jax.tree.map(lambda g, m: b1 * m + (1 - b1) * g, updates, state.mu)
        nu = jax.tree.map(lambda g, v: b2 * v + (1 - b2) * g * g, updates, state.nu)
        scale = jnp.sqrt(1 - b2**t) / (1 - b1**t)
        scaled = jax.tree.map(lambda m, v: scale * m / (jnp.sqrt(v) + _KERAS_EPSILON), mu, nu)
        return scaled, _AdamState(done, mu, nu)

    return optax.GradientTransformation(init, update)


def _kernels(params: optax.Params) -> optax.Params:
    return jax.tree.map(lambda p: jnp.ndim(p) > 1, params)
