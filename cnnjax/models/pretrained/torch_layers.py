"""Layers of a PyTorch state dict as layers of a model: names by a table, layouts ours."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import Any

import numpy as np
from flax import linen

from cnnjax.models.pretrained.matching import Target
from cnnjax.models.pretrained.order import WeightsDoNotFit
from cnnjax.models.torch_names import TorchNames
from cnnjax.weights import StoredLayer, StoredWeights

# What our layers may call a weight of theirs.
_OURS = {
    "weight": ("kernel", "depthwise_kernel", "gamma", "embeddings"),
    "bias": ("bias", "beta"),
    "running_mean": ("moving_mean",),
    "running_var": ("moving_variance",),
}

# Of a block that scales what it adds.
SCALES = ("gamma", "layer_scale")


def module_arguments(module: linen.Module) -> dict[str, Any]:
    """All arguments of a module, also those left at their defaults."""
    return {f.name: getattr(module, f.name) for f in fields(module) if f.name != "parent"}


def nearest_table(
    stored: StoredWeights, tables: Sequence[TorchNames], arguments: Mapping[str, Any]
) -> tuple[TorchNames, ...]:
    """The tables that name most of a file's layers; several where libraries have the same names.

    Args:
        stored: a PyTorch file.
        tables: of a family.
        arguments: of our module.

    Returns:
        none where no table names a layer.
    """
    names = [layer.name for layer in stored.layers]
    counts = [len(table.ours(names, {**arguments, **table.arguments})) for table in tables]
    most = max(counts, default=0)
    return tuple(t for t, count in zip(tables, counts, strict=True) if most and count == most)


def as_ours(
    stored: StoredWeights, table: TorchNames, target: Target, arguments: Mapping[str, Any]
) -> StoredWeights:
    """A PyTorch file as one with our names and layouts; layers without a place keep their names.

    Args:
        stored: the file.
        table: of the family.
        target: layers of the model.
        arguments: of the module.

    Raises:
        WeightsDoNotFit: if two arrays of the file are the same weight of ours.
    """
    named = table.ours([layer.name for layer in stored.layers], arguments)
    layers: dict[str, dict[str, np.ndarray]] = {}
    for layer in stored.layers:
        place = named.get(layer.name, layer.name)
        for weight, array in layer.arrays.items():
            if table.is_unused(f"{layer.name}.{weight}"):
                continue
            name, ours = _place(place, weight, target)
            arrays = layers.setdefault(name, {})
            if ours in arrays:
                raise WeightsDoNotFit(
                    f"{stored.path} has two arrays for {name}/{ours}: one is {layer.name}.{weight}"
                )
            arrays[ours] = _converted(array, name, ours, target)
    found = tuple(StoredLayer(name, "", arrays) for name, arrays in layers.items())
    return replace(stored, layers=found)


def _place(place: str, weight: str, target: Target) -> tuple[str, str]:
    """Our layer and weight for a weight of theirs."""
    name, _, ours = place.rpartition("/")
    if place not in target.shapes and ours in target.shapes.get(name, {}):
        return (name, ours) if weight == "weight" else (name, _known(weight, target, name))
    return place, _known(weight, target, place)


def _known(weight: str, target: Target, name: str) -> str:
    """What our layer calls a weight of theirs."""
    shapes = target.shapes.get(name, {})
    if weight in SCALES and len(shapes) == 1:
        return next(iter(shapes))
    return next((ours for ours in _OURS.get(weight, ()) if ours in shapes), weight)


def _converted(array: np.ndarray, name: str, weight: str, target: Target) -> np.ndarray:
    """An array in our layout, by the kind of our layer."""
    wanted = target.shapes.get(name, {}).get(weight, tuple(array.transpose().shape))
    if len(wanted) == 1:
        # Layer scale has axes of one pixel behind its channels.
        return array.reshape(-1) if math.prod(array.shape[1:]) == 1 and array.ndim > 1 else array
    # By the layer's kind; what has no place here is turned as a convolution or a dense layer.
    by_channel = weight == "depthwise_kernel" or target.kinds.get(name) == "depthwise_conv2d"
    if array.ndim == 4 and by_channel:
        return _depthwise(array, wanted[3])
    if array.ndim == 4 and len(wanted) == 4:
        return array.transpose(2, 3, 1, 0)  # OIHW -> HWIO
    if array.ndim == 4:
        # A convolution over the whole map: dense after a flatten in (H, W, C) order.
        return array.transpose(2, 3, 1, 0).reshape(-1, array.shape[0])
    if array.ndim == 2 and len(wanted) == 4:
        return array.T[None, None]
    if array.ndim == 2:
        return _dense(array, target.flattened.get(name))
    return array


def _depthwise(kernel: np.ndarray, multiplier: int) -> np.ndarray:
    """[C M, 1, kh, kw] -> [kh, kw, C, M], where the M filters of a channel are neighbours."""
    if kernel.shape[1] != 1 or kernel.shape[0] % multiplier:
        return kernel.transpose(2, 3, 0, 1)
    apart = kernel.reshape(-1, multiplier, *kernel.shape[2:])
    return apart.transpose(2, 3, 0, 1)


def _dense(kernel: np.ndarray, maps: tuple[int, ...] | None) -> np.ndarray:
    """[O, I] -> [I, O]; rows of flattened maps go by (C, H, W) there, by (H, W, C) here."""
    if maps and kernel.shape[1] == math.prod(maps):
        height, width, channels = maps
        apart = kernel.reshape(-1, channels, height, width)
        return apart.transpose(2, 3, 1, 0).reshape(kernel.shape[::-1])
    return kernel.T
