"""Groups of layers by name, to freeze them."""

from __future__ import annotations

import numpy as np

from cnnjax.core.text import suggest
from cnnjax.models import Model
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


def base_layers(model: Model) -> tuple[str, ...]:
    """The layers with weights that are not in the head, to freeze the whole base.

    Args:
        model: of `create_model`, or with a head that `replace_head` made.

    Returns:
        Their names, for `TrainingConfig(frozen=...)`.

    Raises:
        ValueError: for a module of one's own, whose head is not known.

    >>> import cnnjax as cj
    >>> base_layers(cj.create_model("lenet"))
    ('conv1', 'conv2', 'dense1')
    """
    if model.spec.arguments is None:
        raise ValueError(
            f"{model.spec.name} is a module of your own, whose head cnnjax cannot know: use "
            "layers_before(model, first layer of the head)"
        )
    return tuple(name for name in weighted_layers(model) if name not in model.spec.head)
