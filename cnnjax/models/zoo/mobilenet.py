"""MobileNet (Howard et al. 2017), with Keras' names: by Keras' arithmetic or by PyTorch's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flax import linen
from jax import Array
from jax.nn import identity, relu6

from cnnjax.models.backbone import (
    TORCH_EPSILON,
    TORCH_MOMENTUM,
    Backbone,
    end,
    is_torch,
    normalised,
)
from cnnjax.models.registry import Release, register
from cnnjax.models.torch_blocks import timm_block
from cnnjax.models.torch_names import TorchNames
from cnnjax.nn import (
    Activation,
    Conv2D,
    DepthwiseConv2D,
    Dropout,
    GlobalAveragePooling2D,
    InputLayer,
    Reshape,
    ZeroPadding2D,
)

# Filters and stride of the thirteen depthwise separable blocks.
_BLOCKS = (
    (64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2),
    *((512, 1),) * 5, (1024, 2), (1024, 1),
)  # fmt: skip

ALPHAS = (0.25, 0.5, 0.75, 1.0)


def _timm(_arguments: Mapping[str, Any]) -> dict[str, str]:
    names = {"conv_stem": "conv1", "bn1": "conv1_bn", "classifier": "conv_preds"}
    # A stage begins where a stride is, and the first one with the first block.
    stage, block = 0, -1
    for number, (_, strides) in enumerate(_BLOCKS, start=1):
        stage, block = (stage + 1, 0) if strides == 2 else (stage, block + 1)
        kinds = (f"conv_dw_{number}", f"conv_pw_{number}")
        parts = {kind: (kind, f"{kind}_bn") for kind in kinds}
        names |= timm_block(f"blocks.{stage}.{block}", parts)
    return names


@register(
    "mobilenet",
    (224, 224, 3),
    min_size=32,
    num_classes=1000,
    preprocessing="tf",
    cam_layer="conv_pw_13_relu",
    head=("conv_preds",),
    paper="Howard et al. 2017, MobileNets: efficient convolutional neural networks",
    release=Release(
        top=("mobilenet/mobilenet_{alpha}_{size}_tf.h5", None),
        without_top=("mobilenet/mobilenet_{alpha}_{size}_tf_no_top.h5", None),
        sizes=(128, 160, 192, 224),
    ),
    choices=(("alpha", ALPHAS),),
    year=2017,
    published={"keras": 70.4},
    foreign=(TorchNames("timm", _timm, {"origin": "torch"}, "tf", model="mobilenetv1_100"),),
)
class MobileNet(Backbone):
    """MobileNet: thirteen depthwise separable blocks with ReLU6.

    Args:
        num_classes, include_top, pooling, classifier, classifier_dropout: as in `Backbone`.
        alpha: width: 0.25, 0.5, 0.75 or 1.
        dropout: of the published head, in [0, 1).
        origin: "keras": a stride pads the bottom and right only, epsilon is 1e-3 and the momentum
            of statistics 0.99; or "torch": all sides are padded alike, 1e-5 and 0.9.
    """

    alpha: float = 1.0
    dropout: float = 1e-3
    origin: str = "keras"

    @linen.compact
    def __call__(self, inputs: Array, train: bool = False) -> Array:
        """[N, H, W, C] -> [N, num_classes]."""
        if self.alpha not in ALPHAS:
            raise ValueError(
                f"alpha must be one of {', '.join(map(str, ALPHAS))}, got {self.alpha!r}"
            )
        torch = is_torch(self.origin)
        x = InputLayer(name="input_layer")(inputs)
        padding = ((1, 1), (1, 1)) if torch else "same"
        first = int(32 * self.alpha)
        conv = Conv2D(first, 3, strides=2, padding=padding, use_bias=False, name="conv1")
        x = _active(x, conv, torch, train)
        for number, (filters, strides) in enumerate(_BLOCKS, start=1):
            x = _block(x, int(filters * self.alpha), strides, number, torch, train)
        if not self.include_top:
            return end(self, x, train)
        x = GlobalAveragePooling2D(keepdims=True, name="global_average_pooling2d")(x)
        x = Dropout(self.dropout, name="dropout")(x, train)
        x = Conv2D(self.num_classes, 1, padding="same", name="conv_preds")(x)
        x = Reshape((self.num_classes,), name="reshape_2")(x)
        return Activation(identity, name="predictions")(x)


def _active(x: Array, conv: linen.Module, torch: bool, train: bool) -> Array:
    """A convolution with norm and ReLU6."""
    epsilon, momentum = (TORCH_EPSILON, TORCH_MOMENTUM) if torch else (1e-3, 0.99)
    activation = (relu6, f"{conv.name}_relu")
    return normalised(x, conv, train, f"{conv.name}_bn", epsilon, activation, momentum)


def _block(x: Array, filters: int, strides: int, number: int, torch: bool, train: bool) -> Array:
    """Depthwise 3x3, pointwise 1x1, each with norm and ReLU6."""
    padding = "same"
    if strides == 2:
        before = int(torch)
        x = ZeroPadding2D(((before, 1), (before, 1)), name=f"conv_pad_{number}")(x)
        padding = "valid"
    depthwise = DepthwiseConv2D(
        3, strides=strides, padding=padding, use_bias=False, name=f"conv_dw_{number}"
    )
    x = _active(x, depthwise, torch, train)
    pointwise = Conv2D(filters, 1, padding="same", use_bias=False, name=f"conv_pw_{number}")
    return _active(x, pointwise, torch, train)
