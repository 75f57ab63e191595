"""MobileNet (Howard et al. 2017), with Keras' names."""

from __future__ import annotations

from flax import linen
from jax import Array
from jax.nn import identity, relu6

from cnnjax.models.backbone import Backbone, end, normalised
from cnnjax.models.registry import Release, register
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
)
class MobileNet(Backbone):
    """MobileNet: thirteen depthwise separable blocks with ReLU6.

    Args:
        num_classes, include_top, pooling, classifier, classifier_dropout: as in `Backbone`.
        alpha: width: 0.25, 0.5, 0.75 or 1.
        dropout: of the published head, in [0, 1).
    """

    alpha: float = 1.0
    dropout: float = 1e-3

    @linen.compact
    def __call__(self, inputs: Array, train: bool = False) -> Array:
        """[N, H, W, C] -> [N, num_classes]."""
        if self.alpha not in ALPHAS:
            raise ValueError(
                f"alpha must be one of {', '.join(map(str, ALPHAS))}, got {self.alpha!r}"
            )
        x = InputLayer(name="input_layer")(inputs)
        conv = Conv2D(
            int(32 * self.alpha), 3, strides=2, padding="same", use_bias=False, name="conv1"
        )
        x = normalised(x, conv, train, "conv1_bn", activation=(relu6, "conv1_relu"))
        for number, (filters, strides) in enumerate(_BLOCKS, start=1):
            x = _block(x, int(filters * self.alpha), strides, number, train)
        if not self.include_top:
            return end(self, x, train)
        x = GlobalAveragePooling2D(keepdims=True, name="global_average_pooling2d")(x)
        x = Dropout(self.dropout, name="dropout")(x, train)
        x = Conv2D(self.num_classes, 1, padding="same", name="conv_preds")(x)
        x = Reshape((self.num_classes,), name="reshape_2")(x)
        return Activation(identity, name="predictions")(x)


def _block(x: Array, filters: int, strides: int, number: int, train: bool) -> Array:
    """Depthwise 3x3, pointwise 1x1, each with norm and ReLU6."""
    padding = "same"
    if strides == 2:
        x = ZeroPadding2D(((0, 1), (0, 1)), name=f"conv_pad_{number}")(x)
        padding = "valid"
    depthwise = DepthwiseConv2D(
        3, strides=strides, padding=padding, use_bias=False, name=f"conv_dw_{number}"
    )
    activation = (relu6, f"conv_dw_{number}_relu")
    x = normalised(x, depthwise, train, f"conv_dw_{number}_bn", activation=activation)
    pointwise = Conv2D(filters, 1, padding="same", use_bias=False, name=f"conv_pw_{number}")
    activation = (relu6, f"conv_pw_{number}_relu")
    return normalised(x, pointwise, train, f"conv_pw_{number}_bn", activation=activation)
