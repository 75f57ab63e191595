"""What a layer has to do with the scores: its output, the gradients at it, heat made of them."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from cnnjax.explain.scores import Question, gradients_of
from cnnjax.models import taps
from cnnjax.models.modules import Static, Variables


def as_heat(heat: Array, size: tuple[int, int]) -> tuple[Array, Array]:
    """Weighted sums [..., h, w] as heatmaps [..., H, W] in [0, 1]; whether they are zero [...]."""
    heat = jax.nn.relu(heat)
    top = jnp.max(heat, axis=(-2, -1))
    heat = heat / jnp.where(top > 0, top, 1)[..., None, None]
    heatmaps = jax.image.resize(heat, (*heat.shape[:-2], *size), "bilinear")
    return heatmaps.astype(jnp.float32), top <= 0


def finite_examples(outputs: Any) -> Array:
    """bool [N], whether all outputs of an example are finite."""
    each = [
        jnp.isfinite(leaf).all(axis=tuple(range(1, leaf.ndim))) for leaf in jax.tree.leaves(outputs)
    ]
    return functools.reduce(jnp.logical_and, each)


def maps_and_gradients(
    static: Static, root: str, layer: str, variables: Variables, inputs: Any, question: Question
) -> tuple[Array, Array, Any]:
    """A layer's output, the gradient of each example's score with respect to it, the outputs.

    A zero that is added to the layer's output is what is differentiated by: the layers before it
    only run forward, and skips around it are no special case. Arguments as in `cam.class_maps`.

    Raises:
        ValueError: if the layer is called more than once, and none of the calls is named.
    """
    path, call = taps.place(layer)

    def read(variables: Variables, inputs: Any) -> list[Any]:
        return taps.run(static, variables, inputs, root=root, read=(path,)).layers[path]

    calls = jax.eval_shape(read, variables, inputs)
    call = taps.which_call(layer, len(calls))

    def scores(delta: Array) -> tuple[Array, tuple[Array, Any]]:
        outputs, layers = taps.run(
            static, variables, inputs, root=root, read=(path,), add={(path, call): delta}
        )
        return question.scores(outputs), (layers[path][call], outputs)

    delta = jnp.zeros(calls[call].shape, calls[call].dtype)
    gradients, (maps, outputs) = gradients_of(scores, delta)
    return maps, gradients, outputs
