"""ResNet50 (He et al. 2016), with Keras' names: the stride is in the first 1x1 convolution."""

from __future__ import annotations

from flax import linen
from jax import Array
from jax.nn import relu

from cnnjax.models.backbone import Backbone, end, normalised
from cnnjax.models.registry import Release, register
from cnnjax.nn import Activation, Add, Conv2D, InputLayer, MaxPooling2D, ZeroPadding2D

_EPSILON = 1.001e-5
_STAGES = ((64, 3), (128, 4), (256, 6), (512, 3))


@register(
    "resnet50",
    (224, 224, 3),
    min_size=32,
    num_classes=1000,
    preprocessing="caffe",
    cam_layer="conv5_block3_out",
    head=("predictions",),
    paper="He et al. 2016, Deep residual learning for image recognition",
    release=Release.of_keras(
        "resnet", "2cb95161c43110f7111970584f804107", "4d473c1dd8becc155b73f8504c6f6626"
    ),
)
class ResNet50(Backbone):
    """ResNet50: four stages of bottleneck blocks, ReLU after the addition.

    Args: those of `Backbone`.
    """

    @linen.compact
    def __call__(self, inputs: Array, train: bool = False) -> Array:
        """[N, H, W, C] -> [N, num_classes]."""
        x = InputLayer(name="input_layer")(inputs)
        x = ZeroPadding2D(((3, 3), (3, 3)), name="conv1_pad")(x)
        conv = Conv2D(64, 7, strides=2, name="conv1_conv")
        x = normalised(x, conv, train, "conv1_bn", _EPSILON, (relu, "conv1_relu"))
        x = ZeroPadding2D(((1, 1), (1, 1)), name="pool1_pad")(x)
        x = MaxPooling2D(3, strides=2, name="pool1_pool")(x)
        for stage, (filters, blocks) in enumerate(_STAGES, start=2):
            for block in range(1, blocks + 1):
                strides = 2 if stage > 2 and block == 1 else 1
                x = _block(x, filters, strides, block == 1, train, f"conv{stage}_block{block}")
        return end(self, x, train, "avg_pool", "max_pool")


def _block(x: Array, filters: int, strides: int, project: bool, train: bool, name: str) -> Array:
    """1x1, 3x3 and 1x1 convolution, added to the input or to its projection."""
    shortcut = x
    if project:
        conv = Conv2D(4 * filters, 1, strides=strides, name=f"{name}_0_conv")
        shortcut = normalised(x, conv, train, f"{name}_0_bn", _EPSILON)
    conv = Conv2D(filters, 1, strides=strides, name=f"{name}_1_conv")
    x = normalised(x, conv, train, f"{name}_1_bn", _EPSILON, (relu, f"{name}_1_relu"))
    conv = Conv2D(filters, 3, padding="same", name=f"{name}_2_conv")
    x = normalised(x, conv, train, f"{name}_2_bn", _EPSILON, (relu, f"{name}_2_relu"))
    conv = Conv2D(4 * filters, 1, name=f"{name}_3_conv")
    x = normalised(x, conv, train, f"{name}_3_bn", _EPSILON)
    x = Add(name=f"{name}_add")([shortcut, x])
    return Activation(relu, name=f"{name}_out")(x)
