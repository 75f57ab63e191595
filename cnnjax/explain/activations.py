"""Outputs of named layers."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from flax import linen
from jax import Array

from cnnjax import paths
from cnnjax.models import Model
from cnnjax.models.model import Static, Variables, train_kwargs


def activations(
    model: Model, images: Array | np.ndarray, layers: Sequence[str] | None = None
) -> dict[str, Array]:
    """Outputs of layers, e.g. as features for another classifier.

    Args:
        model: any; nothing in it is changed. What follows the last of the layers is not computed.
        images: preprocessed inputs, [N, H, W, C] float32, as `model(images)` takes them.
        layers: names or shell-style patterns ("block[1-3]_conv*") of `model.layer_names`; None
            takes all.

    Returns:
        {layer: [N, ...]}, in the order of `model.layer_names`.

    Raises:
        ValueError: for a name that is no layer (offers the nearest), or inputs of another shape.

    >>> import cnnjax as cj, numpy as np
    >>> model = cj.create_model("mnist_convnet")
    >>> maps = cj.explain.activations(model, np.zeros((2, 28, 28, 1), np.float32), ["pool*"])
    >>> {name: values.shape for name, values in maps.items()}
    {'pool1': (2, 13, 13, 32), 'pool2': (2, 5, 5, 64)}
    """
    inputs = model.checked_inputs(images)
    known = model.layer_names
    if layers is None:
        wanted = known
    else:
        patterns = [layers] if isinstance(layers, str) else layers
        chosen = paths.select(known, patterns, "layers", what="layer")
        wanted = tuple(name for name in known if name in chosen)
    outputs: dict[str, Array] = layer_outputs(
        Static(model.module), model.spec.name, wanted, model.variables, inputs
    )
    return {name: outputs[name] for name in wanted}  # jit sorts a dictionary's keys


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def layer_outputs(
    static: Static, root: str, wanted: tuple[str, ...], variables: Variables, inputs: Array
) -> dict[str, Array]:
    """`activations` for a program of one's own: nothing is checked, and it may be traced.

    Args:
        static: the model's module.
        root: what the module itself is called, `model.spec.name`.
        wanted: names of layers.
        variables: of the model.
        inputs: preprocessed, [N, H, W, C].

    Returns:
        {layer: [N, ...]}; what no layer wanted needs is not computed.
    """
    outputs: dict[str, Array] = {}

    def interceptor(next_function: Any, args: Any, kwargs: Any, context: Any) -> Any:
        output = next_function(*args, **kwargs)
        name = "/".join(context.module.path) or root
        if context.method_name == "__call__" and name in wanted:
            outputs[name] = output
        return output

    with linen.intercept_methods(interceptor), jax.default_matmul_precision("float32"):
        module = static.module
        module.apply(variables, inputs, **train_kwargs(module, train=False))
    return outputs
