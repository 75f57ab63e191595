"""Outputs of named layers: equal to the net cut off there, for any module."""

import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen

import cnnjax as cj
from cnnjax.explain import activation_shapes, activations, normalise_maps, sparsity

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


def test_shapes_without_a_computation():
    model = cj.create_model("lenet", input_shape=(12, 16, 1))
    shapes = activation_shapes(model)
    assert list(shapes) == list(model.layer_names)
    assert shapes == {n: a.shape for n, a in activations(model, inputs(model, 1)).items()}


def test_maps_are_normalised_one_by_one_as_in_the_book():
    maps = RNG.normal(size=(2, 5, 7, 3)).astype(np.float32) * 100 + 5
    maps[0, :, :, 1], maps[1, :, :, 2] = 0, 3.7
    images = normalise_maps(maps)
    assert images.dtype == np.uint8
    for n, f in np.ndindex(2, 3):
        wanted = maps[n, :, :, f].astype(np.float64)
        if (n, f) in ((0, 1), (1, 2)):
            assert set(images[n, :, :, f].flat) == ({0} if f == 1 else {128})
            continue
        wanted -= wanted.mean()
        wanted /= wanted.std()
        wanted = np.clip(wanted * 64 + 128, 0, 255)
        assert np.abs(images[n, :, :, f] - np.floor(wanted)).max() <= 1
        assert (images[n, :, :, f] == wanted.astype(np.uint8)).mean() > 0.9
    np.testing.assert_array_equal(normalise_maps(maps[0]), images[0])
    with pytest.raises(ValueError, match=r"maps must be \[\.\.\., H, W, F\], got shape \[5, 7\]"):
        normalise_maps(maps[0, :, :, 0])


@pytest.mark.thorough
def test_sparsity_counts_zeros_and_dead_maps(monkeypatch):
    model = cj.create_model("mnist_convnet", seed=1)
    params = {**model.params}
    params["conv1"] = {**params["conv1"], "bias": params["conv1"]["bias"].at[3].set(-1e3)}
    model = model.replace(variables={"params": params})
    x = inputs(model, 5)
    x[2] = 0  # silent, but where biases are
    # The function hides the module that it is in.
    monkeypatch.setattr(sys.modules["cnnjax.explain.activations"], "_BATCH", 2)
    found = sparsity(model, x)
    assert list(found) == list(model.layer_names)
    for name, values in activations(model, x).items():
        maps = np.asarray(values).reshape(5, -1, values.shape[-1])
        dead = (maps == 0).all(axis=1)
        assert found[name].zeros == pytest.approx((maps == 0).mean(), abs=1e-6)
        assert found[name].dead_maps == pytest.approx(dead.mean(), abs=1e-6)
        assert found[name].dead_for_all == pytest.approx(dead.all(axis=0).mean(), abs=1e-6)
    assert found["conv1"].dead_maps > found["conv1"].dead_for_all >= 1 / 32
    with pytest.raises(ValueError, match="at least one image"):
        sparsity(model, x[:0])
    with pytest.raises(ValueError, match=r"takes inputs \[N, 28, 28, 1\]"):
        sparsity(model, x[0])
