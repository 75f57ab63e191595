"""MobileNetV2 (Sandler et al. 2018), with Keras' names: by Keras' arithmetic or by PyTorch's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flax import linen
from jax import Array
from jax.nn import relu6

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
from cnnjax.models.registry import Release, register
from cnnjax.models.torch_blocks import Part, timm_block, torchvision_block
from cnnjax.models.torch_names import TorchNames
from cnnjax.nn import (
    Add,
    Conv2D,
    Dense,
    DepthwiseConv2D,
    Dropout,
    GlobalAveragePooling2D,
    InputLayer,
    ZeroPadding2D,
)

# Times the channels that a block widens to, its filters, how many there are, stride of the first.
_STAGES = (
    (1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2),
    (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1),
)  # fmt: skip
_BLOCKS = tuple(
    (expansion, filters, strides if number == 0 else 1)
    for expansion, filters, count, strides in _STAGES
    for number in range(count)
)

ALPHAS = (0.35, 0.5, 0.75, 1.0, 1.3, 1.4)


def _release(arguments: Mapping[str, Any]) -> Release:
    stem = "mobilenet_v2/mobilenet_v2_weights_tf_dim_ordering_tf_kernels"
    files = f"{stem}_{float(arguments.get('alpha', 1.0))}_{{size}}"
    sizes = (96, 128, 160, 192, 224)
    return Release((f"{files}.h5", None), (f"{files}_no_top.h5", None), sizes)


def _parts(number: int) -> dict[str, Part]:
    kinds = ("expand", "depthwise", "project")[number == 0 :]
    return {kind: (f"{_prefix(number)}{kind}", f"{_prefix(number)}{kind}_BN") for kind in kinds}


def _torchvision(_arguments: Mapping[str, Any]) -> dict[str, str]:
    names = {"features.0.0": "Conv1", "features.0.1": "bn_Conv1", "classifier.1": "predictions"}
    for number in range(len(_BLOCKS)):
        theirs, parts = f"features.{number + 1}.conv", _parts(number)
        # Only the last one's two layers are no part of their own.
        (conv, norm), place = parts.pop("project"), len(parts)
        names |= torchvision_block(theirs, parts)
        names |= {f"{theirs}.{place}": conv, f"{theirs}.{place + 1}": norm}
    last = f"features.{len(_BLOCKS) + 1}"
    return names | {f"{last}.0": "Conv_1", f"{last}.1": "Conv_1_bn"}


def _timm(_arguments: Mapping[str, Any]) -> dict[str, str]:
    names = {"conv_stem": "Conv1", "bn1": "bn_Conv1", "classifier": "predictions"}
    counts = [count for _, _, count, _ in _STAGES]
    places = [f"blocks.{stage}.{i}" for stage, count in enumerate(counts) for i in range(count)]
    for number, theirs in enumerate(places):
        names |= timm_block(theirs, _parts(number))
    return names | {"conv_head": "Conv_1", "bn2": "Conv_1_bn"}


@register(
    "mobilenet_v2",
    (224, 224, 3),
    min_size=32,
    num_classes=1000,
    preprocessing="tf",
    cam_layer="out_relu",
    head=("predictions",),
    paper="Sandler et al. 2018, MobileNetV2: inverted residuals and linear bottlenecks",
    year=2018,
    release=_release,
    choices=(("alpha", ALPHAS),),
    published={"keras": 71.3, "torchvision": 72.154},
    foreign=(
        TorchNames("torchvision", _torchvision, {"origin": "torch"}, crop=224 / 232),
        TorchNames("timm", _timm, {"origin": "torch"}, model="mobilenetv2_100"),
    ),
)
class MobileNetV2(Backbone):
    """MobileNetV2: seventeen inverted residual blocks with ReLU6 and linear bottlenecks.

    Kernels start glorot uniform, as in Keras.

    Args:
        num_classes, include_top, pooling, classifier, classifier_dropout: as in `Backbone`.
        alpha: width: 0.35, 0.5, 0.75, 1, 1.3 or 1.4.
        dropout: before the published head's dense layer, in [0, 1); Keras has none, torchvision
            0.2.
        origin: "keras": of maps of an even size a stride pads the bottom and right only, epsilon is
            1e-3 and the momentum of statistics 0.999; or "torch": all sides are padded alike, 1e-5
            and 0.9. PyTorch's weights take preprocessing="torch".
    """

    alpha: float = 1.0
    dropout: float = 0.0
    origin: str = "keras"

    @linen.compact
    def __call__(self, inputs: Array, train: bool = False) -> Array:
        """[N, H, W, C] -> [N, num_classes]."""
        layers = _Layers(is_torch(self.origin), train)
        x = InputLayer(name="input_layer")(inputs)
        padding = stride_padding(x, 3, torch=True) if layers.torch else "same"
        first = divisible(32 * self.alpha)
        conv = Conv2D(first, 3, strides=2, padding=padding, use_bias=False, name="Conv1")
        x = layers.norm(x, conv, "bn_Conv1", "Conv1_relu")
        for number, (expansion, filters, strides) in enumerate(_BLOCKS):
            x = layers.block(x, divisible(int(filters * self.alpha)), expansion, strides, number)
        conv = Conv2D(divisible(1280 * max(1.0, self.alpha)), 1, use_bias=False, name="Conv_1")
        x = layers.norm(x, conv, "Conv_1_bn", "out_relu")
        if not self.include_top:
            return end(self, x, train)
        x = GlobalAveragePooling2D(name="global_average_pooling2d")(x)
        if self.dropout:
            x = Dropout(self.dropout, name="dropout")(x, train)
        return Dense(self.num_classes, name="predictions")(x)


class _Layers:
    """The blocks, inside a compact module."""

    def __init__(self, torch: bool, train: bool):
        self.torch, self.train = torch, train

    def norm(self, x: Array, conv: linen.Module, name: str, activation: str = "") -> Array:
        """A convolution, its normalisation and, if named, ReLU6."""
        epsilon, momentum = (TORCH_EPSILON, TORCH_MOMENTUM) if self.torch else (1e-3, 0.999)
        function = (relu6, activation) if activation else None
        return normalised(x, conv, self.train, name, epsilon, function, momentum)

    def block(self, x: Array, filters: int, expansion: int, strides: int, number: int) -> Array:
        """1x1 to more channels, depthwise 3x3, 1x1 to few; added to the input where that fits."""
        name, shortcut = _prefix(number), x
        if expansion > 1:
            wide = expansion * x.shape[-1]
            conv = Conv2D(wide, 1, padding="same", use_bias=False, name=f"{name}expand")
            x = self.norm(x, conv, f"{name}expand_BN", f"{name}expand_relu")
        if strides == 2:
            x = ZeroPadding2D(stride_padding(x, 3, self.torch), name=f"{name}pad")(x)
        depthwise = DepthwiseConv2D(
            3,
            strides=strides,
            padding="valid" if strides == 2 else "same",
            use_bias=False,
            name=f"{name}depthwise",
        )
        x = self.norm(x, depthwise, f"{name}depthwise_BN", f"{name}depthwise_relu")
        conv = Conv2D(filters, 1, padding="same", use_bias=False, name=f"{name}project")
        x = self.norm(x, conv, f"{name}project_BN")
        if strides == 1 and shortcut.shape[-1] == filters:
            return Add(name=f"{name}add")([shortcut, x])
        return x


def _prefix(number: int) -> str:
    """What the names of a block's layers begin with."""
    return f"block_{number}_" if number else "expanded_conv_"
