"""Scores of images parts of which are covered: the engine of what takes no gradient."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from cnnjax.explain.inputs import count_of, image_of, with_image
from cnnjax.explain.scores import Question
from cnnjax.models import Model
from cnnjax.models.modules import Static, Variables, forward

_BATCH = 32  # images at once, where there are not more

# Outputs to probabilities; None where scores are wanted.
Activation = Callable[[Array], Array] | None


def masked_scores(
    model: Model,
    question: Question,
    inputs: Any,
    covers: Array,
    masks: np.ndarray | Array,
    activation: Activation = None,
) -> np.ndarray:
    """Scores of images in which parts are replaced by those of others.

    Args:
        model: of images.
        question: of `asked`; predicted classes are settled.
        inputs: preprocessed, [N, H, W, C], or a dictionary with one such.
        covers: what stands in the place of its parts, [N, H, W, C].
        masks: [M, H, W], or [M, N, H, W] where each image has its own: bool, true where the cover
            is shown, or floating, its share.
        activation: of the model's task, where the probability of a class is wanted.

    Returns:
        float32 [M, N], of several questions [M, N, K].
    """
    count = len(masks)
    most = max(_BATCH // max(count_of(inputs), 1), 1)
    # Parts of one size, so of one compiled shape, with little padding.
    size = -(-count // -(-count // most))
    rows = []
    for start in range(0, count, size):
        chunk = masks[start : start + size]
        padding = ((0, size - len(chunk)), *[(0, 0)] * (chunk.ndim - 1))
        padded = chunk if len(chunk) == size else jnp.pad(jnp.asarray(chunk), padding)
        scores = _masked(
            model.static, activation, model.variables, inputs, covers, padded, question
        )
        rows.append(np.asarray(scores, np.float32)[: len(chunk)])
    return np.concatenate(rows)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _masked(
    static: Static,
    activation: Activation,
    variables: Variables,
    inputs: Any,
    covers: Array,
    masks: Array,
    question: Question,
) -> Array:
    """[M, N], or [M, N, K]; a score's function always sees the N images as they were given."""
    shares = (masks if masks.ndim == 4 else masks[:, None])[..., None]
    images = image_of(inputs)
    if masks.dtype == bool:
        mixed = jnp.where(shares, covers[None], images[None])
    else:
        mixed = shares * covers[None] + (1 - shares) * images[None]
    mixed_inputs = with_image(inputs, mixed.reshape(-1, *images.shape[1:]))
    outputs = forward(static, variables, mixed_inputs)
    of_masks = jax.tree.map(lambda leaf: leaf.reshape(*mixed.shape[:2], *leaf.shape[1:]), outputs)
    measure = functools.partial(question.chances, activation=activation) if activation else None
    return jax.vmap(measure or question.scores)(of_masks)
