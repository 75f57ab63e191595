"""EfficientNet (Tan & Le 2019, 2021), with Keras' names: by Keras' arithmetic or by PyTorch's."""

from __future__ import annotations

import math
from typing import Any, ClassVar, NamedTuple

from flax import linen
from jax import Array
from jax.nn import sigmoid, silu

from cnnjax.models.backbone import (
    TORCH_EPSILON,
    TORCH_MOMENTUM,
    Backbone,
    divisible,
    end,
    is_torch,
    normalised,
    stride_padding,
)
from cnnjax.models.torch_blocks import GATE, Part
from cnnjax.nn import (
    Add,
    Conv2D,
    Dense,
    DepthwiseConv2D,
    Dropout,
    GlobalAveragePooling2D,
    InputLayer,
    Multiply,
    Reshape,
    StochasticDepth,
    ZeroPadding2D,
    he_truncated_fan_out,
    uniform_fan_out,
)


class Stage(NamedTuple):
    """Blocks alike: size and stride of the kernel, how many, filters, times the input's channels.

    A fused block has one convolution of all channels in place of the depthwise one, and no gate.
    """

    size: int
    strides: int
    repeats: int
    filters: int
    expansion: int
    fused: bool = False


V1 = (
    Stage(3, 1, 1, 16, 1),
    Stage(3, 2, 2, 24, 6),
    Stage(5, 2, 2, 40, 6),
    Stage(3, 2, 3, 80, 6),
    Stage(5, 1, 3, 112, 6),
    Stage(5, 2, 4, 192, 6),
    Stage(3, 1, 1, 320, 6),
)
V2_S = (
    Stage(3, 1, 2, 24, 1, fused=True),
    Stage(3, 2, 4, 48, 4, fused=True),
    Stage(3, 2, 4, 64, 4, fused=True),
    Stage(3, 2, 6, 128, 4),
    Stage(3, 1, 9, 160, 6),
    Stage(3, 2, 15, 256, 6),
)


def parts_of(name: str, stage: Stage, depthwise: str) -> dict[str, Part]:
    """Our names of a block's convolutions and normalisations, in their order."""
    project = {"project": (f"{name}project_conv", f"{name}project_bn")}
    expand = {"expand": (f"{name}expand_conv", f"{name}expand_bn")} if stage.expansion > 1 else {}
    if stage.fused:
        return expand | project
    middle = {"depthwise": (f"{name}{depthwise}", f"{name}bn")}
    return expand | middle | {GATE: (f"{name}se_reduce", f"{name}se_expand")} | project


class EfficientNet(Backbone):
    """Inverted residual blocks with gates and swish, scaled together in width and depth.

    Kernels start as in Keras: truncated normal with variance 2 / fan_out, those of the dense layer
    uniform in +-1 / sqrt(fan_out). Keras' own nets scale the pixels themselves; here that is the
    preprocessing, so that its files give equal outputs.

    Args:
        num_classes, include_top, pooling, classifier, classifier_dropout: as in `Backbone`.
        dropout: before the published head's dense layer, in [0, 1); None takes the published rate.
        stochastic_depth: rate at which the last block leaves out its branch for an example in
            training, in [0, 1), less in those before (Huang et al. 2016).
        origin: "keras": of maps of an even size a stride pads the bottom and right only, epsilon is
            1e-3; or "torch": all sides are padded alike, epsilon is torchvision's.
        epsilon: of the normalisations, > 0; None takes the origin's.
    """

    dropout: float | None = None
    stochastic_depth: float = 0.2
    origin: str = "keras"
    epsilon: float | None = None

    keras_rescaling: ClassVar[float | None] = 1 / 255
    width: ClassVar[float] = 1.0
    depth: ClassVar[float] = 1.0
    rate: ClassVar[float] = 0.2
    stages: ClassVar[tuple[Stage, ...]] = V1
    stem: ClassVar[int] = 32
    depthwise_name: ClassVar[str] = "dwconv"
    torch_epsilon: ClassVar[float] = TORCH_EPSILON
    torch_momentum: ClassVar[float] = TORCH_MOMENTUM

    @classmethod
    def blocks(cls) -> list[tuple[int, int, Stage]]:
        """(number of its stage from 1, its number there, what it is) of every block."""
        return [
            (number, block, stage if block == 0 else stage._replace(strides=1))
            for number, stage in enumerate(cls.stages, start=1)
            for block in range(math.ceil(cls.depth * stage.repeats))
        ]

    @linen.compact
    def __call__(self, inputs: Array, train: bool = False) -> Array:
        """[N, H, W, C] -> [N, num_classes]."""
        layers = _Layers(self, train)
        x = InputLayer(name="input_layer")(inputs)
        x = layers.conv(x, divisible(self.stem * self.width), 3, 2, "stem_conv", "stem_bn", "stem_")
        blocks = self.blocks()
        for number, (place, block, stage) in enumerate(blocks):
            filters, rate = divisible(stage.filters * self.width), number / len(blocks)
            layers.name = block_name(place, block)
            x = layers.block(x, stage, filters, self.stochastic_depth * rate)
        x = layers.conv(x, divisible(1280 * self.width), 1, 1, "top_conv", "top_bn", "top_")
        if not self.include_top:
            return end(self, x, train, "avg_pool", "max_pool")
        x = GlobalAveragePooling2D(name="avg_pool")(x)
        dropout = self.rate if self.dropout is None else self.dropout
        x = Dropout(dropout, name="top_dropout")(x, train)
        return Dense(self.num_classes, kernel_initializer=uniform_fan_out, name="predictions")(x)


class _Layers:
    """The blocks, inside a compact module; `name` is what a block's layers begin with."""

    def __init__(self, net: EfficientNet, train: bool):
        self.train, self.torch, self.second = train, is_torch(net.origin), net.stages is not V1
        self.epsilon = net.epsilon or (net.torch_epsilon if self.torch else 1e-3)
        self.momentum = net.torch_momentum if self.torch or self.second else 0.99
        self.name, self.depthwise = "", net.depthwise_name

    def conv(
        self, x: Array, filters: int, size: int, strides: int, conv: str, norm: str, act: str = ""
    ) -> Array:
        """A convolution, with 0 filters a depthwise one, its normalisation and, if named, swish."""
        settings: dict[str, Any] = {
            "strides": strides,
            "padding": "same",
            "use_bias": False,
            "kernel_initializer": he_truncated_fan_out,
            "name": conv,
        }
        if strides == 2 and self.second:
            settings["padding"] = stride_padding(x, size, True) if self.torch else "same"
        elif strides == 2:
            settings["padding"] = "valid"
            x = ZeroPadding2D(stride_padding(x, size, self.torch), name=f"{conv}_pad")(x)
        layer = Conv2D(filters, size, **settings) if filters else DepthwiseConv2D(size, **settings)
        function = (silu, f"{act}activation") if act else None
        return normalised(x, layer, self.train, norm, self.epsilon, function, self.momentum)

    def block(self, x: Array, stage: Stage, filters: int, rate: float) -> Array:
        """To more channels, depthwise, gate, to few; added to the input where that fits."""
        size, strides, _, _, expansion, fused = stage
        name, shortcut, channels = self.name, x, x.shape[-1]
        parts = parts_of(name, stage, self.depthwise)
        if expansion > 1:
            window = (size, strides) if fused else (1, 1)
            x = self.conv(x, channels * expansion, *window, *parts["expand"], f"{name}expand_")
        if not fused:
            x = self.conv(x, 0, size, strides, *parts["depthwise"], name)
            x = self.gated(x, max(1, channels // 4))
        if fused and expansion == 1:
            x = self.conv(x, filters, size, strides, *parts["project"], f"{name}project_")
        else:
            x = self.conv(x, filters, 1, 1, *parts["project"])
        if strides > 1 or channels != filters:
            return x
        if rate:
            x = StochasticDepth(rate, name=f"{name}drop")(x, self.train)
        return Add(name=f"{name}add")([x, shortcut])

    def gated(self, x: Array, few: int) -> Array:
        """Squeeze and excitation (Hu et al. 2018): a factor for each map from the means of all."""
        name, channels = f"{self.name}se_", x.shape[-1]
        settings: dict[str, Any] = {"kernel_initializer": he_truncated_fan_out, "padding": "same"}
        gate = GlobalAveragePooling2D(name=f"{name}squeeze")(x)
        gate = Reshape((1, 1, channels), name=f"{name}reshape")(gate)
        gate = Conv2D(few, 1, activation=silu, name=f"{name}reduce", **settings)(gate)
        gate = Conv2D(channels, 1, activation=sigmoid, name=f"{name}expand", **settings)(gate)
        return Multiply(name=f"{name}excite")([x, gate])


def block_name(stage: int, block: int) -> str:
    """What the names of a block's layers begin with."""
    return f"block{stage}{chr(ord('a') + block)}_"
