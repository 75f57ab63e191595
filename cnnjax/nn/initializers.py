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


def he_uniform(key: Array, shape: Sequence[int], dtype: jnp.dtype = jnp.float32) -> Array:
    """Uniform in [-a, a] with a = sqrt(6 / fan_in), for layers with ReLU (He et al. 2015, eq. 10).

    Args:
        key: a random key.
        shape: of the parameter, input axis second to last, output axis last; of [kh, kw, C, F]
            fan_in = kh kw C.
        dtype: floating.

    Returns:
        An array of the shape and dtype.
    """
    return _he_uniform(key, tuple(shape), dtype)


def he_normal(key: Array, shape: Sequence[int], dtype: jnp.dtype = jnp.float32) -> Array:
    """Normal with variance 2 / fan_in, for layers with ReLU (He et al. 2015, eq. 10).

    Args:
        key: a random key.
        shape: of the parameter, input axis second to last; of [kh, kw, C, F] fan_in = kh kw C.
        dtype: floating.

    Returns:
        An array of the shape and dtype.
    """
    return _he_normal(key, tuple(shape), dtype)


def he_normal_fan_out(key: Array, shape: Sequence[int], dtype: jnp.dtype = jnp.float32) -> Array:
    """Normal with variance 2 / fan_out, which keeps that of gradients (He et al. 2015, eq. 14).

    torchvision's own for convolutions of its residual nets.

    Args:
        key: a random key.
        shape: of the parameter, output axis last; of [kh, kw, C, F] fan_out = kh kw F.
        dtype: floating.

    Returns:
        An array of the shape and dtype.
    """
    return _he_normal_fan_out(key, tuple(shape), dtype)


def torch_uniform(key: Array, shape: Sequence[int], dtype: jnp.dtype = jnp.float32) -> Array:
    """Uniform in [-a, a] with a = 1 / sqrt(fan_in): PyTorch's own of convolutions and dense layers.

    Args:
        key: a random key.
        shape: of the parameter, input axis second to last; of [kh, kw, C, F] fan_in = kh kw C.
        dtype: floating.

    Returns:
        An array of the shape and dtype.
    """
    return _torch_uniform(key, tuple(shape), dtype)


def lecun_uniform_depthwise(
    key: Array, shape: Sequence[int], dtype: jnp.dtype = jnp.float32
) -> Array:
    """Uniform in [-a, a] with a = sqrt(3 / (kh kw)), by which a depthwise layer keeps the variance.

    An output of a depthwise convolution is a sum over its window in one channel alone. The fans of
    `glorot_uniform` and `he_uniform` count all channels, as Keras' do, so that without
    normalisation every such layer shrinks its inputs, the more the more channels there are.

    Args:
        key: a random key.
        shape: (kh, kw, C, M) of the parameter.
        dtype: floating.

    Returns:
        An array of the shape and dtype.
    """
    return _lecun_uniform(key, (*shape[:2], 1, shape[2] * shape[3]), dtype).reshape(shape)


def he_truncated_fan_out(key: Array, shape: Sequence[int], dtype: jnp.dtype = jnp.float32) -> Array:
    """Normal with variance 2 / fan_out, cut at two deviations: Keras' own for EfficientNet.

    Args:
        key: a random key.
        shape: of the parameter, output axis last; of [kh, kw, C, F] fan_out = kh kw F.
        dtype: floating.

    Returns:
        An array of the shape and dtype.
    """
    return _he_truncated_fan_out(key, tuple(shape), dtype)


def uniform_fan_out(key: Array, shape: Sequence[int], dtype: jnp.dtype = jnp.float32) -> Array:
    """Uniform in [-a, a] with a = 1 / sqrt(fan_out): Keras' own for the head of EfficientNet.

    Args:
        key: a random key.
        shape: of the parameter, output axis last.
        dtype: floating.

    Returns:
        An array of the shape and dtype.
    """
    return _uniform_fan_out(key, tuple(shape), dtype)


def zeros(key: Array, shape: Sequence[int], dtype: jnp.dtype = jnp.float32) -> Array:
    """All zeros; the key is not used."""
    return jnp.zeros(tuple(shape), dtype)


def ones(key: Array, shape: Sequence[int], dtype: jnp.dtype = jnp.float32) -> Array:
    """All ones; the key is not used."""
    return jnp.ones(tuple(shape), dtype)


_glorot_uniform = jax.nn.initializers.glorot_uniform()
_he_normal = jax.nn.initializers.variance_scaling(2.0, "fan_in", "normal")
_he_normal_fan_out = jax.nn.initializers.variance_scaling(2.0, "fan_out", "normal")
_he_uniform = jax.nn.initializers.he_uniform()
_lecun_uniform = jax.nn.initializers.lecun_uniform()
_he_truncated_fan_out = jax.nn.initializers.variance_scaling(2.0, "fan_out", "truncated_normal")
_uniform_fan_out = jax.nn.initializers.variance_scaling(1 / 3, "fan_out", "uniform")
_torch_uniform = jax.nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")
