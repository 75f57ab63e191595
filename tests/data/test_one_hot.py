"""Labels as rows of zeros and a one: as Keras makes them; labels that are none are refused."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import keras
import numpy as np
import pytest

from cnnjax.data import one_hot

LABELS = np.array([3, 0, 1, 1], np.int32)


@pytest.mark.parametrize("kind", ["int32", "uint8", "int64", "list", "jax"])
def test_rows_are_those_of_keras(kind: str) -> None:
    given = {"list": LABELS.tolist(), "jax": jnp.asarray(LABELS)}
    labels = given[kind] if kind in given else LABELS.astype(kind)
    rows = one_hot(labels, 5)
    assert isinstance(rows, jax.Array if kind == "jax" else np.ndarray)
    assert rows.dtype == np.float32
    np.testing.assert_array_equal(rows, keras.utils.to_categorical(LABELS, 5))


def test_positions_have_a_row_each() -> None:
    labels = np.array([[0, 1], [2, 0]])
    np.testing.assert_array_equal(one_hot(labels, 3), keras.utils.to_categorical(labels, 3))
    assert one_hot([], 4).shape == (0, 4)


def test_inside_a_compiled_function() -> None:
    rows = jax.jit(lambda labels: one_hot(labels, 5))(LABELS)
    np.testing.assert_array_equal(rows, keras.utils.to_categorical(LABELS, 5))
    # Values are not known there: what is no class is no class.
    assert not jax.jit(lambda labels: one_hot(labels, 3))(LABELS)[0].any()


@pytest.mark.parametrize(
    ("labels", "classes", "message"),
    [
        ([0, 3], 3, r"^labels\[1\] is 3, and num_classes=3 has the classes 0 to 2$"),
        (jnp.array([0, -1]), 3, r"^labels\[1\] is -1, and num_classes=3 has the classes 0 to 2$"),
        ([[0, 1], [5, 0]], 2, r"^labels\[1, 0\] is 5, and num_classes=2 has the classes 0 to 1$"),
        ([0.0, 1.0], 2, "^labels must be whole numbers, got an array of float64$"),
        ([True, False], 2, "^labels must be whole numbers, got an array of bool$"),
        (["cat"], 2, "^labels must be whole numbers, got an array of <U3$"),
        ([[0], [0, 1]], 2, r"^labels must have rows of one length, \[N, P\]$"),
        (2, 3, r"^labels must be \[N\], or \[N, P\] of positions, got the number 2$"),
        ([0], 0, "^num_classes must be a whole number >= 1, got 0$"),
        ([0], 2.0, "^num_classes must be a whole number >= 1, got 2.0$"),
    ],
)  # fmt: skip
def test_what_is_no_label_is_an_error(labels, classes, message) -> None:
    with pytest.raises(ValueError, match=message):
        one_hot(labels, classes)
