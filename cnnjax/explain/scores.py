"""What is asked of a model's outputs: a score per example, and the gradients of these scores."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
from jax import Array

# Stands for the class that the model predicts.
PREDICTED = -1

# (outputs of N examples, values [N, ...] that say what is asked of each) -> [N], or [N, K].
Score: TypeAlias = Callable[[Any, Array], Array]


@functools.partial(
    jax.tree_util.register_dataclass, data_fields=["values"], meta_fields=["score", "several"]
)
@dataclass(frozen=True)
class Question:
    """What is asked of the outputs; an argument of compiled functions, which know its score only.

    Args:
        score: makes scores of outputs and values.
        values: [N, ...], of each example what is asked, e.g. the number of its class.
        several: whether the values' second axis is that of several questions, asked at once.
    """

    score: Score
    values: Array
    several: bool = False

    def scores(self, outputs: Any) -> Array:
        """Of each example its score, [N]; of several questions [N, K]."""
        if self.several:
            return jax.vmap(self.score, (None, 1), 1)(outputs, self.values)
        return self.score(outputs, self.values)

    @property
    def is_open(self) -> bool:
        """Whether what is asked may depend on the outputs: on the class that is predicted."""
        if jnp.issubdtype(self.values.dtype, jnp.floating):
            return False
        return isinstance(self.values, jax.core.Tracer) or bool((self.values < 0).any())

    def settled(self, outputs: Any) -> Question:
        """The same question, of the classes that these outputs favour where it is `PREDICTED`."""
        choose = {class_scores: with_predictions, output_scores: with_best_outputs}.get(self.score)
        if choose is None:
            return self
        if self.several:
            choose = jax.vmap(choose, (None, 1), 1)
        return dataclasses.replace(self, values=choose(outputs, self.values))

    def of(self, example: int, copies: int) -> Question:
        """What is asked of one example, asked of so many copies of it."""
        values = jnp.broadcast_to(self.values[example], (copies, *self.values.shape[1:]))
        return dataclasses.replace(self, values=values)

    def chances(self, outputs: Any, activation: Callable[[Array], Array]) -> Array:
        """Of each example the probability of its class, [N] or [N, K]; else its score.

        Args:
            outputs: of the model.
            activation: of its task, outputs to probabilities.
        """
        if self.score not in (class_scores, output_scores):
            return self.scores(outputs)
        probs = activation(outputs)
        if self.score is class_scores and probs.shape[-1] == 1:
            probs = jnp.concatenate([1 - probs, probs], axis=-1)
        return self.scores(probs)


def class_scores(logits: Array, labels: Array) -> Array:
    """What each example's class scores, [N]: what explanations differentiate.

    The class's logit, never its softmax, whose gradient mixes in the other classes. With one logit
    it is the logit for class 1, its negative for class 0; of a class at each pixel the mean over
    the pixels (Vinogradova et al. 2020, Seg-Grad-CAM). Arguments as in `class_weights`.
    """
    logits = _over_pixels(logits)
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


def output_scores(outputs: Array, numbers: Array) -> Array:
    """Of each example one of its outputs, [N]: of several labels, or of values.

    Args:
        outputs: [N, ..., K]; over the axes between them the mean is taken.
        numbers: int32 [N], in [0, K), or `PREDICTED` for the largest.
    """
    means = _over_all(outputs)
    numbers = with_best_outputs(means, numbers)
    return jnp.sum(jax.nn.one_hot(numbers, means.shape[1], dtype=means.dtype) * means, axis=1)


def weighted_scores(outputs: Array, weights: Array) -> Array:
    """`sum_k weights[n, k] outputs[n, k]`, [N]; both of one shape."""
    shape = getattr(outputs, "shape", type(outputs).__name__)
    if shape != weights.shape:
        raise ValueError(
            f"target has the shape {list(weights.shape)}, so it holds weights of outputs, which "
            f"are {list(shape) if isinstance(shape, tuple) else shape}"
        )
    return jnp.sum(weights.astype(outputs.dtype) * outputs, axis=tuple(range(1, outputs.ndim)))


def with_predictions(logits: Array, labels: Array) -> Array:
    """int32 [N]: the labels, and where they are `PREDICTED` the classes that the logits favour."""
    logits = _over_pixels(logits)
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


def with_best_outputs(outputs: Array, numbers: Array) -> Array:
    """int32 [N]: the numbers, and where they are `PREDICTED` those of the largest outputs."""
    best = jnp.argmax(_over_all(outputs), axis=1).astype(jnp.int32)
    return jnp.where(numbers == PREDICTED, best, numbers)


def _over_pixels(logits: Array) -> Array:
    """[N, H, W, K] to [N, K], [N] to [N, 1]; others stay as they are."""
    _check_array(logits)
    if logits.ndim == 1:
        return logits[:, None]
    return jnp.mean(logits, axis=tuple(range(1, logits.ndim - 1))) if logits.ndim > 3 else logits


def _over_all(outputs: Array) -> Array:
    """[N, ..., K] to [N, K], [N] to [N, 1]."""
    _check_array(outputs)
    if outputs.ndim == 1:
        return outputs[:, None]
    between = tuple(range(1, outputs.ndim - 1))
    return jnp.mean(outputs, axis=between) if between else outputs


def _check_array(outputs: Any) -> None:
    if not hasattr(outputs, "ndim"):
        raise ValueError(
            f"the outputs are a {type(outputs).__name__} of several, so target must be a function "
            "of them that returns [N], e.g. lambda outputs: outputs['name'][:, 0]"
        )


def gradients_of(scores: Callable[[Any], tuple[Array, Any]], at: Any) -> tuple[Any, Any]:
    """The gradient of each example's score with respect to what belongs to that example.

    Examples do not see each other, so that the sum of their scores has the gradient of each.
    Several scores share the way forward; the ways back are one batch.

    Args:
        scores: of a tree of [N, ...] to scores [N] or [N, K], and something else.
        at: where.

    Returns:
        [N, ...] or [N, K, ...], of `at`'s form; what else `scores` returned.
    """
    values, back, aux = jax.vjp(scores, at, has_aux=True)
    if values.ndim == 1:
        return back(jnp.ones_like(values))[0], aux
    count = values.shape[1]
    each = jnp.eye(count, dtype=values.dtype)[:, None, :]  # one question at a time, of all examples
    gradients = jax.vmap(back)(jnp.broadcast_to(each, (count, *values.shape)))[0]
    return jax.tree.map(lambda gradient: jnp.moveaxis(gradient, 0, 1), gradients), aux
