"""Classes and outputs by number or name, as numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from cnnjax.core.text import suggest
from cnnjax.explain.scores import PREDICTED
from cnnjax.models import Model, ModelSpec


def class_numbers(model: Model, target: Any, count: int, argument: str = "target") -> Array:
    """Classes of `count` images as numbers.

    Args:
        model: whose `spec` has the classes and their names.
        target: None for the predicted classes; a number or a name for all images; a sequence of
            them, one per image, or of such sequences of one length, for several at once. A model
            of one logit has the classes 0 and 1. Of a model of positions as in
            `position_numbers`.
        count: of images.
        argument: what to call the target in error messages.

    Returns:
        int32 [count], of several at once [count, K]; `PREDICTED` where the target is None.

    Raises:
        ValueError: for a number out of range, an unknown or ambiguous name, another number of
            targets; for None where nothing is predicted.

    >>> import cnnjax as cj
    >>> model = cj.create_model("cats_convnet", label_names=("cat", "dog"))
    >>> class_numbers(model, ["dog", 0], 2).tolist()
    [1, 0]
    """
    spec = model.spec
    if spec.positions:
        return position_numbers(spec, target, count, argument)
    if isinstance(target, jax.core.Tracer):  # no values to check
        shape = (count, *target.shape[1:])
        return jnp.broadcast_to(target.astype(jnp.int32), shape)
    if target is None:
        return jnp.full((count,), _predicted(spec, argument), jnp.int32)
    if isinstance(target, np.ndarray | Array):
        target = np.asarray(target).tolist()
    if isinstance(target, str) or not isinstance(target, Sequence):
        return jnp.full((count,), _class_number(spec, target, argument), jnp.int32)
    if _is_nested(target):
        flat, each = _flattened(target, argument)
        return class_numbers(model, flat, count * each, argument).reshape(count, each)
    if len(target) != count:
        raise ValueError(
            f"{argument} has {len(target)} classes for {count} images: give one per image"
        )
    numbers = [_class_number(spec, one, argument) for one in target]
    return jnp.asarray(np.array(numbers, np.int32))


def position_numbers(spec: ModelSpec, target: Any, count: int, argument: str) -> Array:
    """Classes at positions as numbers of their logits [P, K], counted row by row.

    Args:
        spec: of a model of positions.
        target: (position, class) for all images, or such a pair per image: the position in [0, P),
            the class a number, a name, or None for the one that is predicted there; or a sequence
            of such pairs per image, of one length, for several at once.
        count: of images.
        argument: as in `class_numbers`.

    Returns:
        int32 [count], of several at once [count, S]: `K position + class`; `PREDICTED - position`
        where the class is None.

    Raises:
        ValueError: for anything else, or a number or name that there is not.
    """
    if isinstance(target, jax.core.Tracer):  # no values to check
        position, label = (target[..., i].astype(jnp.int32) for i in (0, 1))
        known = spec.num_classes * position + label
        number = jnp.where(label == PREDICTED, PREDICTED - position, known)
        return jnp.broadcast_to(number, (count, *number.shape[1:]))
    if isinstance(target, np.ndarray | Array):
        target = np.asarray(target).tolist()
    if _is_nested(target) and not _is_pair(target) and _is_nested(target[0]):
        flat, each = _flattened(target, argument)
        return position_numbers(spec, flat, count * each, argument).reshape(count, each)
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


def _is_nested(target: Any) -> bool:
    """Whether a target is a sequence of sequences."""
    return (
        isinstance(target, Sequence)
        and not isinstance(target, str)
        and bool(len(target))
        and all(isinstance(row, Sequence) and not isinstance(row, str) for row in target)
    )


def _flattened(target: Any, argument: str) -> tuple[list[Any], int]:
    """What is asked of all images in one row, and how much of each."""
    each = len(target[0])
    if not each or any(len(row) != each for row in target):
        raise ValueError(
            f"{argument} must ask the same number of classes of each image, at least one, got "
            f"{[len(row) for row in target]}"
        )
    return [one for row in target for one in row], each


def _predicted(spec: ModelSpec, argument: str) -> int:
    """What stands for no target: what is predicted, or the only output.

    Raises:
        ValueError: where nothing of several is predicted.
    """
    if "H" in spec.task.labels or (not spec.task.of_classes and not _may_hold(spec)):
        if spec.num_classes == 1 and any_hold(spec):
            return 0
        raise ValueError(
            f"{argument}=None, but of the {spec.num_classes} outputs of {spec.name}, whose task is "
            f"{spec.task.name!r}, none is the one predicted: give the number or the name of one"
        )
    return PREDICTED


def _may_hold(spec: ModelSpec) -> bool:
    """Whether the outputs are labels of which several may hold, so that one is most probable."""
    return spec.task.name == "multilabel"


def any_hold(spec: ModelSpec) -> bool:
    """Whether the outputs stand each for itself: values, or labels of which any may hold."""
    return "K" in spec.task.labels or not (spec.task.of_classes or "H" in spec.task.labels)


def _is_pair(item: Any) -> bool:
    pair = isinstance(item, Sequence) and not isinstance(item, str) and len(item) == 2
    return pair and isinstance(item[0], int | np.integer) and not isinstance(item[0], bool)


def _class_number(spec: ModelSpec, target: Any, argument: str) -> int:
    names = spec.label_names
    classes = spec.task.names(spec.num_classes)
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
        what = "outputs" if any_hold(spec) else "classes"
        raise ValueError(f"{argument}={target} is out of range: {spec.name} has {classes} {what}")
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
