"""Area under the ROC curve and calibration error against scikit-learn and their definitions."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest
from data_of_answers import measured, multilabel, of_classes, of_one_logit

from cnnjax import metrics

sklearn_metrics = pytest.importorskip("sklearn.metrics")


def softmax(logits: np.ndarray) -> np.ndarray:
    z = np.exp(logits.astype(np.float64))
    return z / z.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("size", [7, 64, 203])
def test_the_area_is_that_of_scikit_learn_to_the_width_of_the_bins(size: int) -> None:
    logits, labels = of_one_logit()
    oracle = sklearn_metrics.roc_auc_score(labels, logits[:, 0])
    assert measured(metrics.auroc(), logits, labels, size) == pytest.approx(oracle, abs=1e-3)
    logits, labels = of_classes()
    oracle = sklearn_metrics.roc_auc_score(labels, softmax(logits), multi_class="ovr")
    assert measured(metrics.auroc(), logits, labels, size) == pytest.approx(oracle, abs=1e-3)
    logits, labels = multilabel()
    oracle = sklearn_metrics.roc_auc_score(labels, logits, average=None)
    np.testing.assert_allclose(measured(metrics.auroc(None), logits, labels), oracle, atol=1e-3)


@pytest.mark.parametrize("scale", [0.3, 30.0])
def test_the_area_is_right_for_very_sure_and_very_unsure_outputs(scale: float) -> None:
    logits, labels = of_classes()
    logits = logits * np.float32(scale)
    rest = [np.delete(logits, k, axis=1).astype(np.float64) for k in range(5)]
    odds = [logits[:, k] - np.logaddexp.reduce(rest[k], axis=1) for k in range(5)]
    oracle = [sklearn_metrics.roc_auc_score(labels == k, odds[k]) for k in range(5)]
    np.testing.assert_allclose(measured(metrics.auroc(None), logits, labels), oracle, atol=5e-3)


def test_with_few_bins_equal_scores_count_half() -> None:
    logits = np.array([[-1.0], [-2.0], [3.0], [4.0]], np.float32)  # two bins, by the sign
    labels = np.array([1, 0, 1, 0], np.int32)
    assert measured(metrics.auroc(bins=2), logits, labels) == 0.5


def test_an_area_of_one_kind_of_examples_is_not_known() -> None:
    logits, labels = of_classes(3)
    wide = np.concatenate([logits, np.full((len(logits), 1), -9, np.float32)], axis=1)
    areas = measured(metrics.auroc(None), wide, labels)
    assert np.isnan(areas).tolist() == [False, False, False, True]
    assert measured(metrics.auroc(), wide, labels) == pytest.approx(areas[:3].mean())
    assert np.isnan(measured(metrics.auroc(), wide[:, :1], np.zeros(203, np.int32)))


def expected_error(confidence: np.ndarray, right: np.ndarray, bins: int) -> float:
    """By its definition, bin by bin."""
    total = 0.0
    for i in range(bins):
        inside = (confidence > i / bins) & (confidence <= (i + 1) / bins)
        if inside.any():
            total += inside.mean() * abs(right[inside].mean() - confidence[inside].mean())
    return total


@pytest.mark.sample(2)
@pytest.mark.parametrize("bins", [1, 10, 15])
@pytest.mark.parametrize("size", [7, 64])
def test_the_calibration_error_is_that_of_its_definition(bins: int, size: int) -> None:
    logits, labels = of_classes()
    probs = softmax(logits)
    oracle = expected_error(probs.max(axis=1), probs.argmax(axis=1) == labels, bins)
    ours = measured(metrics.calibration_error(bins), logits, labels, size)
    assert ours == pytest.approx(oracle, abs=1e-6)
    logits, labels = of_one_logit()
    p = 1 / (1 + np.exp(-logits[:, 0].astype(np.float64)))
    oracle = expected_error(np.maximum(p, 1 - p), (p > 0.5) == (labels == 1), bins)
    ours = measured(metrics.calibration_error(bins), logits, labels, size)
    assert ours == pytest.approx(oracle, abs=1e-6)


def test_what_is_certain_and_right_is_calibrated() -> None:
    batch = {"labels": jnp.array([1, 1]), "mask": jnp.ones(2)}
    metric = metrics.calibration_error()
    assert metric.compute(metric.update(jnp.array([[0.0, 99.0]] * 2), batch)) == 0


def test_wrong_settings_are_refused() -> None:
    with pytest.raises(ValueError, match="average must be one of 'macro', None, got 'micro'"):
        metrics.auroc("micro")
    with pytest.raises(ValueError, match="bins must be a whole number >= 2, got 1"):
        metrics.auroc(bins=1)
