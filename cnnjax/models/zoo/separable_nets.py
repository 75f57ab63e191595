"""A net of depthwise separable convolutions, and the same net with full ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from flax import linen
from jax import Array
from jax.nn import relu

from cnnjax.models.registry import register
from cnnjax.nn import (
    Activation,
    BatchNormalization,
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

_STEMS = ("separable", "full")

# Of depthwise kernels, and of all others.
_INITIALIZERS = {
    "glorot": (glorot_uniform, glorot_uniform),
    "he": (lecun_uniform_depthwise, he_uniform),
}


@register("separable_convnet", (32, 32, 3), min_size=32, head=("logits",))
class SeparableConvnet(linen.Module):
    """Six depthwise separable 3x3 convolutions, global average pooling, a dense layer of 32.

    None of them pads, so that the last map of an image of 32x32, the smallest that fits, is of one
    pixel and there is nothing left to average; images of 64x64 (a last map of 9x9) or more are
    what the net is made for.

    Args:
        num_classes: size of the output.
        initializer: of the kernels: "glorot", which is Keras'; with it the logits start at a few
            millionths and the net hardly learns. "he" keeps the size of the outputs from layer to
            layer.
        stem: kind of the first convolution: "separable", or "full", because three colours leave a
            depthwise convolution three filters, and are far from independent (Chollet 2021, Deep
            Learning with Python, 2nd ed., 9.3.4).
        batch_norm: normalise behind every convolution, which then has no bias.
        alpha: multiplies the filters of every convolution, a whole number >= 1.
    """

    num_classes: int = 10
    initializer: str = "glorot"
    stem: str = "separable"
    batch_norm: bool = False
    alpha: int = 1

    @property
    def cam_layer(self) -> str:
        """The last map of more than a pixel at every size, behind its ReLU."""
        return "sepconv5_relu" if self.batch_norm else "sepconv5"

    @linen.compact
    def __call__(self, inputs: Array, train: bool = False) -> Array:
        """[N, H, W, C] -> [N, num_classes]."""
        if self.stem not in _STEMS:
            known = " or ".join(map(repr, _STEMS))
            raise ValueError(f"stem must be {known}, got {self.stem!r}")
        depthwise, kernel = _initializers(self.initializer)
        separable: Callable[..., linen.Module] = partial(
            SeparableConv2D, depthwise_initializer=depthwise, pointwise_initializer=kernel
        )
        kinds = [("sepconv", separable)] * sum(map(len, _BLOCKS))
        if self.stem == "full":
            kinds[0] = ("conv", partial(Conv2D, kernel_initializer=kernel))
        return _net(self, kinds, inputs, train, kernel)


@register("separable_twin", (32, 32, 3), min_size=32, head=("logits",))
class SeparableTwin(linen.Module):
    """`SeparableConvnet` with full convolutions in the place of separable ones.

    Args:
        num_classes: size of the output.
        initializer: of the kernels, "glorot" or "he".
        batch_norm: normalise behind every convolution, which then has no bias.
        alpha: multiplies the filters of every convolution, a whole number >= 1.
    """

    num_classes: int = 10
    initializer: str = "glorot"
    batch_norm: bool = False
    alpha: int = 1

    @property
    def cam_layer(self) -> str:
        """The last map of more than a pixel at every size, behind its ReLU."""
        return "conv5_relu" if self.batch_norm else "conv5"

    @linen.compact
    def __call__(self, inputs: Array, train: bool = False) -> Array:
        """[N, H, W, C] -> [N, num_classes]."""
        _, kernel = _initializers(self.initializer)
        kinds = [("conv", partial(Conv2D, kernel_initializer=kernel))] * sum(map(len, _BLOCKS))
        return _net(self, kinds, inputs, train, kernel)


def _initializers(name: str) -> tuple[Initializer, Initializer]:
    """Of depthwise kernels, and of all others."""
    if name not in _INITIALIZERS:
        known = ", ".join(map(repr, _INITIALIZERS))
        raise ValueError(f"initializer must be one of {known}, got {name!r}")
    return _INITIALIZERS[name]


def _net(
    net: SeparableConvnet | SeparableTwin,
    kinds: Sequence[tuple[str, Callable[..., linen.Module]]],
    inputs: Array,
    train: bool,
    initializer: Initializer,
) -> Array:
    """Inside a compact module: the net with a convolution of each kind, called name1, name2, ..."""
    x, number = inputs, 0
    for block, widths in enumerate(_BLOCKS):
        if block:
            x = MaxPooling2D(2, name=f"pool{block}")(x)
        for filters in widths:
            kind_name, kind = kinds[number]
            number += 1
            name = f"{kind_name}{number}"
            if net.batch_norm:
                x = kind(net.alpha * filters, 3, use_bias=False, name=name)(x)
                x = BatchNormalization(name=f"{name}_bn")(x, train)
                x = Activation(relu, name=f"{name}_relu")(x)
            else:
                x = kind(net.alpha * filters, 3, activation=relu, name=name)(x)
    x = GlobalAveragePooling2D(name="global_average_pooling")(x)
    x = Dense(32, activation=relu, kernel_initializer=initializer, name="dense1")(x)
    return Dense(net.num_classes, kernel_initializer=initializer, name="logits")(x)
