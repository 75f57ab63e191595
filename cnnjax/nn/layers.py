"""Dense, dropout, activation, shape and merging layers: tiny modules with names."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen
from jax import Array

from cnnjax.nn.initializers import Initializer, glorot_uniform, zeros


class Activation(linen.Module):
    """A function applied element by element, as a layer with a name.

    Args:
        function: [...] -> [...], at module level (a closure made at every build compiles anew).
    """

    function: Callable[[Array], Array]

    @linen.compact
    def __call__(self, inputs: Array) -> Array:
        """Apply the function."""
        return self.function(inputs)


def apply_activation(function: Callable[[Array], Array] | None, inputs: Array) -> Array:
    """Inside a compact layer: the activation as a submodule named after its function."""
    if function is None:
        return inputs
    name = getattr(function, "__name__", "activation").strip("<>")
    return Activation(function, name=name)(inputs)


def finished(layer: Any, outputs: Array) -> Array:
    """Inside a compact layer with `use_bias` and `activation`: what follows its product."""
    if layer.use_bias:
        bias = layer.param("bias", zeros, (outputs.shape[-1],))
        # Added in the bias' own precision: it may be float32 where outputs are not.
        row = bias.reshape((1,) * (outputs.ndim - 1) + (-1,))
        outputs = (outputs + row).astype(outputs.dtype)
    return apply_activation(layer.activation, outputs)


class Flatten(linen.Module):
    """[N, ...] -> [N, product of the rest], in H, W, C order."""

    @linen.compact
    def __call__(self, inputs: Array) -> Array:
        """Flatten all but the first axis."""
        return inputs.reshape(inputs.shape[0], math.prod(inputs.shape[1:]))


class InputLayer(linen.Module):
    """The inputs themselves, as the first layer of a table, with a name."""

    @linen.compact
    def __call__(self, inputs: Array) -> Array:
        """No change."""
        return inputs


class Reshape(linen.Module):
    """[N, ...] -> [N, *target_shape].

    Args:
        target_shape: without the batch.
    """

    target_shape: tuple[int, ...]

    @linen.compact
    def __call__(self, inputs: Array) -> Array:
        """Give every example another shape."""
        return inputs.reshape(inputs.shape[0], *self.target_shape)


class ZeroPadding2D(linen.Module):
    """Rows and columns of zeros around [N, H, W, C].

    Args:
        padding: ((top, bottom), (left, right)), each >= 0.
    """

    padding: tuple[tuple[int, int], tuple[int, int]]

    @linen.compact
    def __call__(self, inputs: Array) -> Array:
        """Pad [N, H, W, C]."""
        return jnp.pad(inputs, ((0, 0), *self.padding, (0, 0)))


class Cropping2D(linen.Module):
    """Rows and columns at the borders of [N, H, W, C] left out.

    Args:
        cropping: ((top, bottom), (left, right)), each >= 0.
    """

    cropping: tuple[tuple[int, int], tuple[int, int]]

    @linen.compact
    def __call__(self, inputs: Array) -> Array:
        """Crop [N, H, W, C]."""
        (top, bottom), (left, right) = self.cropping
        height, width = inputs.shape[1:3]
        return inputs[:, top : height - bottom, left : width - right]


class UpSampling2D(linen.Module):
    """Each pixel of [N, H, W, C] repeated, as Keras' layer does by "nearest".

    Args:
        size: how many rows and columns are made of one, >= 1.
    """

    size: tuple[int, int] = (2, 2)

    @linen.compact
    def __call__(self, inputs: Array) -> Array:
        """[N, H, W, C] -> [N, rows H, columns W, C]."""
        (rows, columns), (count, height, width, channels) = self.size, inputs.shape
        each = inputs[:, :, None, :, None, :]
        repeated = jnp.broadcast_to(each, (count, height, rows, width, columns, channels))
        return repeated.reshape(count, height * rows, width * columns, channels)


class Add(linen.Module):
    """Sum of arrays of one shape."""

    @linen.compact
    def __call__(self, inputs: Sequence[Array]) -> Array:
        """Add [first, second, ...]."""
        return functools.reduce(jnp.add, inputs)


class Multiply(linen.Module):
    """Product of arrays of one rank; an axis of one stands for all, as in a gate [N, 1, 1, C]."""

    @linen.compact
    def __call__(self, inputs: Sequence[Array]) -> Array:
        """Multiply [first, second, ...]."""
        return functools.reduce(jnp.multiply, inputs)


class Concatenate(linen.Module):
    """Arrays beside each other along the last axis."""

    @linen.compact
    def __call__(self, inputs: Sequence[Array]) -> Array:
        """Join [first, second, ...]."""
        return jnp.concatenate(inputs, axis=-1)


class Dense(linen.Module):
    """Fully connected layer, `y = x W + b`, with Keras' arguments and initialisers.

    Args:
        units: size of the output.
        activation: as in `Conv2D`.
        use_bias: add a bias.
        kernel_initializer: glorot uniform by default, as in Keras.

    Parameters: kernel [D, units] and bias [units], float32. Call: [N, ..., D] -> [N, ..., units].
    """

    units: int
    activation: Callable[[Array], Array] | None = None
    use_bias: bool = True
    kernel_initializer: Initializer = glorot_uniform

    @linen.compact
    def __call__(self, inputs: Array) -> Array:
        """Apply the layer to [N, ..., D]."""
        kernel = self.param("kernel", self.kernel_initializer, (inputs.shape[-1], self.units))
        return finished(self, inputs @ kernel.astype(inputs.dtype))


class Dropout(linen.Module):
    """Inverted dropout (Srivastava et al. 2014): zero with probability `rate`, scale the rest.

    In training `y = x m / (1 - rate)` with m ~ Bernoulli(1 - rate) from the random stream
    "dropout"; otherwise the identity.

    Args:
        rate: probability of zero, in [0, 1).
    """

    rate: float

    @linen.compact
    def __call__(self, inputs: Array, train: bool = False) -> Array:
        """Apply the layer; `train` switches it on."""
        if not 0.0 <= self.rate < 1.0:
            raise ValueError(f"rate must lie in [0, 1), got {self.rate}")
        if not train or self.rate == 0.0:
            return inputs
        keep = jax.random.bernoulli(self.make_rng("dropout"), 1.0 - self.rate, inputs.shape)
        return jnp.where(keep, inputs / (1.0 - self.rate), jnp.zeros((), inputs.dtype))
