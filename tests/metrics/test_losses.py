"""Losses against Keras."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnjax import metrics

RNG = np.random.default_rng(0)
LOGITS = (RNG.standard_normal((9, 5)) * 4).astype(np.float32)
LABELS = RNG.integers(0, 5, 9).astype(np.int32)
BINARY = (np.arange(9) % 2).astype(np.int32)


@pytest.fixture(scope="module")
def losses():
    import keras

    return keras.losses


def test_softmax_cross_entropy_equals_keras(losses):
    oracle = losses.SparseCategoricalCrossentropy(from_logits=True, reduction=None)
    expected = oracle(LABELS, LOGITS)
    loss = metrics.softmax_cross_entropy(jnp.asarray(LOGITS), jnp.asarray(LABELS))
    np.testing.assert_allclose(loss, expected, rtol=1e-5, atol=1e-6)


def test_losses_are_those_of_clipped_probabilities_where_nothing_is_clipped(losses):
    logits = np.array([[0.0, 9.0, -4.0], [0.0, 40.0, 0.0]], np.float32)
    oracle = losses.SparseCategoricalCrossentropy(reduction=None)
    labels = np.array([0, 0])
    clipped = np.asarray(oracle(labels, jax.nn.softmax(logits)))
    ours = np.asarray(metrics.softmax_cross_entropy(jnp.asarray(logits), jnp.asarray(labels)))
    assert ours[0] == pytest.approx(clipped[0], rel=1e-4)
    assert ours[1] == pytest.approx(40, rel=1e-4)
    assert clipped[1] == pytest.approx(-np.log(1e-7), rel=1e-4)


def test_softmax_cross_entropy_takes_probabilities(losses):
    soft = RNG.dirichlet(np.ones(5), 9).astype(np.float32)
    expected = losses.CategoricalCrossentropy(from_logits=True, reduction=None)(soft, LOGITS)
    loss = metrics.softmax_cross_entropy(jnp.asarray(LOGITS), jnp.asarray(soft))
    np.testing.assert_allclose(loss, expected, rtol=1e-5, atol=1e-6)


def test_softmax_cross_entropy_has_the_textbook_gradient():
    gradient = jax.grad(lambda z: metrics.softmax_cross_entropy(z, jnp.asarray(LABELS)).sum())
    exact = np.exp(LOGITS.astype(np.float64))
    exact = exact / exact.sum(axis=1, keepdims=True) - np.eye(5)[LABELS]
    np.testing.assert_allclose(gradient(jnp.asarray(LOGITS)), exact, atol=1e-6)


@pytest.mark.parametrize("shape", [(9, 1), (9,)])
@pytest.mark.parametrize("label_shape", [(9, 1), (9,)])
def test_sigmoid_cross_entropy_equals_keras(losses, shape, label_shape):
    z = LOGITS[:, 0]
    expected = losses.BinaryCrossentropy(from_logits=True, reduction=None)(
        BINARY[:, None].astype(np.float32), z[:, None]
    )
    loss = metrics.sigmoid_cross_entropy(
        jnp.asarray(z.reshape(shape)), jnp.asarray(BINARY.reshape(label_shape))
    )
    assert loss.shape == (9,)
    np.testing.assert_allclose(loss, expected, rtol=1e-5, atol=1e-6)


def test_losses_stay_finite_at_extreme_logits():
    z = jnp.array([[1e4, -1e4], [-1e4, 1e4]])
    loss = metrics.softmax_cross_entropy(z, jnp.array([0, 0]))
    np.testing.assert_allclose(loss, [0, 2e4], rtol=1e-6)
    loss = metrics.sigmoid_cross_entropy(jnp.array([[1e4], [-1e4]]), jnp.array([1, 1]))
    np.testing.assert_allclose(loss, [0, 1e4], rtol=1e-6)


@pytest.mark.parametrize("amount", [0.0, 0.1, 0.9])
def test_label_smoothing_equals_keras(losses, amount):
    onehot = np.eye(5, dtype=np.float32)[LABELS]
    oracle = losses.CategoricalCrossentropy(
        from_logits=True, label_smoothing=amount, reduction=None
    )
    smoothed = metrics.smooth_labels(jnp.asarray(LABELS), 5, amount)
    np.testing.assert_allclose(smoothed.sum(axis=1), np.ones(9), rtol=1e-6)
    loss = metrics.softmax_cross_entropy(jnp.asarray(LOGITS), smoothed)
    np.testing.assert_allclose(loss, oracle(onehot, LOGITS), rtol=1e-5, atol=1e-6)


def test_cross_entropy_is_by_sigmoid_of_one_logit_and_by_softmax_of_two():
    z, y = jnp.array([[0.3], [-2.0]]), jnp.array([1, 0])
    two = jnp.concatenate([jnp.zeros_like(z), z], axis=1)  # the same probabilities
    np.testing.assert_allclose(
        metrics.cross_entropy(z, y), metrics.cross_entropy(two, y), rtol=1e-6
    )


def test_correct_compares_the_largest_logit():
    right = metrics.correct(jnp.asarray(LOGITS), jnp.asarray(LABELS))
    assert right.dtype == jnp.float32
    assert right.tolist() == (LOGITS.argmax(axis=1) == LABELS).astype(float).tolist()
    onehot = jnp.asarray(np.eye(5, dtype=np.float32)[LABELS])
    assert metrics.correct(jnp.asarray(LOGITS), onehot).tolist() == right.tolist()


@pytest.mark.parametrize("label_shape", [(4, 1), (4,)])
def test_correct_takes_the_sign_of_one_logit(label_shape):
    labels = jnp.array([1, 0, 1, 0]).reshape(label_shape)
    assert metrics.correct(jnp.array([[2.0], [2.0], [-2.0], [-2.0]]), labels).tolist() == [
        1,
        0,
        0,
        1,
    ]
