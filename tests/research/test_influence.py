"""Influence against the formula written out, and against training without the example."""

import jax
import numpy as np
import pytest
from scipy.optimize import minimize
from small_problems import Linear, batch_of, tiny

import cnnjax as cj

DAMPING, COUNT = 0.05, 60


def problem():
    rng = np.random.default_rng(0)
    train, test = batch_of(COUNT, size=2), batch_of(4, seed=1, size=2)
    for batch in (train, test):  # something to learn, and some that contradict
        batch["labels"] = batch["inputs"].reshape(-1, 4)[:, :3].argmax(axis=1)
    train["labels"][::5] = rng.integers(0, 3, len(train["labels"][::5]))
    return train, test


def features(batch):
    """With a column of ones for the bias."""
    pixels = batch["inputs"].reshape(-1, 4) / 255
    return np.concatenate([pixels, np.ones((len(pixels), 1))], axis=1)


def probabilities(weights, batch):
    scores = features(batch) @ weights.reshape(5, 3)
    scores = np.exp(scores - scores.max(axis=1, keepdims=True))
    return scores / scores.sum(axis=1, keepdims=True)


def losses(weights, batch):
    return -np.log(probabilities(weights, batch)[np.arange(len(batch["labels"])), batch["labels"]])


def trained(batch, share):
    """Weights at the minimum of the weighted training loss with its penalty, by SciPy."""

    def objective(weights):
        errors = probabilities(weights, batch) - np.eye(3)[batch["labels"]]
        gradient = features(batch).T @ (errors * share[:, None]) / COUNT
        value = losses(weights, batch) @ share / COUNT + DAMPING / 2 * weights @ weights
        return value, gradient.ravel() + DAMPING * weights

    return minimize(objective, np.zeros(15), jac=True, tol=1e-12, method="BFGS").x


def model_of(weights):
    model = cj.Model.from_module(Linear(), (2, 2, 1))
    kernel, bias = np.split(weights.reshape(5, 3).astype(np.float32), [4])
    return model.replace(variables={"params": {"logits": {"kernel": kernel, "bias": bias[0]}}})


def test_scores_equal_the_formula_and_predict_what_training_without_an_example_does():
    train, test = problem()
    weights = trained(train, np.ones(COUNT))
    scores = np.asarray(cj.research.influence(model_of(weights), train, test, damping=DAMPING))

    def gradients(batch):
        errors = probabilities(weights, batch) - np.eye(3)[batch["labels"]]
        return (features(batch)[:, :, None] * errors[:, None]).reshape(len(errors), 15)

    bends = [np.diag(p) - np.outer(p, p) for p in probabilities(weights, train)]
    rows = features(train)
    matrix = sum(np.kron(np.outer(x, x), b) for x, b in zip(rows, bends, strict=True)) / COUNT
    solved = np.linalg.solve(matrix + DAMPING * np.eye(15), gradients(train).T)
    np.testing.assert_allclose(scores, gradients(test) @ solved / COUNT, rtol=1e-3, atol=1e-5)

    average = cj.research.influence(model_of(weights), train, test, damping=DAMPING, average=True)
    np.testing.assert_allclose(average, scores.mean(axis=0), rtol=1e-3, atol=1e-5)

    without = [trained(train, np.arange(COUNT) != n) for n in range(COUNT)]
    grown = np.stack([losses(w, test) for w in without], axis=1) - losses(weights, test)[:, None]
    scores, grown = scores.ravel(), grown.ravel()
    assert np.corrcoef(scores, grown)[0, 1] > 0.98
    assert scores @ grown / (grown @ grown) == pytest.approx(1, abs=0.2)


def test_too_few_iterations_are_refused():
    train, test = problem()
    model = model_of(np.arange(15.0) / 10)
    with pytest.raises(ValueError, match=r"1 iterations .* unsolved with damping=1e-05"):
        cj.research.influence(model, train, test, damping=1e-5, iterations=1)


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        ({"damping": 0}, "damping must be a number > 0, got 0"),
        ({"iterations": 0}, "iterations must be a whole number >= 1, got 0"),
    ],
)
def test_numbers_out_of_range_are_named(numbers, message):
    train, test = problem()
    with pytest.raises(ValueError, match=message):
        cj.research.influence(model_of(np.zeros(15)), train, test, **numbers)


@pytest.mark.thorough
def test_a_net_of_convolutions_has_scores_too():
    scores = cj.research.influence(tiny(), batch_of(4), batch_of(2, seed=1), damping=1.0)
    assert scores.shape == (2, 4)
    assert bool(jax.numpy.isfinite(scores).all())
