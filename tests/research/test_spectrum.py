"""Lanczos' eigenvalues against NumPy's of the dense Hessian."""

import jax
import numpy as np
import pytest
from small_problems import batch_of, flat_of, losses_of, tiny

import cnnjax as cj


def dense_hessian(model, batch):
    losses, flat = losses_of(model, batch)
    return np.float64(jax.jit(jax.hessian(lambda flat: losses(flat).mean()))(flat))


@pytest.mark.thorough
def test_the_largest_eigenvalues_and_their_vectors_are_numpys():
    model, batch = tiny(), batch_of(6)
    dense = dense_hessian(model, batch)
    values, vectors = np.linalg.eigh(dense)
    top = cj.research.top_hessian_eigenvalues(model, batch, 3)
    np.testing.assert_allclose(top.values, values[::-1][:3], rtol=1e-3)
    assert top.residuals.max() < 1e-3 * top.values[0]
    for i in range(3):
        ours = flat_of(jax.tree.map(lambda v, i=i: v[i], top.vectors))
        assert abs(ours @ vectors[:, -1 - i]) == pytest.approx(1, abs=1e-3)
        assert np.linalg.norm(dense @ ours - top.values[i] * ours) < 1e-3 * top.values[0]


@pytest.mark.thorough
def test_residuals_tell_how_far_too_few_steps_came():
    model, batch = tiny(), batch_of(6)
    values = np.linalg.eigvalsh(dense_hessian(model, batch))
    few = cj.research.top_hessian_eigenvalues(model, batch, 1, steps=2)
    nearest = np.abs(values - few.values[0]).min()
    assert 0 < nearest <= few.residuals[0] * 1.01


def test_a_matrix_of_low_rank_ends_the_basis():
    """The loss of linear outputs is quadratic of rank 3 and zero: 2 different eigenvalues."""
    model = cj.create_model("mlp", units=(), input_shape=(2, 2, 1), num_classes=3, task="values")
    inputs = np.full((1, 2, 2, 1), 255, np.uint8)
    batch = {"inputs": inputs, "labels": np.zeros((1, 3), np.float32)}
    top = cj.research.top_hessian_eigenvalues(model, batch, 2)
    # (2 / 3) (|x|^2 + 1), and zero.
    np.testing.assert_allclose(top.values, [10 / 3, 0], atol=1e-5)
    with pytest.raises(ValueError, match="k=3 is more than the 2 different eigenvalues"):
        cj.research.top_hessian_eigenvalues(model, batch, 3)


@pytest.mark.thorough
def test_the_same_seed_gives_the_same_bits():
    model, batch = tiny(), batch_of(6)
    one, two = (cj.research.top_hessian_eigenvalues(model, batch, 1, steps=4) for _ in range(2))
    assert one.values.tolist() == two.values.tolist()
    other = cj.research.top_hessian_eigenvalues(model, batch, 1, steps=4, seed=1)
    assert one.values.tolist() != other.values.tolist()


@pytest.mark.parametrize("numbers", [{"k": 0}, {"k": 2, "steps": 1}, {"steps": 10_000}, {"k": 1.0}])
def test_numbers_out_of_range_are_named(numbers):
    with pytest.raises(ValueError, match=r"k and steps must be whole numbers with 1 <= k <= steps"):
        cj.research.top_hessian_eigenvalues(tiny(), batch_of(2), **numbers)
