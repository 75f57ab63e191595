"""Layers of sequences, [N, T, C]: embedding, 1-D convolution and pooling."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen
from jax import Array

from cnnjax.nn.conv import as_pair, conv2d
from cnnjax.nn.initializers import Initializer, glorot_uniform
from cnnjax.nn.layers import finished
from cnnjax.nn.pool import max_pool

_PADDINGS = ("valid", "same", "causal")


def _uniform(key: Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> Array:
    """Uniform in [-0.05, 0.05], Keras' "uniform"."""
    return jax.random.uniform(key, shape, dtype, -0.05, 0.05)


class Embedding(linen.Module):
    """A vector for every number of a word, with Keras' arguments and initialiser.

    Args:
        input_dim: how many numbers there are, >= 1.
        output_dim: size of a vector, >= 1.
        embeddings_initializer: uniform in [-0.05, 0.05] by default, as in Keras.

    Parameters: embeddings [input_dim, output_dim], float32.
    Call: whole numbers [N, T] in [0, input_dim) -> [N, T, output_dim]; NaN for a larger number.
    """

    input_dim: int
    output_dim: int
    embeddings_initializer: Initializer = _uniform

    @linen.compact
    def __call__(self, inputs: Array) -> Array:
        """Look up [N, T]."""
        if not jnp.issubdtype(inputs.dtype, jnp.integer):
            raise ValueError(f"Embedding needs whole numbers, got {inputs.dtype}")
        if self.input_dim < 1 or self.output_dim < 1:
            raise ValueError(
                f"input_dim and output_dim must be at least 1, got {self.input_dim} and "
                f"{self.output_dim}"
            )
        shape = (self.input_dim, self.output_dim)
        table = self.param("embeddings", self.embeddings_initializer, shape)
        return jnp.take(table, inputs, axis=0)


def conv1d(
    inputs: Array,
    kernel: Array,
    *,
    strides: int = 1,
    padding: str = "valid",
    dilation_rate: int = 1,
    engine: str | None = None,
) -> Array:
    """1-D convolution (cross-correlation, as in Keras), `conv2d` with a second axis of length 1.

    `y[n, t, f] = sum_{a, c} x[n, s t + d a, c] k[a, c, f]` on the padded x.

    Args:
        inputs: [N, T, C], floating.
        kernel: [k, C, F], of the inputs' dtype.
        strides: >= 1.
        padding: "valid"; "same", by TensorFlow's rule; or "causal", all of it in front, so that no
            output depends on a later input.
        dilation_rate: distance between kernel taps, >= 1.
        engine: as in `conv2d`.

    Returns:
        [N, T', F] with T' = floor((T + pad - d (k - 1) - 1) / s) + 1.

    Raises:
        ValueError: for shapes or a padding that do not fit.

    >>> import jax.numpy as jnp
    >>> sums = conv1d(jnp.arange(4.0).reshape(1, 4, 1), jnp.ones((2, 1, 1)), padding="causal")
    >>> sums.reshape(-1).tolist()
    [0.0, 1.0, 3.0, 5.0]
    """
    check_sequence(inputs, "conv1d")
    if kernel.ndim != 3 or kernel.shape[1] != inputs.shape[2]:
        raise ValueError(
            f"conv1d needs a kernel [k, C, F] for inputs [N, T, C], got kernel "
            f"{list(kernel.shape)} and inputs {list(inputs.shape)}"
        )
    # Time is the axis of rows: along rows im2col has its form of large kernels, which here moves a
    # third of the memory.
    outputs = conv2d(
        inputs[:, :, None],
        kernel[:, None],
        strides=(strides, 1),
        padding=pads_1d(padding, kernel.shape[0], dilation_rate),
        dilation_rate=(dilation_rate, 1),
        engine=engine,
    )
    return outputs[:, :, 0]


def pads_1d(padding: str, kernel_size: int, dilation_rate: int) -> Any:
    """A padding of `conv1d` as one of `conv2d`.

    >>> pads_1d("causal", 3, 2)
    ((4, 0), (0, 0))
    """
    mode = padding.lower() if isinstance(padding, str) else padding
    if mode not in _PADDINGS:
        raise ValueError(f"padding must be 'valid', 'same' or 'causal', got {padding!r}")
    return ((dilation_rate * (kernel_size - 1), 0), (0, 0)) if mode == "causal" else mode


class Conv1D(linen.Module):
    """1-D convolution layer with Keras' arguments and initialisers.

    Args:
        filters: number of output channels.
        kernel_size: >= 1.
        strides, padding, dilation_rate: as in `conv1d`.
        activation, use_bias, kernel_initializer: as in `Conv2D`.

    Parameters: kernel [k, C, F] and bias [F], float32.
    Call: [N, T, C] -> [N, T', F].
    """

    filters: int
    kernel_size: int
    strides: int = 1
    padding: str = "valid"
    dilation_rate: int = 1
    activation: Callable[[Array], Array] | None = None
    use_bias: bool = True
    kernel_initializer: Initializer = glorot_uniform

    @linen.compact
    def __call__(self, inputs: Array) -> Array:
        """Apply the layer to [N, T, C]."""
        check_sequence(inputs, "Conv1D")
        size, _ = as_pair(self.kernel_size, "kernel_size")
        shape = (size, inputs.shape[2], self.filters)
        kernel = self.param("kernel", self.kernel_initializer, shape)
        outputs = conv1d(
            inputs,
            kernel.astype(inputs.dtype),
            strides=self.strides,
            padding=self.padding,
            dilation_rate=self.dilation_rate,
        )
        return finished(self, outputs)


class MaxPooling1D(linen.Module):
    """Maximum over windows of steps: [N, T, C] -> [N, T', C].

    Args:
        pool_size: of a window, >= 1.
        strides: between windows; None takes pool_size.
        padding: "valid" or "same"; padding never wins.
    """

    pool_size: int = 2
    strides: int | None = None
    padding: str = "valid"

    @linen.compact
    def __call__(self, inputs: Array) -> Array:
        """Apply to [N, T, C]."""
        check_sequence(inputs, "MaxPooling1D")
        strides = None if self.strides is None else (self.strides, 1)
        return max_pool(inputs[:, :, None], (self.pool_size, 1), strides, self.padding)[:, :, 0]


class GlobalMaxPooling1D(linen.Module):
    """Maximum over the steps: [N, T, C] -> [N, C]."""

    @linen.compact
    def __call__(self, inputs: Array) -> Array:
        """Apply to [N, T, C]."""
        check_sequence(inputs, "GlobalMaxPooling1D")
        return jnp.max(inputs, axis=1)


class GlobalAveragePooling1D(linen.Module):
    """Mean over the steps: [N, T, C] -> [N, C]; half precision is summed in float32."""

    @linen.compact
    def __call__(self, inputs: Array) -> Array:
        """Apply to [N, T, C]."""
        check_sequence(inputs, "GlobalAveragePooling1D")
        dtype = jnp.promote_types(inputs.dtype, jnp.float32)
        return jnp.mean(inputs, axis=1, dtype=dtype).astype(inputs.dtype)


class Slice1D(linen.Module):
    """Some of the steps, evenly spaced: [N, T, C] -> [N, T', C].

    Args:
        start: the first of them, in [0, T).
        stop: where they end, > start; it is excluded, as in `inputs[:, start:stop:strides]`.
        strides: from one to the next, >= 1.
    """

    start: int
    stop: int
    strides: int = 1

    @linen.compact
    def __call__(self, inputs: Array) -> Array:
        """Apply to [N, T, C]."""
        check_sequence(inputs, "Slice1D")
        if not 0 <= self.start < self.stop <= inputs.shape[1] or self.strides < 1:
            raise ValueError(
                f"Slice1D needs 0 <= start < stop <= {inputs.shape[1]} and strides >= 1, got start "
                f"{self.start}, stop {self.stop} and strides {self.strides}"
            )
        return inputs[:, self.start : self.stop : self.strides]


class ZeroPadding1D(linen.Module):
    """Steps of zeros around [N, T, C].

    Args:
        padding: (before, after), each >= 0.
    """

    padding: tuple[int, int]

    @linen.compact
    def __call__(self, inputs: Array) -> Array:
        """Apply to [N, T, C]."""
        check_sequence(inputs, "ZeroPadding1D")
        return jnp.pad(inputs, ((0, 0), self.padding, (0, 0)))


class LastStep(linen.Module):
    """The last of the steps: [N, T, C] -> [N, C]."""

    @linen.compact
    def __call__(self, inputs: Array) -> Array:
        """Apply to [N, T, C]."""
        check_sequence(inputs, "LastStep")
        return inputs[:, -1]


def check_sequence(inputs: Array, what: str) -> None:
    """Refuse what is no sequence of vectors.

    Raises:
        ValueError: if the inputs are not [N, T, C].
    """
    if inputs.ndim != 3:
        raise ValueError(f"{what} needs inputs [N, T, C], got {list(inputs.shape)}")
