"""ResNet v2 (He et al. 2016, Identity mappings), with Keras' names and arithmetic."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from flax import linen
from jax import Array
from jax.nn import relu

from cnnjax.models.backbone import AutomaticNames, Backbone, depth_rates, end, normalised
from cnnjax.models.registry import Release, register
from cnnjax.nn import (
    Activation,
    Add,
    BatchNormalization,
    Conv2D,
    InputLayer,
    MaxPooling2D,
    StochasticDepth,
    ZeroPadding2D,
)

_EPSILON = 1.001e-5
_FILTERS = (64, 128, 256, 512)


def _registered(
    name: str, top_1: float, top: str, without_top: str
) -> Callable[[type[ResNet50V2]], type[ResNet50V2]]:
    """What the three have in common, with the MD5 of their files."""
    return register(
        name,
        (224, 224, 3),
        min_size=32,
        num_classes=1000,
        preprocessing="tf",
        cam_layer="post_relu",
        head=("predictions",),
        paper="He et al. 2016, Identity mappings in deep residual networks",
        year=2016,
        published={"keras": top_1},
        release=Release.of_keras(name.replace("_", ""), top, without_top, folder="resnet"),
    )


@_registered(
    "resnet50_v2", 76.0, "3ef43a0b657b3be2300d5770ece849e0", "fac2f116257151a9d068a22e544a4917"
)
class ResNet50V2(Backbone):
    """ResNet50V2: four stages of bottleneck blocks, normalised and activated before convolutions.

    The stride of a stage is in the 3x3 convolution of its last block, as in the authors' code;
    timm's nets of the name `resnetv2_50` have it in the first block, and are others.

    Args:
        num_classes, include_top, pooling, classifier, classifier_dropout: as in `Backbone`.
        stochastic_depth: share of examples for which the last block is left out in training, in
            [0, 1); it grows linearly from 0 at the first block. 0 adds no layers.
    """

    stochastic_depth: float = 0.0

    blocks: ClassVar[tuple[int, ...]] = (3, 4, 6, 3)

    @linen.compact
    def __call__(self, inputs: Array, train: bool = False) -> Array:
        """[N, H, W, C] -> [N, num_classes]."""
        names = AutomaticNames()
        rates = iter(depth_rates(self.stochastic_depth, sum(self.blocks)))
        x = InputLayer(name="input_layer")(inputs)
        x = ZeroPadding2D(((3, 3), (3, 3)), name="conv1_pad")(x)
        x = Conv2D(64, 7, strides=2, name="conv1_conv")(x)
        x = ZeroPadding2D(((1, 1), (1, 1)), name="pool1_pad")(x)
        x = MaxPooling2D(3, strides=2, name="pool1_pool")(x)
        for stage, (filters, count) in enumerate(zip(_FILTERS, self.blocks, strict=True), start=2):
            for number in range(1, count + 1):
                block = _Block(f"conv{stage}_block{number}", train, next(rates), names)
                strides = 2 if stage < 5 and number == count else 1
                x = block(x, filters, strides, project=number == 1)
        x = BatchNormalization(epsilon=_EPSILON, name="post_bn")(x, train)
        x = Activation(relu, name="post_relu")(x)
        return end(self, x, train, "avg_pool", "max_pool")


class _Block:
    """Normalisation and ReLU; 1x1, 3x3 and 1x1 convolution; added to the input."""

    def __init__(self, name: str, train: bool, rate: float, names: AutomaticNames):
        self.name, self.train, self.rate, self.names = name, train, rate, names

    def __call__(self, x: Array, filters: int, strides: int, project: bool) -> Array:
        """[N, H, W, C] -> [N, H', W', 4 filters], inside a compact module."""
        name, shortcut = self.name, x
        active = BatchNormalization(epsilon=_EPSILON, name=f"{name}_preact_bn")(x, self.train)
        active = Activation(relu, name=f"{name}_preact_relu")(active)
        if project:
            shortcut = Conv2D(4 * filters, 1, strides=strides, name=f"{name}_0_conv")(active)
        elif strides > 1:
            shortcut = MaxPooling2D(1, strides=strides, name=self.names("max_pooling2d"))(x)
        x = self.normalised(active, Conv2D(filters, 1, use_bias=False, name=f"{name}_1_conv"), 1)
        x = ZeroPadding2D(((1, 1), (1, 1)), name=f"{name}_2_pad")(x)
        conv = Conv2D(filters, 3, strides=strides, use_bias=False, name=f"{name}_2_conv")
        x = self.normalised(x, conv, 2)
        x = Conv2D(4 * filters, 1, name=f"{name}_3_conv")(x)
        if self.rate:
            x = StochasticDepth(self.rate, name=f"{name}_drop")(x, self.train)
        return Add(name=f"{name}_out")([shortcut, x])

    def normalised(self, x: Array, conv: Conv2D, number: int) -> Array:
        name = f"{self.name}_{number}"
        return normalised(x, conv, self.train, f"{name}_bn", _EPSILON, (relu, f"{name}_relu"))


@_registered(
    "resnet101_v2", 77.2, "6343647c601c52e1368623803854d971", "c0ed64b8031c3730f411d2eb4eea35b5"
)
class ResNet101V2(ResNet50V2):
    """ResNet101V2: ResNet50V2 with twenty-three blocks in its third stage."""

    blocks: ClassVar[tuple[int, ...]] = (3, 4, 23, 3)


@_registered(
    "resnet152_v2", 78.0, "a49b44d1979771252814e80f8ec446f9", "ed17cf2e0169df9d443503ef94b23b33"
)
class ResNet152V2(ResNet50V2):
    """ResNet152V2: ResNet50V2 with eight and thirty-six blocks in its second and third stage."""

    blocks: ClassVar[tuple[int, ...]] = (3, 8, 36, 3)
