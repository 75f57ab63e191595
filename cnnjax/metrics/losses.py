"""Losses per example: pure functions of outputs and labels."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax
from jax import Array

Loss = Callable[[Array, Array], Array]


def softmax_cross_entropy(logits: Array, labels: Array) -> Array:
    """Cross-entropy of a softmax, `-log softmax(z)[y]`, per example.

    Args:
        logits: [N, K], floating.
        labels: int [N] in [0, K), or probabilities [N, K] that sum to 1.

    Returns:
        [N].
    """
    if labels.ndim == logits.ndim:
        return optax.softmax_cross_entropy(logits, labels)
    return optax.softmax_cross_entropy(logits, jax.nn.one_hot(labels, logits.shape[-1]))


def sigmoid_cross_entropy(logits: Array, labels: Array) -> Array:
    """Binary cross-entropy, `-y log s(z) - (1 - y) log(1 - s(z))`, per example.

    Args:
        logits: [N, 1] or [N], floating.
        labels: [N] or [N, 1], 0 or 1 (or a probability).

    Returns:
        [N].
    """
    z = logits.reshape(logits.shape[0])
    return optax.sigmoid_binary_cross_entropy(z, labels.reshape(z.shape).astype(z.dtype))


def cross_entropy(logits: Array, labels: Array) -> Array:
    """Cross-entropy by sigmoid of one logit, by softmax of more, per example.

    Args:
        logits: [N, K]. labels: as in `sigmoid_cross_entropy` and `softmax_cross_entropy`.

    Returns:
        [N].
    """
    one = logits.shape[-1] == 1
    return (sigmoid_cross_entropy if one else softmax_cross_entropy)(logits, labels)


def positions_cross_entropy(logits: Array, labels: Array) -> Array:
    """Cross-entropy of a class at each of several positions, added up, per example.

    `-sum_p log softmax(z[p])[y[p]]`, the logarithm of the probability of the whole answer.

    Args:
        logits: [N, P, K], floating.
        labels: int [N, P] in [0, K).

    Returns:
        [N].
    """
    one_hot = jax.nn.one_hot(labels, logits.shape[-1])
    return optax.softmax_cross_entropy(logits, one_hot).sum(axis=-1)


def mean_squared_error(predictions: Array, targets: Array) -> Array:
    """`mean_k (z[k] - y[k])^2`, per example.

    Args:
        predictions, targets: [N, K], floating.

    Returns:
        [N].
    """
    return jnp.mean((predictions - targets) ** 2, axis=-1)


def absolute_error(predictions: Array, targets: Array) -> Array:
    """`mean_k |z[k] - y[k]|`, per example; arguments as in `mean_squared_error`."""
    return jnp.mean(jnp.abs(predictions - targets), axis=-1)


def multilabel_cross_entropy(logits: Array, labels: Array) -> Array:
    """Binary cross-entropy of many labels, `mean_k -y log s(z) - (1 - y) log(1 - s(z))`.

    Args:
        logits: [N, K], floating.
        labels: [N, K], 0 or 1 (or probabilities).

    Returns:
        [N].
    """
    losses = optax.sigmoid_binary_cross_entropy(logits, labels.astype(logits.dtype))
    return jnp.mean(losses, axis=-1)


def labels_correct(logits: Array, labels: Array) -> Array:
    """The fraction of an example's labels that are right, each by the sign of its logit.

    Args:
        logits, labels: as in `multilabel_cross_entropy`.

    Returns:
        float32 [N].
    """
    return jnp.mean((logits > 0) == (labels > 0.5), axis=-1, dtype=jnp.float32)


def pixels_cross_entropy(logits: Array, labels: Array) -> Array:
    """Cross-entropy of a class at each pixel, `mean_p -log softmax(z[p])[y[p]]`, per example.

    Args:
        logits: [N, H, W, K], floating; [N, H, W, 1] for two classes, by sigmoid.
        labels: int [N, H, W] in [0, K); what is negative counts nowhere.

    Returns:
        [N]; 0 for an example without a label.
    """
    if logits.shape[-1] == 1:
        losses = optax.sigmoid_binary_cross_entropy(
            logits[..., 0], (labels > 0).astype(logits.dtype)
        )
    else:
        losses = optax.softmax_cross_entropy(logits, jax.nn.one_hot(labels, logits.shape[-1]))
    return _mean_of_labelled(losses, labels)


def pixels_correct(logits: Array, labels: Array) -> Array:
    """The fraction of an example's pixels whose class is right.

    Args:
        logits, labels: as in `pixels_cross_entropy`.

    Returns:
        float32 [N]; 0 for an example without a label.
    """
    one = logits.shape[-1] == 1
    found = logits[..., 0] > 0 if one else jnp.argmax(logits, axis=-1)
    return _mean_of_labelled((found == labels).astype(jnp.float32), labels)


def _mean_of_labelled(values: Array, labels: Array) -> Array:
    """Of each example the mean over the pixels that have a label."""
    labelled = (labels >= 0).astype(values.dtype)
    axes = tuple(range(1, values.ndim))
    return jnp.sum(values * labelled, axes) / jnp.maximum(jnp.sum(labelled, axes), 1)


def smooth_labels(labels: Array, num_classes: int, amount: float) -> Array:
    """Label smoothing: `(1 - a) onehot(y) + a / K` (Szegedy et al. 2016, sec. 7).

    Args:
        labels: int [N]. num_classes: K. amount: a in [0, 1).

    Returns:
        float32 [N, K], rows that sum to 1.
    """
    return jax.nn.one_hot(labels, num_classes) * (1.0 - amount) + amount / num_classes


def correct(logits: Array, labels: Array) -> Array:
    """1.0 where the prediction is right, per example: the largest logit, or the sign of one logit.

    Args:
        logits: [N, K], or [N, 1] for two classes, or [N, P, K] for a class at each position.
        labels: int [N], or probabilities [N, K], or int [N, P], all of which must be right.

    Returns:
        float32 [N].
    """
    if logits.ndim == 3:
        right = (jnp.argmax(logits, axis=-1) == labels).all(axis=-1)
    elif logits.shape[-1] == 1:
        right = (logits.reshape(-1) > 0) == (labels.reshape(-1) > 0.5)
    else:
        target = labels if labels.ndim == 1 else jnp.argmax(labels, axis=-1)
        right = jnp.argmax(logits, axis=-1) == target
    return right.astype(jnp.float32)
