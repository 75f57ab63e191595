"""Nets with an answer at each pixel: U-Net."""

from __future__ import annotations

from flax import linen
from jax import Array
from jax.nn import relu

from cnnjax.models.registry import register
from cnnjax.nn import (
    Concatenate,
    Conv2D,
    Cropping2D,
    Dropout,
    MaxPooling2D,
    UpSampling2D,
    ZeroPadding2D,
    he_uniform,
)


@register(
    "unet",
    (64, 64, 3),
    num_classes=2,
    cam_layer="bottom",
    head=("logits",),
    task="dense",
    paper="Ronneberger et al. 2015, U-Net: convolutional networks for biomedical segmentation",
    year=2015,
)
class UNet(linen.Module):
    """A contracting path and an expanding one, joined at every size: a class for each pixel.

    As in Ronneberger et al. 2015 (arXiv:1505.04597), fig. 1, but smaller and padded, so that the
    outputs have the inputs' size: at every size two 3x3 convolutions with ReLU; 2x2 max pooling
    downwards; upwards each pixel repeated to 2x2, a 2x2 convolution to half the channels, and the
    map of that size on the way down beside it. Inputs whose sides are no multiples of
    2 ** (len(filters) - 1) are padded by zeros at the bottom and the right, the logits cropped.

    Args:
        num_classes: of each pixel; 1 is a single logit of two classes.
        filters: of the convolutions at each size, from the inputs' own down to the smallest; the
            paper has (64, 128, 256, 512, 1024).
        dropout: at the end of the contracting path, in [0, 1).
    """

    num_classes: int = 2
    filters: tuple[int, ...] = (16, 32, 64)
    dropout: float = 0.0

    @linen.compact
    def __call__(self, inputs: Array, train: bool = False) -> Array:
        """[N, H, W, C] -> [N, H, W, num_classes]."""
        rows, columns = (-side % 2 ** (len(self.filters) - 1) for side in inputs.shape[1:3])
        added = ((0, rows), (0, columns))
        x = ZeroPadding2D(added, name="pad")(inputs) if rows or columns else inputs
        *sides, bottom = self.filters
        skips = []
        for i, filters in enumerate(sides, start=1):
            x = _convolutions(filters, f"down{i}", x)
            skips.append(x)
            x = MaxPooling2D(2, name=f"pool{i}")(x)
        x = _convolutions(bottom, "bottom", x)
        x = Dropout(self.dropout, name="dropout")(x, train)
        for i, filters in reversed(list(enumerate(sides, start=1))):
            x = UpSampling2D(name=f"repeat{i}")(x)
            x = _convolution(filters, 2, f"up{i}", x)
            x = Concatenate(name=f"join{i}")([skips.pop(), x])
            x = _convolutions(filters, f"merge{i}", x)
        x = Conv2D(self.num_classes, 1, name="logits")(x)
        return Cropping2D(added, name="crop")(x) if rows or columns else x


def _convolutions(filters: int, name: str, x: Array) -> Array:
    """Two 3x3 convolutions, the second of which has the name; called inside a compact module."""
    return _convolution(filters, 3, name, _convolution(filters, 3, f"{name}_first", x))


def _convolution(filters: int, size: int, name: str, x: Array) -> Array:
    """A convolution with ReLU and the initial kernels of the paper (He et al. 2015)."""
    conv = Conv2D(
        filters, size, padding="same", activation=relu, kernel_initializer=he_uniform, name=name
    )
    return conv(x)
