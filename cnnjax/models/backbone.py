"""What the backbones share: names as Keras gives them, convolution with norm, and the end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from flax import linen
from jax import Array

from cnnjax.nn import (
    Activation,
    BatchNormalization,
    Dense,
    GlobalAveragePooling2D,
    GlobalMaxPooling2D,
)


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
        include_top: whether to have the head, whose output are logits.
        pooling: without it: None returns the last map [N, H', W', C], "avg" and "max" its mean and
            maximum [N, C].
    """

    num_classes: int = 1000
    include_top: bool = True
    pooling: str | None = None


def normalised(
    x: Array,
    convolution: linen.Module,
    train: bool,
    name: str,
    epsilon: float = 1e-3,
    activation: tuple[Callable[[Array], Array], str] | None = None,
) -> Array:
    """Inside a compact module: a convolution, its normalisation and, if named, an activation.

    Args:
        x: [N, H, W, C].
        convolution: a layer.
        train: whether the batch's statistics are used.
        name: of the normalisation.
        epsilon: of the normalisation.
        activation: (function, name of the layer).

    Returns:
        [N, H', W', F].
    """
    x = BatchNormalization(epsilon=epsilon, name=name)(convolution(x), train)
    if activation is None:
        return x
    function, activation_name = activation
    return Activation(function, name=activation_name)(x)


def check_pooling(pooling: str | None) -> None:
    """Refuse anything but None, "avg" and "max"."""
    if pooling not in (None, "avg", "max"):
        raise ValueError(f"pooling must be None, 'avg' or 'max', got {pooling!r}")


def end(net: Backbone, x: Array, average_name: str, max_name: str) -> Array:
    """Inside a compact module without its own head: the top, or the pooled or plain features.

    Args:
        net: whose end it is.
        x: the last feature map, [N, H, W, C].
        average_name, max_name: of the poolings without a top.

    Returns:
        logits [N, num_classes], features [N, C] or the map itself.
    """
    if net.include_top:
        x = GlobalAveragePooling2D(name="avg_pool")(x)
        return Dense(net.num_classes, name="predictions")(x)
    return pooled(x, net.pooling, average_name, max_name)


def pooled(
    x: Array,
    pooling: str | None,
    average_name: str = "global_average_pooling2d",
    max_name: str = "global_max_pooling2d",
) -> Array:
    """Inside a compact module: the end of a model without a top."""
    check_pooling(pooling)
    if pooling == "avg":
        return GlobalAveragePooling2D(name=average_name)(x)
    if pooling == "max":
        return GlobalMaxPooling2D(name=max_name)(x)
    return x
