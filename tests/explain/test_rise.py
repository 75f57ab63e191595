"""RISE against its definition: the masks, drawn one by one, and the sum over them."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen
from PIL import Image

import cnnjax as cj
from cnnjax import explain
from cnnjax.core import rng
from cnnjax.explain.rise import masks_of

X = np.random.default_rng(0).random((2, 7, 9, 1)).astype(np.float32)


class Linear(linen.Module):
    @linen.compact
    def __call__(self, x):
        return linen.Dense(3, name="logits")(x.reshape(len(x), -1))


@pytest.fixture(scope="module")
def model():
    return cj.Model.from_module(Linear(), X.shape[1:])


@pytest.mark.thorough
def test_the_masks_are_stretched_grids_of_zeros_and_ones_shifted_by_less_than_a_cell():
    key, seen = rng.stream(3, "rise"), set()
    masks = np.asarray(masks_of(key, jnp.arange(20), (7, 9), 3, 0.5))
    for number, mask in enumerate(masks):
        here = jax.random.fold_in(key, number)
        cells = np.asarray(jax.random.bernoulli(rng.named(here, "cells"), 0.5, (3, 3)), np.float32)
        # Cells of 3 x 3 pixels, ceil(7 / 3) and ceil(9 / 3), and one more along each side.
        large = np.asarray(Image.fromarray(cells).resize((12, 12), Image.Resampling.BILINEAR))
        shifts = [
            (i, j)
            for i in range(3)
            for j in range(3)
            if np.allclose(mask, large[i : i + 7, j : j + 9], atol=1e-6)
        ]
        assert shifts
        if np.ptp(cells):
            seen.update(shifts[:1])
    assert len(seen) > 4
    assert abs(masks.mean() - 0.5) < 0.1


def test_the_heat_is_the_mean_of_the_masks_by_the_probability_that_they_leave(model):
    masks = np.asarray(masks_of(rng.stream(0, "rise"), jnp.arange(150), (7, 9), 2, 0.4), np.float64)
    kernel, bias = (np.asarray(model.params["logits"][k], np.float64) for k in ("kernel", "bias"))
    expected = np.zeros((2, 7, 9))
    for n, label in enumerate((2, 0)):
        for mask in masks:
            logits = (X[n, ..., 0] * mask).reshape(-1) @ kernel + bias
            expected[n] += np.exp(logits[label]) / np.exp(logits).sum() * mask / (150 * 0.4)
        expected[n] -= expected[n].min()
        expected[n] /= expected[n].max()
    found = explain.rise(model, X, [2, 0], samples=150, grid=2, shown=0.4)
    np.testing.assert_allclose(found, expected, atol=1e-4)
    np.testing.assert_array_equal(
        found, explain.rise(model, X, [2, 0], samples=150, grid=2, shown=0.4)
    )


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"samples": 0}, "samples must be a whole number >= 1, got 0"),
        ({"grid": 8}, "grid must be at most 7, got 8"),
        ({"shown": 1.0}, r"shown must lie in \(0, 1\), got 1.0"),
        ({"shown": True}, r"shown must lie in \(0, 1\), got True"),
    ],
)
def test_settings_out_of_range(model, settings, message):
    with pytest.raises(ValueError, match=message):
        explain.rise(model, X, 0, **settings)
