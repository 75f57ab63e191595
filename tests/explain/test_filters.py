"""Filter patterns: the plain loop in Keras, one batch as one by one, cut off above the layer."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen

import cnnjax as cj
from cnnjax.core import rng
from cnnjax.explain import DeadFilters, ascent, dead_filters, filter_patterns, filters
from cnnjax.explain.cut import Cut, cut_at
from cnnjax.explain.filters import find_patterns
from cnnjax.models.modules import Static

SIZE = 12


class Small(linen.Module):
    """Without kinks: where ReLU or max pooling stand at one, rounding decides on the way."""

    @linen.compact
    def __call__(self, x):
        x = cj.nn.Conv2D(6, 3, padding="same", activation=jax.nn.softplus, name="conv1")(x)
        x = cj.nn.AveragePooling2D(2, name="pool1")(x)
        x = cj.nn.Conv2D(9, 3, padding="same", activation=jax.nn.softplus, name="conv2")(x)
        return cj.nn.Dense(2, name="logits")(cj.nn.Flatten(name="flatten")(x))


@pytest.fixture(scope="module")
def net():
    return cj.Model.from_module(Small(), (10, 10, 3), seed=3)


def start(seed, number, size, channels=3):
    """The noise of a filter, as the documentation says it."""
    key = rng.at(rng.stream(seed, "filter_patterns"), number)
    return np.asarray(jax.random.uniform(key, (size, size, channels)))[None] * 20 + 128


def plain_loop(keras_model, layer, number, x, steps):
    """The recipe as it stands in the book, one filter at a time, on Keras' JAX backend."""
    import keras

    sub = keras.Model(keras_model.inputs, keras_model.get_layer(layer).output)
    trainable = [v.value for v in sub.trainable_variables]
    others = [v.value for v in sub.non_trainable_variables]

    def loss(x):
        output, _ = sub.stateless_call(trainable, others, x)
        return jnp.mean(output[:, :, :, number])

    gradient = jax.jit(jax.grad(loss))
    yield x
    for _ in range(steps):
        g = np.asarray(gradient(x))
        x = x + g / (np.sqrt(np.mean(g**2)) + 1e-5)
        yield x


def shown(x):
    x = (x - x.mean()) / (x.std() + 1e-5) * 0.1 + 0.5
    return np.clip(x, 0, 1)[0]


def keras_twin(model):
    import keras

    how = {"activation": "softplus", "padding": "same"}
    twin = keras.Sequential(
        [
            keras.Input((SIZE, SIZE, 3)),
            keras.layers.Conv2D(6, 3, name="conv1", **how),
            keras.layers.AveragePooling2D(2),
            keras.layers.Conv2D(9, 3, name="conv2", **how),
        ]
    )
    for name in ("conv1", "conv2"):
        weights = model.params[name]
        twin.get_layer(name).set_weights([np.asarray(weights[w]) for w in ("kernel", "bias")])
    return twin


@pytest.mark.thorough
def test_classic_is_the_plain_loop_in_keras(net):
    asked = [5, 0, 8]
    with jax.numpy_rank_promotion("allow"):
        twin = keras_twin(net)
        theirs = [list(plain_loop(twin, "conv2", f, start(1, f, SIZE), 40)) for f in asked]
    for steps in (1, 40):
        ours = filter_patterns(net, "conv2", asked, size=SIZE, steps=steps, seed=1)
        assert ours.dtype == np.float32
        np.testing.assert_allclose(ours, [shown(xs[steps]) for xs in theirs], atol=1e-3)


@pytest.mark.slow
def test_classic_in_a_vgg_with_the_weights_of_a_keras_file(tmp_path):
    import keras

    layer, asked = "block2_conv1", [3, 99, 17, 80]
    keras.utils.set_random_seed(0)
    with jax.numpy_rank_promotion("allow"):
        twin = keras.applications.VGG19(weights=None, include_top=False, input_shape=(32, 32, 3))
        twin.save_weights(tmp_path / "vgg19.weights.h5")
        theirs = [list(plain_loop(twin, layer, f, start(0, f, 32), 40)) for f in asked]
    model = cj.create_model("vgg19", include_top=False, weights=tmp_path / "vgg19.weights.h5")

    def differences(steps):
        ours = find_patterns(model, layer, asked, size=32, steps=steps).images
        return [np.abs(a - shown(xs[steps])).max() for a, xs in zip(ours, theirs, strict=True)]

    assert max(differences(1)) < 1e-3
    # A single output whose sign rounding decides parts two ascents for good, whatever programs they
    # are. So all forty steps are compared on Keras' own convolution, and most filters must agree.
    with cj.nn.conv_engine("lax"):
        assert np.median(differences(40)) < 1e-3
    assert np.median(differences(10)) < 1e-3


@pytest.mark.thorough
@pytest.mark.parametrize("recipe", ["classic", "fourier"])
def test_a_filter_alone_has_the_pattern_it_has_among_others(net, recipe, monkeypatch):
    def patterns(asked):
        return filter_patterns(net, "conv2", asked, size=SIZE, steps=20, recipe=recipe)

    asked = [4, 8, 5, 3, 1]
    together = patterns(asked)
    np.testing.assert_allclose(patterns([5])[0], together[2], atol=1e-3)
    if recipe == "fourier":
        return  # one more program to compile would show nothing new
    # In parts that fit into memory, of which the last one is filled up.
    monkeypatch.setitem(ascent._PIXELS, jax.default_backend(), 2 * SIZE**2)
    assert [len(chunk) for chunk in ascent._chunks(asked, SIZE)] == [2, 2, 2]
    np.testing.assert_allclose(patterns(asked), together, atol=1e-3)


@pytest.mark.parametrize("recipe", ["classic", "fourier"])
@pytest.mark.thorough
def test_the_seed_decides(net, recipe):
    def pattern(seed):
        return filter_patterns(net, "conv2", [1], size=SIZE, steps=3, seed=seed, recipe=recipe)

    np.testing.assert_array_equal(pattern(0), pattern(0))
    assert np.abs(pattern(0) - pattern(1)).max() > 0.01


def test_none_takes_the_first_sixty_four_or_all(net):
    found = find_patterns(net, "conv1", size=6, steps=1)
    assert found.images.shape == (6, 6, 6, 3)
    assert found.numbers == tuple(range(6))
    assert filters._checked_filters(None, "conv", 200) == tuple(range(64))


@pytest.mark.thorough
def test_another_size_than_the_models_and_grey_images():
    model = cj.Model.from_module(Small(), (10, 10, 1))  # its dense layer takes these alone
    found = filter_patterns(model, "conv1", [0], size=17, steps=2, recipe="fourier")
    assert found.shape == (1, 17, 17, 1)
    assert 0 <= found.min() < found.max() <= 1


def before_activation(model, image_list, numbers):
    """Mean over space of conv1 before its activation, by hand."""
    maps = cj.nn.conv2d(jnp.asarray(image_list), model.params["conv1"]["kernel"], padding="same")
    means = jnp.mean(maps, axis=(1, 2)) + model.params["conv1"]["bias"].reshape(1, -1)
    return np.asarray(means)[np.arange(len(numbers)), numbers]


@pytest.mark.thorough
def test_fourier_excites_filters_more_than_noise_does(net):
    numbers = list(range(6))
    # Seldom above zero, as after a ReLU that lets little through.
    model = biased(net, "conv1", slice(None), -5.0)

    def excitement(steps):
        found = filter_patterns(model, "conv1", numbers, size=24, steps=steps, recipe="fourier")
        return before_activation(model, found, numbers)  # preprocessed: 255 times over 255

    noise, few, many = excitement(1), excitement(10), excitement(40)
    assert (few > noise).all()
    assert (many > few).all()


def biased(model, layer, number, value):
    params = {**model.params}
    bias = params[layer]["bias"].at[number].set(value)
    params[layer] = {**params[layer], "bias": bias}
    return model.replace(variables={**model.variables, "params": params})


@pytest.mark.thorough
def test_dead_filters_are_named(net):
    model = biased(net, "conv2", 7, -1e6)
    asked = [7, 1]
    with pytest.warns(DeadFilters, match=r"^conv2: the gradient of filter 7 is zero \(dead\)"):
        found = filter_patterns(model, "conv2", asked, size=SIZE, steps=3)
    assert dead_filters(model, "conv2", asked, size=SIZE) == (7,)
    # It is the noise it began with.
    noise = start(0, 7, SIZE)[0]
    noise = np.clip((noise - noise.mean()) / (noise.std() + 1e-5) * 0.1 + 0.5, 0, 1)
    np.testing.assert_allclose(found[0], noise, atol=1e-5)
    # Before the activation no filter is silent: no warning, which would be an error.
    assert dead_filters(model, "conv2", asked, size=SIZE, recipe="fourier") == ()
    filter_patterns(model, "conv2", asked, size=SIZE, steps=3, recipe="fourier")


@pytest.mark.thorough
def test_a_compiled_loop_takes_the_same_steps(net):
    what = ascent.Ascent(cut_at(net, "conv2", True), "fourier", net.spec.inputs.preprocess, SIZE, 3)
    numbers = jnp.asarray([2, 5], jnp.int32)
    keys, first = ascent._begin(what, numbers, rng.stream(0, "filter_patterns"))
    state = first
    for number in range(1, 4):
        state, _ = ascent._step(what, net.variables, numbers, keys, jnp.int32(number), state)
    at_once = ascent._many_steps(what, net.variables, numbers, keys, jnp.int32(4), first)
    for a, b in zip(jax.tree.leaves(state), jax.tree.leaves(at_once), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)


# Where a model is cut


class Forbidden(linen.Module):
    """Works at one size only, and counts its calls."""

    @linen.compact
    def __call__(self, x):
        CALLS.append(x.shape)
        return linen.Dense(3, name="logits")(x.reshape(x.shape[0], -1))


CALLS: list = []


class Nested(linen.Module):
    @linen.compact
    def __call__(self, x):
        x = cj.nn.Conv2D(4, 3, name="conv", activation=jax.nn.relu)(x)
        return cj.nn.Activation(jnp.tanh, name="squashed")(x)


class Outer(linen.Module):
    @linen.compact
    def __call__(self, x):
        x = Nested(name="inner")(x)
        x = linen.relu(linen.Conv(5, (3, 3), name="plain")(x))
        return Forbidden(name="top")(x)


@pytest.mark.thorough
def test_what_lies_above_is_not_even_called():
    model = cj.Model.from_module(Outer(), (8, 8, 3))
    assert model.layer_names
    CALLS.clear()
    assert find_patterns(model, "inner/conv", [0, 3], size=6, steps=2).images.shape[1:3] == (6, 6)
    assert not [shape for shape in CALLS if shape[1] != 6]  # only at the model's own size


def test_values_before_the_activation():
    model = cj.Model.from_module(Outer(), (8, 8, 3))
    x = jax.random.normal(jax.random.key(0), (2, 8, 8, 3))

    def value(layer, before):
        return Cut(Static(model.module), "Outer", layer, before)(model.variables, x)

    weights = model.params["inner"]["conv"]
    by_hand = cj.nn.conv2d(x, weights["kernel"]) + weights["bias"].reshape(1, 1, 1, -1)
    for layer, before, wanted in (
        ("inner/conv", False, jax.nn.relu(by_hand)),
        ("inner/conv", True, by_hand),
        ("inner/squashed", False, jnp.tanh(jax.nn.relu(by_hand))),
        ("inner/squashed", True, jax.nn.relu(by_hand)),
    ):
        np.testing.assert_allclose(value(layer, before), wanted, rtol=1e-5, atol=1e-6)
    # Flax's own layers have no activation.
    np.testing.assert_array_equal(value("plain", True), value("plain", False))
    assert float(value("plain", False).min()) < 0


class Strided(linen.Module):
    @linen.compact
    def __call__(self, x):
        x = cj.nn.Conv2D(3, (3, 2), strides=(1, 2), use_bias=False, name="plain")(x)
        x = cj.nn.Conv2D(5, 3, padding="same", dilation_rate=2, activation=jnp.tanh, name="wide")(x)
        x = cj.nn.DepthwiseConv2D(3, name="depthwise")(x)
        return linen.Dense(2, name="logits")(x.reshape(x.shape[0], -1))


@pytest.mark.sample(2)
@pytest.mark.parametrize("layer", ["plain", "wide", "depthwise"])
@pytest.mark.parametrize("before", [False, True])
@pytest.mark.thorough
def test_one_filter_an_input_without_computing_the_others(layer, before):
    model = cj.Model.from_module(Strided(), (9, 12, 2))
    x = jax.random.normal(jax.random.key(0), (4, 9, 12, 2))
    cut = Cut(Static(model.module), "Strided", layer, before)
    numbers = jnp.asarray([2, 0, 1, 1], jnp.int32)
    whole = np.asarray(cut(model.variables, x))
    single = cut(model.variables, x, numbers)
    assert single.shape == (*whole.shape[:3], 1)
    np.testing.assert_allclose(
        single[..., 0], whole[np.arange(4), :, :, numbers], rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"layer": "conv9"}, r"layer='conv9' names no layer of Small\. Did you mean 'conv"),
        ({"layer": "logits"}, r"'logits' has no spatial extent, its output is \[N, 2\]: take one"),
        ({"filters": [1, 9]}, "'conv2' has no filter 9: its 9 filters are 0 to 8"),
        ({"filters": [-1]}, "has no filter -1"),
        ({"filters": []}, r"filters must be whole numbers, .* got \[\]"),
        ({"filters": [0.5]}, r"filters must be whole numbers, .* got \[0\.5\]"),
        ({"recipe": "classik"}, r"no recipe 'classik'\. Did you mean 'classic'\?"),
        ({"size": 1}, "size=1 does not suit layer 'conv2' of Small: a window of 2x2"),
        ({"size": 0}, "size must be a whole number >= 1, got 0"),
        ({"steps": 0}, "steps must be a whole number >= 1, got 0"),
        ({"steps": 1.5}, r"steps must be a whole number >= 1, got 1\.5"),
        ({"seed": -1}, "seed must lie in"),
    ],
)
def test_bad_arguments_are_one_line(net, arguments, message):
    with pytest.raises(ValueError, match=message) as caught:
        filter_patterns(net, **{"layer": "conv2", **arguments})
    assert "\n" not in str(caught.value)


@pytest.mark.thorough
def test_a_layer_of_ones_own_that_leaves_nothing():
    class Shrinking(linen.Module):
        @linen.compact
        def __call__(self, x):
            x = linen.Conv(4, (5, 5), padding="VALID", name="conv")(x)
            return linen.Dense(2, name="logits")(x.reshape(x.shape[0], -1))

    model = cj.Model.from_module(Shrinking(), (8, 8, 1))
    with pytest.raises(ValueError, match="size=4 is too small for layer 'conv'"):
        filter_patterns(model, "conv", size=4)
    with pytest.raises(ValueError, match=r"no spatial extent.*: take one of maps, e\.g\. '"):
        filter_patterns(cj.create_model("lenet"), "dense1")
