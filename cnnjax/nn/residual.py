"""Layers of residual branches: stochastic depth, and a factor for every channel."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import linen
from jax import Array


class StochasticDepth(linen.Module):
    """Leaves out a residual branch for whole examples (Huang et al. 2016, arXiv:1603.09382).

    In training `y = x m / (1 - rate)` with one m ~ Bernoulli(1 - rate) for each example, from the
    random stream "dropout"; otherwise the identity. It is Keras' Dropout with noise_shape
    (None, 1, 1, 1) and torchvision's `stochastic_depth` in the mode "row"; the paper itself scales
    in evaluation instead.

    Args:
        rate: probability that an example goes without the branch, in [0, 1).
    """

    rate: float

    @linen.compact
    def __call__(self, inputs: Array, train: bool = False) -> Array:
        """Apply the layer to the branch [N, ...]; `train` switches it on."""
        if not 0.0 <= self.rate < 1.0:
            raise ValueError(f"rate must lie in [0, 1), got {self.rate}")
        if not train or self.rate == 0.0:
            return inputs
        shape = (inputs.shape[0],) + (1,) * (inputs.ndim - 1)
        keep = jax.random.bernoulli(self.make_rng("dropout"), 1.0 - self.rate, shape)
        # Chosen, not multiplied by zero: a branch that is left out may not be finite.
        return jnp.where(keep, inputs / (1.0 - self.rate), jnp.zeros((), inputs.dtype))


class LayerScale(linen.Module):
    """A factor for every channel, `y = gamma x` (Touvron et al. 2021, arXiv:2103.17239, eq. 4).

    Args:
        initial: value of the factors at first; small ones let a deep net begin near the identity.

    Parameters: gamma [C], float32. Call: [N, ..., C] -> [N, ..., C].
    """

    initial: float = 1e-6

    @linen.compact
    def __call__(self, inputs: Array) -> Array:
        """Apply the layer."""
        gamma = self.param("gamma", linen.initializers.constant(self.initial), inputs.shape[-1:])
        return inputs * gamma.reshape((1,) * (inputs.ndim - 1) + (-1,)).astype(inputs.dtype)
