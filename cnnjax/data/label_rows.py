"""Labels as rows of zeros with a one at the class."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from cnnjax.core.checks import whole_number


def one_hot(labels: Any, num_classes: int) -> np.ndarray | Array:
    """Labels as rows of zeros with a one at the class, as `to_categorical` of Keras makes them.

    `fit` takes labels as they are; rows are for losses of one's own, or to be mixed and smoothed.

    Args:
        labels: whole numbers in [0, num_classes), [N], or [N, P] of P positions; an array of NumPy
            or JAX, or a list. Inside a compiled function their values cannot be checked, and a
            label that is none becomes a row of zeros.
        num_classes: K >= 1.

    Returns:
        float32 [N, K], or [N, P, K]: of JAX for an array of JAX, otherwise of NumPy.

    Raises:
        ValueError: for labels that are no whole numbers, such as floating ones or bools, or out of
            range.

    >>> one_hot([2, 0], num_classes=3).tolist()
    [[0.0, 0.0, 1.0], [1.0, 0.0, 0.0]]
    """
    count = whole_number("num_classes", num_classes)
    try:
        given = labels if isinstance(labels, Array) else np.asarray(labels)
    except ValueError:  # NumPy takes no rows of different lengths
        raise ValueError("labels must have rows of one length, [N, P]") from None
    if given.size == 0 and not isinstance(labels, np.ndarray | Array):
        given = given.astype(np.int32)  # NumPy takes an empty list for floating
    if not jnp.issubdtype(given.dtype, jnp.integer):
        raise ValueError(f"labels must be whole numbers, got an array of {given.dtype}")
    if given.ndim == 0:
        raise ValueError(f"labels must be [N], or [N, P] of positions, got the number {labels}")
    if isinstance(given, jax.core.Tracer):
        return jax.nn.one_hot(given, count, dtype=jnp.float32)
    _check_range(np.asarray(given), count)
    if isinstance(given, Array):
        return jax.nn.one_hot(given, count, dtype=jnp.float32)
    rows = np.zeros((given.size, count), np.float32)
    rows[np.arange(given.size), given.ravel()] = 1
    return rows.reshape(*given.shape, count)


def _check_range(labels: np.ndarray, count: int) -> None:
    wrong = np.argwhere((labels < 0) | (labels >= count))
    if len(wrong):
        place = tuple(wrong[0].tolist())
        where = ", ".join(map(str, place))
        raise ValueError(
            f"labels[{where}] is {labels[place]}, and num_classes={count} has the classes 0 to "
            f"{count - 1}"
        )
