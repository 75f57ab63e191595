"""Weights of examples in `fit`: as Keras' sample_weight has them, in both forms of an epoch."""

from __future__ import annotations

import numpy as np
import pytest

import cnnjax as cj

NUMBERS = np.random.default_rng(0)
IMAGES = NUMBERS.integers(0, 256, (24, 4, 4, 1), np.uint8)
LABELS = NUMBERS.integers(0, 3, 24)
WEIGHTS = NUMBERS.uniform(0.1, 3, 24).astype(np.float32)


def fit(weights: np.ndarray | None, **settings: int) -> cj.Run:
    data = cj.data.from_arrays(IMAGES, LABELS, weights=weights)
    model = cj.create_model("mlp", input_shape=(4, 4, 1), num_classes=3, units=(3,))
    config = cj.TrainingConfig(epochs=2, batch_size=8, optimizer="sgd", monitor=None, **settings)
    return cj.fit(model, cj.data.Splits(data, test=data), config, verbose=False)


def test_ones_change_nothing_and_others_do() -> None:
    plain = fit(None)
    np.testing.assert_allclose(fit(np.ones(24)).history["loss"], plain.history["loss"], rtol=1e-6)
    assert fit(WEIGHTS).parameter_hash != plain.parameter_hash


def test_loop_and_scan_agree() -> None:
    loop, scan = fit(WEIGHTS, steps_per_dispatch=1), fit(WEIGHTS, steps_per_dispatch=3)
    np.testing.assert_allclose(scan.history["loss"], loop.history["loss"], rtol=1e-5)
    np.testing.assert_allclose(scan.metrics["test_loss"], loop.metrics["test_loss"], rtol=1e-5)


def test_evaluation_leaves_them_out() -> None:
    run = fit(WEIGHTS)
    plain = cj.evaluate(run.model, cj.data.from_arrays(IMAGES, LABELS))
    assert run.metrics["test_loss"] == pytest.approx(plain["loss"], rel=1e-6)
