"""Batch and layer normalisation with Keras' arguments, names and update."""

from __future__ import annotations

import jax.numpy as jnp
from flax import linen
from jax import Array, lax

from cnnjax.core import target
from cnnjax.nn.initializers import ones, zeros

# Of a sum in float32.
_ROUNDING = 2.0**-22


class BatchNormalization(linen.Module):
    """Batch normalisation (Ioffe & Szegedy 2015): `y = gamma (x - mean) / sqrt(var + eps) + beta`.

    In training mean and variance (biased) are the batch's, over all axes but the last, and the
    moving ones follow: `moving = momentum * moving + (1 - momentum) * batch`. Otherwise the moving
    ones are used.

    Args:
        momentum: of the moving statistics, in [0, 1].
        epsilon: added to the variance, > 0; 1e-3 in Keras, whose default this is.
        center: have a `beta`.
        scale: have a `gamma`.

    Parameters: gamma [C] and beta [C]; in the collection "batch_stats" moving_mean [C] and
    moving_variance [C]; all float32. Call: [N, ..., C] -> [N, ..., C].
    """

    momentum: float = 0.99
    epsilon: float = 1e-3
    center: bool = True
    scale: bool = True

    @linen.compact
    def __call__(self, inputs: Array, train: bool = False) -> Array:
        """Apply the layer; `train` takes the batch's statistics and updates the moving ones."""
        shape = (inputs.shape[-1],)
        moving_mean = self.variable("batch_stats", "moving_mean", jnp.zeros, shape)
        moving_variance = self.variable("batch_stats", "moving_variance", jnp.ones, shape)
        mean, variance = moving_mean.value, moving_variance.value
        if train:
            moments = _moments if target.platform() == "cpu" else _moments_in_one_pass
            mean, variance = moments(inputs, mean)
            if not self.is_initializing():
                moving_mean.value += (1 - self.momentum) * (mean - moving_mean.value)
                moving_variance.value += (1 - self.momentum) * (variance - moving_variance.value)
        factor = lax.rsqrt(variance + self.epsilon)
        if self.scale:
            factor = factor * self.param("gamma", ones, shape)
        offset = -mean * factor
        if self.center:
            offset = offset + self.param("beta", zeros, shape)
        row = (1,) * (inputs.ndim - 1) + (-1,)
        # Half precision would lose the difference of a value and a large mean.
        outputs = _at_least_single(inputs) * factor.reshape(row) + offset.reshape(row)
        return outputs.astype(inputs.dtype)


class LayerNormalization(linen.Module):
    """Layer normalisation (Ba et al. 2016): `y = gamma (x - mean) / sqrt(var + eps) + beta`.

    Mean and variance (biased) are those of each position's own channels: of images those of every
    pixel, which is what ConvNeXt calls layer norm.

    Args:
        epsilon: added to the variance, > 0; 1e-3 in Keras, whose default this is.
        center: have a `beta`.
        scale: have a `gamma`.

    Parameters: gamma [C] and beta [C], float32. Call: [N, ..., C] -> [N, ..., C].
    """

    epsilon: float = 1e-3
    center: bool = True
    scale: bool = True

    @linen.compact
    def __call__(self, inputs: Array) -> Array:
        """Apply the layer."""
        x = _at_least_single(inputs)
        x = x - jnp.mean(x, -1, keepdims=True)
        x = x * lax.rsqrt(jnp.mean(jnp.square(x), -1, keepdims=True) + self.epsilon)
        row = (1,) * (inputs.ndim - 1) + (-1,)
        if self.scale:
            x = x * self.param("gamma", ones, inputs.shape[-1:]).reshape(row)
        if self.center:
            x = x + self.param("beta", zeros, inputs.shape[-1:]).reshape(row)
        return x.astype(inputs.dtype)


def _at_least_single(x: Array) -> Array:
    """Half precision in float32, float64 as it is."""
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def _moments(inputs: Array, _: Array) -> tuple[Array, Array]:
    """Mean and biased variance over all axes but the last, in float32 or float64.

    The variance is that of the differences: E[x^2] - E[x]^2 loses its digits where the mean is
    large.
    """
    x = _at_least_single(inputs)
    axes = tuple(range(inputs.ndim - 1))
    mean = jnp.mean(x, axes)
    return mean, jnp.mean(jnp.square(_less(x, mean)), axes)


def _moments_in_one_pass(inputs: Array, near: Array) -> tuple[Array, Array]:
    """`_moments`, of inputs that are read once, with half as many sums over all devices.

    With d = x - near the variance is E[d^2] - E[d]^2. Its relative error is that of a sum in
    float32 times (E[d] / deviation)^2: it vanishes as the moving mean comes near to the batch's.
    A variance below that error is not known, and taken to be as large: it divides the outputs.

    Args:
        inputs: [N, ..., C].
        near: [C], roughly the mean.
    """
    differences = _less(_at_least_single(inputs), lax.stop_gradient(near))
    axes = tuple(range(inputs.ndim - 1))
    mean, square = jnp.mean(differences, axes), jnp.mean(jnp.square(differences), axes)
    variance, error = square - jnp.square(mean), lax.stop_gradient(square) * _ROUNDING
    return near + mean, jnp.where(variance > error, variance, error)


def _less(x: Array, row: Array) -> Array:
    return x - row.reshape((1,) * (x.ndim - 1) + (-1,))
