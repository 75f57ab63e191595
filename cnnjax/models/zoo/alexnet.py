"""AlexNet (Krizhevsky et al. 2012), as torchvision has it."""

from __future__ import annotations

from typing import ClassVar

from flax import linen
from jax import Array
from jax.nn import relu

from cnnjax.models.backbone import Backbone, end
from cnnjax.models.registry import Release, register
from cnnjax.models.torch_names import TorchNames
from cnnjax.nn import (
    Activation,
    AdaptiveAveragePooling2D,
    Conv2D,
    Dense,
    Dropout,
    Flatten,
    InputLayer,
    MaxPooling2D,
    torch_uniform,
)

# Filters, size of the kernel, stride, padding, and whether pooling follows.
_CONVOLUTIONS = (
    (64, 11, 4, 2, True), (192, 5, 1, 2, True), (384, 3, 1, 1, False), (256, 3, 1, 1, False),
    (256, 3, 1, 1, True),
)  # fmt: skip

_NAMES = (
    *((f"features.{place}", f"conv{n}") for n, place in enumerate((0, 3, 6, 8, 10), start=1)),
    ("classifier.1", "fc1"),
    ("classifier.4", "fc2"),
    ("classifier.6", "predictions"),
)


@register(
    "alexnet",
    (224, 224, 3),
    min_size=63,
    num_classes=1000,
    preprocessing="torch",
    cam_layer="relu5",
    head=("fc1", "fc2", "predictions"),
    paper="Krizhevsky 2014, One weird trick for parallelizing convolutional neural networks",
    year=2014,
    published={"torchvision": 56.522},
    release=Release.of_torchvision("alexnet-owt-7be5be79"),
    foreign=(TorchNames("torchvision", _NAMES),),
)
class AlexNet(Backbone):
    """AlexNet: five convolutions and three dense layers, the variant for one device.

    Kernels start as in PyTorch (`nn.torch_uniform`), biases as zeros.

    Args:
        num_classes, include_top, pooling, classifier, classifier_dropout: as in `Backbone`.
        dropout: of the published head, before both hidden layers, in [0, 1).
    """

    dropout: float = 0.5

    top_pooling: ClassVar[str | None] = None

    @linen.compact
    def __call__(self, inputs: Array, train: bool = False) -> Array:
        """[N, H, W, C] -> [N, num_classes]."""
        x = InputLayer(name="input_layer")(inputs)
        for number, (filters, size, strides, pad, pooled) in enumerate(_CONVOLUTIONS, start=1):
            x = Conv2D(
                filters,
                size,
                strides=strides,
                padding=((pad, pad), (pad, pad)),
                kernel_initializer=torch_uniform,
                name=f"conv{number}",
            )(x)
            x = Activation(relu, name=f"relu{number}")(x)
            if pooled:
                x = MaxPooling2D(3, strides=2, name=f"pool{number}")(x)
        if not self.include_top:
            return end(self, x, train)
        x = AdaptiveAveragePooling2D(6, name="avg_pool")(x)
        x = Flatten(name="flatten")(x)
        for number in (1, 2):
            x = Dropout(self.dropout, name=f"dropout{number}")(x, train)
            x = Dense(4096, kernel_initializer=torch_uniform, name=f"fc{number}")(x)
            x = Activation(relu, name=f"fc{number}_relu")(x)
        return Dense(self.num_classes, kernel_initializer=torch_uniform, name="predictions")(x)
