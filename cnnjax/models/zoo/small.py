"""Small image classifiers trained from scratch; every `__call__` returns logits."""

from __future__ import annotations

from collections.abc import Callable

from flax import linen
from jax import Array
from jax.nn import initializers, relu, sigmoid, tanh

from cnnjax.models.backbone import POOLINGS, classified
from cnnjax.models.registry import register
from cnnjax.nn import (
    Activation,
    AveragePooling2D,
    Conv2D,
    Cropping2D,
    Dense,
    Dropout,
    Flatten,
    GlobalAveragePooling2D,
    GlobalMaxPooling2D,
    MaxPooling2D,
)


@register("mlp", (28, 28, 1), head=("logits",))
class MLP(linen.Module):
    """Flatten, dense layers with ReLU, logits.

    Args:
        num_classes: size of the output.
        units: widths of the hidden layers.
        dropout: after each of them, or where there are none of the inputs; in [0, 1).
    """

    num_classes: int = 10
    units: tuple[int, ...] = (512,)
    dropout: float = 0.0

    @linen.compact
    def __call__(self, inputs: Array, train: bool = False) -> Array:
        """[N, H, W, C] -> [N, num_classes]."""
        x = Flatten(name="flatten")(inputs)
        return classified(x, self.units, self.dropout, self.num_classes, train)


@register("mnist_convnet", (28, 28, 1), min_size=18, cam_layer="conv3", head=("logits",))
class MnistConvnet(linen.Module):
    """Three 3x3 convolutions with two poolings and a dense layer of 64: 93,322 parameters.

    Args:
        num_classes: size of the output.
        head: widths of the dense layers before the output.
        downsampling: "max" or "average" pooling, or "stride": no pooling, the convolutions before
            it have stride 2, on maps without the odd last row and column that a pooling would leave
            out. All maps have the same sizes, and so all nets as many parameters.
        activation: "relu", "sigmoid" or "tanh", of all hidden layers.
        pooling: what the dense layers get of the last map: None all of it, flattened; "avg" and
            "max" its mean and maximum over space.
    """

    num_classes: int = 10
    head: tuple[int, ...] = (64,)
    downsampling: str = "max"
    activation: str = "relu"
    pooling: str | None = None

    @linen.compact
    def __call__(self, inputs: Array, train: bool = False) -> Array:
        """[N, H, W, C] -> [N, num_classes]."""
        stride, function = _stride(self.downsampling), _activation(self.activation)
        x = _even(self.downsampling, "crop1", inputs)
        x = Conv2D(32, 3, strides=stride, activation=function, name="conv1")(x)
        x = _pool(self.downsampling, "pool1", x)
        x = _even(self.downsampling, "crop2", x)
        x = Conv2D(64, 3, strides=stride, activation=function, name="conv2")(x)
        x = _pool(self.downsampling, "pool2", x)
        x = Conv2D(64, 3, activation=function, name="conv3")(x)
        x = _vector(self.pooling, x)
        for i, width in enumerate(self.head, start=1):
            x = Dense(width, activation=function, name=f"dense{i}")(x)
        return Dense(self.num_classes, name="logits")(x)


@register(
    "lenet",
    (28, 28, 1),
    min_size=4,
    cam_layer="conv2",
    head=("logits",),
    paper="LeCun et al. 1998, Gradient-based learning applied to document recognition",
)
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


# Spread of the kernels: 0.01 whatever the layer; sqrt(2 / fan_in) keeps the size of ReLU's outputs
# (He et al. 2015, eq. 10); sqrt(2 / (fan_in + fan_out)) that of a linear layer's outputs and
# gradients (Glorot & Bengio 2010, eq. 12). Fans count the receptive field.
_INITIALIZERS = {
    "normal": initializers.normal(0.01),
    "he": initializers.variance_scaling(2.0, "fan_in", "normal"),
    "xavier": initializers.variance_scaling(1.0, "fan_avg", "normal"),
}


@register("simple_convnet", (28, 28, 1), min_size=6, cam_layer="conv1", head=("logits",))
class SimpleConvNet(linen.Module):
    """One 5x5 convolution of 30 filters, pooling and a dense layer of 100.

    Args:
        num_classes: size of the output.
        initializer: standard deviation of the kernels' normal distribution: "normal" 0.01, "he"
            sqrt(2 / fan_in), "xavier" sqrt(2 / (fan_in + fan_out)).
    """

    num_classes: int = 10
    initializer: str = "normal"

    @linen.compact
    def __call__(self, inputs: Array, train: bool = False) -> Array:
        """[N, H, W, C] -> [N, num_classes]."""
        if self.initializer not in _INITIALIZERS:
            known = ", ".join(map(repr, _INITIALIZERS))
            raise ValueError(f"initializer must be one of {known}, got {self.initializer!r}")
        normal = _INITIALIZERS[self.initializer]
        x = Conv2D(30, 5, activation=relu, kernel_initializer=normal, name="conv1")(inputs)
        x = MaxPooling2D(2, name="pool1")(x)
        x = Flatten(name="flatten")(x)
        x = Dense(100, activation=relu, kernel_initializer=normal, name="dense1")(x)
        return Dense(self.num_classes, kernel_initializer=normal, name="logits")(x)


@register("cifar_plain", (32, 32, 3), min_size=2, cam_layer="conv1", head=("logits",))
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


@register("cifar_deep", (32, 32, 3), min_size=8, cam_layer="conv4", head=("logits",))
class CifarDeep(linen.Module):
    """Two blocks of two 3x3 convolutions, pooling and dropout, and a dense layer of 512.

    Args:
        num_classes: size of the output.
        downsampling, pooling: as in `MnistConvnet`.
    """

    num_classes: int = 10
    downsampling: str = "max"
    pooling: str | None = None

    @linen.compact
    def __call__(self, inputs: Array, train: bool = False) -> Array:
        """[N, H, W, C] -> [N, num_classes]."""
        stride = _stride(self.downsampling)
        x = Conv2D(32, 3, padding="same", activation=relu, name="conv1")(inputs)
        x = _even(self.downsampling, "crop2", x)
        x = Conv2D(32, 3, strides=stride, padding="same", activation=relu, name="conv2")(x)
        x = _pool(self.downsampling, "pool1", x)
        x = Dropout(0.25, name="dropout1")(x, train)
        x = Conv2D(64, 3, padding="same", activation=relu, name="conv3")(x)
        x = _even(self.downsampling, "crop4", x)
        x = Conv2D(64, 3, strides=stride, activation=relu, name="conv4")(x)
        x = _pool(self.downsampling, "pool2", x)
        x = Dropout(0.25, name="dropout2")(x, train)
        x = _vector(self.pooling, x)
        x = Dense(512, activation=relu, name="dense1")(x)
        x = Dropout(0.5, name="dropout3")(x, train)
        return Dense(self.num_classes, name="logits")(x)


@register(
    "cats_convnet", (150, 150, 3), min_size=46, num_classes=1, cam_layer="conv4", head=("logits",)
)
class CatsConvnet(linen.Module):
    """Four blocks of a 3x3 convolution and pooling, and a dense layer of 512, for small photos.

    Args:
        num_classes: size of the output; 1 for a single logit of two classes.
        dropout: before the dense layer, in [0, 1).
        pooling: as in `MnistConvnet`.
    """

    num_classes: int = 1
    dropout: float = 0.0
    pooling: str | None = None

    @linen.compact
    def __call__(self, inputs: Array, train: bool = False) -> Array:
        """[N, H, W, C] -> [N, num_classes]."""
        x = inputs
        for i, filters in enumerate((32, 64, 128, 128), start=1):
            x = Conv2D(filters, 3, activation=relu, name=f"conv{i}")(x)
            x = MaxPooling2D(2, name=f"pool{i}")(x)
        x = _vector(self.pooling, x)
        x = Dropout(self.dropout, name="dropout")(x, train)
        x = Dense(512, activation=relu, name="dense1")(x)
        return Dense(self.num_classes, name="logits")(x)


@register("layers_walk", (128, 128, 3), min_size=38, num_classes=8, head=("dense",))
class LayersWalk(linen.Module):
    """Four 3x3 convolutions of three filters, whose maps are images, and a dense layer of 8.

    The activation stands behind the pooling, as a layer of its own, and behind the dense layer too.

    Args:
        num_classes: size of the output.
        activation: "relu", "sigmoid" or "tanh"; the layers keep their names.
        first_pool: size of the first pooling.
        until: name of the last layer, whose output is returned; None runs to the end. The layers
            of such a prefix have the names, and so take the weights, of the whole net's.
    """

    num_classes: int = 8
    activation: str = "relu"
    first_pool: int = 3
    until: str | None = None

    @linen.compact
    def __call__(self, inputs: Array, train: bool = False) -> Array:
        """[N, H, W, C] -> [N, num_classes], or the map [N, H', W', 3] of the layer `until`."""
        function = _activation(self.activation)
        layers = (
            Conv2D(3, 3, name="conv1"),
            MaxPooling2D(self.first_pool, name="pool1"),
            Activation(function, name="activation1"),
            Conv2D(3, 3, name="conv2"),
            MaxPooling2D(2, name="pool2"),
            Activation(function, name="activation2"),
            Conv2D(3, 3, name="conv3"),
            Activation(function, name="activation3"),
            Conv2D(3, 3, name="conv4"),
            Activation(function, name="activation4"),
            Flatten(name="flatten"),
            Dense(self.num_classes, activation=function, name="dense"),
        )
        names = [str(layer.name) for layer in layers]
        if self.until is not None and self.until not in names:
            raise ValueError(f"until must be one of {', '.join(names)}, got {self.until!r}")
        x = inputs
        for layer in layers[: names.index(self.until or "dense") + 1]:
            x = layer(x)
        return x


_ACTIVATIONS: dict[str, Callable[[Array], Array]] = {"relu": relu, "sigmoid": sigmoid, "tanh": tanh}


def _activation(name: str) -> Callable[[Array], Array]:
    """The function of hidden layers that is asked for."""
    if name not in _ACTIVATIONS:
        known = ", ".join(map(repr, _ACTIVATIONS))
        raise ValueError(f"activation must be one of {known}, got {name!r}")
    return _ACTIVATIONS[name]


def _stride(downsampling: str) -> int:
    """Of the convolution before a pooling."""
    if downsampling not in ("max", "average", "stride"):
        raise ValueError(f"downsampling must be 'max', 'average' or 'stride', got {downsampling!r}")
    return 2 if downsampling == "stride" else 1


def _even(downsampling: str, name: str, x: Array) -> Array:
    """The map for a 3x3 convolution of stride 2; called inside a compact module.

    At stride 1 the convolution's map would be odd where this one is, and a pooling would leave out
    its last row or column, for which stride 2 has a value.
    """
    rows, columns = x.shape[1] % 2, x.shape[2] % 2
    if downsampling != "stride" or not (rows or columns):
        return x
    return Cropping2D(((0, rows), (0, columns)), name=name)(x)


def _pool(downsampling: str, name: str, x: Array) -> Array:
    """The 2x2 pooling that is asked for; called inside a compact module."""
    if downsampling == "stride":
        return x
    kind = MaxPooling2D if downsampling == "max" else AveragePooling2D
    return kind(2, name=name)(x)


def _vector(pooling: str | None, x: Array) -> Array:
    """[N, H, W, C] -> [N, D], as `pooling` asks for; called inside a compact module."""
    if pooling not in POOLINGS:
        raise ValueError(f"pooling must be None, 'avg' or 'max', got {pooling!r}")
    if pooling == "avg":
        return GlobalAveragePooling2D(name="global_average_pooling")(x)
    if pooling == "max":
        return GlobalMaxPooling2D(name="global_max_pooling")(x)
    return Flatten(name="flatten")(x)
