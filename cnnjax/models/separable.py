"""A net of depthwise separable convolutions, and the same net with full ones."""

from __future__ import annotations

from flax import linen
from jax import Array
from jax.nn import relu

from cnnjax.nn import Conv2D, Dense, GlobalAveragePooling2D, MaxPooling2D, SeparableConv2D

_BLOCKS = ((32, 64), (64, 128), (64, 128))  # filters; a pooling stands between two blocks


class SeparableConvnet(linen.Module):
    """Six depthwise separable 3x3 convolutions, global average pooling, a dense layer of 32.

    None of them pads, so that the last map of a picture of 32x32, the smallest that fits, is of one
    pixel and there is nothing left to average; pictures of 64x64 (a last map of 9x9) or more are
    what the net is made for.

    Args:
        num_classes: size of the output.
    """

    num_classes: int = 10

    @linen.compact
    def __call__(self, inputs: Array, train: bool = False) -> Array:
        """[N, H, W, C] -> [N, num_classes]."""
        return _net(SeparableConv2D, "sepconv", inputs, self.num_classes)


class SeparableTwin(linen.Module):
    """`SeparableConvnet` with full convolutions in the place of separable ones.

    Args:
        num_classes: size of the output.
    """

    num_classes: int = 10

    @linen.compact
    def __call__(self, inputs: Array, train: bool = False) -> Array:
        """[N, H, W, C] -> [N, num_classes]."""
        return _net(Conv2D, "conv", inputs, self.num_classes)


def _net(
    kind: type[SeparableConv2D] | type[Conv2D], name: str, inputs: Array, num_classes: int
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
    x = Dense(32, activation=relu, name="dense1")(x)
    return Dense(num_classes, name="logits")(x)
