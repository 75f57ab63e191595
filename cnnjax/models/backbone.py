"""What the backbones share: names as Keras gives them, convolution with norm, and the end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import ClassVar

from flax import linen
from jax import Array
from jax.nn import relu

from cnnjax.nn import (
    Activation,
    BatchNormalization,
    Dense,
    Dropout,
    Flatten,
    GlobalAveragePooling2D,
    GlobalMaxPooling2D,
)

POOLINGS = (None, "avg", "max")

# Whose arithmetic a net has, where Keras' and PyTorch's differ under the same name.
ORIGINS = ("keras", "torch")

# PyTorch's of 0.1 in the words of `BatchNormalization`.
TORCH_MOMENTUM = 0.9
TORCH_EPSILON = 1e-5


def arithmetic(module: object) -> dict[str, str]:
    """What else than names and shapes decides what a net computes of its weights, as text.

    >>> from cnnjax.models import BUILDERS
    >>> arithmetic(BUILDERS["efficientnet_b0"].module(origin="torch", epsilon=1e-3))
    {'origin': 'torch', 'epsilon': '0.001'}
    >>> arithmetic(BUILDERS["lenet"].module())
    {}
    """
    if not isinstance(getattr(module, "origin", None), str):
        return {}
    return {k: str(getattr(module, k)) for k in ("origin", "epsilon") if hasattr(module, k)}


class AutomaticNames:
    """Keras' names for layers that have none: `conv2d`, `conv2d_1`, ... in the order of creation.

    >>> names = AutomaticNames()
    >>> names("conv2d"), names("add"), names("conv2d")
    ('conv2d', 'add', 'conv2d_1')
    """

    def __init__(self) -> None:
        self._used: Counter[str] = Counter()

    def __call__(self, kind: str) -> str:
        """The next name of a kind of layer."""
        number = self._used[kind]
        self._used[kind] += 1
        return f"{kind}_{number}" if number else kind


class Backbone(linen.Module):
    """What every backbone can be asked for.

    Args:
        num_classes: size of the output.
        include_top: whether to have the published head, whose output are logits.
        pooling: without it: None returns the last map [N, H', W', C], "avg" and "max" its mean and
            maximum [N, C].
        classifier: without it: a head of one's own on these features: widths of its hidden layers
            (dense1, ...), () for logits alone; None for none.
        classifier_dropout: after each of those hidden layers, or where there are none of the
            features; in [0, 1).
    """

    num_classes: int = 1000
    include_top: bool = True
    pooling: str | None = None
    classifier: tuple[int, ...] | None = None
    classifier_dropout: float = 0.0

    top_pooling: ClassVar[str | None] = "avg"  # of the published head; None where it flattens
    keras_rescaling: ClassVar[float | None] = None  # before a Normalization in Keras' files


def is_torch(origin: str) -> bool:
    """Whether a net has PyTorch's arithmetic.

    Args:
        origin: one of `ORIGINS`.

    Raises:
        ValueError: for another one.
    """
    if origin not in ORIGINS:
        raise ValueError(f"origin must be 'keras' or 'torch', got {origin!r}")
    return origin == "torch"


def depth_rates(last: float, count: int) -> tuple[float, ...]:
    """Rates of stochastic depth that grow linearly from 0 at the first block to that of the last.

    >>> depth_rates(0.2, 3)
    (0.0, 0.1, 0.2)
    """
    return tuple(last * number / max(count - 1, 1) for number in range(count))


def normalised(
    x: Array,
    convolution: linen.Module,
    train: bool,
    name: str,
    epsilon: float = 1e-3,
    activation: tuple[Callable[[Array], Array], str] | None = None,
    momentum: float = 0.99,
) -> Array:
    """Inside a compact module: a convolution, its normalisation and, if named, an activation.

    Args:
        x: [N, H, W, C].
        convolution: a layer.
        train: whether the batch's statistics are used.
        name: of the normalisation.
        epsilon: of the normalisation.
        activation: (function, name of the layer).
        momentum: of the normalisation.

    Returns:
        [N, H', W', F].
    """
    x = BatchNormalization(momentum, epsilon, name=name)(convolution(x), train)
    if activation is None:
        return x
    function, activation_name = activation
    return Activation(function, name=activation_name)(x)


def end(
    net: Backbone,
    x: Array,
    train: bool,
    average_name: str = "global_average_pooling2d",
    max_name: str = "global_max_pooling2d",
    norm: linen.Module | None = None,
) -> Array:
    """Inside a compact module: what follows the last map; of published heads the usual one.

    Args:
        net: whose end it is.
        x: the last feature map, [N, H, W, C].
        train: whether dropout acts.
        average_name, max_name: of the poolings without the published head.
        norm: of what is pooled, or of the map that is not, without the published head.

    Returns:
        the map itself, pooled features [N, C], or logits [N, num_classes].
    """
    if net.include_top:
        x = GlobalAveragePooling2D(name="avg_pool")(x)
        return Dense(net.num_classes, name="predictions")(x)
    if net.pooling not in POOLINGS:
        raise ValueError(f"pooling must be None, 'avg' or 'max', got {net.pooling!r}")
    if net.pooling == "avg":
        x = GlobalAveragePooling2D(name=average_name)(x)
    elif net.pooling == "max":
        x = GlobalMaxPooling2D(name=max_name)(x)
    x = x if norm is None else norm(x)
    if net.classifier is None:
        return x
    if net.pooling is None:
        x = Flatten(name="flatten")(x)
    return classified(x, net.classifier, net.classifier_dropout, net.num_classes, train)


def classified(
    x: Array, units: tuple[int, ...], dropout: float, num_classes: int, train: bool
) -> Array:
    """Inside a compact module: dense1, dropout1, ..., logits; no dropout layer where it is 0.

    Args:
        x: [N, D].
        units: widths of the hidden layers, with ReLU.
        dropout: after each of them, or where there are none of x; in [0, 1).
        num_classes: size of the output.
        train: whether dropout acts.

    Returns:
        logits [N, num_classes].
    """
    if dropout and not units:
        x = Dropout(dropout, name="dropout1")(x, train)
    for i, width in enumerate(units, start=1):
        x = Dense(width, activation=relu, name=f"dense{i}")(x)
        if dropout:
            x = Dropout(dropout, name=f"dropout{i}")(x, train)
    return Dense(num_classes, name="logits")(x)


def classifier_layers(units: tuple[int, ...]) -> tuple[str, ...]:
    """Names of the layers with weights that `classified` makes.

    >>> classifier_layers((256,))
    ('dense1', 'logits')
    """
    return (*(f"dense{i}" for i in range(1, len(units) + 1)), "logits")


def stride_padding(
    x: Array, kernel_size: int, torch: bool = False
) -> tuple[tuple[int, int], tuple[int, int]]:
    """Zeros around [N, H, W, C] before a convolution with the stride 2.

    Args:
        x: what is padded.
        kernel_size: of the convolution, odd.
        torch: alike on all sides, as PyTorch's nets have it; Keras' have one row and column less at
            the top and left where the size is even.

    >>> import jax.numpy as jnp
    >>> stride_padding(jnp.ones((1, 8, 7, 3)), 5)
    ((1, 2), (2, 2))
    """
    half = kernel_size // 2
    top, left = (half - (0 if torch else 1 - side % 2) for side in x.shape[1:3])
    return (top, half), (left, half)


def divisible(filters: float, divisor: int = 8) -> int:
    """The next multiple of a divisor, at least it, and never more than a tenth below.

    As in the nets that Sandler et al. 2018 published with MobileNetV2, and those after it.

    >>> divisible(12), divisible(20), divisible(33.6)
    (16, 24, 32)
    """
    rounded = max(divisor, int(filters + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * filters else rounded
