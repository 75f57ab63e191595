"""Batch and layer normalisation against Keras, in evaluation and in training."""

import jax
import jax.numpy as jnp
import keras
import numpy as np
import pytest

from cnnjax.core import target
from cnnjax.nn import BatchNormalization, LayerNormalization, norm

RNG = np.random.default_rng(0)


def twin(**arguments):
    """Keras' layer with random values, and its variables as ours."""
    layer = keras.layers.BatchNormalization(**arguments)
    layer.build((None, 5, 4, 3))
    for variable in layer.weights:
        variable.assign(RNG.uniform(0.5, 1.5, variable.shape))
    values = {v.name: jnp.asarray(v.numpy()) for v in layer.weights}
    statistics = {name: values.pop(name) for name in ("moving_mean", "moving_variance")}
    return layer, {"params": values, "batch_stats": statistics}


SETTINGS = [{}, {"scale": False}, {"center": False}, {"epsilon": 1.001e-5}, {"momentum": 0.5}]


@pytest.mark.parametrize("arguments", SETTINGS, ids=str)
def test_evaluation_equals_keras(arguments):
    layer, variables = twin(**arguments)
    x = jnp.asarray(RNG.normal(2, 3, (2, 5, 4, 3)), jnp.float32)
    ours = BatchNormalization(**arguments).apply(variables, x)
    np.testing.assert_allclose(ours, layer(x, training=False), rtol=1e-5, atol=1e-5)


@pytest.mark.sample(2)
@pytest.mark.parametrize("platform", ["cpu", "tpu"])
@pytest.mark.parametrize("arguments", SETTINGS, ids=str)
def test_training_equals_keras_with_its_statistics_and_gradients(arguments, platform):
    layer, variables = twin(**arguments)
    x = jnp.asarray(RNG.normal(2, 3, (2, 5, 4, 3)), jnp.float32)
    cotangent = jnp.asarray(RNG.normal(size=x.shape), jnp.float32)
    state = [v.value for v in layer.non_trainable_variables]

    def theirs(trainable, x):
        return layer.stateless_call(trainable, state, x, training=True)

    def ours(params, x):
        all_variables = {"params": params, "batch_stats": variables["batch_stats"]}
        module = BatchNormalization(**arguments)
        with target.compiling_for(platform):
            return module.apply(all_variables, x, True, mutable=["batch_stats"])

    trainable = [v.value for v in layer.trainable_variables]
    y, pullback, updated = jax.vjp(theirs, trainable, x, has_aux=True)
    z, our_pullback, our_state = jax.vjp(ours, variables["params"], x, has_aux=True)
    np.testing.assert_allclose(z, y, rtol=1e-5, atol=1e-5)
    statistics = our_state["batch_stats"]
    for name, value in zip(("moving_mean", "moving_variance"), updated, strict=True):
        np.testing.assert_allclose(statistics[name], value, rtol=1e-5)
    (params_gradient, x_gradient), (theirs_params, theirs_x) = (
        our_pullback(cotangent),
        pullback(cotangent),
    )
    np.testing.assert_allclose(x_gradient, theirs_x, rtol=1e-3, atol=1e-5)
    names = [v.name for v in layer.trainable_variables]
    for name, gradient in zip(names, theirs_params, strict=True):
        np.testing.assert_allclose(params_gradient[name], gradient, rtol=1e-4, atol=1e-4)


def test_a_large_mean_does_not_spoil_the_variance():
    x = jnp.asarray(10_000 + RNG.normal(size=(64, 8, 8, 2)), jnp.float32)
    module = BatchNormalization(momentum=0.0)
    variables = module.init(jax.random.key(0), x)
    _, state = module.apply(variables, x, True, mutable=["batch_stats"])
    exact = np.asarray(x, np.float64).var((0, 1, 2))
    np.testing.assert_allclose(state["batch_stats"]["moving_variance"], exact, rtol=1e-3)


def test_initialising_leaves_the_statistics_alone():
    x = jnp.full((2, 3, 3, 2), 7.0)
    variables = BatchNormalization().init(jax.random.key(0), x, True)
    assert variables["batch_stats"]["moving_mean"].tolist() == [0, 0]
    assert variables["batch_stats"]["moving_variance"].tolist() == [1, 1]
    assert variables["params"]["gamma"].tolist() == [1, 1]


def test_half_precision_in_and_out_statistics_in_single():
    x = jnp.asarray(RNG.normal(size=(4, 3, 3, 2)), jnp.bfloat16)
    module = BatchNormalization()
    variables = module.init(jax.random.key(0), x)
    y, state = module.apply(variables, x, True, mutable=["batch_stats"])
    assert y.dtype == jnp.bfloat16
    assert state["batch_stats"]["moving_mean"].dtype == jnp.float32


def test_half_precision_far_from_zero():
    x = jnp.asarray(100 + RNG.normal(size=(64, 8, 8, 2)), jnp.bfloat16)
    module = BatchNormalization()
    variables = module.init(jax.random.key(0), x)
    y, _ = module.apply(variables, x, True, mutable=["batch_stats"])
    exact, _ = module.apply(variables, x.astype(jnp.float32), True, mutable=["batch_stats"])
    np.testing.assert_allclose(y.astype(jnp.float32), exact, rtol=0.01, atol=0.02)


def both_ways(x, near):
    """Mean, variance and their gradients, in two passes and in one."""
    for moments in (norm._moments, norm._moments_in_one_pass):
        weights = jnp.arange(1.0, x.shape[-1] + 1)

        def loss(x, moments=moments, weights=weights):
            mean, variance = moments(x, near)
            return ((mean + variance) * weights).sum()

        yield (*moments(x, near), jax.grad(loss)(x))


@pytest.mark.parametrize(
    ("mean", "near", "error"), [(0, 0, 1e-5), (3, 0, 1e-4), (30, 0, 1e-2), (10_000, 9_990, 1e-3)]
)
def test_moments_in_one_pass_are_those_of_two(mean, near, error):
    x = jnp.asarray(mean + np.random.default_rng(1).normal(size=(16, 8, 8, 3)), jnp.float32)
    exact = np.asarray(x, np.float64)
    two, one = both_ways(x, jnp.full(3, near, jnp.float32))
    np.testing.assert_allclose(one[0], exact.mean((0, 1, 2)), rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(one[1], exact.var((0, 1, 2)), rtol=error)
    np.testing.assert_allclose(one[2], two[2], rtol=1e-3, atol=1e-5)


def test_a_constant_channel_has_no_negative_variance_in_one_pass():
    x = jnp.full((8, 4, 4, 2), 0.1, jnp.float32)
    (_, variance, gradient) = list(both_ways(x, jnp.zeros(2)))[1]
    assert (variance >= 0).all()
    assert jnp.isfinite(gradient).all()


def test_in_one_pass_a_mean_that_hides_the_variance_blows_nothing_up():
    x = jnp.asarray(10_000 + np.random.default_rng(1).normal(size=(64, 8, 8, 2)), jnp.float32)
    with target.compiling_for("gpu"):
        module = BatchNormalization()
        variables = module.init(jax.random.key(0), x)
        outputs, _ = module.apply(variables, x, True, mutable=["batch_stats"])
    assert float(jnp.abs(outputs - outputs.mean()).max()) < 5


def test_accelerators_take_one_pass_and_equal_cpus():
    x = jnp.asarray(np.random.default_rng(1).normal(2.0, size=(8, 6, 6, 4)), jnp.float32)
    module = BatchNormalization()
    variables = module.init(jax.random.key(0), x)

    def passes():
        return module.apply(variables, x, True, mutable=["batch_stats"])

    ours = passes()
    with target.compiling_for("tpu"):
        theirs = passes()
    np.testing.assert_allclose(theirs[0], ours[0], rtol=1e-4, atol=1e-5)
    for name in ("moving_mean", "moving_variance"):
        np.testing.assert_allclose(
            theirs[1]["batch_stats"][name], ours[1]["batch_stats"][name], rtol=1e-5
        )


LAYER_SETTINGS = [{"epsilon": 1e-6}, {"scale": False}, {"center": False}]


@pytest.mark.sample(1)
@pytest.mark.parametrize("arguments", LAYER_SETTINGS, ids=str)
def test_layer_normalisation_equals_keras_with_its_gradients(arguments):
    layer = keras.layers.LayerNormalization(**arguments)
    layer.build((None, 5, 4, 3))
    for variable in layer.weights:
        variable.assign(RNG.uniform(0.5, 1.5, variable.shape))
    x, cotangent = (jnp.asarray(RNG.normal(2, 3, (2, 5, 4, 3)), jnp.float32) for _ in range(2))
    params = {v.name: jnp.asarray(v.numpy()) for v in layer.weights}
    names = [v.name for v in layer.weights]
    with jax.numpy_rank_promotion("allow"):
        y, pullback = jax.vjp(
            lambda params, x: layer.stateless_call([params[n] for n in names], [], x)[0], params, x
        )
        expected = pullback(cotangent)
    z, our_pullback = jax.vjp(
        lambda params, x: LayerNormalization(**arguments).apply({"params": params}, x), params, x
    )
    np.testing.assert_allclose(z, y, rtol=1e-5, atol=1e-5)
    for ours, theirs in zip(
        jax.tree.leaves(our_pullback(cotangent)), jax.tree.leaves(expected), strict=True
    ):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4)


def test_layer_normalisation_of_half_precision_is_computed_in_single():
    x = jnp.asarray(RNG.normal(200, 1, (2, 3, 3, 64)), jnp.bfloat16)
    variables = LayerNormalization().init(jax.random.key(0), x)
    ours = LayerNormalization().apply(variables, x)
    exact = LayerNormalization().apply(variables, x.astype(jnp.float32))
    assert ours.dtype == jnp.bfloat16
    np.testing.assert_allclose(ours.astype(jnp.float32), exact, rtol=1e-2, atol=1e-2)
