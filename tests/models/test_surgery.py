"""Fully convolutional nets: equal at the size of training, and moved over larger images."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

import cnnjax as cj
from cnnjax.core import trees
from cnnjax.models import Model, convolutionalize, create_model
from cnnjax.models.layers.summary import LayerRow
from cnnjax.nn import (
    Activation,
    Conv2D,
    Dense,
    Dropout,
    Flatten,
    GlobalAveragePooling2D,
    GlobalMaxPooling2D,
    MaxPooling2D,
    Reshape,
)

SETTINGS = settings(deadline=None, derandomize=True, phases=[Phase.explicit, Phase.generate])

SMALL = {
    "mlp": {"input_shape": (7, 9, 2), "dropout": 0.5},
    "mnist_convnet": {"input_shape": (22, 18, 1)},
    "lenet": {"input_shape": (12, 10, 1)},
    "cifar_plain": {"input_shape": (8, 12, 3)},
    "cifar_deep": {"input_shape": (12, 8, 3)},
    "cats_convnet": {"input_shape": (62, 46, 3), "dropout": 0.5},
    "vgg16": {"input_shape": (32, 32, 3), "num_classes": 7},
}


def lively(model, seed=0):
    """The model with biases and statistics that are not those of the start, and logits of size 1.

    Without them a deep net with random weights gives zeros.
    """
    rng = np.random.default_rng(seed)

    def value(path, leaf):
        kind = path.rpartition("/")[2]
        if kind in ("kernel", "depthwise_kernel", "pointwise_kernel"):
            fan = np.prod(leaf.shape[:-1]) if leaf.ndim > 2 else leaf.shape[0]
            scale = np.sqrt(2 / fan) if leaf.shape[-1] != 1 or leaf.ndim == 2 else 0.5
            return jnp.asarray(scale * rng.standard_normal(leaf.shape, np.float32))
        if kind in ("gamma", "moving_variance"):
            return leaf
        return jnp.asarray(0.1 * rng.standard_normal(leaf.shape, np.float32))

    return model.replace(variables=trees.map_flat(value, model.variables))


@functools.cache
def built(name):
    return lively(create_model(name, **SMALL[name]))


def inputs(model, count=2, shape=None):
    shape = (count, *(shape or model.spec.input_shape))
    return np.random.default_rng(1).random(shape, np.float32)


def largest(model, expected, found):
    return float(np.abs(found - expected).max() / np.abs(expected).max())


@pytest.mark.sample(1)
@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=[pytest.mark.slow] if n == "vgg16" else []) for n in SMALL],
)
def test_outputs_at_the_size_of_training_are_the_classifiers(name):
    model = built(name)
    wide = convolutionalize(model)
    x = inputs(model)
    expected, found = np.asarray(model(x)), np.asarray(wide(x))
    assert found.shape == (2, 1, 1, expected.shape[1])
    assert np.abs(expected).max() > 0.01
    assert largest(model, expected, found[:, 0, 0]) < 1e-5


@pytest.mark.slow
def test_vgg16_of_the_published_size():
    model = lively(create_model("vgg16"))
    x = inputs(model, 1)
    expected, found = np.asarray(model(x)), np.asarray(convolutionalize(model)(x))
    assert largest(model, expected, found[:, 0, 0]) < 1e-5
    wide = convolutionalize(model, (256, 288, 3))
    assert wide(inputs(wide, 1)).shape == (1, 2, 3, 1000)
    rows = {row.name: row for row in cj.summary(wide).rows}
    assert (rows["fc1"].kind, rows["fc1"].parameters) == ("Conv2D", 102_764_544)


def test_a_class_map_is_the_classifier_moved_over_the_image():
    model = built("mnist_convnet")  # no layer of it pads
    height, width, _ = model.spec.input_shape
    wide = convolutionalize(model, (height + 9, width + 12, 1))
    x = inputs(wide)
    maps = np.asarray(wide(x))
    assert maps.shape == (2, 3, 4, 10)
    for i, j in np.ndindex(3, 4):
        window = x[:, 4 * i : 4 * i + height, 4 * j : 4 * j + width]
        np.testing.assert_allclose(maps[:, i, j], model(window), rtol=1e-4, atol=1e-5)


class Net(linen.Module):
    """Convolutions and poolings without padding, then dense layers."""

    body: tuple
    head: tuple

    @linen.compact
    def __call__(self, x):
        for i, (filters, size, pool) in enumerate(self.body):
            x = Conv2D(filters, size, activation=jax.nn.relu, name=f"conv{i}")(x)
            if pool > 1:
                x = MaxPooling2D(pool, name=f"pool{i}")(x)
        x = Flatten(name="flatten")(x)
        for i, units in enumerate(self.head):
            x = Dense(units, activation=jnp.tanh, name=f"dense{i}")(x)
        return Dense(3, name="logits")(x)


@settings(SETTINGS, max_examples=3)
@given(
    body=st.lists(
        st.tuples(st.integers(1, 3), st.tuples(st.integers(1, 3), st.integers(1, 3)),
                  st.integers(1, 2)),
        min_size=1, max_size=2,
    ),
    head=st.lists(st.integers(1, 4), max_size=2),
    size=st.tuples(st.integers(10, 13), st.integers(10, 13)),
    more=st.tuples(st.integers(0, 5), st.integers(0, 5)),
)  # fmt: skip
@pytest.mark.thorough
def test_nets_of_ones_own(body, head, size, more):
    model = Model.from_module(Net(tuple(body), tuple(head)), (*size, 2))
    larger = (size[0] + more[0], size[1] + more[1], 2)
    wide = convolutionalize(model, larger)
    x = inputs(wide)
    maps = np.asarray(wide(x))
    step = int(np.prod([pool for _, _, pool in body]))
    # The last window may reach beyond the image by rows that no pooling takes.
    x = np.pad(x, ((0, 0), (0, 4), (0, 4), (0, 0)), constant_values=np.nan)
    for i, j in {(0, 0), (maps.shape[1] - 1, maps.shape[2] - 1)}:
        window = x[:, step * i : step * i + size[0], step * j : step * j + size[1]]
        np.testing.assert_allclose(maps[:, i, j], model(window), rtol=1e-4, atol=1e-5)


class Pooled(linen.Module):
    """A global average in MobileNet's way, or a maximum."""

    average: bool = True

    @linen.compact
    def __call__(self, x, train=False):
        x = Conv2D(4, 3, strides=2, activation=jax.nn.relu, name="conv")(x)
        if not self.average:
            x = GlobalMaxPooling2D(name="pool")(x)
            return Dense(3, name="logits")(x)
        x = GlobalAveragePooling2D(keepdims=True, name="pool")(x)
        x = Dropout(0.5, name="dropout")(x, train)
        x = Conv2D(3, 1, name="preds")(x)
        x = Reshape((3,), name="reshape")(x)
        return Activation(jax.nn.identity, name="predictions")(x)


def check_pooled(model, classes, wider):
    """Dropped and in windows."""
    x = inputs(model)
    expected = np.asarray(model(x))
    assert np.abs(expected).max() > 0.01
    maps = np.asarray(convolutionalize(model)(x))
    assert maps.shape[0] == 2
    assert maps.shape[1] > 1
    assert maps.shape[3] == classes
    assert np.abs(maps - expected[:, None, None]).max() > 1e-3
    assert largest(model, expected, maps.mean(axis=(1, 2))) < 1e-5
    window = convolutionalize(model, wider, global_pooling="window")
    assert window(inputs(window)).shape == (2, 1, 2, classes)
    window = convolutionalize(model, global_pooling="window")
    assert largest(model, expected, np.asarray(window(x))[:, 0, 0]) < 1e-5


def test_without_a_global_average_the_mean_of_the_map_is_the_logits():
    check_pooled(lively(Model.from_module(Pooled(), (9, 9, 2))), 3, (9, 11, 2))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mobilenet", "resnet50"])
def test_of_the_backbones_too(name):
    arguments = {"alpha": 0.25} if name == "mobilenet" else {}
    model = create_model(name, input_shape=(64, 64, 3), num_classes=5, **arguments)
    check_pooled(lively(model), 5, (64, 96, 3))


def test_a_global_maximum_takes_windows():
    model = Model.from_module(Pooled(average=False), (9, 9, 2))
    with pytest.raises(ValueError, match="'pool' cannot be dropped, since 'pool' is not linear"):
        convolutionalize(model)
    x = inputs(model)
    maps = convolutionalize(model, global_pooling="window")(x)
    np.testing.assert_allclose(np.asarray(maps)[:, 0, 0], model(x), rtol=1e-5, atol=1e-6)


def test_the_head_is_made_of_convolutions_with_the_layers_names():
    model = built("mnist_convnet")
    wide = convolutionalize(model, (40, 60, 1))
    rows = {row.name: row for row in cj.summary(wide).rows}
    assert "flatten" not in rows
    assert list(rows) == ["conv1", "pool1", "conv2", "pool2", "conv3", "dense1", "logits"]
    assert isinstance(rows["dense1"], LayerRow)
    assert (rows["dense1"].kind, rows["dense1"].parameters) == ("Conv2D", 2 * 64 * 64 + 64)
    assert rows["logits"].output_shape == wide(inputs(wide, 1)).shape[1:]
    # A receptive field that the flattened head does not have.
    assert rows["logits"].receptive_field == (22, 18)
    assert cj.summary(wide).parameters == cj.summary(model).parameters
    assert wide.params["dense1"]["kernel"].shape == (2, 1, 64, 64)
    assert wide.params["conv1"]["kernel"] is model.params["conv1"]["kernel"]
    assert wide.spec.head == model.spec.head
    maps = cj.explain.activations(wide, inputs(wide, 1), ["conv3", "dense1"])
    assert {name: x.shape for name, x in maps.items()} == {
        "conv3": (1, 6, 11, 64),
        "dense1": (1, 5, 11, 64),
    }


@pytest.mark.thorough
def test_it_can_be_differentiated_and_dropout_acts_in_training():
    model = built("cifar_plain")
    wide = convolutionalize(model, (10, 14, 3))
    functions = wide.functions()
    x = jnp.asarray(inputs(wide, 2))

    @jax.jit
    @jax.grad
    def gradient(params, key):
        logits, _ = functions.apply_train(params, {}, x, key)
        return jnp.square(logits).mean()

    found = [gradient(wide.params, jax.random.key(k)) for k in (0, 1)]
    flat = [trees.flatten(g) for g in found]
    assert all(np.asarray(g).any() for g in flat[0].values())
    assert any((np.asarray(a) != np.asarray(flat[1][k])).any() for k, a in flat[0].items())


class Shape(linen.Module):
    """Heads that cannot be converted, by name."""

    kind: str

    @linen.compact
    def __call__(self, x):
        x = Conv2D(4, 3, name="conv")(x)
        match self.kind:
            case "reshaped by hand":
                x = x.reshape(x.shape[0], -1)
            case "curved":
                x = GlobalAveragePooling2D(name="pool")(x)
                x = Dense(4, activation=jax.nn.relu, name="hidden")(x)
            case "scaled between":
                x = 2 * Flatten(name="flatten")(x)
            case "normalised":
                x = cj.nn.BatchNormalization(name="norm")(Flatten(name="flatten")(x))
            case "nested":
                x = Flatten(name="flatten")(x)
                return Head(name="head")(x)
            case "foreign":
                x = linen.LayerNorm(name="layer_norm")(Flatten(name="flatten")(x))
            case "scaled behind":
                return 2 * Dense(3, name="logits")(Flatten(name="flatten")(x))
        return linen.Dense(3, name="logits")(x)


class Head(linen.Module):
    @linen.compact
    def __call__(self, x):
        return Dense(3, name="logits")(x)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("reshaped by hand", "the input of its layer 'logits' is not the output of one layer"),
        ("curved", "pooling 'pool' cannot be dropped, since 'hidden' is not linear.*'window'"),
        ("scaled between", "the input of its layer 'logits' is not the output of one layer"),
        ("normalised", r"no convolution for its layer 'norm' \(BatchNormalization\)"),
        ("nested", "its layer 'head/logits' lies inside another module"),
        ("foreign", r"no convolution for its layer 'layer_norm' \(LayerNorm\)"),
        ("scaled behind", "its output is made by an operation that is no named layer"),
    ],
)
@pytest.mark.thorough
def test_what_cannot_be_converted_is_named(kind, message):
    same = False if kind == "normalised" else None
    model = Model.from_module(Shape(kind), (6, 6, 1), train_argument=same)
    with pytest.raises(ValueError, match=f"^Shape cannot be made fully convolutional: .*{message}"):
        convolutionalize(model)


def test_a_head_with_an_activation_behind_a_global_average_takes_windows():
    model = Model.from_module(Shape("curved"), (6, 6, 1))
    x = inputs(model)
    maps = convolutionalize(model, global_pooling="window")(x)
    np.testing.assert_allclose(np.asarray(maps)[:, 0, 0], model(x), rtol=1e-5, atol=1e-6)


@pytest.mark.thorough
def test_sizes_and_arguments_that_make_no_sense():
    model = built("mnist_convnet")
    with pytest.raises(ValueError, match=r"input_shape=\(10, 40, 1\) is smaller than the 22x18"):
        convolutionalize(model, (10, 40, 1))
    with pytest.raises(ValueError, match=r"must be \(height, width, 1\), got \(40, 40, 3\)"):
        convolutionalize(model, (40, 40, 3))
    with pytest.raises(ValueError, match="global_pooling must be 'drop' or 'window', got 'mean'"):
        convolutionalize(model, global_pooling="mean")
    with pytest.raises(ValueError, match="fully convolutional already"):
        convolutionalize(convolutionalize(model))
    headless = create_model("vgg16", include_top=False, input_shape=(32, 32, 3))
    with pytest.raises(ValueError, match=r"no flatten or global pooling layer.*'block5_pool'"):
        convolutionalize(headless)
    with pytest.raises(ValueError, match=r"takes inputs \[N, 40, 60, 1\]"):
        convolutionalize(model, (40, 60, 1))(inputs(model))


def test_predict_says_that_there_are_maps():
    wide = convolutionalize(built("mnist_convnet"))
    with pytest.raises(ValueError, match="mnist_convnet_convolutional gives class maps"):
        cj.predict(wide, np.zeros((1, 22, 18, 1), np.uint8))
