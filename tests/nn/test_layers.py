"""Dense, flatten, dropout, activations and initialisers against Keras and SciPy."""

import math

import jax
import jax.numpy as jnp
import keras
import numpy as np
import pytest
from scipy import stats

from cnnjax.nn import Activation, Cropping2D, Dense, Dropout, Flatten, glorot_uniform, zeros

RNG = np.random.default_rng(0)


def normal(*shape):
    return jnp.asarray(RNG.standard_normal(shape, np.float32))


@pytest.mark.sample(2)
@pytest.mark.parametrize("shape", [(5, 7), (2, 3, 7), (2, 3, 4, 7)])
@pytest.mark.parametrize("use_bias", [True, False])
def test_dense_equals_keras(shape, use_bias):
    x = normal(*shape)
    oracle = keras.layers.Dense(4, activation="relu", use_bias=use_bias)
    with jax.numpy_rank_promotion("allow"):
        oracle.build(shape)
        oracle.set_weights([normal(*w.shape) for w in oracle.weights])
        expected = oracle(x)
    layer = Dense(4, activation=jax.nn.relu, use_bias=use_bias)
    names = ("kernel", "bias")[: len(oracle.weights)]
    params = dict(zip(names, oracle.get_weights(), strict=True))
    shapes = jax.eval_shape(layer.init, jax.random.key(0), x)["params"]
    assert {k: v.shape for k, v in shapes.items()} == {k: v.shape for k, v in params.items()}
    y = layer.apply({"params": params}, x)
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-6)


def test_dense_computes_in_the_inputs_type_on_float32_parameters():
    x = normal(5, 7).astype(jnp.bfloat16)
    variables = Dense(4).init(jax.random.key(0), x)
    assert {str(leaf.dtype) for leaf in jax.tree.leaves(variables)} == {"float32"}
    assert Dense(4).apply(variables, x).dtype == jnp.bfloat16


def test_flatten_is_in_rows_columns_channels_order():
    x = normal(2, 3, 4, 5)
    flat = Flatten().apply({}, x)
    assert flat.shape == (2, 60)
    assert float(flat[1, 2 * 20 + 3 * 5 + 4]) == float(x[1, 2, 3, 4])
    assert flat.tolist() == np.asarray(keras.layers.Flatten()(x)).tolist()


def test_flatten_takes_an_empty_batch():
    assert Flatten().apply({}, jnp.ones((0, 3, 4, 5))).shape == (0, 60)


@pytest.mark.parametrize("cropping", [((0, 1), (2, 3)), ((2, 0), (0, 0))])
def test_cropping_equals_keras(cropping):
    x = np.random.default_rng(0).random((2, 7, 6, 3), np.float32)
    ours = Cropping2D(cropping).apply({}, x)
    np.testing.assert_array_equal(ours, keras.layers.Cropping2D(cropping)(x))


def test_an_activation_applies_its_function():
    assert Activation(jnp.tanh).apply({}, jnp.float32([0, 1])).tolist() == [
        0,
        pytest.approx(math.tanh(1)),
    ]


def test_dropout_is_the_identity_in_evaluation():
    x = normal(3, 4)
    assert Dropout(0.5).apply({}, x).tolist() == x.tolist()
    key = jax.random.key(0)
    assert Dropout(0.0).apply({}, x, True, rngs={"dropout": key}).tolist() == x.tolist()


@pytest.mark.parametrize("rate", [0.25, 0.5, 0.9])
def test_dropout_zeroes_a_share_and_scales_the_rest(rate):
    y = Dropout(rate).apply({}, jnp.ones(20_000), True, rngs={"dropout": jax.random.key(0)})
    assert set(np.unique(y)) == {0, np.float32(1) / np.float32(1 - rate)}
    zeroed = int((y == 0).sum())
    assert stats.binomtest(zeroed, 20_000, rate).pvalue > 1e-3


def test_dropout_is_a_function_of_the_key():
    def masked(seed):
        rngs = {"dropout": jax.random.key(seed)}
        return Dropout(0.5).apply({}, jnp.ones(100), True, rngs=rngs).tolist()

    assert masked(1) == masked(1)
    assert masked(1) != masked(2)


def test_dropout_hides_no_nan_and_passes_the_gradient_of_what_it_kept():
    def loss(x):
        return Dropout(0.5).apply({}, x, True, rngs={"dropout": jax.random.key(0)}).sum()

    assert set(np.unique(jax.grad(loss)(jnp.full(64, jnp.inf)))) == {0, 2}


@pytest.mark.parametrize("rate", [1.0, -0.1, 2])
def test_a_bad_rate_is_named(rate):
    with pytest.raises(ValueError, match=rf"rate must lie in \[0, 1\), got {rate}"):
        Dropout(rate).apply({}, jnp.ones(3))


@pytest.mark.sample(1)
@pytest.mark.parametrize("shape", [(3, 3, 16, 32), (5, 5, 8, 20), (300, 70)])
def test_glorot_uniform_has_keras_distribution(shape):
    field = math.prod(shape[:-2])
    limit = math.sqrt(6 / (field * (shape[-2] + shape[-1])))
    ours = np.asarray(glorot_uniform(jax.random.key(0), shape)).reshape(-1)
    keras_values = np.asarray(keras.initializers.GlorotUniform(seed=1)(shape)).reshape(-1)
    assert ours.dtype == np.float32
    for values in (ours, keras_values):
        assert limit * 0.99 < np.abs(values).max() <= limit * (1 + 1e-6)
    assert stats.kstest(ours, "uniform", args=(-limit, 2 * limit)).pvalue > 1e-3
    assert stats.ks_2samp(ours, keras_values).pvalue > 1e-3


def test_glorot_uniform_is_a_function_of_the_key():
    values = [glorot_uniform(jax.random.key(s), (3, 4)).tolist() for s in (0, 0, 1)]
    assert values[0] == values[1] != values[2]


def test_biases_start_at_zero_and_kernels_at_glorot_uniform():
    params = Dense(40).init(jax.random.key(0), jnp.ones((1, 60)))["params"]
    assert params["bias"].tolist() == [0] * 40
    assert 0.9 < float(jnp.abs(params["kernel"]).max()) / math.sqrt(6 / 100) <= 1
    assert zeros(jax.random.key(0), (2, 3), jnp.bfloat16).dtype == jnp.bfloat16
