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

from cnnjax.explain.inputs import checked_images, count_of, image_size
from cnnjax.explain.layer_gradients import as_heat, finite_examples, maps_and_gradients
from cnnjax.explain.maps import layers_with_maps, maps_of
from cnnjax.explain.methods import method
from cnnjax.explain.scores import Question
from cnnjax.explain.targets import Target, asked
from cnnjax.explain.tokens import Rearrange, ToMap
from cnnjax.models import Model
from cnnjax.models.modules import Static, Variables

# (maps [N, h, w, C], their gradients) -> weighted sum over the channels [N, h, w].
Combine: TypeAlias = Callable[[Array, Array], Array]


class EmptyMap(UserWarning):
    """Nothing in the layer speaks for the class: the map is zero everywhere."""


@method(at_layer=True, randomised=True)
def grad_cam(
    model: Model,
    images: Any,
    layer: str | None = None,
    target: Target = None,
    to_map: ToMap = None,
) -> Array:
    """Grad-CAM (Selvaraju et al. 2017, arXiv:1610.02391).

    `heat = relu(sum_c w_c A_c)` with the layer's maps A and `w_c = mean_ij d logit / d A_cij`,
    divided by its maximum and resized (bilinear) to the input.

    Args:
        model: any; nothing in it is changed.
        images: preprocessed inputs, [N, H, W, C] floating, as `model(images)` takes them.
        layer: a name of `model.layer_names`, also nested ("base/conv"), whose output is
            [N, h, w, C], or tokens [N, T, C]; None takes `model.spec.cam_layer`. Of a layer that is
            called several times, as in `nn.scan`, one call by number: "blocks/conv@0" is the first.
        target: None for the class predicted for each image; a class number or a name of
            `model.spec.label_names` for all images; or a sequence of them, one per image. With one
            logit, 1 (or the second name) is the logit and 0 (or the first name) its negative. Of
            several labels or values the number or name of an output. For a model of positions
            (position, class) or such a pair per image, where None is the class predicted there;
            for one of a class at each pixel the class, whose mean logit is taken.
            [N, K] of numbers or names asks K classes of each image at once; floating [N, ...], of
            the outputs' shape, are weights of a sum of outputs; a function of the outputs returns
            what is to be explained, floating [N], or [N, K]. May be a traced array; other values
            compile nothing, another function does.
        to_map: how tokens lie in the image: (rows, columns, first tokens skipped), or a function
            that makes [N, h, w, C] of the layer's output by moving its values; None for maps, and
            for tokens that fill a grid of the image's proportions, with or without a class token.

    Returns:
        float32 [N, H, W] in [0, 1], of several at once [N, K, H, W] in one forward pass; zero where
        the weighted sum is nowhere positive, which an `EmptyMap` warning reports (not inside a
        compiled function).

    Raises:
        ValueError: for a layer that does not exist (offers the nearest), or whose output is no map
            (without height and width, or with the channels second); a target out of range or
            unknown; images of another shape, dtype or range; a model without a head, unless asked
            by a function, or whose outputs are not finite.

    >>> import cnnjax as cj, numpy as np
    >>> model = cj.create_model("mnist_convnet")
    >>> image = np.random.default_rng(0).random((2, 28, 28, 1), np.float32)
    >>> cj.explain.grad_cam(model, image, layer="conv2", target=[3, 4]).shape
    (2, 28, 28)
    """
    return _cam(model, images, layer, target, to_map, _mean_gradients, "grad_cam")


@method(at_layer=True)
def hires_cam(
    model: Model,
    images: Any,
    layer: str | None = None,
    target: Target = None,
    to_map: ToMap = None,
) -> Array:
    """HiResCAM (Draelos & Carin 2020, arXiv:2011.08891): `relu(sum_c (d logit / d A_c) A_c)`.

    The gradients are not averaged, so that the map shows only what the model used. Arguments,
    result and errors as in `grad_cam`.
    """
    return _cam(model, images, layer, target, to_map, _gradients_by_place, "hires_cam")


@method(at_layer=True, randomised=True)
def grad_cam_plus_plus(
    model: Model,
    images: Any,
    layer: str | None = None,
    target: Target = None,
    to_map: ToMap = None,
) -> Array:
    """Grad-CAM++ (Chattopadhay et al. 2018, arXiv:1710.11063), for several objects of a class.

    `w_c = sum_ij a_cij relu(g_cij)` with `a = g^2 / (2 g^2 + sum_ij A_cij g^3)` and
    `g = d logit / d A`. Arguments, result and errors as in `grad_cam`.
    """
    return _cam(model, images, layer, target, to_map, _weighted_gradients, "grad_cam_plus_plus")


@method(at_layer=True)
def layer_cam(
    model: Model,
    images: Any,
    layer: str | None = None,
    target: Target = None,
    to_map: ToMap = None,
) -> Array:
    """LayerCAM (Jiang et al. 2021, IEEE TIP 30): `relu(sum_c relu(d logit / d A_c) A_c)`.

    Weights of their own at each place, so that maps of early layers are fine and sharp. Arguments,
    result and errors as in `grad_cam`.
    """
    return _cam(model, images, layer, target, to_map, _positive_by_place, "layer_cam")


@method(at_layer=True)
def eigen_cam(
    model: Model,
    images: Any,
    layer: str | None = None,
    target: Target = None,
    to_map: ToMap = None,
) -> Array:
    """Eigen-CAM (Muhammad & Yeasin 2020, arXiv:2008.00299): the maps' first principal component.

    `relu(A v)` with the maps A [h w, C] of an image and v the first of their right singular
    vectors, of the sign whose sum over the places is positive. It shows what is salient in the
    layer whatever the class, and takes no gradient. Arguments, result and errors as in `grad_cam`.
    """
    return _cam(model, images, layer, target, to_map, _first_component, "eigen_cam")


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


def _positive_by_place(maps: Array, gradients: Array) -> Array:
    return jnp.sum(maps * jax.nn.relu(gradients), axis=-1)


def _first_component(maps: Array, gradients: Array) -> Array:
    flat = maps.reshape(len(maps), -1, maps.shape[-1])
    _, _, vectors = jnp.linalg.svd(flat, full_matrices=False)
    heat = jnp.einsum("npc,nc->np", flat, vectors[:, 0])
    sign = jnp.where(jnp.sum(heat, axis=1, keepdims=True) < 0, -1, 1)
    return (sign * heat).reshape(maps.shape[:-1])


def _cam(
    model: Model,
    images: Any,
    layer: str | None,
    target: Target,
    to_map: ToMap,
    combine: Combine,
    name: str,
) -> Array:
    inputs = checked_images(model, images)
    question = asked(model, target, count_of(inputs))
    layer = named_layer(model, layer)
    rearrange = maps_of(model, layer, to_map, inputs)
    heatmaps, empty, finite = class_maps(
        model.static, model.spec.name, layer, combine, model.variables, inputs, question, rearrange
    )
    if not isinstance(empty, jax.core.Tracer):
        report(empty, finite, model, layer, name, depth=2)
    return heatmaps


def named_layer(model: Model, layer: str | None) -> str:
    """The layer to take; None takes the model's own."""
    name = model.spec.cam_layer if layer is None else layer
    if not name:
        fitting = list(layers_with_maps(model))
        if not fitting:
            raise ValueError(
                f"{model.spec.name} has no layer with height and width to make maps of"
            )
        raise ValueError(
            f"{model.spec.name} has no default layer: give one, e.g. layer={fitting[-1]!r}"
        )
    return name


def report(empty: Any, finite: Any, model: Model, layer: str, name: str, depth: int) -> None:
    """Refuse outputs that are not finite, [N]; warn of maps that are zero, [N] or [N, K].

    Args:
        empty, finite: whether they are.
        model, layer: that were asked.
        name: of the method.
        depth: of calls between the user's and this one.
    """
    empty, finite = np.asarray(empty), np.asarray(finite)
    if not finite.all():
        numbers = np.flatnonzero(~finite).tolist()
        raise ValueError(f"the logits of {model.spec.name} for images {numbers} are not finite")
    if empty.any():
        images = np.flatnonzero(empty.reshape(len(empty), -1).any(axis=1)).tolist()
        warnings.warn(
            f"{name}: the maps of images {images} are zero, since at {layer!r} nothing speaks for "
            "their class",
            EmptyMap,
            stacklevel=depth + 2,
        )


@functools.partial(jax.jit, static_argnums=(0, 1, 2, 3, 7))
def class_maps(
    static: Static,
    root: str,
    layer: str,
    combine: Combine,
    variables: Variables,
    inputs: Array,
    question: Question,
    rearrange: Rearrange | None = None,
) -> tuple[Array, Array, Array]:
    """A method of this file for a program of one's own: nothing is checked, it may be traced.

    Args:
        static: the model's module.
        root: what the module itself is called, `model.spec.name`.
        layer: whose output is [N, h, w, C], or is made so.
        combine: of the method.
        variables: of the model.
        inputs: preprocessed, [N, H, W, C].
        question: of `asked`.
        rearrange: makes maps of the layer's output; None where it is maps.

    Returns:
        Heatmaps [N, H, W] in [0, 1]; bool [N], whether they are zero; bool [N], whether the outputs
        are finite. Of several questions heatmaps [N, K, H, W], whether zero [N, K].
    """
    values, gradients, outputs = maps_and_gradients(
        static, root, layer, variables, inputs, question
    )
    several = gradients.ndim > values.ndim
    if rearrange is not None:
        values = rearrange(values)
        gradients = (jax.vmap(rearrange, 1, 1) if several else rearrange)(gradients)
    heat = (jax.vmap(combine, (None, 1), 1) if several else combine)(values, gradients)
    heatmaps, empty = as_heat(heat, image_size(inputs))
    return heatmaps, empty, finite_examples(outputs)
