"""Gradients of every example against a loop over them."""

import jax
import numpy as np
import pytest
from small_problems import batch_of, flat_of, losses_of, tiny

import cnnjax as cj


def test_gradients_equal_a_loop_over_the_examples():
    model, batch = tiny(), batch_of(4)
    gradients = cj.research.per_example_gradients(model, batch)
    jacobian = jax.jacrev(losses_of(model, batch)[0])(losses_of(model, batch)[1])
    for n in range(4):
        ours = flat_of(jax.tree.map(lambda g, n=n: g[n], gradients))
        np.testing.assert_allclose(ours, jacobian[n], rtol=1e-4, atol=1e-6)


def test_weights_multiply_and_masked_examples_have_none():
    model, batch = tiny(), batch_of(3)
    plain = cj.research.per_example_gradients(model, batch)
    given = {**batch, "mask": np.array([1, 0, 1]), "weights": np.array([2.0, 5.0, 0.5])}
    weighted = cj.research.per_example_gradients(model, given)
    for ours, usual in zip(jax.tree.leaves(weighted), jax.tree.leaves(plain), strict=True):
        factors = np.array([2.0, 0.0, 0.5]).reshape(-1, *[1] * (usual.ndim - 1))
        np.testing.assert_allclose(ours, usual * factors, rtol=1e-5, atol=1e-7)


def test_a_loss_of_ones_own_is_differentiated():
    model, batch = tiny(), batch_of(3)
    gradients = cj.research.per_example_gradients(
        model, {**batch, "labels": np.zeros(3)}, lambda outputs, labels: outputs.sum(axis=1)
    )
    np.testing.assert_allclose(gradients["logits"]["bias"], np.ones((3, 3)))


def test_batches_that_do_not_fit_are_named():
    model, batch = tiny(), batch_of(3)
    with pytest.raises(ValueError, match="has no 'labels'"):
        cj.research.per_example_gradients(model, {"inputs": batch["inputs"]})
    with pytest.raises(ValueError, match="labels must lie in"):
        cj.research.per_example_gradients(model, {**batch, "labels": np.array([0, 1, 3])})
    with pytest.raises(ValueError, match=r"loss must return \[1\], got \[1, 3\]"):
        cj.research.per_example_gradients(model, batch, lambda outputs, labels: outputs)
