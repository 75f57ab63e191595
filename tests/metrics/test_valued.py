"""Metrics of values against scikit-learn."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest
from data_of_answers import measured

from cnnjax import metrics

sklearn_metrics = pytest.importorskip("sklearn.metrics")

RNG = np.random.default_rng(3)
LABELS = RNG.standard_normal((203, 3)).astype(np.float32)
OUTPUTS = (LABELS + 0.5 * RNG.standard_normal(LABELS.shape)).astype(np.float32)


@pytest.mark.parametrize("size", [7, 64, 203])
@pytest.mark.parametrize(
    ("name", "oracle"),
    [("mae", "mean_absolute_error"), ("mse", "mean_squared_error"), ("r2", "r2_score")],
)
def test_they_are_those_of_scikit_learn(name: str, oracle: str, size: int) -> None:
    expected = getattr(sklearn_metrics, oracle)(LABELS, OUTPUTS)
    ours = measured(getattr(metrics, name)(), OUTPUTS, LABELS, size)
    assert ours == pytest.approx(expected, rel=1e-6)


def test_r2_of_every_value_is_an_array() -> None:
    expected = sklearn_metrics.r2_score(LABELS, OUTPUTS, multioutput="raw_values")
    np.testing.assert_allclose(measured(metrics.r2(None), OUTPUTS, LABELS), expected, rtol=1e-6)


def test_a_vector_of_labels_is_that_of_a_single_output_not_a_table() -> None:
    expected = sklearn_metrics.mean_absolute_error(LABELS[:, 0], OUTPUTS[:, 0])
    ours = measured(metrics.mae(), OUTPUTS[:, :1], LABELS[:, 0])
    assert ours == pytest.approx(expected, rel=1e-6)


def test_a_center_keeps_the_digits_of_labels_far_from_zero() -> None:
    far, answer = LABELS[:, 0] + 5000, OUTPUTS[:, :1] + 5000
    expected = sklearn_metrics.r2_score(far.astype(np.float64), answer.astype(np.float64))
    ours = measured(metrics.r2(center=5000), answer, far)
    assert ours == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize(("error", "expected"), [(0, 1.0), (1, 0.0)])
def test_r2_of_labels_that_are_all_the_same(error: float, expected: float) -> None:
    labels = np.full((8, 1), 2, np.float32)
    assert sklearn_metrics.r2_score(labels, labels + error) == expected
    assert measured(metrics.r2(), labels + np.float32(error), labels) == expected


def test_other_shapes_are_refused() -> None:
    batch = {"labels": jnp.zeros((4, 2)), "mask": jnp.ones(4)}
    for metric in (metrics.mae(), metrics.mse(), metrics.r2()):
        with pytest.raises(ValueError, match=r"outputs \[4, 1\] and labels \[4, 2\] must be of"):
            metric.update(jnp.zeros((4, 1)), batch)
