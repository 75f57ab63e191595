"""Xception (Chollet 2017), with Keras' names: by Keras' arithmetic or by that of timm."""

from __future__ import annotations

from flax import linen
from jax import Array
from jax.nn import relu

from cnnjax.models.backbone import (
    TORCH_EPSILON,
    TORCH_MOMENTUM,
    AutomaticNames,
    Backbone,
    end,
    is_torch,
    normalised,
)
from cnnjax.models.registry import Release, register
from cnnjax.models.torch_names import TorchNames
from cnnjax.nn import Activation, Add, Conv2D, InputLayer, MaxPooling2D, SeparableConv2D


def _separable_names(theirs: str, ours: str) -> tuple[tuple[str, str], ...]:
    return (
        (f"{theirs}.conv1", f"{ours}/depthwise_kernel"),
        (f"{theirs}.pointwise", f"{ours}/pointwise_kernel"),
    )


def _names() -> tuple[tuple[str, str], ...]:
    """timm's, which count activations, convolutions and normalisations of a block alike."""
    pairs = [("fc", "predictions")]
    for n in (1, 2):
        pairs += [(f"conv{n}", f"block1_conv{n}"), (f"bn{n}", f"block1_conv{n}_bn")]
        last = f"block14_sepconv{n}"
        pairs += [*_separable_names(f"conv{n + 2}", last), (f"bn{n + 2}", f"{last}_bn")]
        first = f"block1.rep.{3 * n - 3}", f"block2_sepconv{n}"  # which no ReLU precedes
        pairs += [*_separable_names(*first), (f"block1.rep.{3 * n - 2}", f"{first[1]}_bn")]
    for n in (1, 2, 3):
        ours = f"block{{block+1}}_sepconv{n}"
        pairs += _separable_names(f"block{{block}}.rep.{3 * n - 2}", ours)
        pairs.append((f"block{{block}}.rep.{3 * n - 1}", f"{ours}_bn"))
    names = AutomaticNames()
    for block in (1, 2, 3, 12):
        pairs.append((f"block{block}.skip", names("conv2d")))
        pairs.append((f"block{block}.skipbn", names("batch_normalization")))
    return tuple(pairs)


@register(
    "xception",
    (299, 299, 3),
    min_size=71,
    num_classes=1000,
    preprocessing="tf",
    cam_layer="block14_sepconv2_act",
    head=("predictions",),
    paper="Chollet 2017, Xception: deep learning with depthwise separable convolutions",
    year=2017,
    published={"keras": 79.0, "timm": 78.892},
    foreign=(
        TorchNames(
            "timm",
            _names(),
            {"origin": "torch"},
            preprocessing="tf",
            crop=0.8975,
            model="legacy_xception",
        ),
    ),
    release=Release.of_keras(
        "xception", "0a58e3b7378bc2990ea3b43d5981f1f6", "b0042744bf5b25fce3cb969f33bebb97"
    ),
)
class Xception(Backbone):
    """Xception: fourteen blocks of separable convolutions with residual connections.

    Args:
        num_classes, include_top, pooling, classifier, classifier_dropout: as in `Backbone`.
        origin: "keras": poolings pad as "same" does, and epsilon is 1e-3; or "torch": they pad
            alike on all sides, epsilon is 1e-5 and the momentum of statistics 0.9, as in timm.
    """

    origin: str = "keras"

    @linen.compact
    def __call__(self, inputs: Array, train: bool = False) -> Array:
        """[N, H, W, C] -> [N, num_classes]."""
        net = _Layers(train, is_torch(self.origin))
        x = InputLayer(name="input_layer")(inputs)
        for name, filters, strides in (("block1_conv1", 32, 2), ("block1_conv2", 64, 1)):
            conv = Conv2D(filters, 3, strides=strides, use_bias=False, name=name)
            x = Activation(relu, name=f"{name}_act")(net.normalised(x, conv, f"{name}_bn"))

        # Nothing precedes the first separable convolution of block 2, whose input is activated.
        residual = net.projection(x, 128)
        x = net.separable(x, 128, "block2_sepconv1")
        x = net.activated(x, 128, "block2_sepconv2")
        x = net.downsampled(x, residual, "block2_pool")
        for block, filters in ((3, 256), (4, 728)):
            residual = net.projection(x, filters)
            x = net.activated(x, filters, f"block{block}_sepconv1")
            x = net.activated(x, filters, f"block{block}_sepconv2")
            x = net.downsampled(x, residual, f"block{block}_pool")

        for block in range(5, 13):
            residual = x
            for i in (1, 2, 3):
                x = net.activated(x, 728, f"block{block}_sepconv{i}")
            x = Add(name=net.names("add"))([x, residual])

        residual = net.projection(x, 1024)
        x = net.activated(x, 728, "block13_sepconv1")
        x = net.activated(x, 1024, "block13_sepconv2")
        x = net.downsampled(x, residual, "block13_pool")
        for name, filters in (("block14_sepconv1", 1536), ("block14_sepconv2", 2048)):
            x = Activation(relu, name=f"{name}_act")(net.separable(x, filters, name))
        return end(self, x, train)


class _Layers:
    """The parts of the net, inside a compact module."""

    def __init__(self, train: bool, torch: bool):
        self.train, self.names = train, AutomaticNames()
        self.pool_padding = ((1, 1), (1, 1)) if torch else "same"
        self.constants = (TORCH_EPSILON, TORCH_MOMENTUM) if torch else (1e-3, 0.99)

    def normalised(self, x: Array, conv: linen.Module, name: str) -> Array:
        epsilon, momentum = self.constants
        return normalised(x, conv, self.train, name, epsilon, momentum=momentum)

    def separable(self, x: Array, filters: int, name: str) -> Array:
        conv = SeparableConv2D(filters, 3, padding="same", use_bias=False, name=name)
        return self.normalised(x, conv, f"{name}_bn")

    def activated(self, x: Array, filters: int, name: str) -> Array:
        """ReLU before the separable convolution."""
        return self.separable(Activation(relu, name=f"{name}_act")(x), filters, name)

    def projection(self, x: Array, filters: int) -> Array:
        name = self.names("conv2d")
        conv = Conv2D(filters, 1, strides=2, padding="same", use_bias=False, name=name)
        return self.normalised(x, conv, self.names("batch_normalization"))

    def downsampled(self, x: Array, residual: Array, name: str) -> Array:
        x = MaxPooling2D(3, strides=2, padding=self.pool_padding, name=name)(x)
        return Add(name=self.names("add"))([x, residual])
