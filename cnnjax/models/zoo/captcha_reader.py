"""A net that reads CAPTCHAs: one convolutional base, a classifier for each position."""

from __future__ import annotations

import jax.numpy as jnp
from flax import linen
from jax import Array
from jax.nn import relu

from cnnjax.nn import Activation, BatchNormalization, Conv2D, Dense, Dropout, Flatten, MaxPooling2D


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
        heads = [Dense(self.num_classes, name=name) for name in position_layers(self.positions)]
        return jnp.stack([head(x) for head in heads], axis=1)


def position_layers(positions: int) -> tuple[str, ...]:
    """Names of the classifiers, one for each position.

    >>> position_layers(2)
    ('position1', 'position2')
    """
    return tuple(f"position{i}" for i in range(1, positions + 1))
