"""Outputs of named layers: equal to the net cut off there, for any module."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen

import cnnjax as cj
from cnnjax.explain import activations

RNG = np.random.default_rng(0)


def inputs(model, count=2):
    return RNG.random((count, *model.spec.input_shape)).astype(np.float32)


def test_values_are_those_of_the_net_computed_by_hand():
    model = cj.create_model("lenet", input_shape=(12, 12, 1))
    x = inputs(model)
    found = activations(model, x)
    assert tuple(found) == model.layer_names
    conv1 = model.params["conv1"]
    by_hand = jax.nn.relu(
        cj.nn.conv2d(jnp.asarray(x), conv1["kernel"], padding="same")
        + conv1["bias"].reshape(1, 1, 1, -1)
    )
    np.testing.assert_allclose(found["conv1"], by_hand, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found["pool1"], cj.nn.max_pool(by_hand), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found["logits"], model(x), rtol=1e-5, atol=1e-6)


def test_patterns_and_a_single_name():
    model = cj.create_model("mnist_convnet")
    x = inputs(model)
    assert list(activations(model, x, ["pool*", "logits"])) == ["pool1", "pool2", "logits"]
    assert list(activations(model, x, "conv2")) == ["conv2"]


def test_what_follows_is_not_computed():
    model = cj.create_model("mnist_convnet")

    def operations(layers):
        def features(x):
            return activations(model, x, layers)

        compiled = jax.jit(features).lower(jnp.asarray(inputs(model))).compile()
        return compiled.cost_analysis()["flops"]

    assert operations(["conv1"]) < operations(["logits"]) / 3


def test_nested_layers_of_a_module_of_ones_own():
    class Inner(linen.Module):
        @linen.compact
        def __call__(self, x):
            return linen.Dense(4, name="wide")(x)

    class Outer(linen.Module):
        @linen.compact
        def __call__(self, x):
            x = Inner(name="inner")(x.reshape(x.shape[0], -1))
            return linen.Dense(2, name="logits")(jnp.sin(x))

    model = cj.Model.from_module(Outer(), (3, 3, 1))
    found = activations(model, inputs(model), ["inner/wide"])
    assert found["inner/wide"].shape == (2, 4)


def test_a_module_that_owns_parameters_itself():
    class Scaled(linen.Module):
        @linen.compact
        def __call__(self, x):
            scale = self.param("scale", linen.initializers.ones, (1, 1))
            return linen.Dense(2, name="logits")(x.reshape(x.shape[0], -1)) * scale

    model = cj.Model.from_module(Scaled(), (3, 3, 1))
    x = inputs(model)
    found = activations(model, x)
    assert set(found) == set(model.layer_names) == {"logits", "Scaled"}
    np.testing.assert_allclose(found["Scaled"], model(x), rtol=1e-6)


def test_names_that_are_no_layers_are_refused():
    model = cj.create_model("mnist_convnet")
    with pytest.raises(ValueError, match=r"layers='conv4' names no layer\. Did you mean 'conv"):
        activations(model, inputs(model), ["conv4"])
    with pytest.raises(ValueError, match=r"takes inputs \[N, 28, 28, 1\]"):
        activations(model, np.zeros((1, 28, 28), np.float32))
