"""How the logit of a class changes with the pixels: gradients with respect to the inputs."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from cnnjax.core import rng
from cnnjax.core.checks import is_number
from cnnjax.explain.guided import guided_rectifier, is_rectifier
from cnnjax.explain.inputs import check_images, check_preprocessed, checked_inputs, count_of
from cnnjax.explain.methods import method
from cnnjax.explain.scores import Question, gradients_of
from cnnjax.explain.targets import Target, asked
from cnnjax.models import Model, taps
from cnnjax.models.modules import Static, Variables


def as_heatmaps(attributions: Any) -> Any:
    """Signed attributions as maps: the largest magnitude over the channels, per image at most 1.

    Args:
        attributions: [N, H, W, C], or [N, K, H, W, C] of several targets; of inputs by name a
            dictionary of these.

    Returns:
        float32 [N, H, W] in [0, 1], or [N, K, H, W]; of inputs by name those of images.
    """
    if not isinstance(attributions, dict):
        return _heat(attributions)
    return {name: _heat(each) for name, each in attributions.items() if each.ndim >= 4}


def _heat(attributions: Array) -> Array:
    heat = jnp.max(jnp.abs(attributions), axis=-1)
    top = jnp.max(heat, axis=(-2, -1), keepdims=True)
    return (heat / jnp.where(top > 0, top, 1)).astype(jnp.float32)


def input_gradient(model: Model, images: Any, target: Target = None) -> Any:
    """The gradient of each example's class logit with respect to its input.

    Args:
        model: any whose inputs are floating.
        images: preprocessed inputs, [N, H, W, C] floating, or others as `model(...)` takes them; of
            several inputs a dictionary.
        target: as in `grad_cam`.

    Returns:
        [N, H, W, C]; of several targets at once [N, K, H, W, C]. Of inputs by name a dictionary of
        those that are floating.

    Raises:
        ValueError: for images or targets that `grad_cam` refuses, or inputs that are all token ids.
    """
    inputs = checked_inputs(model, images)
    question = asked(model, target, count_of(inputs))
    return _gradient(model.static, False, model.variables, inputs, question)


@method(lines=True, randomised=True)
def saliency(model: Model, images: Any, target: Target = None) -> Any:
    """Saliency maps (Simonyan et al. 2013, arXiv:1312.6034): `max_c |d logit / d x_c|`.

    Arguments and errors as in `input_gradient`.

    Returns:
        float32 [N, H, W] in [0, 1]; of several targets at once [N, K, H, W]. Of inputs by name a
        dictionary of those that are images.

    >>> import cnnjax as cj, numpy as np
    >>> images = np.random.default_rng(0).random((2, 28, 28, 1), np.float32)
    >>> cj.explain.saliency(cj.create_model("mlp"), images).shape
    (2, 28, 28)
    """
    return as_heatmaps(_of_images(model, input_gradient(model, images, target)))


@method(lines=True)
def smooth_grad(
    model: Model,
    images: Any,
    target: Target = None,
    samples: int = 25,
    noise: float = 0.15,
    seed: int = 0,
) -> Any:
    """SmoothGrad (Smilkov et al. 2017, arXiv:1706.03825): saliency of the mean gradient in noise.

    Args:
        model, images, target: as in `input_gradient`; the class predicted is that of the image
            without noise.
        samples: noisy copies, >= 1.
        noise: standard deviation, in units of the range of each image's values, in [0, 1].
        seed: of the noise.

    Returns:
        As `saliency`.

    Raises:
        ValueError: for images or targets that `grad_cam` refuses, or samples or noise out of range.
    """
    if samples < 1:
        raise ValueError(f"samples must be at least 1, got {samples}")
    if not (is_number(noise) and 0 <= noise <= 1):
        raise ValueError(
            f"noise is a share of each image's range and must lie in [0, 1], got {noise!r}"
        )
    inputs, question = _inputs_and_question(model, images, target)
    key, share = rng.stream(seed, "smooth_grad"), jnp.float32(noise)
    copies = (_noisy(inputs, jax.random.fold_in(key, i), share) for i in range(samples))
    gradient = _mean_gradient(model, question, copies, samples)
    return as_heatmaps(_of_images(model, gradient))


@method(lines=True, maps=as_heatmaps)
def integrated_gradients(
    model: Model,
    images: Any,
    target: Target = None,
    baseline: Any = None,
    steps: int = 32,
) -> Any:
    """Integrated gradients (Sundararajan et al. 2017, arXiv:1703.01365).

    `(x - b) * integral_0^1 d logit(b + t (x - b)) / dx dt`, by the midpoint rule. The sum over an
    image is `logit(x) - logit(b)` but for the error of the rule.

    Args:
        model, images, target: as in `input_gradient`; the class predicted is that of the image.
        baseline: b, preprocessed, [H, W, C] or [N, H, W, C], of inputs by name a dictionary; None
            takes black, which for a model with preprocessing "none" is zero: of standardised
            inputs their mean.
        steps: of the rule, >= 1.

    Returns:
        As `input_gradient`, signed; `as_heatmaps` makes maps of it.

    Raises:
        ValueError: for images or targets that `grad_cam` refuses, or a baseline of another shape,
            or of pixels that were not preprocessed.
    """
    if steps < 1:
        raise ValueError(f"steps must be at least 1, got {steps}")
    inputs, question = _inputs_and_question(model, images, target)
    start = _baseline(model, baseline, inputs)
    points = (_between(start, inputs, jnp.float32((i + 0.5) / steps)) for i in range(steps))
    gradient = _mean_gradient(model, question, points, steps)
    if not isinstance(gradient, dict):
        return _along(inputs - start, gradient)
    return {name: _along(inputs[name] - start[name], each) for name, each in gradient.items()}


@method(lines=True, randomised=True, maps=as_heatmaps)
def guided_backpropagation(model: Model, images: Any, target: Target = None) -> Any:
    """Guided backpropagation (Springenberg et al. 2014, arXiv:1412.6806).

    The gradient with respect to the image, but every ReLU (and ReLU6) on the way back also lets
    only positive gradients pass. It makes sharp images that hardly depend on the class or on the
    upper layers: see `randomisation`.

    Args:
        model, images, target: as in `input_gradient`. The ReLUs must be modules:
            `cnnjax.nn.Activation`, or an `activation` of the layers of `cnnjax.nn`.

    Returns:
        As `input_gradient`, signed; `as_heatmaps` makes maps of it.

    Raises:
        ValueError: for images or targets that `grad_cam` refuses, or if there is no such ReLU.
    """
    inputs = checked_inputs(model, images)
    question = asked(model, target, count_of(inputs))
    return _gradient(model.static, True, model.variables, inputs, question)


def _inputs_and_question(model: Model, images: Any, target: Target) -> tuple[Any, Question]:
    """Inputs, and the class of each fixed before the inputs are moved."""
    inputs = checked_inputs(model, images)
    question = asked(model, target, count_of(inputs))
    return inputs, question.settled(model(inputs)) if question.is_open else question


def _of_images(model: Model, gradients: Any) -> Any:
    """Of gradients by name those of images.

    Raises:
        ValueError: where there is none.
    """
    if not isinstance(gradients, dict):
        check_images(model.spec)
        return gradients
    shapes: Any = model.spec.input_shape
    of_images = {name: each for name, each in gradients.items() if len(shapes[name]) == 3}
    if not of_images:
        raise ValueError(f"{model.spec.name} takes no images, but inputs {dict(shapes)}")
    return of_images


def _baseline(model: Model, baseline: Any, inputs: Any) -> Any:
    """Where integrated gradients start, of the inputs' form."""
    if baseline is None:
        black = jax.tree.map(lambda leaf: jnp.zeros((1, *leaf.shape[1:]), leaf.dtype), inputs)
        given = model.spec.preprocess(black)
    else:
        given = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), baseline)
    form: Any = jax.tree.structure(inputs)
    if jax.tree.structure(given) != form:
        raise ValueError(f"baseline must be given by name as the inputs are, got {type(baseline)}")
    check = baseline is not None and not isinstance(inputs, dict)
    return jax.tree.map(functools.partial(_like, model, check), given, inputs)


def _like(model: Model, check: bool, baseline: Array, inputs: Array) -> Array:
    shape = inputs.shape[1:]
    if baseline.shape not in (shape, (1, *shape), inputs.shape):
        raise ValueError(
            f"baseline must be {list(shape)} or a batch of it, got {list(baseline.shape)}"
        )
    if check:
        check_preprocessed(model.spec, baseline, "baselines")
    return jnp.broadcast_to(baseline, inputs.shape)


def _mean_gradient(model: Model, question: Question, points: Iterable[Any], count: int) -> Any:
    """The mean of the gradients at so many points."""
    total = None
    # A loop in Python: convolutions inside XLA's loops are slow on CPUs.
    for point in points:
        gradient = _gradient(model.static, False, model.variables, point, question)
        total = gradient if total is None else jax.tree.map(jnp.add, total, gradient)
    return jax.tree.map(lambda each: each / count, total)


def _along(way: Array, gradient: Array) -> Array:
    """The product of a way [N, ...] with a gradient along it, [N, ...] or [N, K, ...]."""
    return (way if way.ndim == gradient.ndim else way[:, None]) * gradient


def _between(start: Any, end: Any, share: Array) -> Any:
    """The point at a share of the way; token ids stay those of the end."""
    return jax.tree.map(lambda a, b: a + share * (b - a) if _is_floating(b) else b, start, end)


def _is_floating(array: Array) -> bool:
    return bool(jnp.issubdtype(array.dtype, jnp.floating))


@jax.jit
def _noisy(inputs: Any, key: Array, noise: Array) -> Any:
    if isinstance(inputs, dict):
        return {name: _noisy(each, rng.named(key, name), noise) for name, each in inputs.items()}
    if not _is_floating(inputs):
        return inputs
    axes = tuple(range(1, inputs.ndim))
    spread = inputs.max(axes, keepdims=True) - inputs.min(axes, keepdims=True)
    return inputs + noise * spread * jax.random.normal(key, inputs.shape, inputs.dtype)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _gradient(
    static: Static, guided: bool, variables: Variables, inputs: Any, question: Question
) -> Any:
    """Of each example's score, with respect to those of its inputs that are floating."""
    overridden: list[taps.Visit] = []

    def guide(visit: taps.Visit) -> Any:
        if not is_rectifier(visit.module):
            return visit.proceed()
        overridden.append(visit)
        return guided_rectifier(visit.module.function, *visit.args)

    by_name = inputs if isinstance(inputs, dict) else {"": inputs}
    moved = {name: each for name, each in by_name.items() if _is_floating(each)}
    if not moved:
        raise ValueError(
            f"{type(static.module).__name__} takes whole numbers, which have no gradient: take "
            "a method at a layer, e.g. word_cam of texts"
        )

    def scores(moved: dict[str, Array]) -> tuple[Array, None]:
        edit = guide if guided else None
        whole = {**by_name, **moved}
        given = whole if isinstance(inputs, dict) else whole[""]
        return question.scores(taps.run(static, variables, given, edit=edit).outputs), None

    gradients, _ = gradients_of(scores, moved)
    if guided and not overridden:
        raise ValueError(
            f"{type(static.module).__name__} has no ReLU that guided backpropagation could "
            "override: they must be cnnjax.nn.Activation(jax.nn.relu) modules"
        )
    return gradients if isinstance(inputs, dict) else gradients[""]
