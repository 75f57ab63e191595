"""Optimisers with Keras' constants."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array

from cnnjax.config import TrainingConfig
from cnnjax.core import trees
from cnnjax.core.text import first_sentence
from cnnjax.models import Model
from cnnjax.models.layers.depth import depths
from cnnjax.training.freezing import frozen_parameters
from cnnjax.training.schedules import make_schedule, plateau
from cnnjax.training.state import TrainState, given_parameters

_KERAS_EPSILON = 1e-7  # optax's default is 1e-8


def updated(
    optimizer: optax.GradientTransformationExtraArgs,
    gradients: optax.Updates,
    state: TrainState,
    frozen: Sequence[str],
    **offered: Any,
) -> tuple[optax.Updates, optax.OptState]:
    """`optimizer.update` of what is trained, whose errors say what it was given.

    Args:
        optimizer: made by `partition`.
        gradients: of the state's trained parameters.
        state: before the step.
        frozen: the patterns of frozen layers.
        offered: what it may look at too, e.g. value=, the loss.

    Raises:
        ValueError: if it fails.
    """
    try:
        return optimizer.update(gradients, state.opt_state, state.trained, **offered)
    except Exception as error:  # the code is another's, and may raise anything
        raise ValueError(
            f"optimizer cannot update {given_parameters(state.params, frozen)}: "
            f"{first_sentence(error)}"
        ) from error


def make_optimizer(
    config: TrainingConfig, total_steps: int, model: Model | None = None
) -> optax.GradientTransformation:
    """The optimiser of a configuration.

    Args:
        config: its optimizer, learning_rate, schedule, momentum, weight_decay, clip_norm,
            rate_factors and layer_decay; for the latter two also frozen. For "plateau" also epochs,
            into which it divides total_steps; its update then needs value=, the loss.
        total_steps: for the schedule.
        model: what is trained; only rate_factors and layer_decay need it.

    Returns:
        An optax transformation of the trainable parameters. "adam" and "sgd" step as those of
        Keras 2 and 3 do, "rmsprop" as Keras 2's, "rmsprop_keras3" as Keras 3's, to rounding.

    Raises:
        ValueError: if the model is needed and missing, or a pattern of rate_factors names nothing
            that is trained.
    """
    # What is not asked for has its place too: a state fits an optimiser with other settings, but
    # for optimizer, momentum and a schedule "plateau", which keep something.
    clip, factors = optax.identity(), optax.identity()
    if config.clip_norm is not None:
        clip = optax.clip_by_global_norm(config.clip_norm)
    if config.rate_factors or config.layer_decay != 1:
        if model is None:
            raise ValueError(
                "rate_factors and layer_decay need the model: "
                "make_optimizer(config, total_steps, model)"
            )
        factors = _scale_by_path(learning_rate_factors(config, model))
    return optax.chain(clip, *_optimizer(config, total_steps), factors)


def learning_rate_factors(config: TrainingConfig, model: Model) -> dict[str, float]:
    """What the learning rate of every trained parameter is multiplied by.

    Args:
        config: its rate_factors, layer_decay and frozen.
        model: what is trained.

    Returns:
        {path of the parameter: factor}.

    Raises:
        ValueError: if a pattern names nothing that is trained; offers the nearest layers.

    >>> from cnnjax.models import create_model
    >>> config = TrainingConfig(layer_decay=0.5, rate_factors=(("conv1", 0.1),))
    >>> factors = learning_rate_factors(config, create_model("mnist_convnet"))
    >>> [factors[f"{layer}/kernel"] for layer in ("logits", "dense1", "conv3")]
    [1.0, 0.5, 0.25]
    >>> factors["conv1/kernel"]
    0.00625
    """
    held = frozen_parameters(model.params, model.state, config.frozen)
    trained = [path for path in trees.leaves(model.params) if path not in held]
    factors = dict.fromkeys(trained, 1.0)
    if config.layer_decay != 1:
        depth = depths(model)
        last = max(depth.values())
        for path in trained:
            factors[path] = config.layer_decay ** (last - depth[f"params/{path}"])
    changed: set[str] = set()
    for pattern, factor in config.rate_factors:
        hits = trees.select(trained, [pattern], "rate_factors", "trained parameter")
        for path in hits - changed:
            factors[path] *= factor
        changed |= hits
    return factors


def _scale_by_path(factors: Mapping[str, float]) -> optax.GradientTransformation:
    def scaled(path: str, update: Any) -> Any:
        return update if isinstance(update, optax.MaskedNode) else factors[path] * update

    return optax.stateless(lambda updates, _: trees.map_flat(scaled, updates))


def _optimizer(
    config: TrainingConfig, total_steps: int
) -> tuple[optax.GradientTransformation, ...]:
    rate = optax.scale_by_learning_rate(make_schedule(config, total_steps))
    if config.schedule == "plateau":
        rate = optax.chain(rate, plateau(config, total_steps))
    decay = config.weight_decay
    added = optax.add_decayed_weights(decay) if decay else optax.identity()
    decayed = optax.masked(added, _kernels)
    match config.optimizer:
        case "rmsprop" | "rmsprop_keras3":
            # Keras 2 adds epsilon to the root, Keras 3 beneath it.
            inside = config.optimizer == "rmsprop_keras3"
            scale = optax.scale_by_rms(decay=0.9, eps=_KERAS_EPSILON, eps_in_sqrt=inside)
            return decayed, scale, rate
        case "adam":
            return decayed, scale_by_adam(), rate
        case "adamw":
            return scale_by_adam(), decayed, rate
        case "sgd":
            # As in Keras, a step's rate is in its momentum: a later rate does not scale it again.
            momentum = optax.trace(config.momentum) if config.momentum else optax.identity()
            return decayed, rate, momentum
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
