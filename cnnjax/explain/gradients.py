"""How the logit of a class changes with the pixels: gradients with respect to the inputs."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from cnnjax.core import rng
from cnnjax.core.checks import is_number
from cnnjax.explain.methods import method
from cnnjax.explain.targets import (
    Target,
    check_preprocessed,
    checked_images,
    class_numbers,
    class_scores,
    with_predictions,
)
from cnnjax.models import Model, taps
from cnnjax.models.modules import Static, Variables
from cnnjax.nn import Activation

# Whose gradient guided backpropagation overrides.
RECTIFIERS = (jax.nn.relu, jax.nn.relu6)


def as_heatmaps(attributions: Array) -> Array:
    """Signed attributions as maps: the largest magnitude over the channels, per image at most 1.

    Args:
        attributions: [N, H, W, C].

    Returns:
        float32 [N, H, W] in [0, 1].
    """
    heat = jnp.max(jnp.abs(attributions), axis=-1)
    top = jnp.max(heat, axis=(1, 2), keepdims=True)
    return (heat / jnp.where(top > 0, top, 1)).astype(jnp.float32)


def input_gradient(model: Model, images: Array | np.ndarray, target: Target = None) -> Array:
    """The gradient of each image's class logit with respect to the image.

    Args:
        model: any with a head.
        images: preprocessed inputs, [N, H, W, C] floating.
        target: as in `grad_cam`.

    Returns:
        [N, H, W, C].

    Raises:
        ValueError: for images or targets that `grad_cam` refuses.
    """
    inputs = checked_images(model, images)
    labels = class_numbers(model, target, len(inputs))
    return _gradient(model.static, False, model.variables, inputs, labels)


@method(lines=True, randomised=True)
def saliency(model: Model, images: Array | np.ndarray, target: Target = None) -> Array:
    """Saliency maps (Simonyan et al. 2013, arXiv:1312.6034): `max_c |d logit / d x_c|`.

    Arguments and errors as in `input_gradient`.

    Returns:
        float32 [N, H, W] in [0, 1].

    >>> import cnnjax as cj, numpy as np
    >>> images = np.random.default_rng(0).random((2, 28, 28, 1), np.float32)
    >>> cj.explain.saliency(cj.create_model("mlp"), images).shape
    (2, 28, 28)
    """
    return as_heatmaps(input_gradient(model, images, target))


@method(lines=True)
def smooth_grad(
    model: Model,
    images: Array | np.ndarray,
    target: Target = None,
    samples: int = 25,
    noise: float = 0.15,
    seed: int = 0,
) -> Array:
    """SmoothGrad (Smilkov et al. 2017, arXiv:1706.03825): saliency of the mean gradient in noise.

    Args:
        model, images, target: as in `input_gradient`; the class predicted is that of the image
            without noise.
        samples: noisy copies, >= 1.
        noise: standard deviation, in units of the range of each image's values, in [0, 1].
        seed: of the noise.

    Returns:
        float32 [N, H, W] in [0, 1].

    Raises:
        ValueError: for images or targets that `grad_cam` refuses, or samples or noise out of range.
    """
    if samples < 1:
        raise ValueError(f"samples must be at least 1, got {samples}")
    if not (is_number(noise) and 0 <= noise <= 1):
        raise ValueError(
            f"noise is a share of each image's range and must lie in [0, 1], got {noise!r}"
        )
    inputs, labels = _inputs_and_classes(model, images, target)
    key, total = rng.stream(seed, "smooth_grad"), jnp.zeros_like(inputs)
    # A loop in Python: convolutions inside XLA's loops are slow on CPUs.
    for sample in range(samples):
        noisy = _noisy(inputs, jax.random.fold_in(key, sample), jnp.float32(noise))
        total += _gradient(model.static, False, model.variables, noisy, labels)
    return as_heatmaps(total / samples)


@method(lines=True, maps=as_heatmaps)
def integrated_gradients(
    model: Model,
    images: Array | np.ndarray,
    target: Target = None,
    baseline: Array | np.ndarray | None = None,
    steps: int = 32,
) -> Array:
    """Integrated gradients (Sundararajan et al. 2017, arXiv:1703.01365).

    `(x - b) * integral_0^1 d logit(b + t (x - b)) / dx dt`, by the midpoint rule. The sum over an
    image is `logit(x) - logit(b)` but for the error of the rule.

    Args:
        model, images, target: as in `input_gradient`; the class predicted is that of the image.
        baseline: b, preprocessed, [H, W, C] or [N, H, W, C]; None takes black, which for a model
            with preprocessing "none" is zero: of standardised inputs their mean.
        steps: of the rule, >= 1.

    Returns:
        [N, H, W, C], signed; `as_heatmaps` makes maps of it.

    Raises:
        ValueError: for images or targets that `grad_cam` refuses, or a baseline of another shape,
            or of pixels that were not preprocessed.
    """
    if steps < 1:
        raise ValueError(f"steps must be at least 1, got {steps}")
    inputs, labels = _inputs_and_classes(model, images, target)
    start = jnp.broadcast_to(_baseline(model, baseline), inputs.shape)
    total = jnp.zeros_like(inputs)
    for step in range(steps):
        between = start + jnp.float32((step + 0.5) / steps) * (inputs - start)
        total += _gradient(model.static, False, model.variables, between, labels)
    return (inputs - start) * total / steps


@method(lines=True, randomised=True, maps=as_heatmaps)
def guided_backpropagation(
    model: Model, images: Array | np.ndarray, target: Target = None
) -> Array:
    """Guided backpropagation (Springenberg et al. 2014, arXiv:1412.6806).

    The gradient with respect to the image, but every ReLU (and ReLU6) on the way back also lets
    only positive gradients pass. It makes sharp images that hardly depend on the class or on the
    upper layers: see `randomisation`.

    Args:
        model, images, target: as in `input_gradient`. The ReLUs must be modules:
            `cnnjax.nn.Activation`, or an `activation` of the layers of `cnnjax.nn`.

    Returns:
        [N, H, W, C], signed; `as_heatmaps` makes maps of it.

    Raises:
        ValueError: for images or targets that `grad_cam` refuses, or if there is no such ReLU.
    """
    inputs = checked_images(model, images)
    labels = class_numbers(model, target, len(inputs))
    return _gradient(model.static, True, model.variables, inputs, labels)


def _inputs_and_classes(
    model: Model, images: Array | np.ndarray, target: Target
) -> tuple[Array, Array]:
    """Inputs, and the class of each fixed before the inputs are moved."""
    inputs = checked_images(model, images)
    labels = class_numbers(model, target, len(inputs))
    return inputs, with_predictions(model(inputs), labels) if target is None else labels


def _baseline(model: Model, baseline: Array | np.ndarray | None) -> Array:
    shape = model.spec.input_shape
    if baseline is None:
        return model.spec.preprocess(jnp.zeros((1, *shape)))
    given = jnp.asarray(baseline, jnp.float32)
    if given.ndim not in (3, 4) or given.shape[-3:] != shape:
        raise ValueError(
            f"baseline must be {list(shape)} or a batch of it, got {list(given.shape)}"
        )
    check_preprocessed(model.spec, given, "baselines")
    return given if given.ndim == 4 else given[None]


@jax.jit
def _noisy(inputs: Array, key: Array, noise: Array) -> Array:
    spread = inputs.max((1, 2, 3), keepdims=True) - inputs.min((1, 2, 3), keepdims=True)
    return inputs + noise * spread * jax.random.normal(key, inputs.shape, inputs.dtype)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _gradient(
    static: Static, guided: bool, variables: Variables, inputs: Array, labels: Array
) -> Array:
    """Of the sum of the scores: images do not see each other, so that it is the one of each."""
    overridden = []

    def guide(visit: taps.Visit) -> Any:
        layer = visit.module
        if isinstance(layer, Activation) and any(layer.function is f for f in RECTIFIERS):
            overridden.append(layer)
            return _guided(layer.function, *visit.args)
        return visit.proceed()

    def score(images: Array) -> Array:
        edit = guide if guided else None
        logits = taps.run(static, variables, images, edit=edit).outputs
        return jnp.sum(class_scores(logits, labels))

    gradient = jax.grad(score)(inputs)
    if guided and not overridden:
        raise ValueError(
            f"{type(static.module).__name__} has no ReLU that guided backpropagation could "
            "override: they must be cnnjax.nn.Activation(jax.nn.relu) modules"
        )
    return gradient


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _guided(function: Any, x: Array) -> Array:
    """A rectifier that on the way back lets only positive gradients pass."""
    return function(x)


def _guided_forward(function: Any, x: Array) -> tuple[Array, Array]:
    return function(x), x


def _guided_backward(function: Any, x: Array, gradient: Array) -> tuple[Array]:
    passed = jax.grad(lambda a: jnp.sum(function(a) * gradient))(x)
    return (jax.nn.relu(passed),)


_guided.defvjp(_guided_forward, _guided_backward)
