"""ConvNeXt (Liu et al. 2022), with Keras' names; Keras' arithmetic is PyTorch's here."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import accumulate
from typing import Any, ClassVar

import jax
from flax import linen
from jax import Array

from cnnjax.models.backbone import Backbone, end
from cnnjax.models.registry import Release, register
from cnnjax.models.torch_names import TorchNames
from cnnjax.nn import (
    Activation,
    Add,
    Conv2D,
    Dense,
    GlobalAveragePooling2D,
    InputLayer,
    LayerNormalization,
    LayerScale,
    StochasticDepth,
)

_EPSILON = 1e-6

# Keras' automatic name of the last one without the published head.
_NORM = "layer_normalization"


def gelu(x: Array) -> Array:
    """x times the normal distribution's share below it, exactly (Hendrycks & Gimpel 2016)."""
    return jax.nn.gelu(x, approximate=False)


class ConvNeXt(Backbone):
    """Four stages of blocks: depthwise 7x7, norm, to four times the channels, GELU and back.

    Kernels start glorot uniform, as in Keras (the paper's are truncated normal with deviation
    0.02).

    Args:
        num_classes, include_top, pooling, classifier, classifier_dropout: as in `Backbone`; what is
            pooled is normalised, as in Keras.
        stochastic_depth: rate at which the last block leaves out its branch for an example in
            training, in [0, 1), less in those before; 0 in Keras, torchvision trained with 0.1 to
            0.5.
        layer_scale: initial factor of a branch's channels.
    """

    stochastic_depth: float = 0.0
    layer_scale: float = 1e-6

    title: ClassVar[str]
    depths: ClassVar[tuple[int, ...]] = (3, 3, 27, 3)
    filters: ClassVar[tuple[int, ...]] = (96, 192, 384, 768)

    @property
    def names_without_top(self) -> dict[str, str]:
        """The norm of what is pooled has another name without the published head."""
        return {f"{self.title}_head_layernorm": _NORM}

    @linen.compact
    def __call__(self, inputs: Array, train: bool = False) -> Array:
        """[N, H, W, C] -> [N, num_classes]."""
        name, before = self.title, [0, *accumulate(self.depths)]
        x = InputLayer(name="input_layer")(inputs)
        for stage, (depth, filters) in enumerate(zip(self.depths, self.filters, strict=True)):
            if stage == 0:
                x = Conv2D(filters, 4, strides=4, name=f"{name}_stem_conv")(x)
                x = LayerNormalization(_EPSILON, name=f"{name}_stem_layernorm")(x)
            else:
                down = f"{name}_downsampling"
                x = LayerNormalization(_EPSILON, name=f"{down}_layernorm_{stage - 1}")(x)
                x = Conv2D(filters, 2, strides=2, name=f"{down}_conv_{stage - 1}")(x)
            for block in range(depth):
                share = (before[stage] + block) / (before[-1] - 1)
                x = self.block(x, f"{name}_stage_{stage}_block_{block}", share, train)
        if not self.include_top:
            norm = LayerNormalization(_EPSILON, name=_NORM)
            return end(self, x, train, norm=norm)
        x = GlobalAveragePooling2D(name=f"{name}_head_gap")(x)
        x = LayerNormalization(_EPSILON, name=f"{name}_head_layernorm")(x)
        return Dense(self.num_classes, name=f"{name}_head_dense")(x)

    @linen.nowrap
    def block(self, x: Array, name: str, share: float, train: bool) -> Array:
        """One block, inside `__call__`; share of the rate of stochastic depth, in [0, 1]."""
        shortcut, filters = x, x.shape[-1]
        conv = Conv2D(filters, 7, padding="same", groups=filters, name=f"{name}_depthwise_conv")
        x = LayerNormalization(_EPSILON, name=f"{name}_layernorm")(conv(x))
        x = Dense(4 * filters, name=f"{name}_pointwise_conv_1")(x)
        x = Activation(gelu, name=f"{name}_gelu")(x)
        x = Dense(filters, name=f"{name}_pointwise_conv_2")(x)
        x = LayerScale(self.layer_scale, name=f"{name}_layer_scale")(x)
        if rate := self.stochastic_depth * share:
            x = StochasticDepth(rate, name=f"{name}_stochastic_depth")(x, train)
        return Add(name=f"{name}_add")([shortcut, x])


# Of a block's layers: torchvision's names, timm's and ours.
_BLOCK = (
    ("block.0", "conv_dw", "depthwise_conv"),
    ("block.2", "norm", "layernorm"),
    ("block.3", "mlp.fc1", "pointwise_conv_1"),
    ("block.5", "mlp.fc2", "pointwise_conv_2"),
)


def _layers(net: type[ConvNeXt], include_top: bool) -> Iterator[tuple[str, str, str]]:
    """torchvision's name of each layer, timm's and ours."""
    name = net.title
    yield "features.0.0", "stem.0", f"{name}_stem_conv"
    yield "features.0.1", "stem.1", f"{name}_stem_layernorm"
    for stage, depth in enumerate(net.depths):
        if stage:
            down, first, second = f"{name}_downsampling", f"features.{2 * stage}", f"stages.{stage}"
            yield f"{first}.0", f"{second}.downsample.0", f"{down}_layernorm_{stage - 1}"
            yield f"{first}.1", f"{second}.downsample.1", f"{down}_conv_{stage - 1}"
        for block in range(depth):
            first, second = f"features.{2 * stage + 1}.{block}", f"stages.{stage}.blocks.{block}"
            ours = f"{name}_stage_{stage}_block_{block}"
            yield first, second, f"{ours}_layer_scale"
            for part, other, layer in _BLOCK:
                yield f"{first}.{part}", f"{second}.{other}", f"{ours}_{layer}"
    norm = f"{name}_head_layernorm" if include_top else _NORM
    yield "classifier.0", "head.norm", norm
    yield "classifier.2", "head.fc", f"{name}_head_dense"


def _names(net: type[ConvNeXt], place: int) -> Callable[[Mapping[str, Any]], dict[str, str]]:
    """The names of torchvision (0) or timm (1), by the module's arguments."""
    return lambda arguments: {
        each[place]: each[2] for each in _layers(net, arguments.get("include_top", True))
    }


def _registered(
    keras: float, torchvision: float, resized: int, top: str, without_top: str
) -> Callable[[type[ConvNeXt]], type[ConvNeXt]]:
    """Register one of the nets: published accuracies, torchvision's size, Keras' files' SHA-256."""

    def register_net(net: type[ConvNeXt]) -> type[ConvNeXt]:
        files = f"convnext/{net.title}"
        return register(
            net.title,
            (224, 224, 3),
            min_size=32,
            num_classes=1000,
            preprocessing="torch",
            cam_layer=f"{net.title}_stage_3_block_2_add",
            head=(f"{net.title}_head_dense",),
            paper="Liu et al. 2022, A ConvNet for the 2020s",
            year=2022,
            published={"keras": keras, "torchvision": torchvision},
            release=Release((f"{files}.h5", top), (f"{files}_notop.h5", without_top)),
            foreign=(
                TorchNames("torchvision", _names(net, 0), crop=224 / resized),
                TorchNames("timm", _names(net, 1)),
            ),
        )(net)

    return register_net


@_registered(
    81.3,
    82.52,
    236,
    "8ae6e78ce2933352b1ef4008e6dd2f17bc40771563877d156bc6426c7cf503ff",
    "d547c096cabd03329d7be5562c5e14798aa39ed24b474157cef5e85ab9e49ef1",
)
class ConvNeXtTiny(ConvNeXt):
    """ConvNeXt-T: eighteen blocks of 96 to 768 channels."""

    title: ClassVar[str] = "convnext_tiny"
    depths: ClassVar[tuple[int, ...]] = (3, 3, 9, 3)


@_registered(
    82.3,
    83.616,
    230,
    "ce1277d8f1ee5a0ef0e171469089c18f5233860ceaf9b168049cb9263fd7483c",
    "6fc8009faa2f00c1c1dfce59feea9b0745eb260a7dd11bee65c8e20843da6eab",
)
class ConvNeXtSmall(ConvNeXt):
    """ConvNeXt-S: thirty-six blocks of 96 to 768 channels."""

    title: ClassVar[str] = "convnext_small"


@_registered(
    85.3,
    84.062,
    232,
    "52cbb006d3dadd03f6e095a8ca1aca47aecdd75acb4bc74bce1f5c695d0086e6",
    "40a20c5548a5e9202f69735ecc06c990e6b7c9d2de39f0361e27baeb24cb7c45",
)
class ConvNeXtBase(ConvNeXt):
    """ConvNeXt-B: thirty-six blocks of 128 to 1024 channels."""

    title: ClassVar[str] = "convnext_base"
    filters: ClassVar[tuple[int, ...]] = (128, 256, 512, 1024)


@_registered(
    86.3,
    84.414,
    232,
    "070c5ed9ed289581e477741d3b34beffa920db8cf590899d6d2c67fba2a198a6",
    "96f02b6f0753d4f543261bc9d09bed650f24dd6bc02ddde3066135b63d23a1cd",
)
class ConvNeXtLarge(ConvNeXt):
    """ConvNeXt-L: thirty-six blocks of 192 to 1536 channels."""

    title: ClassVar[str] = "convnext_large"
    filters: ClassVar[tuple[int, ...]] = (192, 384, 768, 1536)
