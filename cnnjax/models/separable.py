"""A net of depthwise separable convolutions, and the same net with full ones."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from flax import linen
from jax import Array
from jax.nn import relu

from cnnjax.nn import (
    Conv2D,
    Dense,
    GlobalAveragePooling2D,
    MaxPooling2D,
    SeparableConv2D,
    glorot_uniform,
    he_uniform,
    lecun_uniform_depthwise,
)
from cnnjax.nn.initializers import Initializer

_BLOCKS = ((32, 64), (64, 128), (64, 128))  # filters; a pooling stands between two blocks

# Of depthwise kernels, and of all others.
_INITIALIZERS = {
    "glorot": (glorot_uniform, glorot_uniform),
    "he": (lecun_uniform_depthwise, he_uniform),
}


class SeparableConvnet(linen.Module):
    """Six depthwise separable 3x3 convolutions, global average pooling, a dense layer of 32.

    None of them pads, so that the last map of a picture of 32x32, the smallest that fits, is of one
    pixel and there is nothing left to average; pictures of 64x64 (a last map of 9x9) or more are
    what the net is made for.

    Args:
        num_classes: size of the output.
        initializer: of the kernels: "glorot", which is Keras'; with it the logits start at a few
            millionths and the net hardly learns. "he" keeps the size of the outputs from layer to
            layer.
    """

    num_classes: int = 10
    initializer: str = "glorot"

    @linen.compact
    def __call__(self, inputs: Array, train: bool = False) -> Array:
        """[N, H, W, C] -> [N, num_classes]."""
        depthwise, pointwise = _initializers(self.initializer)
        kind = partial(
            SeparableConv2D, depthwise_initializer=depthwise, pointwise_initializer=pointwise
        )
        return _net(kind, "sepconv", inputs, self.num_classes, pointwise)


class SeparableTwin(linen.Module):
    """`SeparableConvnet` with full convolutions in the place of separable ones.

    Args:
        num_classes: size of the output.
        initializer: of the kernels, "glorot" or "he".
    """

    num_classes: int = 10
    initializer: str = "glorot"

    @linen.compact
    def __call__(self, inputs: Array, train: bool = False) -> Array:
        """[N, H, W, C] -> [N, num_classes]."""
        _, kernel = _initializers(self.initializer)
        kind = partial(Conv2D, kernel_initializer=kernel)
        return _net(kind, "conv", inputs, self.num_classes, kernel)


def _initializers(name: str) -> tuple[Initializer, Initializer]:
    """Of depthwise kernels, and of all others."""
    if name not in _INITIALIZERS:
        known = ", ".join(map(repr, _INITIALIZERS))
        raise ValueError(f"initializer must be one of {known}, got {name!r}")
    return _INITIALIZERS[name]


def _net(
    kind: Callable[..., linen.Module],
    name: str,
    inputs: Array,
    num_classes: int,
    initializer: Initializer,
) -> Array:
    """Inside a compact module: the net with convolutions of one kind, called name1, name2, ..."""
    x, number = inputs, 0
    for block, widths in enumerate(_BLOCKS):
        if block:
            x = MaxPooling2D(2, name=f"pool{block}")(x)
        for filters in widths:
            number += 1
            x = kind(filters, 3, activation=relu, name=f"{name}{number}")(x)
    x = GlobalAveragePooling2D(name="global_average_pooling")(x)
    x = Dense(32, activation=relu, kernel_initializer=initializer, name="dense1")(x)
    return Dense(num_classes, kernel_initializer=initializer, name="logits")(x)
