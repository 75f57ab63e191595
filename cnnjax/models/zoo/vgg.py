"""VGG16 and VGG19 (Simonyan & Zisserman 2015), with Keras' names."""

from __future__ import annotations

from typing import ClassVar

from flax import linen
from jax import Array
from jax.nn import relu

from cnnjax.models.backbone import Backbone, end
from cnnjax.models.registry import Release, register
from cnnjax.models.torch_names import TorchNames
from cnnjax.nn import Conv2D, Dense, Flatten, InputLayer, MaxPooling2D

_FILTERS = (64, 128, 256, 512, 512)


def _foreign(depths: tuple[int, ...]) -> tuple[TorchNames, ...]:
    """PyTorch's names, which count convolutions, activations and poolings alike."""
    layers, place = [], 0
    for block, depth in enumerate(depths, start=1):
        for i in range(1, depth + 1):
            layers.append((f"features.{place}", f"block{block}_conv{i}"))
            place += 2
        place += 1
    torchvision = (
        ("classifier.0", "fc1"),
        ("classifier.3", "fc2"),
        ("classifier.6", "predictions"),
    )
    timm = (("pre_logits.fc1", "fc1"), ("pre_logits.fc2", "fc2"), ("head.fc", "predictions"))
    return (
        TorchNames("torchvision", (*layers, *torchvision)),
        TorchNames("timm", (*layers, *timm)),
    )


_PAPER = "Simonyan & Zisserman 2015, Very deep convolutional networks for large-scale recognition"


@register(
    "vgg16",
    (224, 224, 3),
    min_size=32,
    num_classes=1000,
    preprocessing="caffe",
    cam_layer="block5_conv3",
    head=("fc1", "fc2", "predictions"),
    paper=_PAPER,
    year=2015,
    published={"keras": 71.3, "torchvision": 71.592},
    foreign=_foreign((2, 2, 3, 3, 3)),
    release=Release.of_keras(
        "vgg16", "64373286793e3c8b2b4e3219cbf3544b", "6d6bbae143d832006294945121d1f1fc"
    ),
)
class VGG16(Backbone):
    """VGG16: thirteen 3x3 convolutions in five blocks and three dense layers.

    Args: those of `Backbone`.
    """

    depths: ClassVar[tuple[int, ...]] = (2, 2, 3, 3, 3)
    top_pooling: ClassVar[str | None] = None

    @linen.compact
    def __call__(self, inputs: Array, train: bool = False) -> Array:
        """[N, H, W, C] -> [N, num_classes]."""
        x = InputLayer(name="input_layer")(inputs)
        for block, (depth, filters) in enumerate(zip(self.depths, _FILTERS, strict=True), start=1):
            for i in range(1, depth + 1):
                name = f"block{block}_conv{i}"
                x = Conv2D(filters, 3, padding="same", activation=relu, name=name)(x)
            x = MaxPooling2D(2, name=f"block{block}_pool")(x)
        if not self.include_top:
            return end(self, x, train)
        x = Flatten(name="flatten")(x)
        x = Dense(4096, activation=relu, name="fc1")(x)
        x = Dense(4096, activation=relu, name="fc2")(x)
        return Dense(self.num_classes, name="predictions")(x)


@register(
    "vgg19",
    (224, 224, 3),
    min_size=32,
    num_classes=1000,
    preprocessing="caffe",
    cam_layer="block5_conv4",
    head=("fc1", "fc2", "predictions"),
    paper=_PAPER,
    year=2015,
    published={"keras": 71.3, "torchvision": 72.376},
    foreign=_foreign((2, 2, 4, 4, 4)),
    release=Release.of_keras(
        "vgg19", "cbe5617147190e668d6c5d5026f83318", "253f8cb515780f3b799900260a226db6"
    ),
)
class VGG19(VGG16):
    """VGG19: sixteen 3x3 convolutions in five blocks and three dense layers."""

    depths: ClassVar[tuple[int, ...]] = (2, 2, 4, 4, 4)
