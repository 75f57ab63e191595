"""What an explanation is asked about: inputs as the model takes them, and one class per image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from cnnjax import paths
from cnnjax.models import Model, ModelSpec

Target: TypeAlias = int | str | Sequence[int | str] | np.ndarray | Array | None

# Stands for the class that the model predicts.
PREDICTED = -1

# Inputs so far above what the lightest pixel becomes were never preprocessed.
_SLACK = 64.0


def checked_images(model: Model, images: Array | np.ndarray) -> Array:
    """Preprocessed inputs of a model with a head, or one clear sentence.

    Args:
        model: to be explained.
        images: preprocessed inputs, [N, H, W, C] floating.

    Raises:
        ValueError: for a model without a head, another shape or dtype, NaN, or pixels in [0, 255]
            where the model wants them preprocessed (not checked inside a compiled function).
    """
    spec = model.spec
    if spec.num_classes == 0:
        raise ValueError(
            f"{spec.name} has no head (include_top=False), so there is no class to explain"
        )
    inputs = model.checked_inputs(images)
    if isinstance(inputs, jax.core.Tracer) or not inputs.size:
        return inputs
    high = float(jnp.max(inputs))
    if np.isnan(high):
        raise ValueError("images hold NaN")
    light = jnp.full((1, spec.input_shape[-1]), 255.0)
    if spec.preprocessing != "none" and high > float(jnp.max(spec.preprocess(light))) + _SLACK:
        raise ValueError(
            f"images reach {high:g}, so they are pixels; {spec.name} takes preprocessed inputs: "
            "give model.spec.preprocess(images)"
        )
    return inputs


def class_numbers(model: Model, target: Target, count: int) -> Array:
    """Classes of `count` images as numbers.

    Args:
        model: whose `spec` has the classes and their names.
        target: None for the predicted classes; a number or a name for all images; or a sequence of
            them, one per image. A model of one logit has the classes 0 and 1.
        count: of images.

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
    if isinstance(target, jax.core.Tracer):  # no values to check
        return jnp.broadcast_to(target.astype(jnp.int32), (count,))
    if target is None:
        return jnp.full((count,), PREDICTED, jnp.int32)
    if isinstance(target, np.ndarray | Array):
        target = np.asarray(target).tolist()
    if isinstance(target, str) or not isinstance(target, Sequence):
        return jnp.full((count,), _class_number(model.spec, target), jnp.int32)
    if len(target) != count:
        raise ValueError(f"target has {len(target)} classes for {count} images: give one per image")
    numbers = [_class_number(model.spec, one) for one in target]
    return jnp.asarray(np.array(numbers, np.int32))


def _class_number(spec: ModelSpec, target: Any) -> int:
    names, classes = spec.label_names, max(spec.num_classes, 2)
    if isinstance(target, str):
        found = [number for number, name in enumerate(names) if name == target]
        if not names:
            raise ValueError(
                f"target={target!r}, but {spec.name} has no label names: give a class number"
            )
        if not found:
            raise ValueError(
                f"target={target!r} is no class of {spec.name}. {_hint(target, names)}"
            )
        if len(found) > 1:
            raise ValueError(
                f"target={target!r} is the name of classes {' and '.join(map(str, found))}: "
                "give the number"
            )
        return found[0]
    if isinstance(target, bool) or not isinstance(target, int | np.integer):
        raise ValueError(
            f"target must be None, a class number, a name or one of these per image, got {target!r}"
        )
    if not 0 <= target < classes:
        raise ValueError(f"target={target} is out of range: {spec.name} has {classes} classes")
    return int(target)


def _hint(target: str, names: Sequence[str]) -> str:
    """The nearest names; where none is near, of many those that share the first letters."""
    hint = paths.suggest(target, names)
    if hint.startswith("Did you mean") or len(names) <= 20:
        return hint
    for length in range(len(target), 0, -1):
        start = target[:length].lower()
        if held := [name for name in names if name.lower().startswith(start)]:
            return f"Names that begin with {start!r}: {', '.join(held[:10])}."
    return f"It has {len(names)} names, e.g. {', '.join(names[:3])}."


def class_weights(logits: Array, labels: Array) -> Array:
    """The weights with which the logits make the score of each image's class.

    `score[n] = sum_k weights[n, k] logits[n, k]`: the class's logit, never its softmax, whose
    gradient mixes in the other classes. With one logit it is the logit for class 1, its negative
    for class 0.

    Args:
        logits: [N, K].
        labels: int32 [N], in [0, max(K, 2)), or `PREDICTED`.

    Returns:
        [N, K] of the logits' dtype.
    """
    labels = with_predictions(logits, labels)
    if logits.shape[1] == 1:
        return (2 * labels - 1).astype(logits.dtype)[:, None]
    return jax.nn.one_hot(labels, logits.shape[1], dtype=logits.dtype)


def with_predictions(logits: Array, labels: Array) -> Array:
    """int32 [N]: the labels, and where they are `PREDICTED` the classes that the logits favour."""
    if logits.shape[1] == 1:
        predicted = (logits[:, 0] > 0).astype(jnp.int32)
    else:
        predicted = jnp.argmax(logits, axis=1).astype(jnp.int32)
    return jnp.where(labels == PREDICTED, predicted, labels)
