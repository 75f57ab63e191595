"""Class activation maps: where in an image a layer found what speaks for a class."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from cnnjax.explain.activations import layer_outputs
from cnnjax.explain.maps import check_map, layers_with_maps
from cnnjax.explain.methods import method
from cnnjax.explain.targets import (
    Target,
    checked_images,
    class_numbers,
    class_scores,
)
from cnnjax.models import Model, taps
from cnnjax.models.modules import Static, Variables

# (maps [N, h, w, C], their gradients) -> weighted sum over the channels [N, h, w].
Combine: TypeAlias = Callable[[Array, Array], Array]


class EmptyMap(UserWarning):
    """Nothing in the layer speaks for the class: the map is zero everywhere."""


@method(at_layer=True, randomised=True)
def grad_cam(
    model: Model, images: Array | np.ndarray, layer: str | None = None, target: Target = None
) -> Array:
    """Grad-CAM (Selvaraju et al. 2017, arXiv:1610.02391).

    `heat = relu(sum_c w_c A_c)` with the layer's maps A and `w_c = mean_ij d logit / d A_cij`,
    divided by its maximum and resized (bilinear) to the input.

    Args:
        model: any with a head; nothing in it is changed.
        images: preprocessed inputs, [N, H, W, C] floating, as `model(images)` takes them.
        layer: a name of `model.layer_names`, also nested ("base/conv"), whose output is
            [N, h, w, C]; None takes `model.spec.cam_layer`.
        target: None for the class predicted for each image; a class number or a name of
            `model.spec.label_names` for all images; or a sequence of them, one per image. With one
            logit, 1 (or the second name) is the logit and 0 (or the first name) its negative. May
            be a traced int32 array; another value compiles nothing. For a model of positions
            (position, class) or such a pair per image, where None is the class predicted there.

    Returns:
        float32 [N, H, W] in [0, 1]; zero where the weighted sum is nowhere positive, which an
        `EmptyMap` warning reports (not inside a compiled function).

    Raises:
        ValueError: for a layer that does not exist (offers the nearest), or whose output is no map
            (without height and width, or with the channels second); a target out of range or
            unknown; images of another shape, dtype or range; a model without a head, or whose
            logits are not finite.

    >>> import cnnjax as cj, numpy as np
    >>> model = cj.create_model("mnist_convnet")
    >>> image = np.random.default_rng(0).random((2, 28, 28, 1), np.float32)
    >>> cj.explain.grad_cam(model, image, layer="conv2", target=[3, 4]).shape
    (2, 28, 28)
    """
    return _cam(model, images, layer, target, _mean_gradients, "grad_cam")


@method(at_layer=True)
def hires_cam(
    model: Model, images: Array | np.ndarray, layer: str | None = None, target: Target = None
) -> Array:
    """HiResCAM (Draelos & Carin 2020, arXiv:2011.08891): `relu(sum_c (d logit / d A_c) A_c)`.

    The gradients are not averaged, so that the map shows only what the model used. Arguments,
    result and errors as in `grad_cam`.
    """
    return _cam(model, images, layer, target, _gradients_by_place, "hires_cam")


@method(at_layer=True, randomised=True)
def grad_cam_plus_plus(
    model: Model, images: Array | np.ndarray, layer: str | None = None, target: Target = None
) -> Array:
    """Grad-CAM++ (Chattopadhay et al. 2018, arXiv:1710.11063), for several objects of a class.

    `w_c = sum_ij a_cij relu(g_cij)` with `a = g^2 / (2 g^2 + sum_ij A_cij g^3)` and
    `g = d logit / d A`. Arguments, result and errors as in `grad_cam`.
    """
    return _cam(model, images, layer, target, _weighted_gradients, "grad_cam_plus_plus")


def _mean_gradients(maps: Array, gradients: Array) -> Array:
    weights = jnp.mean(gradients, axis=(1, 2))
    return jnp.einsum("nhwc,nc->nhw", maps, weights)


def _gradients_by_place(maps: Array, gradients: Array) -> Array:
    return jnp.sum(maps * gradients, axis=-1)


def _weighted_gradients(maps: Array, gradients: Array) -> Array:
    squares = jnp.square(gradients)
    total = jnp.sum(maps, axis=(1, 2), keepdims=True)
    below = 2 * squares + total * squares * gradients
    shares = squares / jnp.where(below == 0, 1, below)
    weights = jnp.sum(shares * jax.nn.relu(gradients), axis=(1, 2))
    return jnp.einsum("nhwc,nc->nhw", maps, weights)


def _cam(
    model: Model,
    images: Array | np.ndarray,
    layer: str | None,
    target: Target,
    combine: Combine,
    name: str,
) -> Array:
    inputs = checked_images(model, images, positions=True)
    labels = class_numbers(model, target, len(inputs))
    layer = _spatial_layer(model, layer)
    heatmaps, empty, finite = class_maps(
        model.static, model.spec.name, layer, combine, model.variables, inputs, labels
    )
    if not isinstance(empty, jax.core.Tracer):
        _report(np.asarray(empty), np.asarray(finite), model, layer, name)
    return heatmaps


def _spatial_layer(model: Model, layer: str | None) -> str:
    """The layer to take; it is one and has maps."""
    name = model.spec.cam_layer if layer is None else layer
    if not name:
        fitting = list(layers_with_maps(model))
        example = f"layer={fitting[-1]!r}" if fitting else "but it has none with height and width"
        raise ValueError(f"{model.spec.name} has no default layer: give one, e.g. {example}")
    check_map(model, name)
    return name


def _report(empty: np.ndarray, finite: np.ndarray, model: Model, layer: str, name: str) -> None:
    if not finite.all():
        numbers = np.flatnonzero(~finite).tolist()
        raise ValueError(f"the logits of {model.spec.name} for images {numbers} are not finite")
    if empty.any():
        warnings.warn(
            f"{name}: the maps of images {np.flatnonzero(empty).tolist()} are zero, since at "
            f"{layer!r} nothing speaks for their class",
            EmptyMap,
            stacklevel=4,
        )


@functools.partial(jax.jit, static_argnums=(0, 1, 2, 3))
def class_maps(
    static: Static,
    root: str,
    layer: str,
    combine: Combine,
    variables: Variables,
    inputs: Array,
    labels: Array,
) -> tuple[Array, Array, Array]:
    """A method of this file for a program of one's own: nothing is checked, it may be traced.

    Args:
        static: the model's module.
        root: what the module itself is called, `model.spec.name`.
        layer: whose output is [N, h, w, C].
        combine: of the method.
        variables: of the model.
        inputs: preprocessed, [N, H, W, C].
        labels: int32 [N], of `class_numbers`.

    Returns:
        Heatmaps [N, H, W] in [0, 1]; bool [N], whether they are zero; bool [N], whether the logits
        are finite.
    """
    maps, gradients, logits = maps_and_gradients(static, root, layer, variables, inputs, labels)
    heat = jax.nn.relu(combine(maps, gradients))
    top = jnp.max(heat, axis=(1, 2))
    heat = heat / jnp.where(top > 0, top, 1)[:, None, None]
    heatmaps = jax.image.resize(heat, (*inputs.shape[:3],), "bilinear").astype(jnp.float32)
    return heatmaps, top <= 0, jnp.isfinite(logits).all(axis=tuple(range(1, logits.ndim)))


def maps_and_gradients(
    static: Static, root: str, layer: str, variables: Variables, inputs: Array, labels: Array
) -> tuple[Array, Array, Array]:
    """A layer's output, the gradient of each image's class logit with respect to it, the logits.

    A zero that is added to the layer's output is what is differentiated by: the layers before it
    only run forward, and skips around it are no special case. Images do not see each other, so
    that the sum of their scores has the gradient of each. Arguments as in `class_maps`.

    Raises:
        ValueError: if the layer is called more than once.
    """

    def score(delta: Array) -> tuple[Array, tuple[Array, Any]]:
        def added(visit: taps.Visit) -> Any:
            output = visit.proceed()
            return output + delta if visit.path == layer else output

        logits, layers = taps.run(static, variables, inputs, root=root, read=(layer,), edit=added)
        if (count := len(layers[layer])) > 1:
            raise ValueError(
                f"layer={layer!r} is called {count} times, so it has no single map: take one that "
                "is called once"
            )
        return jnp.sum(class_scores(logits, labels)), (layers[layer][0], logits)

    found = jax.eval_shape(
        functools.partial(layer_outputs, static, root, (layer,)), variables, inputs
    )
    delta = jnp.zeros(found[layer].shape, found[layer].dtype)
    gradients, (maps, logits) = jax.grad(score, has_aux=True)(delta)
    return maps, gradients, logits
