"""Gradients of every example against a loop over them."""

import jax
import numpy as np
import pytest
from small_problems import batch_of, flat_of, losses_of, tiny

import cnnjax as cj


@pytest.mark.thorough
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


def of_task(task):
    """A small model of a task, and a batch for it."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (3, 4, 4, 1), dtype=np.uint8)
    if task == "dense":
        model = cj.Model.from_module(cj.nn.Conv2D(2, 3, padding="same"), (4, 4, 1), task=task)
        return model, {"inputs": images, "labels": rng.integers(0, 2, (3, 4, 4))}
    labels = {
        "binary": rng.integers(0, 2, 3),
        "multilabel": rng.integers(0, 2, (3, 2)),
        "values": rng.random((3, 2), np.float32),
    }[task]
    classes = 1 if task == "binary" else 2
    model = cj.create_model("mlp", units=(), input_shape=(4, 4, 1), num_classes=classes, task=task)
    return model, {"inputs": images, "labels": labels}


@pytest.mark.sample(1)
@pytest.mark.parametrize("task", ["dense", "binary", "multilabel", "values"])
def test_of_every_task_their_mean_is_the_gradient_of_the_loss_that_evaluate_reports(task):
    model, batch = of_task(task)
    gradients = cj.research.per_example_gradients(model, batch)
    direction = jax.tree.map(lambda p: np.cos(np.arange(p.size)).reshape(p.shape), model.params)
    slope = sum(
        np.vdot(g.mean(axis=0), d)
        for g, d in zip(jax.tree.leaves(gradients), jax.tree.leaves(direction), strict=True)
    )
    data, step = (batch["inputs"], batch["labels"]), 1e-2
    ahead, behind = (
        cj.evaluate(
            model.replace(
                variables={
                    "params": jax.tree.map(
                        lambda p, d, s=sign: p + np.float32(s * step * d), model.params, direction
                    )
                }
            ),
            data,
        )["loss"]
        for sign in (1, -1)
    )
    assert (ahead - behind) / (2 * step) == pytest.approx(slope, rel=1e-2, abs=1e-4)
