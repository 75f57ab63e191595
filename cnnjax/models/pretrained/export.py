"""Weights alone into a file, for other programs."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cnnjax.core import trees
from cnnjax.core.places import expanded
from cnnjax.core.text import plain
from cnnjax.models.adapters import without_adapters
from cnnjax.models.backbone import arithmetic
from cnnjax.models.graph import in_keras_order, is_complete, trace
from cnnjax.models.model import Model
from cnnjax.weights import save_npz, save_safetensors, write_weights_h5

# Keras' order within a layer: trainable weights before the others.
_WEIGHT_ORDER = (
    "depthwise_kernel",
    "pointwise_kernel",
    "embeddings",
    "kernel",
    "recurrent_kernel",
    "bias",
    "gamma",
    "beta",
    "moving_mean",
    "moving_variance",
)

# Keras 3 names the groups of a file after the layers' classes; recurrent ones keep their weights in
# a group below.
KERAS_KINDS = {
    "BatchNormalization": "batch_normalization",
    "Conv1D": "conv1d",
    "Conv2D": "conv2d",
    "Dense": "dense",
    "DepthwiseConv2D": "depthwise_conv2d",
    "Embedding": "embedding",
    "GRU": "gru/cell",
    "LSTM": "lstm/cell",
    "LayerNormalization": "layer_normalization",
    "LayerScale": "layer_scale",
    "SeparableConv2D": "separable_conv2d",
}


def export_weights(model: Model, path: str | Path) -> Path:
    """Write a model's weights alone, for other programs; `save` keeps the whole model.

    Args:
        model: for .weights.h5 one whose layers with weights are those of `cnnjax.nn`; its adapters
            are merged into its kernels, since other programs have none.
        path: ends with ".weights.h5" (`keras.Model.load_weights` of Keras 3 takes it, for the same
            architecture), ".safetensors" or ".npz" (arrays by layer/weight).

    Returns:
        The path.

    Raises:
        ValueError: for another ending, a layer that Keras does not have, two variables of one name
            in two collections, or origin="torch" in another file than .safetensors.
    """
    path, model = expanded(path), without_adapters(model)
    arrays = by_layer(model)
    _check_tells(model, path)
    if path.name.endswith(".weights.h5"):
        write_weights_h5(_for_keras(model, arrays), path)
    elif path.suffix == ".safetensors":
        save_safetensors(_nested(arrays), path, arithmetic(model.module))
    elif path.suffix == ".npz":
        save_npz(_nested(arrays), path)
    else:
        raise ValueError(f"path must end with .weights.h5, .safetensors or .npz, got {path}")
    return path


def _check_tells(model: Model, path: Path) -> None:
    """Refuse a file that would be taken for the weights of Keras' net of the same shapes.

    Raises:
        ValueError: for PyTorch's arithmetic in a file that has no place to say so.
    """
    if arithmetic(model.module).get("origin") == "torch" and path.suffix != ".safetensors":
        raise ValueError(
            f"path={plain(path)} cannot say that {model.spec.name} has origin='torch', and Keras' "
            "net computes something else of these weights: export to .safetensors"
        )


def _for_keras(
    model: Model, arrays: Mapping[str, Mapping[str, Any]]
) -> list[tuple[str, str, Mapping[str, Any]]]:
    """Layers in the order in which Keras looks for them, each with its kind and weights."""
    calls = trace(model)
    instead = "export to .safetensors or .npz"
    if not is_complete(calls):
        raise ValueError(
            f"{model.spec.name} does more than to call layers of its own once each, so Keras' "
            f"order of its layers is not known: {instead}"
        )
    layers = [call for call in in_keras_order(calls) if call.name in arrays]
    strange = [f"{c.name} is a {c.kind}" for c in layers if c.kind not in KERAS_KINDS]
    if strange:
        raise ValueError(f"{strange[0]}, which Keras does not have: {instead}")
    missing = set(arrays) - {call.name for call in layers}
    if missing:
        raise ValueError(f"{', '.join(sorted(missing))}: weights of no layer: {instead}")
    return [(call.name, KERAS_KINDS[call.kind], arrays[call.name]) for call in layers]


def _nested(arrays: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """As the writers take them, which make paths of names themselves."""
    return trees.unflatten(
        {
            f"{layer}/{weight}": array
            for layer, weights in arrays.items()
            for weight, array in weights.items()
        }
    )


def by_layer(model: Model) -> dict[str, dict[str, Any]]:
    """{layer: {weight: array}} over all collections, weights in Keras' order."""
    layers: dict[str, dict[str, Any]] = defaultdict(dict)
    for collection in model.variables.values():
        for path, leaf in trees.leaves(collection).items():
            layer, _, weight = path.rpartition("/")
            if weight in layers[layer]:
                raise ValueError(
                    f"{model.spec.name} has two variables {path!r}, in two collections, for which "
                    "a file of weights alone has one name: use cj.save"
                )
            layers[layer][weight] = leaf
    return {
        layer: dict(sorted(weights.items(), key=lambda item: _rank(item[0])))
        for layer, weights in layers.items()
    }


def _rank(weight: str) -> int:
    return _WEIGHT_ORDER.index(weight) if weight in _WEIGHT_ORDER else len(_WEIGHT_ORDER)
