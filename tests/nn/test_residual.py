"""Layers of residual branches: stochastic depth against Keras and SciPy, layer scale, gates."""

import jax
import jax.numpy as jnp
import keras
import numpy as np
import pytest
from scipy import stats

from cnnjax.nn import LayerScale, Multiply, StochasticDepth


def dropped(rate, x, seed=0):
    return StochasticDepth(rate).apply({}, x, True, rngs={"dropout": jax.random.key(seed)})


@pytest.mark.parametrize("rate", [0.2, 0.75])
def test_stochastic_depth_takes_whole_examples_and_scales_the_others_as_keras_does(rate):
    x = jnp.asarray(np.random.default_rng(0).uniform(1, 2, (2000, 2, 2, 3)), jnp.float32)
    layer = keras.layers.Dropout(rate, noise_shape=(None, 1, 1, 1), seed=1)
    for y in (dropped(rate, x), np.asarray(layer(x, training=True))):
        kept = np.asarray(y[:, 0, 0, 0] != 0)
        expected = np.where(kept[:, None, None, None], x / (1 - rate), 0)
        np.testing.assert_allclose(y, expected, rtol=1e-6)
        assert stats.binomtest(int(kept.sum()), 2000, 1 - rate).pvalue > 1e-3


def test_stochastic_depth_is_the_identity_in_evaluation_and_a_function_of_the_key_in_training():
    x = jnp.ones((64, 2, 2, 3))
    assert StochasticDepth(0.5).apply({}, x) is x
    assert StochasticDepth(0.0).apply({}, x, True) is x
    assert dropped(0.5, x, 1).tolist() == dropped(0.5, x, 1).tolist() != dropped(0.5, x, 2).tolist()


def test_a_branch_that_is_left_out_need_not_be_finite():
    y = dropped(0.5, jnp.full((64, 3), jnp.inf))
    assert set(np.unique(y)) == {0, np.inf}


@pytest.mark.parametrize("rate", [1.0, -0.1])
def test_a_bad_rate_of_stochastic_depth_is_named(rate):
    with pytest.raises(ValueError, match=rf"rate must lie in \[0, 1\), got {rate}"):
        StochasticDepth(rate).apply({}, jnp.ones((3, 1)))


def test_layer_scale_is_a_factor_for_every_channel_in_the_inputs_type():
    x = jnp.ones((2, 3, 3, 4), jnp.bfloat16)
    variables = LayerScale(0.5).init(jax.random.key(0), x)
    assert variables["params"]["gamma"].tolist() == [0.5] * 4
    y = LayerScale().apply({"params": {"gamma": jnp.arange(4.0)}}, x)
    assert y.dtype == jnp.bfloat16
    assert y[1, 2, 0].tolist() == [0, 1, 2, 3]


def test_a_gate_multiplies_whole_maps_as_keras_does():
    generator = np.random.default_rng(0)
    x, gate = (generator.random(shape, np.float32) for shape in ((2, 3, 4, 5), (2, 1, 1, 5)))
    with jax.numpy_rank_promotion("allow"):
        expected = keras.layers.Multiply()([x, gate])
    np.testing.assert_array_equal(Multiply().apply({}, [x, gate]), expected)
