"""MobileNetV3 (Howard et al. 2019), with Keras' names: by Keras' arithmetic or by PyTorch's."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import groupby
from typing import Any, ClassVar

from flax import linen
from jax import Array
from jax.nn import hard_sigmoid, hard_swish, identity, relu

from cnnjax.models.backbone import (
    AutomaticNames,
    Backbone,
    divisible,
    end,
    is_torch,
    stride_padding,
)
from cnnjax.models.registry import Release, register
from cnnjax.models.torch_blocks import GATE, Part, timm_block, torchvision_block
from cnnjax.models.torch_names import TorchNames
from cnnjax.nn import (
    Activation,
    Add,
    BatchNormalization,
    Conv2D,
    DepthwiseConv2D,
    Dropout,
    Flatten,
    GlobalAveragePooling2D,
    InputLayer,
    Multiply,
    ZeroPadding2D,
)

# Times the input's channels, filters, size and stride of the kernel, whether it has a gate, and
# hard swish instead of ReLU.
_Block = tuple[float, int, int, int, bool, bool]
_SMALL: tuple[_Block, ...] = (
    (1, 16, 3, 2, True, False), (72 / 16, 24, 3, 2, False, False),
    (88 / 24, 24, 3, 1, False, False),
    (4, 40, 5, 2, True, True), *((6, 40, 5, 1, True, True),) * 2,
    *((3, 48, 5, 1, True, True),) * 2,
    (6, 96, 5, 2, True, True), *((6, 96, 5, 1, True, True),) * 2,
)  # fmt: skip
_LARGE: tuple[_Block, ...] = (
    (1, 16, 3, 1, False, False), (4, 24, 3, 2, False, False), (3, 24, 3, 1, False, False),
    (3, 40, 5, 2, True, False), *((3, 40, 5, 1, True, False),) * 2,
    (6, 80, 3, 2, False, True), (2.5, 80, 3, 1, False, True),
    *((2.3, 80, 3, 1, False, True),) * 2,
    *((6, 112, 3, 1, True, True),) * 2,
    (6, 160, 5, 2, True, True), *((6, 160, 5, 1, True, True),) * 2,
)  # fmt: skip

ALPHAS = (0.75, 1.0)


def _parts(number: int, gated: bool) -> dict[str, Part]:
    ours = _prefix(number)
    kinds = ("expand", "depthwise", GATE, "project")[number == 0 :]
    parts = {kind: (f"{ours}{kind}", f"{ours}{kind}_bn") for kind in kinds if kind != GATE or gated}
    gate = (f"{ours}squeeze_excite_conv", f"{ours}squeeze_excite_conv_1")
    return {**parts, GATE: gate} if gated else parts


def _torchvision(blocks: tuple[_Block, ...]) -> dict[str, str]:
    names = {"features.0.0": "conv", "features.0.1": "conv_bn"}
    for number, block in enumerate(blocks):
        names |= torchvision_block(f"features.{number + 1}.block", _parts(number, block[4]))
    last = f"features.{len(blocks) + 1}"
    names |= {f"{last}.0": "conv_1", f"{last}.1": "conv_1_bn"}
    return names | {"classifier.0": "conv_2", "classifier.3": "logits"}


def _timm(blocks: tuple[_Block, ...]) -> dict[str, str]:
    names = {"conv_stem": "conv", "bn1": "conv_bn"}
    stages = [list(some) for _, some in groupby(enumerate(blocks), lambda one: one[1][1])]
    for stage, members in enumerate(stages):
        for place, (number, block) in enumerate(members):
            names |= timm_block(f"blocks.{stage}.{place}", _parts(number, block[4]))
    names |= timm_block(f"blocks.{len(stages)}.0", {"": ("conv_1", "conv_1_bn")})
    return names | {"conv_head": "conv_2", "classifier": "logits"}


def _defaults(kind: str, blocks: tuple[_Block, ...], **digests: tuple[str, str]) -> Any:
    """What is registered of one of the two nets; digests of its files by their width."""

    def release(arguments: Mapping[str, Any]) -> Release:
        alpha = float(arguments.get("alpha", 1.0))
        stem = f"mobilenet_v3/weights_mobilenet_v3_{kind}_224_{alpha}_float"
        top, without_top = digests["whole" if alpha == 1 else "narrow"]
        return Release((f"{stem}.h5", top), (f"{stem}_no_top_v2.h5", without_top))

    origin, timm = {"origin": "torch"}, {"origin": "torch", "epsilon": 1e-5}
    return {
        "min_size": 32,
        "num_classes": 1000,
        "preprocessing": "tf",
        "head": ("conv_2", "logits"),
        "paper": "Howard et al. 2019, Searching for MobileNetV3",
        "year": 2019,
        "release": release,
        "choices": (("alpha", ALPHAS),),
        "foreign": (
            TorchNames("torchvision", lambda _: _torchvision(blocks), origin),
            TorchNames("timm", lambda _: _timm(blocks), timm, model=f"mobilenetv3_{kind}_100"),
            TorchNames(
                "timm",
                lambda _: _timm(blocks),
                {"origin": "keras"},
                "tf",
                model=f"tf_mobilenetv3_{kind}_100",
            ),
        ),
    }


class _MobileNetV3(Backbone):
    """Inverted residual blocks, some with a gate, ReLU in the first and hard swish in the others.

    Kernels start glorot uniform, as in Keras.

    Args:
        num_classes, include_top, pooling, classifier, classifier_dropout: as in `Backbone`.
        alpha: width: 0.75 or 1; 1 by PyTorch's arithmetic.
        dropout: of the published head, in [0, 1).
        origin: "keras": of maps of an even size a stride pads the bottom and right only, the
            momentum of statistics is 0.999; or "torch": all sides are padded alike, and 0.99.
            PyTorch's weights take preprocessing="torch".
        epsilon: of the normalisations, > 0; timm's nets have 1e-5.
    """

    alpha: float = 1.0
    dropout: float = 0.2
    origin: str = "keras"
    epsilon: float = 1e-3

    blocks: ClassVar[tuple[_Block, ...]]
    last_filters: ClassVar[int]

    @linen.compact
    def __call__(self, inputs: Array, train: bool = False) -> Array:
        """[N, H, W, C] -> [N, num_classes]."""
        layers = _Layers(is_torch(self.origin), self.epsilon, train)
        if layers.torch and self.alpha != 1:
            raise ValueError(
                f"alpha={self.alpha} rounds other widths in PyTorch's nets: use 1 with "
                "origin='torch'"
            )
        x = InputLayer(name="input_layer")(inputs)
        padding = stride_padding(x, 3, torch=True) if layers.torch else "same"
        conv = Conv2D(16, 3, strides=2, padding=padding, use_bias=False, name="conv")
        x = layers.active(layers.norm(x, conv), swish=True)
        for number, block in enumerate(self.blocks):
            x = layers.block(x, block, self.alpha, number)
        wide = divisible(6 * x.shape[-1])
        conv = Conv2D(wide, 1, padding="same", use_bias=False, name="conv_1")
        x = layers.active(layers.norm(x, conv), swish=True)
        if not self.include_top:
            return end(self, x, train, "avg_pool", "max_pool")
        x = GlobalAveragePooling2D(keepdims=True, name="global_average_pooling2d")(x)
        x = Conv2D(self.last_filters, 1, padding="same", name="conv_2")(x)
        x = layers.active(x, swish=True)
        x = Dropout(self.dropout, name="dropout")(x, train)
        x = Conv2D(self.num_classes, 1, padding="same", name="logits")(x)
        x = Flatten(name="flatten")(x)
        return Activation(identity, name="predictions")(x)


class _Layers:
    """The blocks, inside a compact module."""

    def __init__(self, torch: bool, epsilon: float, train: bool):
        self.torch, self.epsilon, self.train = torch, epsilon, train
        self.names = AutomaticNames()

    def norm(self, x: Array, conv: linen.Module) -> Array:
        """A convolution and its normalisation."""
        momentum = 0.99 if self.torch else 0.999
        norm = BatchNormalization(momentum, self.epsilon, name=f"{conv.name}_bn")
        return norm(conv(x), self.train)

    def active(self, x: Array, swish: bool) -> Array:
        """Hard swish or ReLU, under Keras' automatic name."""
        function, kind = (hard_swish, "activation") if swish else (relu, "re_lu")
        return Activation(function, name=self.names(kind))(x)

    def block(self, x: Array, block: _Block, alpha: float, number: int) -> Array:
        """1x1 to more channels, depthwise, gate, 1x1 to few; added to the input where that fits."""
        expansion, filters, size, strides, gated, swish = block
        name, shortcut, filters = _prefix(number), x, divisible(filters * alpha)
        wide = divisible(x.shape[-1] * expansion)
        if number:
            conv = Conv2D(wide, 1, padding="same", use_bias=False, name=f"{name}expand")
            x = self.active(self.norm(x, conv), swish)
        if strides == 2:
            pads = stride_padding(x, size, self.torch)
            x = ZeroPadding2D(pads, name=f"{name}depthwise_pad")(x)
        depthwise = DepthwiseConv2D(
            size,
            strides=strides,
            padding="valid" if strides == 2 else "same",
            use_bias=False,
            name=f"{name}depthwise",
        )
        x = self.active(self.norm(x, depthwise), swish)
        if gated:
            x = self.gated(x, wide, f"{name}squeeze_excite")
        conv = Conv2D(filters, 1, padding="same", use_bias=False, name=f"{name}project")
        x = self.norm(x, conv)
        if strides == 1 and shortcut.shape[-1] == filters:
            return Add(name=f"{name}add")([shortcut, x])
        return x

    def gated(self, x: Array, channels: int, name: str) -> Array:
        """Squeeze and excitation (Hu et al. 2018): a factor for each map from the means of all."""
        gate = GlobalAveragePooling2D(keepdims=True, name=f"{name}_avg_pool")(x)
        gate = Conv2D(divisible(channels / 4), 1, padding="same", name=f"{name}_conv")(gate)
        gate = Activation(relu, name=f"{name}_relu")(gate)
        gate = Conv2D(channels, 1, padding="same", name=f"{name}_conv_1")(gate)
        # Keras makes it of a ReLU, which takes a number, and of additions without names.
        self.names("re_lu")
        gate = Activation(hard_sigmoid, name=f"{name}_gate")(gate)
        return Multiply(name=f"{name}_mul")([x, gate])


def _prefix(number: int) -> str:
    """What the names of a block's layers begin with."""
    return f"expanded_conv_{number}_" if number else "expanded_conv_"


@register(
    "mobilenet_v3_small",
    (224, 224, 3),
    cam_layer="activation_17",
    published={"keras": 68.1, "torchvision": 67.668},
    **_defaults(
        "small",
        _SMALL,
        narrow=("cb65d4e5be93758266aa0a7f2c6708b7", "ebdb5cc8e0b497cd13a7c275d475c819"),
        whole=("8768d4c2e7dee89b9d02b2d03d65d862", "d3e8ec802a04aa4fc771ee12a9a9b836"),
    ),
)
class MobileNetV3Small(_MobileNetV3):
    """MobileNetV3 small: eleven inverted residual blocks, nine of them with a gate."""

    blocks: ClassVar[tuple[_Block, ...]] = _SMALL
    last_filters: ClassVar[int] = 1024


@register(
    "mobilenet_v3_large",
    (224, 224, 3),
    cam_layer="activation_19",
    published={"keras": 75.6, "torchvision": 75.274},
    **_defaults(
        "large",
        _LARGE,
        narrow=("765b44a33ad4005b3ac83185abf1d0eb", "40af19a13ebea4e2ee0c676887f69a2e"),
        whole=("59e551e166be033d707958cf9e29a6a7", "07fb09a5933dd0c8eaafa16978110389"),
    ),
)
class MobileNetV3Large(_MobileNetV3):
    """MobileNetV3 large: fifteen inverted residual blocks, eight of them with a gate."""

    blocks: ClassVar[tuple[_Block, ...]] = _LARGE
    last_filters: ClassVar[int] = 1280
