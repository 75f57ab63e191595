"""The layer of 2-D convolution, whose channels may be divided into groups."""

from __future__ import annotations

import functools
from collections.abc import Callable

import jax
from flax import linen
from jax import Array, lax

from cnnjax.nn.conv import (
    Padding,
    as_on_accelerators,
    as_pair,
    conv2d,
    padded_first,
    resolve_padding,
)
from cnnjax.nn.initializers import Initializer, glorot_uniform
from cnnjax.nn.layers import finished
from cnnjax.nn.separable import depthwise_conv2d


def grouped_conv2d(
    inputs: Array,
    kernel: Array,
    *,
    groups: int,
    strides: int | tuple[int, int] = 1,
    padding: Padding = "valid",
    dilation_rate: int | tuple[int, int] = 1,
) -> Array:
    """Convolution in groups of channels, NHWC (Krizhevsky et al. 2012, section 3.5).

    The filters of a group, F / groups neighbours, see the C / groups channels of that group. With
    as many groups as channels it is `depthwise_conv2d`. On CPUs it is one `im2col` product for each
    group, whose gradient takes a hundredth of the time of XLA's; on accelerators, and under
    `conv_engine("lax")`, XLA's own.

    Args:
        inputs: [N, H, W, C], floating.
        kernel: [kh, kw, C / groups, F], of the inputs' dtype.
        groups: a divisor of C and of F.
        strides, padding, dilation_rate: as in `conv2d`.

    Returns:
        [N, H', W', F].
    """
    kh, kw, _, filters = kernel.shape
    channels = inputs.shape[-1]
    if groups == channels:
        kernel = kernel.reshape(kh, kw, channels, filters // channels)
        return depthwise_conv2d(
            inputs, kernel, strides=strides, padding=padding, dilation_rate=dilation_rate
        )
    if not as_on_accelerators():
        convolve = functools.partial(
            conv2d, strides=strides, padding=padding, dilation_rate=dilation_rate, engine="im2col"
        )
        apart = inputs.reshape(*inputs.shape[:3], groups, channels // groups)
        kernels = kernel.reshape(kh, kw, channels // groups, groups, filters // groups)
        outputs = jax.vmap(convolve, (3, 3), 3)(apart, kernels)
        return outputs.reshape(*outputs.shape[:3], filters)
    strides, dilation = as_pair(strides, "strides"), as_pair(dilation_rate, "dilation_rate")
    pads = resolve_padding(padding, inputs.shape[1:3], (kh, kw), strides, dilation)
    inputs, pads = padded_first(inputs, pads)
    return lax.conv_general_dilated(
        inputs,
        kernel,
        window_strides=strides,
        padding=pads,
        rhs_dilation=dilation,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=groups,
    )


class Conv2D(linen.Module):
    """2-D convolution layer with Keras' arguments and initialisers.

    Args:
        filters: number of output channels.
        kernel_size: one size or (rows, columns).
        strides, padding, dilation_rate: as in `conv2d`.
        activation: a function of the output, e.g. `jax.nn.relu`; it becomes a named submodule, so
            that the values before and after it can both be addressed.
        use_bias: add a bias per filter.
        kernel_initializer: glorot uniform by default, as in Keras.
        groups: into how many parts of the same size channels and filters are divided, each of which
            sees only its own; a divisor of both.

    Parameters: kernel [kh, kw, C / groups, F] and bias [F], float32.
    Call: [N, H, W, C] -> [N, H', W', F].
    """

    filters: int
    kernel_size: int | tuple[int, int]
    strides: int | tuple[int, int] = 1
    padding: Padding = "valid"
    dilation_rate: int | tuple[int, int] = 1
    activation: Callable[[Array], Array] | None = None
    use_bias: bool = True
    kernel_initializer: Initializer = glorot_uniform
    groups: int = 1

    @linen.compact
    def __call__(self, inputs: Array) -> Array:
        """Apply the layer to [N, H, W, C]."""
        window, channels = as_pair(self.kernel_size, "kernel_size"), inputs.shape[-1]
        if self.groups < 1 or channels % self.groups or self.filters % self.groups:
            raise ValueError(
                f"groups must divide the {channels} channels of the inputs and the {self.filters} "
                f"filters, got {self.groups}"
            )
        shape = (*window, channels // self.groups, self.filters)
        kernel = self.param("kernel", self.kernel_initializer, shape).astype(inputs.dtype)
        convolve = conv2d
        if self.groups > 1:
            convolve = functools.partial(grouped_conv2d, groups=self.groups)
        outputs = convolve(
            inputs,
            kernel,
            strides=self.strides,
            padding=self.padding,
            dilation_rate=self.dilation_rate,
        )
        return finished(self, outputs)
