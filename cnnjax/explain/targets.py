"""What an explanation is asked about: inputs as the model takes them, and one class per image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from cnnjax.core.text import suggest
from cnnjax.models import Model, ModelSpec

# Of a model of positions pairs, as in `position_numbers`.
Target: TypeAlias = int | str | Sequence[Any] | np.ndarray | Array | None

# Stands for the class that the model predicts.
PREDICTED = -1

# Inputs so far above what the lightest pixel becomes were never preprocessed.
_SLACK = 64.0


def checked_images(model: Model, images: Array | np.ndarray, positions: bool = False) -> Array:
    """Preprocessed inputs of a model with a head, or one clear sentence.

    Args:
        model: to be explained.
        images: preprocessed inputs, [N, H, W, C] floating.
        positions: whether the model may have a class at each of several positions.

    Raises:
        ValueError: for a model that is no classifier of images, another shape or dtype, NaN, or
            pixels in [0, 255] where the model wants them preprocessed (not checked inside a
            compiled function).
    """
    check_classifier(model.spec, positions)
    inputs = model.checked_inputs(images)
    check_preprocessed(model.spec, inputs)
    return inputs


def check_classifier(spec: ModelSpec, positions: bool = False) -> None:
    """Refuse a model without classes, or of something else than images."""
    if spec.num_classes == 0:
        raise ValueError(
            f"{spec.name} has no head (include_top=False), so there is no class to explain"
        )
    check_images(spec)
    if not spec.task.of_classes or (spec.positions and not positions):
        raise ValueError(
            f"{spec.name} has no single class to explain: its task is {spec.task.name!r}"
        )


def check_layer(model: Model, layer: str, fitting: Sequence[str] | None = None) -> None:
    """Refuse a name that is no layer of the model; offers the nearest of those that fit."""
    known = model.layer_names
    if layer not in known:
        hint = suggest(str(layer), known if fitting is None else fitting, "layers")
        raise ValueError(f"layer={layer!r} names no layer of {model.spec.name}. {hint}")


def check_images(spec: ModelSpec) -> None:
    """Refuse a model of something else than images."""
    if not spec.takes_images:
        raise ValueError(
            f"{spec.name} takes no images [N, H, W, C], but inputs {list(spec.input_shape)}"
        )


def check_preprocessed(spec: ModelSpec, inputs: Array, what: str = "images") -> None:
    """Refuse inputs that hold NaN or are pixels still (not checked inside a compiled function)."""
    if isinstance(inputs, jax.core.Tracer) or not inputs.size or spec.inputs.tokens:
        return
    with jax.ensure_compile_time_eval():  # inside a compiled function too, where it is a constant
        high = float(jnp.max(inputs))
        light = spec.preprocess(jnp.full((1, spec.input_shape[-1]), 255.0))
        highest = float(jnp.max(light)) + _SLACK
    if np.isnan(high):
        raise ValueError(f"{what} hold NaN")
    if spec.inputs.pixels and high > highest:
        raise ValueError(
            f"{what} reach {high:g}, so they are pixels; {spec.name} takes preprocessed inputs: "
            f"give model.spec.preprocess({what})"
        )


def class_numbers(model: Model, target: Target, count: int, argument: str = "target") -> Array:
    """Classes of `count` images as numbers.

    Args:
        model: whose `spec` has the classes and their names.
        target: None for the predicted classes; a number or a name for all images; or a sequence of
            them, one per image. A model of one logit has the classes 0 and 1. Of a model of
            positions as in `position_numbers`.
        count: of images.
        argument: what to call the target in error messages.

    Returns:
        int32 [count]; `PREDICTED` where the target is None.

    Raises:
        ValueError: for a number out of range, an unknown or ambiguous name, another number of
            targets.

    >>> import cnnjax as cj
    >>> model = cj.create_model("cats_convnet", label_names=("cat", "dog"))
    >>> class_numbers(model, ["dog", 0], 2).tolist()
    [1, 0]
    """
    if model.spec.positions:
        return position_numbers(model.spec, target, count, argument)
    if isinstance(target, jax.core.Tracer):  # no values to check
        return jnp.broadcast_to(target.astype(jnp.int32), (count,))
    if target is None:
        return jnp.full((count,), PREDICTED, jnp.int32)
    if isinstance(target, np.ndarray | Array):
        target = np.asarray(target).tolist()
    if isinstance(target, str) or not isinstance(target, Sequence):
        return jnp.full((count,), _class_number(model.spec, target, argument), jnp.int32)
    if len(target) != count:
        raise ValueError(
            f"{argument} has {len(target)} classes for {count} images: give one per image"
        )
    numbers = [_class_number(model.spec, one, argument) for one in target]
    return jnp.asarray(np.array(numbers, np.int32))


def position_numbers(spec: ModelSpec, target: Target, count: int, argument: str) -> Array:
    """Classes at positions as numbers of their logits [P, K], counted row by row.

    Args:
        spec: of a model of positions.
        target: (position, class) for all images, or such a pair per image: the position in [0, P),
            the class a number, a name, or None for the one that is predicted there.
        count: of images.
        argument: as in `class_numbers`.

    Returns:
        int32 [count]: `K position + class`; `PREDICTED - position` where the class is None.

    Raises:
        ValueError: for anything else, or a number or name that there is not.
    """
    if isinstance(target, jax.core.Tracer):  # no values to check
        position, label = (target[..., i].astype(jnp.int32) for i in (0, 1))
        known = spec.num_classes * position + label
        number = jnp.where(label == PREDICTED, PREDICTED - position, known)
        return jnp.broadcast_to(number, (count,))
    if isinstance(target, np.ndarray | Array):
        target = np.asarray(target).tolist()
    pairs: Any = [target] * count if _is_pair(target) else target
    if not isinstance(pairs, Sequence) or not all(map(_is_pair, pairs)):
        raise ValueError(
            f"{argument} must be (position, class) or such a pair per image, since {spec.name} has "
            f"{spec.positions} positions, got {target!r}"
        )
    if len(pairs) != count:
        raise ValueError(
            f"{argument} has {len(pairs)} pairs for {count} images: give one per image"
        )
    numbers = []
    for position, label in pairs:
        if not 0 <= position < spec.positions:
            raise ValueError(
                f"{argument}={(position, label)!r}: {spec.name} has the positions 0 to "
                f"{spec.positions - 1}"
            )
        start = position * spec.num_classes
        predicted = label is None
        number = PREDICTED - position if predicted else start + _class_number(spec, label, argument)
        numbers.append(number)
    return jnp.asarray(np.array(numbers, np.int32))


def _is_pair(item: Any) -> bool:
    pair = isinstance(item, Sequence) and not isinstance(item, str) and len(item) == 2
    return pair and isinstance(item[0], int | np.integer) and not isinstance(item[0], bool)


def _class_number(spec: ModelSpec, target: Any, argument: str) -> int:
    names, classes = spec.label_names, max(spec.num_classes, 2)
    if isinstance(target, str):
        found = [number for number, name in enumerate(names) if name == target]
        if not names:
            raise ValueError(
                f"{argument}={target!r}, but {spec.name} has no label names: give a class number"
            )
        if not found:
            raise ValueError(
                f"{argument}={target!r} is no class of {spec.name}. {_hint(target, names)}"
            )
        if len(found) > 1:
            raise ValueError(
                f"{argument}={target!r} is the name of classes {' and '.join(map(str, found))}: "
                "give the number"
            )
        return found[0]
    if isinstance(target, bool) or not isinstance(target, int | np.integer):
        raise ValueError(
            f"{argument} must be None, a class number, a name or one of these per image, got "
            f"{target!r}"
        )
    if not 0 <= target < classes:
        raise ValueError(f"{argument}={target} is out of range: {spec.name} has {classes} classes")
    return int(target)


def _hint(target: str, names: Sequence[str]) -> str:
    """The nearest names; where none is near, of many those that share the first letters."""
    hint = suggest(target, names)
    if hint.startswith("Did you mean") or len(names) <= 20:
        return hint
    for length in range(len(target), 0, -1):
        start = target[:length].lower()
        if held := [name for name in names if name.lower().startswith(start)]:
            return f"Names that begin with {start!r}: {', '.join(held[:10])}."
    return f"It has {len(names)} names, e.g. {', '.join(names[:3])}."


def class_scores(logits: Array, labels: Array) -> Array:
    """What each image's class scores, [N]: what explanations differentiate.

    The class's logit, never its softmax, whose gradient mixes in the other classes. With one logit
    it is the logit for class 1, its negative for class 0. Arguments as in `class_weights`.
    """
    weighted = class_weights(logits, labels) * logits
    return jnp.sum(weighted, axis=tuple(range(1, logits.ndim)))


def class_weights(logits: Array, labels: Array) -> Array:
    """The weights with which the logits make the score of each image's class.

    `score[n] = sum_k weights[n, k] logits[n, k]`, as in `class_scores`.

    Args:
        logits: [N, K], or [N, P, K] of a class at each position.
        labels: int32 [N], in [0, max(K, 2)), or `PREDICTED`; those of `position_numbers`.

    Returns:
        Of the logits' shape and dtype.
    """
    labels = with_predictions(logits, labels)
    if logits.ndim == 3:
        count = logits.shape[1] * logits.shape[2]
        return jax.nn.one_hot(labels, count, dtype=logits.dtype).reshape(logits.shape)
    if logits.shape[1] == 1:
        return (2 * labels - 1).astype(logits.dtype)[:, None]
    return jax.nn.one_hot(labels, logits.shape[1], dtype=logits.dtype)


def with_predictions(logits: Array, labels: Array) -> Array:
    """int32 [N]: the labels, and where they are `PREDICTED` the classes that the logits favour."""
    if logits.ndim == 3:
        position = jnp.maximum(PREDICTED - labels, 0)
        best = jnp.argmax(logits, axis=2)
        there = jnp.take_along_axis(best, position[:, None], axis=1)[:, 0]
        favoured = (position * logits.shape[2] + there).astype(jnp.int32)
        return jnp.where(labels <= PREDICTED, favoured, labels)
    if logits.shape[1] == 1:
        predicted = (logits[:, 0] > 0).astype(jnp.int32)
    else:
        predicted = jnp.argmax(logits, axis=1).astype(jnp.int32)
    return jnp.where(labels == PREDICTED, predicted, labels)


def chosen_classes(model: Model, logits: Array, target: Target) -> np.ndarray:
    """Of each input the class that a target is, int32 [N]: what a model predicts where it is None.

    Of a model of positions they are numbers as `position_numbers` has them.
    """
    return np.asarray(with_predictions(logits, class_numbers(model, target, len(logits))))
