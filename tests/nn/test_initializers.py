"""Initialisers of PyTorch's nets: spreads as their formulas say."""

import jax
import numpy as np
import pytest

from cnnjax.nn import he_normal, he_normal_fan_out, torch_uniform

SHAPE = (3, 3, 64, 128)


@pytest.mark.parametrize(
    ("initialiser", "variance"),
    [
        (he_normal, 2 / (9 * 64)),
        (he_normal_fan_out, 2 / (9 * 128)),
        (torch_uniform, 1 / (3 * 9 * 64)),
    ],
)
def test_the_variance_is_that_of_the_fans(initialiser, variance):
    kernel = np.asarray(initialiser(jax.random.key(0), SHAPE))
    assert np.var(kernel) == pytest.approx(variance, rel=0.03)
    assert abs(kernel.mean()) < 0.02 * np.sqrt(variance)


def test_pytorchs_own_is_bounded_by_the_root_of_the_fan():
    kernel = np.asarray(torch_uniform(jax.random.key(0), SHAPE))
    assert np.abs(kernel).max() == pytest.approx(1 / np.sqrt(9 * 64), rel=1e-3)
