"""Rectifiers that on the way back let only positive gradients pass."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen
from jax import Array

from cnnjax.nn import Activation

# Whose gradient guided backpropagation overrides.
RECTIFIERS = (jax.nn.relu, jax.nn.relu6)


def is_rectifier(module: linen.Module) -> bool:
    """Whether a module is an activation that guided backpropagation overrides."""
    return isinstance(module, Activation) and any(module.function is f for f in RECTIFIERS)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def guided_rectifier(function: Any, x: Array) -> Array:
    """A rectifier that on the way back lets only positive gradients pass."""
    return function(x)


def _forward(function: Any, x: Array) -> tuple[Array, Array]:
    return function(x), x


def _backward(function: Any, x: Array, gradient: Array) -> tuple[Array]:
    passed = jax.grad(lambda a: jnp.sum(function(a) * gradient))(x)
    return (jax.nn.relu(passed),)


guided_rectifier.defvjp(_forward, _backward)
