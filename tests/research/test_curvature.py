"""Products with the Hessian and with Gauss-Newton, and Fisher's diagonal, against dense ones."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from small_problems import batch_of, direction, flat_of, losses_of, tiny

import cnnjax as cj


def gauss_newton(model, batch):
    """`mean_n J_n' (diag p - p p') J_n`, of the softmax's second derivative by hand."""
    flat, unravel = ravel_pytree(model.params)
    inputs = jnp.asarray(batch["inputs"], jnp.float32) / 255

    def logits(flat):
        with cj.nn.conv_engine("lax"):
            return model.module.apply({"params": unravel(flat), **model.state}, inputs)

    jacobian = np.float64(jax.jit(jax.jacrev(logits))(flat))
    probs = np.float64(jax.nn.softmax(logits(flat)))
    bends = [np.diag(p) - np.outer(p, p) for p in probs]
    return sum(j.T @ b @ j for j, b in zip(jacobian, bends, strict=True)) / len(inputs)


def test_a_product_with_the_hessian_equals_the_dense_one():
    model, batch = tiny(), batch_of(4)
    losses, flat = losses_of(model, batch)
    dense = np.asarray(jax.jit(jax.hessian(lambda flat: losses(flat).mean()))(flat))
    tree, vector = direction(model)
    ours = flat_of(cj.research.hvp(model, batch, tree))
    np.testing.assert_allclose(ours, dense @ vector, rtol=1e-3, atol=1e-5)


@pytest.mark.thorough
def test_a_product_with_gauss_newton_equals_the_dense_one():
    model, batch = tiny(), batch_of(4)
    tree, vector = direction(model)
    ours = flat_of(cj.research.ggn_vector_product(model, batch, tree))
    np.testing.assert_allclose(ours, gauss_newton(model, batch) @ vector, rtol=1e-3, atol=1e-5)


@pytest.mark.thorough
def test_fishers_diagonal_is_gauss_newtons_of_a_softmax():
    model, batch = tiny(), batch_of(4)
    ours = flat_of(cj.research.fisher_diagonal(model, batch))
    np.testing.assert_allclose(ours, np.diag(gauss_newton(model, batch)), rtol=1e-3, atol=1e-7)


@pytest.mark.thorough
def test_the_empirical_diagonal_is_the_mean_of_squared_gradients():
    model, batch = tiny(), batch_of(4)
    losses, flat = losses_of(model, batch)
    squares = np.asarray(jax.jacrev(losses)(flat)) ** 2
    ours = flat_of(cj.research.fisher_diagonal(model, batch, empirical=True))
    np.testing.assert_allclose(ours, squares.mean(axis=0), rtol=1e-3, atol=1e-7)


def test_of_one_logit_it_is_that_of_two():
    """A sigmoid is a softmax of (0, z)."""
    model = cj.create_model("mlp", units=(), input_shape=(2, 2, 1), num_classes=1)
    batch = {"inputs": np.arange(12, dtype=np.uint8).reshape(3, 2, 2, 1), "labels": np.ones(3, int)}
    inputs = batch["inputs"].reshape(3, 4) / 255
    p = 1 / (1 + np.exp(-np.float64(model(inputs.reshape(3, 2, 2, 1).astype(np.float32)))))
    expected = np.mean(p * (1 - p) * inputs**2, axis=0)
    fisher = cj.research.fisher_diagonal(model, batch)
    np.testing.assert_allclose(fisher["logits"]["kernel"][:, 0], expected, rtol=1e-4, atol=1e-9)


@pytest.mark.thorough
def test_masked_examples_do_not_count():
    model, batch = tiny(), batch_of(4)
    first = {name: array[:3] for name, array in batch.items()}
    masked = {**batch, "mask": np.array([1, 1, 1, 0])}
    tree, _ = direction(model)
    for function in (cj.research.hvp, cj.research.ggn_vector_product):
        ours, expected = (flat_of(function(model, b, tree)) for b in (masked, first))
        np.testing.assert_allclose(ours, expected, rtol=1e-4, atol=1e-6)
    ours, expected = (flat_of(cj.research.fisher_diagonal(model, b)) for b in (masked, first))
    np.testing.assert_allclose(ours, expected, rtol=1e-4, atol=1e-7)


@pytest.mark.thorough
def test_they_may_be_compiled_with_the_model_as_an_argument():
    model, batch = tiny(), batch_of(4)
    tree, _ = direction(model)
    again = jax.jit(cj.research.hvp)(model, batch, tree)
    expected = flat_of(cj.research.hvp(model, batch, tree))
    np.testing.assert_allclose(flat_of(again), expected, rtol=1e-4, atol=1e-6)


def test_what_does_not_fit_is_named():
    model, batch = tiny(), batch_of(2)
    with pytest.raises(ValueError, match=r"vector must be a tree like model.params.*conv/bias"):
        cj.research.hvp(model, batch, {})
    values = cj.create_model("mlp", units=(), input_shape=(2, 2, 1), num_classes=3, task="values")
    targets = {"inputs": np.zeros((2, 2, 2, 1), np.uint8), "labels": np.zeros((2, 3), np.float32)}
    with pytest.raises(ValueError, match=r"the task 'values' .* give empirical=True"):
        cj.research.fisher_diagonal(values, targets)
    assert flat_of(cj.research.fisher_diagonal(values, targets, empirical=True)).min() >= 0
