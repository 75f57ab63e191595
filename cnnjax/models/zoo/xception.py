"""Xception (Chollet 2017), with Keras' names."""

from __future__ import annotations

from flax import linen
from jax import Array
from jax.nn import relu

from cnnjax.models.backbone import AutomaticNames, Backbone, end, normalised
from cnnjax.models.registry import Release, register
from cnnjax.nn import Activation, Add, Conv2D, InputLayer, MaxPooling2D, SeparableConv2D


@register(
    "xception",
    (299, 299, 3),
    min_size=71,
    num_classes=1000,
    preprocessing="tf",
    cam_layer="block14_sepconv2_act",
    head=("predictions",),
    paper="Chollet 2017, Xception: deep learning with depthwise separable convolutions",
    release=Release.of_keras(
        "xception", "0a58e3b7378bc2990ea3b43d5981f1f6", "b0042744bf5b25fce3cb969f33bebb97"
    ),
)
class Xception(Backbone):
    """Xception: fourteen blocks of separable convolutions with residual connections.

    Args: those of `Backbone`.
    """

    @linen.compact
    def __call__(self, inputs: Array, train: bool = False) -> Array:
        """[N, H, W, C] -> [N, num_classes]."""
        names = AutomaticNames()
        x = InputLayer(name="input_layer")(inputs)
        for name, filters, strides in (("block1_conv1", 32, 2), ("block1_conv2", 64, 1)):
            conv = Conv2D(filters, 3, strides=strides, use_bias=False, name=name)
            x = normalised(x, conv, train, f"{name}_bn", activation=(relu, f"{name}_act"))

        # Nothing precedes the first separable convolution of block 2, whose input is activated.
        residual = _projection(x, 128, train, names)
        x = _separable(x, 128, train, "block2_sepconv1")
        x = _activated(x, 128, train, "block2_sepconv2")
        x = _downsampled(x, residual, "block2_pool", names)
        for block, filters in ((3, 256), (4, 728)):
            residual = _projection(x, filters, train, names)
            x = _activated(x, filters, train, f"block{block}_sepconv1")
            x = _activated(x, filters, train, f"block{block}_sepconv2")
            x = _downsampled(x, residual, f"block{block}_pool", names)

        for block in range(5, 13):
            residual = x
            for i in (1, 2, 3):
                x = _activated(x, 728, train, f"block{block}_sepconv{i}")
            x = Add(name=names("add"))([x, residual])

        residual = _projection(x, 1024, train, names)
        x = _activated(x, 728, train, "block13_sepconv1")
        x = _activated(x, 1024, train, "block13_sepconv2")
        x = _downsampled(x, residual, "block13_pool", names)
        for name, filters in (("block14_sepconv1", 1536), ("block14_sepconv2", 2048)):
            x = Activation(relu, name=f"{name}_act")(_separable(x, filters, train, name))
        return end(self, x, train)


def _separable(x: Array, filters: int, train: bool, name: str) -> Array:
    conv = SeparableConv2D(filters, 3, padding="same", use_bias=False, name=name)
    return normalised(x, conv, train, f"{name}_bn")


def _activated(x: Array, filters: int, train: bool, name: str) -> Array:
    """ReLU before the separable convolution."""
    return _separable(Activation(relu, name=f"{name}_act")(x), filters, train, name)


def _projection(x: Array, filters: int, train: bool, names: AutomaticNames) -> Array:
    conv = Conv2D(filters, 1, strides=2, padding="same", use_bias=False, name=names("conv2d"))
    return normalised(x, conv, train, names("batch_normalization"))


def _downsampled(x: Array, residual: Array, name: str, names: AutomaticNames) -> Array:
    x = MaxPooling2D(3, strides=2, padding="same", name=name)(x)
    return Add(name=names("add"))([x, residual])
