"""Images of feature maps, and of how silent layers are."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np

from cnnjax import explain
from cnnjax.explain.maps import layers_with_maps
from cnnjax.models import Model
from cnnjax.models.graph import trace
from cnnjax.nn import Activation
from cnnjax.plot import figures, grids
from cnnjax.plot.images import read_photos, save_image, unique

_FIRST = 8  # layers drawn unless asked otherwise
_INPUT = "input_layer"  # the image itself


def draw_activations(
    model: Model,
    files: Sequence[str | Path],
    folder: str | Path,
    layers: Sequence[str] | None = None,
    raw: bool = False,
) -> tuple[dict[str, explain.Sparsity], list[Path]]:
    """The feature maps of layers for photos, and how silent the layers are.

    Writes for every photo and layer PHOTO_activations_LAYER.png, with the maps themselves as
    `maps`, [H, W, F], in the .npz beside it; and sparsity.png, with an array for each column.

    Args:
        model: any.
        files: photos.
        folder: made if needed.
        layers: names or patterns; those without spatial extent are left out. None draws the first
            8 with maps, and takes sparsity over the whole depth, wherever an activation function
            ends a layer.
        raw: show the values themselves on a common scale, not each map normalised for itself.

    Returns:
        ({layer: Sparsity} over the photos, paths of the images).

    Raises:
        UnreadableImage: for a file that is missing or no image.
        ValueError: for a name that is no layer, or no layer with maps.
    """
    photos = read_photos(model, files)
    chosen = _with_maps(model, layers)
    asked = chosen if layers is not None else _activated(model) or None
    table = explain.sparsity(model, photos.inputs, asked)
    paths = []
    for photo, inputs in zip(unique(photos.names), photos.inputs, strict=True):
        for layer, maps in explain.activations(model, inputs[None], chosen).items():
            values = np.asarray(maps[0])
            shown = values if raw else explain.normalise_maps(values)
            title = f"{layer}   {' x '.join(map(str, values.shape))}"
            figure = grids.feature_maps(shown, title)
            scale = "all on one scale" if raw else "each normalised for itself"
            caption = f"{photo}: the maps of {layer}, {scale}"
            name = f"{photo}_activations_{layer}"
            paths.append(save_image(folder, name, figure, {"maps": values}, caption))
    columns = {"layers": np.array(list(table))}
    for name in ("zeros", "dead_maps", "dead_for_all"):
        columns[name] = np.array([getattr(row, name) for row in table.values()], np.float32)
    caption = "How silent the layers are for these photos: shares of zeros and of dead maps"
    paths.append(save_image(folder, "sparsity", figures.sparsity(table), columns, caption))
    return table, paths


def _with_maps(model: Model, layers: Sequence[str] | None) -> list[str]:
    """Names of the layers to draw."""
    shapes = explain.activation_shapes(model, layers)
    maps = layers_with_maps(model)
    chosen = [
        name
        for name, shape in shapes.items()
        if name in maps or (len(shape) == 4 and shape[1] * shape[2] == 1)
    ]
    if layers is None:
        chosen = [name for name in chosen if name != _INPUT][:_FIRST]
    if not chosen:
        which = "no layer" if layers is None else f"none of the layers {', '.join(shapes)}"
        raise ValueError(f"{which} of {model.spec.name} has maps to draw: all are without extent")
    return chosen


def _activated(model: Model) -> list[str]:
    """Names of the layers that end in an activation function: others are hardly ever zero."""
    functions = {
        call.name: call.module.function
        if isinstance(call.module, Activation)
        else getattr(call.module, "activation", None)
        for call in trace(model)
    }
    return [name for name, f in functions.items() if f not in (None, jax.nn.identity)]
