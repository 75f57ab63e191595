"""A net that reads CAPTCHAs: one convolutional base, a classifier for each position."""

from __future__ import annotations

import jax.numpy as jnp
from flax import linen
from jax import Array
from jax.nn import relu

from cnnjax.models.registry import register
from cnnjax.nn import Activation, BatchNormalization, Conv2D, Dense, Dropout, Flatten, MaxPooling2D


def position_layers(positions: int) -> tuple[str, ...]:
    """Names of the classifiers, one for each position.

    >>> position_layers(2)
    ('position1', 'position2')
    """
    return tuple(f"position{i}" for i in range(1, positions + 1))


@register(
    "captcha",
    (64, 160, 1),
    min_size=16,
    num_classes=36,
    cam_layer="relu4",
    task="positions",
    resize="stretch",
)
class Captcha(linen.Module):
    """Convolutions with batch normalisation, shared, and a dense layer for each position's symbol.

    Args:
        num_classes: number of symbols.
        positions: of symbols in an image, >= 1.
        filters: of the convolutions, the first of 5x5 and stride 2, the others of 3x3; a 2x2
            pooling stands between two of them.
        dropout: of the features that the dense layers share, in [0, 1).
    """

    num_classes: int = 36
    positions: int = 4
    filters: tuple[int, ...] = (16, 48, 96, 128)
    dropout: float = 0.0

    @property
    def head_layers(self) -> tuple[str, ...]:
        """Names of the classifiers."""
        return position_layers(self.positions)

    @linen.compact
    def __call__(self, inputs: Array, train: bool = False) -> Array:
        """[N, H, W, C] -> [N, positions, num_classes]."""
        x = inputs
        for i, filters in enumerate(self.filters, start=1):
            size, strides = (5, 2) if i == 1 else (3, 1)
            if i > 1:
                x = MaxPooling2D(2, name=f"pool{i - 1}")(x)
            conv = Conv2D(
                filters, size, strides=strides, padding="same", use_bias=False, name=f"conv{i}"
            )
            x = BatchNormalization(momentum=0.9, name=f"norm{i}")(conv(x), train)
            x = Activation(relu, name=f"relu{i}")(x)
        x = Flatten(name="flatten")(x)
        x = Dropout(self.dropout, name="dropout")(x, train)
        heads = [Dense(self.num_classes, name=name) for name in self.head_layers]
        return jnp.stack([head(x) for head in heads], axis=1)
