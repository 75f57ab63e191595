"""Small image classifiers trained from scratch; every `__call__` returns logits."""

from __future__ import annotations

from flax import linen
from jax import Array
from jax.nn import relu

from cnnjax.nn import Conv2D, Dense, Dropout, Flatten, MaxPooling2D


class MLP(linen.Module):
    """Flatten, dense layers with ReLU, logits.

    Args:
        num_classes: size of the output.
        units: widths of the hidden layers.
    """

    num_classes: int = 10
    units: tuple[int, ...] = (512,)

    @linen.compact
    def __call__(self, inputs: Array, train: bool = False) -> Array:
        """[N, H, W, C] -> [N, num_classes]."""
        x = Flatten(name="flatten")(inputs)
        for i, width in enumerate(self.units, start=1):
            x = Dense(width, activation=relu, name=f"dense{i}")(x)
        return Dense(self.num_classes, name="logits")(x)


class MnistConvnet(linen.Module):
    """Three 3x3 convolutions with two poolings and a dense layer of 64: 93,322 parameters."""

    num_classes: int = 10

    @linen.compact
    def __call__(self, inputs: Array, train: bool = False) -> Array:
        """[N, H, W, C] -> [N, num_classes]."""
        x = Conv2D(32, 3, activation=relu, name="conv1")(inputs)
        x = MaxPooling2D(2, name="pool1")(x)
        x = Conv2D(64, 3, activation=relu, name="conv2")(x)
        x = MaxPooling2D(2, name="pool2")(x)
        x = Conv2D(64, 3, activation=relu, name="conv3")(x)
        x = Flatten(name="flatten")(x)
        x = Dense(64, activation=relu, name="dense1")(x)
        return Dense(self.num_classes, name="logits")(x)


class LeNet(linen.Module):
    """LeNet in its modern form: two 5x5 convolutions, two poolings, a dense layer of 500."""

    num_classes: int = 10

    @linen.compact
    def __call__(self, inputs: Array, train: bool = False) -> Array:
        """[N, H, W, C] -> [N, num_classes]."""
        x = Conv2D(20, 5, padding="same", activation=relu, name="conv1")(inputs)
        x = MaxPooling2D(2, name="pool1")(x)
        x = Conv2D(50, 5, padding="same", activation=relu, name="conv2")(x)
        x = MaxPooling2D(2, name="pool2")(x)
        x = Flatten(name="flatten")(x)
        x = Dense(500, activation=relu, name="dense1")(x)
        return Dense(self.num_classes, name="logits")(x)


class CifarPlain(linen.Module):
    """One 3x3 convolution, pooling, dropout and a dense layer of 512."""

    num_classes: int = 10

    @linen.compact
    def __call__(self, inputs: Array, train: bool = False) -> Array:
        """[N, H, W, C] -> [N, num_classes]."""
        x = Conv2D(32, 3, padding="same", activation=relu, name="conv1")(inputs)
        x = MaxPooling2D(2, name="pool1")(x)
        x = Dropout(0.25, name="dropout1")(x, train)
        x = Flatten(name="flatten")(x)
        x = Dense(512, activation=relu, name="dense1")(x)
        x = Dropout(0.5, name="dropout2")(x, train)
        return Dense(self.num_classes, name="logits")(x)


class CifarDeep(linen.Module):
    """Two blocks of two 3x3 convolutions, pooling and dropout, and a dense layer of 512."""

    num_classes: int = 10

    @linen.compact
    def __call__(self, inputs: Array, train: bool = False) -> Array:
        """[N, H, W, C] -> [N, num_classes]."""
        x = Conv2D(32, 3, padding="same", activation=relu, name="conv1")(inputs)
        x = Conv2D(32, 3, padding="same", activation=relu, name="conv2")(x)
        x = MaxPooling2D(2, name="pool1")(x)
        x = Dropout(0.25, name="dropout1")(x, train)
        x = Conv2D(64, 3, padding="same", activation=relu, name="conv3")(x)
        x = Conv2D(64, 3, activation=relu, name="conv4")(x)
        x = MaxPooling2D(2, name="pool2")(x)
        x = Dropout(0.25, name="dropout2")(x, train)
        x = Flatten(name="flatten")(x)
        x = Dense(512, activation=relu, name="dense1")(x)
        x = Dropout(0.5, name="dropout3")(x, train)
        return Dense(self.num_classes, name="logits")(x)
