"""Depthwise and separable convolution; on CPUs with a gradient that XLA's own lacks speed for."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
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
from cnnjax.nn.im2col import Pairs, output_size, shifted_slices
from cnnjax.nn.initializers import Initializer, glorot_uniform
from cnnjax.nn.layers import finished
from cnnjax.nn.trilinear import Trilinear, varying_alike

# Images whose products are added up before they join the sums of those before: more of them is
# faster, and takes longer to compile.
_IMAGES_TOGETHER = 16

# Below so many products a tap one sum over all of them is as fast.
_FEW_PRODUCTS = 1 << 18


def depthwise_conv2d(
    inputs: Array,
    kernel: Array,
    *,
    strides: int | tuple[int, int] = 1,
    padding: Padding = "valid",
    dilation_rate: int | tuple[int, int] = 1,
) -> Array:
    """Convolution of every channel with kernels of its own, NHWC.

    `y[n, i, j, c M + m] = sum_{a, b} x[n, s i + d a, s j + d b, c] k[a, b, c, m]` on the padded x.
    On CPUs it is the sum of the shifted inputs times weights, forward and backward; on
    accelerators, and under `conv_engine("lax")`, XLA's grouped convolution.

    Args:
        inputs: [N, H, W, C], floating.
        kernel: [kh, kw, C, M], of the inputs' dtype; M is the depth multiplier.
        strides, padding, dilation_rate: as in `conv2d`.

    Returns:
        [N, H', W', C M].

    Raises:
        ValueError: if shapes do not fit.

    >>> import jax.numpy as jnp
    >>> depthwise_conv2d(jnp.ones((1, 4, 4, 2)), jnp.ones((3, 3, 2, 1))).shape
    (1, 2, 2, 2)
    """
    strides, dilation = as_pair(strides, "strides"), as_pair(dilation_rate, "dilation_rate")
    if inputs.ndim != 4 or kernel.ndim != 4 or inputs.shape[3] != kernel.shape[2]:
        raise ValueError(
            f"depthwise_conv2d needs inputs [N, H, W, C] and a kernel [kh, kw, C, M], got inputs "
            f"{list(inputs.shape)} and kernel {list(kernel.shape)}"
        )
    pads = resolve_padding(padding, inputs.shape[1:3], kernel.shape[:2], strides, dilation)
    if as_on_accelerators():
        return _grouped(inputs, kernel, strides, pads, dilation)
    size = output_size(inputs.shape[1:3], kernel.shape[:2], strides, pads, dilation)
    outputs = (inputs.shape[0], *size, kernel.shape[2] * kernel.shape[3])
    shapes = (inputs.shape, kernel.shape, outputs)
    return Taps(shapes, strides, pads, dilation)(inputs, kernel)


def _grouped(x: Array, kernel: Array, strides: tuple, pads: Pairs, dilation: tuple) -> Array:
    kh, kw, channels, multiplier = kernel.shape
    x, pads = padded_first(x, pads)
    return lax.conv_general_dilated(
        x,
        kernel.reshape(kh, kw, 1, channels * multiplier),
        window_strides=strides,
        padding=pads,
        rhs_dilation=dilation,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=channels,
    )


@dataclass(frozen=True)
class Taps(Trilinear):
    """Depthwise convolution as a sum over the kernel's taps, and its two gradients.

    Args:
        strides, pads, dilation: as in `im2col_conv`.
    """

    strides: tuple[int, int]
    pads: Pairs
    dilation: tuple[int, int]

    def outputs(self, inputs: Array, kernel: Array) -> Array:
        """The shifted inputs times weights, added up."""
        window = kernel.shape[:2]
        slices = shifted_slices(inputs, window, self.strides, self.pads, self.dilation)
        return _weighted_sum(slices, kernel)

    def inputs(self, kernel: Array, outputs: Array) -> Array:
        """The same sum over the cotangent, spread by the strides, with flipped weights."""
        kh, kw, channels, multiplier = kernel.shape
        split = outputs.reshape(*outputs.shape[:3], channels, multiplier)
        spread = []
        for axis, (low, high) in enumerate(self.pads):
            reach, step = self.dilation[axis] * (kernel.shape[axis] - 1), self.strides[axis]
            before = self.shapes[0][1 + axis] + low + high
            rest = before - reach - 1 - (outputs.shape[1 + axis] - 1) * step
            spread.append((reach - low, reach - high + rest, step - 1))
        zero = jnp.zeros((), outputs.dtype)
        flipped = kernel[::-1, ::-1]
        gradient = jnp.zeros((), outputs.dtype)
        for m in range(multiplier):
            padded = lax.pad(split[..., m], zero, ((0, 0, 0), *spread, (0, 0, 0)))
            shifted = shifted_slices(padded, (kh, kw), (1, 1), ((0, 0), (0, 0)), self.dilation)
            gradient = gradient + _weighted_sum(shifted, flipped[..., m : m + 1])
        return gradient

    def kernel(self, inputs: Array, outputs: Array) -> Array:
        """The shifted inputs times the cotangent, summed over images and pixels."""
        kh, kw, *split = self.shapes[1]
        cotangent = outputs.reshape(*outputs.shape[:3], *split)
        gradient = _kernel_gradient(
            inputs, cotangent, (kh, kw), self.strides, self.pads, self.dilation
        )
        return gradient.astype(inputs.dtype)


def _weighted_sum(slices: list[Array], kernel: Array) -> Array:
    """[N, H, W, C] times k[a, b] added up over the taps: [N, H, W, C M]."""
    kh, kw, channels, multiplier = kernel.shape
    taps = kernel.reshape(kh * kw, 1, 1, 1, channels, multiplier)
    products = (s[..., None] * k for s, k in zip(slices, taps, strict=True))
    total = functools.reduce(jnp.add, products)
    return total.reshape(*total.shape[:3], channels * multiplier)


def _kernel_gradient(
    x: Array, cotangent: Array, window: tuple, strides: tuple, pads: Pairs, dilation: tuple
) -> Array:
    """x [N, H, W, C] times the cotangent [N, H', W', C, M] under every tap: [kh, kw, C, M].

    A sum over the first three axes XLA takes channel by channel, each time through all of memory.
    Instead the products of a few images at a time are added up as they lie there, which leaves a
    map [H', W', C, M] per tap to be summed over its pixels.
    """
    count, dtype = x.shape[0], jnp.promote_types(x.dtype, jnp.float32)
    # A loop over images would gather those of all devices on each. Sizes may be symbols of an
    # export.
    known = all(isinstance(n, int) for n in cotangent.shape) and jax.device_count() == 1
    if not known or count == 1 or cotangent.size < _FEW_PRODUCTS:
        slices = shifted_slices(x, window, strides, pads, dilation)
        taps = jnp.stack([jnp.sum(s[..., None] * cotangent, (0, 1, 2)) for s in slices])
        return taps.reshape(*window, *taps.shape[1:])
    # Half of the images at most: XLA dissolves a loop of one round, and all is one sum again.
    together = next(m for m in range(min(_IMAGES_TOGETHER, count // 2), 0, -1) if count % m == 0)
    zero = jnp.zeros((), x.dtype)
    x = lax.pad(x, zero, ((0, 0, 0), *((low, high, 0) for low, high in pads), (0, 0, 0)))

    def add(sums: list[Array], images: tuple[Array, ...]) -> tuple[list[Array], None]:
        values, gradients = (a.astype(dtype) for a in images)
        slices = shifted_slices(values, window, strides, ((0, 0), (0, 0)), dilation)
        return [
            functools.reduce(jnp.add, (s[i, ..., None] * gradients[i] for i in range(together)), t)
            for t, s in zip(sums, slices, strict=True)
        ], None

    zeros, _ = varying_alike(jnp.zeros(cotangent.shape[1:], dtype), cotangent)
    sums = [zeros] * (window[0] * window[1])
    groups = tuple(a.reshape(-1, together, *a.shape[1:]) for a in (x, cotangent))
    sums, _ = lax.scan(add, sums, groups)
    taps = jnp.stack([jnp.sum(t, (0, 1)) for t in sums])
    return taps.reshape(*window, *taps.shape[1:])


class DepthwiseConv2D(linen.Module):
    """Depthwise convolution layer with Keras' arguments and initialisers.

    Args:
        kernel_size: one size or (rows, columns).
        strides, padding, dilation_rate: as in `conv2d`.
        depth_multiplier: outputs per channel, >= 1.
        activation, use_bias, kernel_initializer: as in `Conv2D`.

    Parameters: kernel [kh, kw, C, M] and bias [C M], float32.
    Call: [N, H, W, C] -> [N, H', W', C M].
    """

    kernel_size: int | tuple[int, int]
    strides: int | tuple[int, int] = 1
    padding: Padding = "valid"
    depth_multiplier: int = 1
    dilation_rate: int | tuple[int, int] = 1
    activation: Callable[[Array], Array] | None = None
    use_bias: bool = True
    kernel_initializer: Initializer = glorot_uniform

    @linen.compact
    def __call__(self, inputs: Array) -> Array:
        """Apply the layer to [N, H, W, C]."""
        window = as_pair(self.kernel_size, "kernel_size")
        shape = (*window, inputs.shape[-1], self.depth_multiplier)
        kernel = self.param("kernel", self.kernel_initializer, shape).astype(inputs.dtype)
        outputs = depthwise_conv2d(
            inputs,
            kernel,
            strides=self.strides,
            padding=self.padding,
            dilation_rate=self.dilation_rate,
        )
        return finished(self, outputs)


class SeparableConv2D(linen.Module):
    """Depthwise convolution, then 1x1 convolution (Chollet 2017), with Keras' arguments.

    Args:
        filters: number of output channels.
        kernel_size, strides, padding, depth_multiplier, dilation_rate: of the depthwise part.
        activation, use_bias: as in `Conv2D`.
        depthwise_initializer, pointwise_initializer: glorot uniform by default, as in Keras. Where
            several such layers follow each other without normalisation, `lecun_uniform_depthwise`
            and `he_uniform` keep the size of the outputs.

    Parameters: depthwise_kernel [kh, kw, C, M], pointwise_kernel [1, 1, C M, F] and bias [F],
    float32. Call: [N, H, W, C] -> [N, H', W', F].
    """

    filters: int
    kernel_size: int | tuple[int, int]
    strides: int | tuple[int, int] = 1
    padding: Padding = "valid"
    depth_multiplier: int = 1
    dilation_rate: int | tuple[int, int] = 1
    activation: Callable[[Array], Array] | None = None
    use_bias: bool = True
    depthwise_initializer: Initializer = glorot_uniform
    pointwise_initializer: Initializer = glorot_uniform

    @linen.compact
    def __call__(self, inputs: Array) -> Array:
        """Apply the layer to [N, H, W, C]."""
        window, channels = as_pair(self.kernel_size, "kernel_size"), inputs.shape[-1]
        depthwise = self.param(
            "depthwise_kernel",
            self.depthwise_initializer,
            (*window, channels, self.depth_multiplier),
        )
        pointwise = self.param(
            "pointwise_kernel",
            self.pointwise_initializer,
            (1, 1, channels * self.depth_multiplier, self.filters),
        )
        outputs = depthwise_conv2d(
            inputs,
            depthwise.astype(inputs.dtype),
            strides=self.strides,
            padding=self.padding,
            dilation_rate=self.dilation_rate,
        )
        outputs = conv2d(outputs, pointwise.astype(outputs.dtype))
        return finished(self, outputs)
