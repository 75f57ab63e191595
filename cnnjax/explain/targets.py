"""What an explanation is asked about: classes by number or name, weights, functions of outputs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from cnnjax.explain.class_numbers import any_hold, class_numbers
from cnnjax.explain.scores import Question, class_scores, output_scores, weighted_scores
from cnnjax.models import Model, ModelSpec

# As in `asked`.
Target: TypeAlias = int | str | Sequence[Any] | np.ndarray | Array | Callable[[Any], Array] | None


def asked(model: Model, target: Target, count: int, argument: str = "target") -> Question:
    """What a target asks of a model's outputs.

    Args:
        model: whose `spec` has the classes and their names.
        target: one of
            - None: the class predicted for each example, of several labels the most probable one;
            - a class (of several labels or values: an output) by number, or by a name of
              `model.spec.label_names`, for all examples, or a sequence of them, one per example;
            - several at once: [N, K] of numbers or names, K questions per example;
            - soft: floating [N, ...], of the outputs' shape, the weights of a sum of outputs; with
              another axis behind the first several such sums;
            - a function of the outputs, as the model makes them (arrays or trees of arrays),
              that returns floating [N], or [N, K] for several at once.
            With one logit, 1 (or the second name) is the logit and 0 (or the first name) its
            negative. Of a model of positions pairs, as in `position_numbers`; of a class at each
            pixel the mean logit of the class.
        count: of examples.
        argument: what to call the target in error messages.

    Raises:
        ValueError: as `class_numbers`; for a model without a head, unless asked by a function.
    """
    if callable(target):
        return Question(_Own(target, argument), jnp.zeros((count,), jnp.int32))
    if several := [name for name, _ in getattr(model.spec.task, "parts", ())]:
        raise ValueError(
            f"{model.spec.name} has several outputs, {', '.join(several)}: give {argument} a "
            f"function of them that returns [N], e.g. lambda outputs: outputs[{several[0]!r}][:, 0]"
        )
    check_head(model.spec)
    if (weights := _weights(target)) is not None:
        outputs = len(model.spec.task.outputs)
        if len(weights) != count or weights.ndim not in (outputs, outputs + 1):
            raise ValueError(
                f"{argument} of floating values holds weights of the outputs "
                f"[{', '.join(map(str, model.spec.task.outputs))}] of {count} examples, got shape "
                f"{list(weights.shape)}"
            )
        return Question(weighted_scores, weights, several=weights.ndim > outputs)
    numbers = class_numbers(model, target, count, argument)
    score = output_scores if any_hold(model.spec) else class_scores
    return Question(score, numbers, several=numbers.ndim == 2)


@dataclass(frozen=True)
class _Own:
    """A score of one's own: a function of the outputs alone."""

    function: Callable[[Any], Any]
    argument: str

    def __call__(self, outputs: Any, values: Array) -> Array:
        scores, count = self.function(outputs), len(values)
        shape = getattr(scores, "shape", None)
        if shape is None or len(shape) not in (1, 2) or shape[0] != count:
            got = type(scores).__name__ if shape is None else list(shape)
            raise ValueError(
                f"{self.argument} must return a score per example, [{count}] or [{count}, K], got "
                f"{got}"
            )
        scores = jnp.asarray(scores)
        if not jnp.issubdtype(scores.dtype, jnp.floating):
            raise ValueError(f"{self.argument} must return floating scores, got {scores.dtype}")
        return scores


def check_head(spec: ModelSpec) -> None:
    """Refuse a model without classes."""
    if spec.num_classes == 0:
        raise ValueError(
            f"{spec.name} has no head (include_top=False), so there is no class to explain: give "
            "target a function of its outputs"
        )


def check_whole(spec: ModelSpec) -> None:
    """Refuse a model whose outputs are not one per class for the whole input."""
    check_head(spec)
    if spec.positions:
        raise ValueError(
            f"{spec.name} has no single class to explain: its task is {spec.task.name!r}"
        )


def is_of_classes(target: Target) -> bool:
    """Whether a target names classes, and is neither weights nor a function."""
    return not callable(target) and _weights(target) is None


def _weights(target: Target) -> Array | None:
    """A soft target's weights; None of any other target."""
    if isinstance(target, np.ndarray | Array):
        return jnp.asarray(target) if jnp.issubdtype(target.dtype, jnp.floating) else None
    first: Any = target
    while isinstance(first, list | tuple) and first:
        first = first[0]
    if isinstance(target, list | tuple) and isinstance(first, float | np.floating):
        return jnp.asarray(np.array(target, np.float32))
    return None


def chosen_classes(model: Model, outputs: Any, target: Target) -> np.ndarray:
    """Of each input the class that a target is, int32 [N]: what a model predicts where it is None.

    Of several at once [N, K]; of a model of positions they are numbers as `position_numbers` has
    them.

    Raises:
        ValueError: as `asked`; for a target that is no class.
    """
    if not is_of_classes(target):
        raise ValueError(f"target must be a class here, by number or name, got {target!r}")
    question = asked(model, target, len(jax.tree.leaves(outputs)[0]))
    return np.asarray(question.settled(outputs).values)


def names_of(model: Model, outputs: Any, target: Target) -> list[str]:
    """What is asked of each input, in a word: a class, or a function's name."""
    if is_of_classes(target):
        count = model.spec.task.names(model.spec.num_classes)  # of positions row by row
        numbers = chosen_classes(model, outputs, target) % max(count, 1)
        rows = numbers.reshape(len(numbers), -1).tolist()
        return [", ".join(map(model.spec.label_name, row)) for row in rows]
    name = getattr(target, "__name__", "function") if callable(target) else "weights"
    return [name] * len(jax.tree.leaves(outputs)[0])


def settled(model: Model, outputs: Any, target: Target) -> Target:
    """A target that asks the same of another model: what these outputs predict is named."""
    if not is_of_classes(target):
        return target
    classes = chosen_classes(model, outputs, target)
    if not model.spec.positions:
        return classes
    return np.stack(np.divmod(classes, model.spec.num_classes), axis=-1)
