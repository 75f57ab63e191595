"""VGG16 and VGG19 (Simonyan & Zisserman 2015), with Keras' names."""

from __future__ import annotations

from typing import ClassVar

from flax import linen
from jax import Array
from jax.nn import relu

from cnnjax.models.zoo.backbone import Backbone, end
from cnnjax.nn import Conv2D, Dense, Flatten, InputLayer, MaxPooling2D

_FILTERS = (64, 128, 256, 512, 512)


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


class VGG19(VGG16):
    """VGG19: sixteen 3x3 convolutions in five blocks and three dense layers."""

    depths: ClassVar[tuple[int, ...]] = (2, 2, 4, 4, 4)
