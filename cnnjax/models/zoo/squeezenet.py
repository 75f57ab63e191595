"""SqueezeNet (Iandola et al. 2016), as torchvision has it."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from flax import linen
from jax import Array
from jax.nn import relu

from cnnjax.models.backbone import Backbone, end
from cnnjax.models.registry import Release, register
from cnnjax.models.torch_names import TorchNames
from cnnjax.nn import (
    Activation,
    Concatenate,
    Conv2D,
    Dropout,
    GlobalAveragePooling2D,
    InputLayer,
    MaxPooling2D,
    he_uniform,
)

# Filters of the squeezing layer of modules 2 to 9; each expanding one has four times as many.
_SQUEEZED = (16, 16, 32, 32, 48, 48, 64, 64)

_LAST = linen.initializers.normal(0.01)


def _registered(
    name: str, sha256: str, min_size: int, top_1: float, places: tuple[int, ...]
) -> Callable[[type[SqueezeNet1_0]], type[SqueezeNet1_0]]:
    """What the two have in common.

    Args:
        name: of the model.
        sha256: the first digits of that of torchvision's file.
        min_size: height and width at which the last pooling has a window.
        top_1: published accuracy.
        places: of the modules in torchvision's list of layers.
    """
    parts = ("squeeze", "expand1x1", "expand3x3")
    modules = [
        (f"features.{place}.{part}", f"fire{number}_{part}")
        for number, place in enumerate(places, start=2)
        for part in parts
    ]
    names = (("features.0", "conv1"), *modules, ("classifier.1", "conv10"))
    return register(
        name,
        (224, 224, 3),
        min_size=min_size,
        num_classes=1000,
        preprocessing="torch",
        cam_layer="fire9_concat",
        head=("conv10",),
        paper="Iandola et al. 2016, SqueezeNet: AlexNet-level accuracy with 50x fewer parameters",
        year=2016,
        published={"torchvision": top_1},
        release=Release.of_torchvision(f"{name}-{sha256}"),
        foreign=(TorchNames("torchvision", names),),
    )


@_registered("squeezenet1_0", "b66bff10", 21, 58.092, (3, 4, 5, 7, 8, 9, 10, 12))
class SqueezeNet1_0(Backbone):
    """SqueezeNet 1.0: eight fire modules, whose 1x1 convolutions squeeze what 3x3 ones see.

    Kernels start as in torchvision (`nn.he_uniform`; of the last layer normal with a deviation of
    0.01). The logits are means of values after ReLU, as there.

    Args:
        num_classes, include_top, pooling, classifier, classifier_dropout: as in `Backbone`.
        dropout: of the published head, in [0, 1).
    """

    dropout: float = 0.5

    stem: ClassVar[tuple[int, int]] = (96, 7)  # filters, size of the kernel
    pooled: ClassVar[tuple[int, ...]] = (1, 4, 8)  # numbers of layers that pooling follows

    @linen.compact
    def __call__(self, inputs: Array, train: bool = False) -> Array:
        """[N, H, W, C] -> [N, num_classes]."""
        x = InputLayer(name="input_layer")(inputs)
        filters, size = self.stem
        x = _convolution(x, filters, size, "conv1", strides=2)
        for number, squeezed in enumerate(_SQUEEZED, start=2):
            if number - 1 in self.pooled:
                # With a row and a column more that never win no window is left out, as in
                # PyTorch's ceil_mode.
                name = f"pool{number - 1}"
                x = MaxPooling2D(3, strides=2, padding=((0, 1), (0, 1)), name=name)(x)
            x = _fire(x, squeezed, f"fire{number}")
        if not self.include_top:
            return end(self, x, train)
        x = Dropout(self.dropout, name="dropout")(x, train)
        x = Conv2D(self.num_classes, 1, kernel_initializer=_LAST, name="conv10")(x)
        x = Activation(relu, name="conv10_relu")(x)
        return GlobalAveragePooling2D(name="avg_pool")(x)


def _fire(x: Array, squeezed: int, name: str) -> Array:
    """A 1x1 convolution to few channels; a 1x1 and a 3x3 to four times as many, side by side."""
    x = _convolution(x, squeezed, 1, f"{name}_squeeze")
    small = _convolution(x, 4 * squeezed, 1, f"{name}_expand1x1")
    large = _convolution(x, 4 * squeezed, 3, f"{name}_expand3x3", padding="same")
    return Concatenate(name=f"{name}_concat")([small, large])


def _convolution(
    x: Array, filters: int, size: int, name: str, strides: int = 1, padding: str = "valid"
) -> Array:
    conv = Conv2D(filters, size, strides, padding, kernel_initializer=he_uniform, name=name)
    return Activation(relu, name=f"{name}_relu")(conv(x))


@_registered("squeezenet1_1", "b8a52dc0", 17, 58.178, (3, 4, 6, 7, 9, 10, 11, 12))
class SqueezeNet1_1(SqueezeNet1_0):
    """SqueezeNet 1.1: as accurate as 1.0, with smaller maps in its first layers."""

    stem: ClassVar[tuple[int, int]] = (64, 3)
    pooled: ClassVar[tuple[int, ...]] = (1, 3, 5)
