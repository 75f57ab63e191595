"""Groups of layers by name, to freeze them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cnnjax.core import trees
from cnnjax.core.text import suggest
from cnnjax.models import Model
from cnnjax.models.adapters import is_adapter
from cnnjax.models.graph import weighted_layers


def layers_before(model: Model, layer: str | int) -> tuple[str, ...]:
    """The layers to freeze so that training begins at a layer: those before it.

    The order is that of `model.layer_names`, which is Keras': where branches run side by side, it
    goes by the distance from the output. A cut in such a place leaves a part of a block frozen.

    Args:
        model: any.
        layer: the first layer that is to be trained, by its name; or a number n, which freezes
            what Keras has in `model.layers[:n]`, also counted from the end where negative.

    Returns:
        Names of the layers with weights that come before it, that one excluded; for
        `TrainingConfig(frozen=...)`.

    Raises:
        ValueError: if there is no such layer (offers the nearest names), or nothing before it has
            weights.

    >>> import cnnjax as cj
    >>> model = cj.create_model("mnist_convnet")
    >>> layers_before(model, "pool2")
    ('conv1', 'conv2')
    >>> layers_before(model, 3) == layers_before(model, -4)
    True
    """
    names = model.layer_names
    layer = layer.item() if isinstance(layer, np.integer) else layer
    if isinstance(layer, str):
        if layer not in names:
            raise ValueError(
                f"layer={layer!r} is no layer of {model.spec.name}. "
                f"{suggest(layer, names, 'layers')}"
            )
        end = names.index(layer)
    elif isinstance(layer, int) and not isinstance(layer, bool):
        if abs(layer) > len(names):
            raise ValueError(
                f"layer={layer} is out of range: {model.spec.name} has {len(names)} layers"
            )
        end = layer
    else:
        raise ValueError(f"layer must be a name or a number of layers, got {layer!r}")
    before = set(names[:end])
    found = tuple(name for name in weighted_layers(model) if name in before)
    if not found:
        raise ValueError(
            f"layer={layer!r}: no layer of {model.spec.name} before it has weights, so there is "
            "nothing to freeze"
        )
    return found


def base_layers(model: Model, head: Sequence[str] | None = None) -> tuple[str, ...]:
    """The layers with weights that are not in the head, to freeze the whole base.

    Args:
        model: of `create_model`, or with a head that `replace_head` made; with adapters of `lora`,
            which are trained: of their layers the other weights are named.
        head: names of the layers that are trained, where they are others than those of the head
            that the model is known to have; () for none, e.g. with adapters alone.

    Returns:
        Their names, for `TrainingConfig(frozen=...)`.

    Raises:
        ValueError: for a module of one's own, whose head is not known, or a layer that there is
            not (offers the nearest names).

    >>> import cnnjax as cj
    >>> model = cj.create_model("lenet")
    >>> base_layers(model)
    ('conv1', 'conv2', 'dense1')
    >>> base_layers(cj.transfer.lora(model, ("conv2",), rank=2))
    ('conv1', 'conv2/bias', 'conv2/kernel', 'dense1')
    """
    if head is None and model.spec.arguments is None:
        raise ValueError(
            f"{model.spec.name} is a module of your own, whose head cnnjax cannot know: name its "
            "layers with head=, or use layers_before(model, first layer of the head)"
        )
    layers = weighted_layers(model)
    trained = model.spec.head if head is None else trees.select(layers, head, "head", "layer")
    weights: dict[str, list[str]] = {}
    for path in trees.leaves(model.params):
        weights.setdefault(path.rpartition("/")[0], []).append(path)
    return tuple(
        name
        for layer in layers
        if layer not in trained
        for name in _but_adapters(layer, weights.get(layer, []))
    )


def _but_adapters(layer: str, weights: Sequence[str]) -> list[str]:
    """A layer's name, or where it has adapters those of its other weights."""
    plain = [path for path in weights if not is_adapter(path)]
    return plain if len(plain) < len(weights) else [layer]
