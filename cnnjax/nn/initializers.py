"""Initialisers of parameters: Keras' defaults, which the reported figures used."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from jax import Array

Initializer = Callable[..., Array]


def glorot_uniform(key: Array, shape: Sequence[int], dtype: jnp.dtype = jnp.float32) -> Array:
    """Uniform in [-a, a] with a = sqrt(6 / (fan_in + fan_out)) (Glorot & Bengio 2010, eq. 16).

    Fans count the receptive field: for [kh, kw, C, F], fan_in = kh kw C and fan_out = kh kw F.

    Args:
        key: a random key.
        shape: of the parameter, input axis second to last, output axis last.
        dtype: floating.

    Returns:
        An array of the shape and dtype.
    """
    return _glorot_uniform(key, tuple(shape), dtype)


def zeros(key: Array, shape: Sequence[int], dtype: jnp.dtype = jnp.float32) -> Array:
    """All zeros; the key is not used."""
    return jnp.zeros(tuple(shape), dtype)


def ones(key: Array, shape: Sequence[int], dtype: jnp.dtype = jnp.float32) -> Array:
    """All ones; the key is not used."""
    return jnp.ones(tuple(shape), dtype)


_glorot_uniform = jax.nn.initializers.glorot_uniform()
