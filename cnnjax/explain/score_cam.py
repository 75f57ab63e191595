"""Class activation maps without gradients: what a model says of images masked by a layer's maps."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from cnnjax.explain.cam import named_layer, report
from cnnjax.explain.inputs import checked_images, image_of, with_image
from cnnjax.explain.layer_gradients import as_heat, finite_examples
from cnnjax.explain.maps import maps_of
from cnnjax.explain.masked import masked_scores
from cnnjax.explain.methods import method
from cnnjax.explain.targets import Target, asked
from cnnjax.explain.tokens import Rearrange, ToMap
from cnnjax.models import Model, taps
from cnnjax.models.modules import Static, Variables

_BLOCK = 64  # channels whose masks are in memory at once


@method(at_layer=True, on_request=True)
def score_cam(
    model: Model,
    images: Any,
    layer: str | None = None,
    target: Target = None,
    to_map: ToMap = None,
) -> Array:
    """Score-CAM (Wang et al. 2020, arXiv:1910.01279).

    `heat = relu(sum_c w_c A_c)` with the layer's maps A and `w = softmax_c(f(x H_c) - f(0))`, where
    f is the class's logit and H_c the map A_c, resized to the image x and scaled to [0, 1]; x and 0
    are as the model takes them. Takes a forward pass per channel of the layer. Arguments, result
    and errors as in `grad_cam`.
    """
    inputs = checked_images(model, images)
    image, outputs = image_of(inputs), model(inputs)
    question = asked(model, target, len(image)).settled(outputs)
    layer = named_layer(model, layer)
    rearrange = maps_of(model, layer, to_map, inputs)
    maps = _maps(model.static, model.spec.name, layer, rearrange, model.variables, inputs)
    size = (image.shape[1], image.shape[2])
    nothing = jnp.zeros_like(image)
    rises = [
        masked_scores(model, question, inputs, nothing, 1 - _masks(block, size))
        for block in _blocks(maps)
    ]
    none = question.scores(model(with_image(inputs, nothing)))
    weights = jax.nn.softmax(jnp.asarray(np.concatenate(rises)) - none[None], axis=0)
    heat = jnp.einsum("nhwc,cn...->n...hw", maps, weights)
    heatmaps, empty = as_heat(heat, size)
    report(empty, finite_examples(outputs), model, layer, "score_cam", depth=1)
    return heatmaps


def _blocks(maps: Array) -> list[Array]:
    return [maps[..., start : start + _BLOCK] for start in range(0, maps.shape[-1], _BLOCK)]


@functools.partial(jax.jit, static_argnums=1)
def _masks(maps: Array, size: tuple[int, int]) -> Array:
    """Maps [N, h, w, C] as masks [C, N, H, W] in [0, 1]; of a map without contrast zero."""
    large = jax.image.resize(maps, (len(maps), *size, maps.shape[-1]), "bilinear")
    lowest, highest = (f(large, axis=(1, 2), keepdims=True) for f in (jnp.min, jnp.max))
    contrast = highest > lowest
    masks = jnp.where(contrast, (large - lowest) / jnp.where(contrast, highest - lowest, 1), 0)
    return jnp.moveaxis(masks, -1, 0)


@functools.partial(jax.jit, static_argnums=(0, 1, 2, 3))
def _maps(
    static: Static,
    root: str,
    layer: str,
    rearrange: Rearrange | None,
    variables: Variables,
    inputs: Any,
) -> Array:
    path, _ = taps.place(layer)
    calls = taps.run(static, variables, inputs, root=root, read=(path,)).layers[path]
    maps = calls[taps.which_call(layer, len(calls))]
    return maps if rearrange is None else rearrange(maps)
