"""From outputs to what `predict` returns, and from that to a line of text per example."""

from __future__ import annotations

import math
from collections.abc import Sequence

import jax
import numpy as np
from jax import Array

from cnnjax.metrics import percent


def probabilities(logits: Array) -> Array:
    """Softmax of [..., K] logits; sigmoid where K is 1."""
    return jax.nn.sigmoid(logits) if logits.shape[-1] == 1 else jax.nn.softmax(logits, axis=-1)


def both_classes(probs: np.ndarray) -> np.ndarray:
    """Probabilities [N, K]; of one logit's [N, 1] those of both classes, [N, 2]."""
    return np.concatenate([1 - probs, probs], axis=1) if probs.shape[1] == 1 else probs


def decode_positions(
    probs: np.ndarray, label_names: Sequence[str] = ()
) -> list[list[tuple[str, float]]]:
    """The most probable class at each position.

    Args:
        probs: [N, P, K] probabilities, as `predict` gives them of a model of positions.
        label_names: one name per class; where empty, classes are numbered.

    Returns:
        Per image [(name, probability), ...], one for each position.

    Raises:
        ValueError: if probs is not three-dimensional, or the names do not fit.

    >>> decode_positions(np.array([[[0.1, 0.9], [0.8, 0.2]]]), ("A", "B"))
    [[('B', 0.9), ('A', 0.8)]]
    """
    probs = np.asarray(probs)
    if probs.ndim != 3:
        raise ValueError(
            f"probs must be [N, positions, num_classes], got shape {list(probs.shape)}"
        )
    if label_names and len(label_names) != probs.shape[2]:
        raise ValueError(f"{len(label_names)} label_names for {probs.shape[2]} classes")
    names = list(label_names) or [str(k) for k in range(probs.shape[2])]
    return [
        [(names[k], float(p)) for k, p in zip(row.argmax(axis=1), row.max(axis=1), strict=True)]
        for row in probs
    ]


def class_lines(probs: np.ndarray, label_names: Sequence[str] = ()) -> list[str]:
    """The most probable class of each example; the second one is that of a single logit.

    >>> class_lines(np.array([[0.1, 0.9]]), ("cat", "dog"))
    ['dog 0.9000']
    """
    decoded = decode_positions(both_classes(probs)[:, None], label_names)
    return [f"{name} {probability:.4f}" for ((name, probability),) in decoded]


def position_lines(probs: np.ndarray, label_names: Sequence[str] = ()) -> list[str]:
    """The text of each example with its probability, and those of its symbols.

    >>> position_lines(np.array([[[0.1, 0.9], [0.8, 0.2]]]), ("A", "B"))
    ['BA 0.7200  B 0.9000  A 0.8000']
    """
    lines = []
    for symbols in decode_positions(probs, label_names):
        text, sure = "".join(name for name, _ in symbols), math.prod(p for _, p in symbols)
        single = "  ".join(f"{name} {p:.4f}" for name, p in symbols)
        lines.append(f"{text} {sure:.4f}  {single}")
    return lines


def value_lines(outputs: np.ndarray, label_names: Sequence[str] = ()) -> list[str]:
    """The numbers of each example, each with its name where there are names.

    >>> value_lines(np.array([[1.5, -20.0]]))
    ['1.5  -20']
    """
    names = [f"{name} " for name in label_names] or [""] * outputs.shape[1]
    return [
        "  ".join(f"{name}{value:.6g}" for name, value in zip(names, row, strict=True))
        for row in outputs
    ]


def label_lines(probs: np.ndarray, label_names: Sequence[str] = ()) -> list[str]:
    """The labels of each example that are more probable than not, the most probable first.

    >>> label_lines(np.array([[0.9, 0.2, 0.6], [0.1, 0.2, 0.3]]), ("sea", "sky", "sun"))
    ['sea 0.9000  sun 0.6000', 'none']
    """
    names = list(label_names) or [str(k) for k in range(probs.shape[1])]
    lines = []
    for row in probs:
        held = [k for k in np.argsort(-row, kind="stable") if row[k] > 0.5]
        lines.append("  ".join(f"{names[k]} {row[k]:.4f}" for k in held) or "none")
    return lines


def pixel_lines(probs: np.ndarray, label_names: Sequence[str] = ()) -> list[str]:
    """The share of the pixels that each class has in an image, the largest first.

    >>> probs = np.array([[[[0.9, 0.1], [0.2, 0.8]], [[0.7, 0.3], [0.6, 0.4]]]])
    >>> pixel_lines(probs, ("sea", "sky"))
    ['sea 75.00 %  sky 25.00 %']
    """
    if probs.shape[-1] == 1:
        probs = np.concatenate([1 - probs, probs], axis=-1)
    count = probs.shape[-1]
    names = list(label_names) or [str(k) for k in range(count)]
    lines = []
    for image in probs:
        shares = np.bincount(image.argmax(axis=-1).ravel(), minlength=count) / image[..., 0].size
        best = [k for k in np.argsort(-shares, kind="stable") if shares[k]]
        lines.append("  ".join(f"{names[k]} {percent(shares[k])}" for k in best))
    return lines
