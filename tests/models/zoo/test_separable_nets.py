"""The separable net and its twin, beyond what test_registry.py asks of every model."""

import jax
import jax.numpy as jnp
import keras
import numpy as np
import pytest
from keras import layers

from cnnjax import metrics
from cnnjax.core import trees
from cnnjax.explain import activations
from cnnjax.models import Model, create_model, summary
from cnnjax.models.builder import build

NETS = ("separable_convnet", "separable_twin")
SHAPE = (64, 64, 3)
FILTERS = (32, 64, 64, 128, 64, 128)


def table(name, **arguments):
    """The layer table; no parameters are computed."""
    return summary(Model.abstract(*build(name, **arguments)))


def keras_net():
    """The separable net as Chollet's book builds it, for 64x64 and three classes."""

    def sepconv(filters):
        return layers.SeparableConv2D(filters, 3, activation="relu")

    return keras.Sequential(
        [
            keras.Input(SHAPE),
            sepconv(32),
            sepconv(64),
            layers.MaxPooling2D(2),
            sepconv(64),
            sepconv(128),
            layers.MaxPooling2D(2),
            sepconv(64),
            sepconv(128),
            layers.GlobalAveragePooling2D(),
            layers.Dense(32, activation="relu"),
            layers.Dense(3),
        ]
    )


@pytest.mark.thorough
def test_outputs_and_gradients_are_kerass():
    model = create_model("separable_convnet", input_shape=SHAPE, num_classes=3, seed=1)
    x, labels = np.random.default_rng(0).random((2, *SHAPE), np.float32), jnp.array([2, 0])
    owners = [path for path in model.layer_names if path in model.params]

    def kerass(weights):
        logits, _ = net.stateless_call(weights, [], x, training=False)
        return metrics.softmax_cross_entropy(logits, labels).sum(), logits

    def ours(params):
        logits = model.functions().apply(params, {}, x)
        return metrics.softmax_cross_entropy(logits, labels).sum(), logits

    with jax.numpy_rank_promotion("allow"):
        net = keras_net()
        weighted = [layer for layer in net.layers if layer.weights]
        for layer, path in zip(weighted, owners, strict=True):
            layer.set_weights([model.params[path][w.name] for w in layer.weights])
        weights = [w.value for w in net.trainable_variables]
        expected, logits = jax.jit(jax.grad(kerass, has_aux=True))(weights)
    found, own = jax.jit(jax.grad(ours, has_aux=True))(model.params)
    np.testing.assert_allclose(own, logits, rtol=1e-5, atol=2e-6)
    values = iter(expected)
    for layer, path in zip(weighted, owners, strict=True):
        for weight in layer.weights:
            gradient = next(values)
            # Where two values of a window nearly tie, a rounding decides which is the maximum.
            bound = 5e-3 * float(jnp.abs(gradient).max())
            np.testing.assert_allclose(found[path][weight.name], gradient, rtol=0, atol=bound)


@pytest.mark.thorough
def test_normalised_nets_with_a_full_first_convolution_are_kerass():
    arguments = {"initializer": "he", "batch_norm": True, "stem": "full", "alpha": 2}
    model = create_model(
        "separable_convnet", input_shape=(32, 32, 3), num_classes=3, seed=1, **arguments
    )
    rng = np.random.default_rng(0)
    model = model.replace(
        variables=trees.map_flat(
            lambda path, leaf: leaf + jnp.asarray(rng.random(leaf.shape) / 10, jnp.float32),
            model.variables,
        )
    )
    x = rng.random((2, 32, 32, 3), np.float32)
    parts = [keras.Input((32, 32, 3))]
    for number, filters in enumerate(FILTERS):
        kind = layers.SeparableConv2D if number else layers.Conv2D
        parts += [kind(2 * filters, 3, use_bias=False), layers.BatchNormalization()]
        parts += [layers.ReLU()] + [layers.MaxPooling2D(2)] * (number in (1, 3))
    parts += [layers.GlobalAveragePooling2D(), layers.Dense(32, "relu"), layers.Dense(3)]
    owners = [path for path in model.layer_names if path in model.params]
    with jax.numpy_rank_promotion("allow"):
        net = keras.Sequential(parts)
        weighted = [layer for layer in net.layers if layer.weights]
        for layer, path in zip(weighted, owners, strict=True):
            known = {**model.params[path], **model.variables["batch_stats"].get(path, {})}
            layer.set_weights([known[w.name] for w in layer.weights])
        expected = net(x, training=False)
    np.testing.assert_allclose(model(x), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.thorough
@pytest.mark.parametrize("name", NETS)
def test_class_maps_are_of_an_activated_layer(name):
    for arguments in ({}, {"batch_norm": True}):
        model = create_model(name, **arguments)
        layer = model.spec.cam_layer
        values = activations(model, np.zeros((1, 32, 32, 3), np.float32), [layer])[layer]
        assert values.shape == (1, 3, 3, 64)
        assert values.min() >= 0


def test_wider_and_normalised_nets_by_hand():
    """Without biases of convolutions; gamma and beta, moving mean and variance of each filter."""
    head = 256 * 32 + 32 + 32 * 10 + 10
    filters = [2 * f for f in FILTERS]
    inputs = [3, *filters[:-1]]
    full = [9 * c * f for c, f in zip(inputs, filters, strict=True)]
    separable = [9 * c + c * f for c, f in zip(inputs, filters, strict=True)]
    norms = 4 * sum(filters)
    wide = table("separable_convnet", batch_norm=True, stem="full", alpha=2)
    assert wide.parameters == full[0] + sum(separable[1:]) + norms + head
    assert table("separable_twin", batch_norm=True, alpha=2).parameters == sum(full) + norms + head
    half = table("separable_twin", batch_norm=True)
    assert wide.parameters / half.parameters < 0.51
    assert wide.flops / half.flops < 0.52


def test_parameters_by_hand():
    """9 C + C F + F of a separable convolution, 9 C F + F of a full one."""
    inputs = (3, *FILTERS[:-1])
    head = 128 * 32 + 32 + 32 * 10 + 10
    separable = sum(9 * c + c * f + f for c, f in zip(inputs, FILTERS, strict=True)) + head
    full = sum(9 * c * f + f for c, f in zip(inputs, FILTERS, strict=True)) + head
    assert table("separable_convnet").parameters == separable == 38_949
    assert table("separable_twin").parameters == full == 282_282


def test_operations_by_hand():
    """2 C (9 + F) an output pixel against 2 C 9 F."""
    inputs, sizes = (3, *FILTERS[:-1]), (62, 60, 28, 26, 11, 9)
    head = 2 * (128 * 32 + 32 * 3)
    separable, full = (
        sum(2 * n * n * c * per(f) for n, c, f in zip(sizes, inputs, FILTERS, strict=True)) + head
        for per in (lambda f: 9 + f, lambda f: 9 * f)
    )
    assert table("separable_convnet", input_shape=SHAPE, num_classes=3).flops == separable
    assert table("separable_twin", input_shape=SHAPE, num_classes=3).flops == full
    assert full / separable > 7


@pytest.mark.parametrize("name", NETS)
def test_the_default_size_is_the_smallest_and_leaves_one_pixel(name):
    _, spec = build(name)
    assert spec.input_shape == (32, 32, 3)
    shapes = {row.name: row.output_shape for row in table(name).rows}
    assert shapes[spec.cam_layer] == (3, 3, 64)  # the last that is a map at every size
    assert list(shapes.values())[-4] == (1, 1, 128)
    with pytest.raises(ValueError, match=f"too small for '{name}': at least 32x32 is needed"):
        build(name, input_shape=(28, 28, 1))


@pytest.mark.parametrize("name", NETS)
def test_both_nets_differ_in_their_convolutions_only(name):
    rows = {row.name.removeprefix("sep"): row.output_shape for row in table(name).rows}
    assert rows == {row.name: row.output_shape for row in table("separable_twin").rows}


@pytest.mark.thorough
@pytest.mark.parametrize("name", NETS)
def test_he_keeps_the_scale_that_keras_initial_values_lose(name):
    images = np.random.default_rng(0).random((16, 32, 32, 3), np.float32)

    def scale(initializer):
        model = create_model(name, initializer=initializer, seed=3)
        return float(jnp.std(model(images)))

    assert scale("he") > 0.02
    assert scale("glorot") < (1e-4 if name == "separable_convnet" else 0.1)


def test_an_unknown_initializer_is_named():
    with pytest.raises(ValueError, match="initializer must be one of 'glorot', 'he', got 'hee'"):
        create_model("separable_twin", initializer="hee")


def test_an_unknown_stem_is_named():
    with pytest.raises(ValueError, match="stem must be 'separable' or 'full', got 'dense'"):
        create_model("separable_convnet", stem="dense")
    with pytest.raises(ValueError, match="'separable_twin' has no argument 'stem'"):
        create_model("separable_twin", stem="full")
