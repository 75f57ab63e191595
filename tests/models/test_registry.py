"""Every registered model: built, run, differentiated, and equal to the same net in Keras."""

import functools

import jax
import jax.numpy as jnp
import keras
import numpy as np
import pytest
from flax import linen
from keras import layers
from scipy import stats

from cnnjax import metrics
from cnnjax.core import trees
from cnnjax.models import BUILDERS, create_model, load_model, register, save_model, summary

# Those of ImageNet are in test_backbones.py.
ALL = sorted(name for name, builder in BUILDERS.items() if builder.num_classes == 10)
create = functools.cache(create_model)


def conv(name, filters, size, padding="valid"):
    return layers.Conv2D(filters, size, padding=padding, activation="relu", name=name)


def sepconv(name, filters, size):
    return layers.SeparableConv2D(filters, size, activation="relu", name=name)


def mean():
    return layers.GlobalAveragePooling2D(name="global_average_pooling")


def head(*units):
    hidden = [layers.Dense(n, "relu", name=f"dense{i}") for i, n in enumerate(units, start=1)]
    return [*hidden, layers.Dense(10, name="logits")]


def pool(name):
    return layers.MaxPooling2D(2, name=name)


def flatten():
    return layers.Flatten(name="flatten")


def drop(name, rate):
    return layers.Dropout(rate, name=name)


# The architectures as SYSTEMS.md writes them, in Keras.
KERAS = {
    "mlp": lambda: [flatten(), *head(512)],
    "mnist_convnet": lambda: [
        conv("conv1", 32, 3),
        pool("pool1"),
        conv("conv2", 64, 3),
        pool("pool2"),
        conv("conv3", 64, 3),
        flatten(),
        *head(64),
    ],
    "lenet": lambda: [
        conv("conv1", 20, 5, "same"),
        pool("pool1"),
        conv("conv2", 50, 5, "same"),
        pool("pool2"),
        flatten(),
        *head(500),
    ],
    "simple_convnet": lambda: [conv("conv1", 30, 5), pool("pool1"), flatten(), *head(100)],
    "cifar_plain": lambda: [
        conv("conv1", 32, 3, "same"),
        pool("pool1"),
        drop("dropout1", 0.25),
        flatten(),
        *head(512)[:1],
        drop("dropout2", 0.5),
        *head(),
    ],
    "cifar_deep": lambda: [
        conv("conv1", 32, 3, "same"),
        conv("conv2", 32, 3, "same"),
        pool("pool1"),
        drop("dropout1", 0.25),
        conv("conv3", 64, 3, "same"),
        conv("conv4", 64, 3),
        pool("pool2"),
        drop("dropout2", 0.25),
        flatten(),
        *head(512)[:1],
        drop("dropout3", 0.5),
        *head(),
    ],
    "separable_convnet": lambda: [
        sepconv("sepconv1", 32, 3),
        sepconv("sepconv2", 64, 3),
        pool("pool1"),
        sepconv("sepconv3", 64, 3),
        sepconv("sepconv4", 128, 3),
        pool("pool2"),
        sepconv("sepconv5", 64, 3),
        sepconv("sepconv6", 128, 3),
        mean(),
        *head(32),
    ],
    "separable_twin": lambda: [
        conv("conv1", 32, 3),
        conv("conv2", 64, 3),
        pool("pool1"),
        conv("conv3", 64, 3),
        conv("conv4", 128, 3),
        pool("pool2"),
        conv("conv5", 64, 3),
        conv("conv6", 128, 3),
        mean(),
        *head(32),
    ],
}


@functools.cache
def keras_model(name):
    with jax.numpy_rank_promotion("allow"):
        return keras.Sequential([keras.Input(BUILDERS[name].input_shape), *KERAS[name]()])


def inputs(name, count=3):
    shape = (count, *BUILDERS[name].input_shape)
    return np.random.default_rng(0).random(shape, np.float32)


def test_every_model_has_an_oracle():
    assert set(KERAS) == set(ALL)


@pytest.mark.sample(1)
@pytest.mark.parametrize("name", ALL)
def test_the_default_model_maps_its_input_to_finite_logits(name):
    model = create(name)
    assert model.spec.input_shape == BUILDERS[name].input_shape
    logits = model(inputs(name))
    assert (logits.shape, logits.dtype) == ((3, 10), jnp.float32)
    assert np.isfinite(logits).all()
    assert len({row.tobytes() for row in np.asarray(logits)}) == 3


@pytest.mark.sample(1)
@pytest.mark.parametrize("name", ALL)
def test_every_parameter_is_trained(name):
    model = create(name)
    labels = jnp.array([1, 5, 7])

    def loss(params):
        logits, _ = model.functions().apply_train(params, {}, inputs(name), jax.random.key(0))
        return metrics.softmax_cross_entropy(logits, labels).mean()

    gradients = trees.flatten(jax.jit(jax.grad(loss))(model.params))
    assert list(gradients) == list(trees.flatten(model.params))
    still = [path for path, g in gradients.items() if not np.isfinite(g).all() or not g.any()]
    assert not still


@pytest.mark.sample(1)
@pytest.mark.parametrize("name", ALL)
def test_layers_are_kerass_in_name_shape_and_size(name):
    model, oracle = create(name), keras_model(name)
    rows = summary(model).rows
    assert model.layer_names == tuple(layer.name for layer in oracle.layers)
    assert len(set(model.layer_names)) == len(model.layer_names)
    assert [row.output_shape for row in rows] == [layer.output.shape[1:] for layer in oracle.layers]
    assert [row.parameters for row in rows] == [layer.count_params() for layer in oracle.layers]
    shapes = {f"{layer.name}/{w.name}": w.shape for layer in oracle.layers for w in layer.weights}
    assert {path: leaf.shape for path, leaf in trees.flatten(model.params).items()} == shapes


def with_kerass_weights(name):
    """Our model and Keras' with the same weights; biases are not zero."""
    rng = np.random.default_rng(1)
    params = trees.map_flat(
        lambda path, leaf: (
            leaf
            if path.endswith("kernel")
            else jnp.asarray(rng.standard_normal(leaf.shape, np.float32) / 4)
        ),
        create(name).params,
    )
    oracle = keras_model(name)
    for layer_name, weights in params.items():
        layer = oracle.get_layer(layer_name)
        layer.set_weights([weights[w.name] for w in layer.weights])
    return create(name).replace(variables={"params": params}), oracle


@pytest.mark.sample(2)
@pytest.mark.parametrize("name", ALL)
def test_outputs_equal_kerass(name):
    model, oracle = with_kerass_weights(name)
    with jax.numpy_rank_promotion("allow"):
        expected = oracle(inputs(name), training=False)
    np.testing.assert_allclose(model(inputs(name)), expected, rtol=1e-5, atol=2e-6)


DROPOUT = [
    (name, layer.name)
    for name in ALL
    for layer in KERAS[name]()
    if isinstance(layer, layers.Dropout)
]


@pytest.mark.sample(2)
@pytest.mark.parametrize(("name", "layer"), DROPOUT)
def test_dropout_acts_in_training_at_kerass_rate(name, layer):
    model, rate = create(name), keras_model(name).get_layer(layer).rate
    before = model.layer_names[model.layer_names.index(layer) - 1]

    @jax.jit
    def train(variables):
        options = {"train": True, "rngs": {"dropout": jax.random.key(0)}}
        _, state = model.module.apply(
            variables, inputs(name, 8), capture_intermediates=True, **options
        )
        return [state["intermediates"][path]["__call__"][0] for path in (before, layer)]

    given, dropped = (np.asarray(x) for x in train(model.variables))
    given, dropped = given[given > 0], dropped[given > 0]
    zeros = int((dropped == 0).sum())
    assert stats.binomtest(zeros, len(given), rate).pvalue > 1e-3
    np.testing.assert_allclose(dropped[dropped != 0], given[dropped != 0] / (1 - rate), rtol=1e-5)


@pytest.mark.thorough
def test_gradients_equal_kerass():
    model, oracle = with_kerass_weights("mnist_convnet")
    x, labels = inputs("mnist_convnet"), jnp.array([1, 5, 7])

    def kerass(weights):
        logits, _ = oracle.stateless_call(weights, [], x, training=False)
        return metrics.softmax_cross_entropy(logits, labels).sum()

    def ours(params):
        return metrics.softmax_cross_entropy(model.functions().apply(params, {}, x), labels).sum()

    with jax.numpy_rank_promotion("allow"):
        expected = jax.jit(jax.grad(kerass))([w.value for w in oracle.trainable_variables])
    found = jax.jit(jax.grad(ours))(model.params)
    for variable, gradient in zip(oracle.trainable_variables, expected, strict=True):
        layer, weight = variable.path.split("/")[-2:]
        np.testing.assert_allclose(found[layer][weight], gradient, rtol=1e-4, atol=1e-5)


@pytest.mark.sample(1)
@pytest.mark.parametrize("name", ALL)
def test_parameters_are_a_function_of_the_seed(name):
    model, again, other = create(name), create_model(name, seed=0), create(name, seed=1)
    assert trees.tree_hash(again.variables) == trees.tree_hash(model.variables)
    ours, theirs = trees.flatten(model.params), trees.flatten(other.params)
    for path, leaf in ours.items():
        assert leaf.dtype == jnp.float32
        assert bool((leaf != theirs[path]).any()) == path.endswith("kernel")
    kernels = [leaf.reshape(-1)[:20].tolist() for path, leaf in ours.items() if "kernel" in path]
    assert len({tuple(kernel) for kernel in kernels}) == len(kernels)


@pytest.mark.parametrize("name", ALL)
@pytest.mark.thorough
def test_the_smallest_size_works_and_a_smaller_one_is_refused(name):
    size, channels = BUILDERS[name].min_size, BUILDERS[name].input_shape[2]
    model = create_model(name, input_shape=(size, size, channels), num_classes=2)
    assert summary(model).rows[-1].output_shape == (2,)
    message = "input_shape must be" if size == 1 else f"too small for '{name}': at least {size}x"
    with pytest.raises(ValueError, match=message):
        create_model(name, input_shape=(size - 1, size, channels))
    with pytest.raises(ValueError, match=message):
        create_model(name, input_shape=(size, size - 1, channels))


@pytest.mark.parametrize("name", ALL)
def test_every_model_describes_itself(name):
    assert BUILDERS[name].description.endswith(".") or ":" in BUILDERS[name].description


@pytest.mark.parametrize(
    ("name", "arguments", "parameters"),
    [
        ("mnist_convnet", {}, 93_322),
        ("mlp", {"input_shape": (32, 32, 3), "units": (1024, 512)}, 3_676_682),
        ("mlp", {"input_shape": (32, 32, 3), "units": [1024, 512]}, 3_676_682),
        ("mlp", {"units": ()}, 784 * 10 + 10),
        ("mnist_convnet", {"num_classes": 1}, 93_322 - 9 * 65),
    ],
)
@pytest.mark.thorough
def test_totals(name, arguments, parameters):
    model = create_model(name, **arguments)
    assert summary(model).parameters == parameters
    assert sum(leaf.size for leaf in jax.tree.leaves(model.params)) == parameters


def test_labels_belong_to_the_spec():
    assert (
        create_model("mlp", num_classes=2, label_names=("cat", "dog")).spec.label_name(1) == "dog"
    )
    assert (
        create_model("mlp", num_classes=1, label_names=("cat", "dog")).spec.label_name(0) == "cat"
    )
    assert create("mlp").spec.label_name(3) == "3"


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("mnist_convnt", {}, r"there is no model 'mnist_convnt'\. Did you mean 'mnist_convnet'"),
        ("zzz", {}, r"there is no model 'zzz'\. Known models: alexnet, captcha"),
        ("mlp", {"unit": 3}, r"model 'mlp' has no argument 'unit'\. Did you mean 'units'"),
        ("lenet", {"input_shap": 3}, "has no argument 'input_shap'.*Did you mean 'input_shape'"),
        ("lenet", {"parent": None}, "model 'lenet' has no argument 'parent'"),
        (
            "lenet",
            {"weights": "imagenet"},
            "weights='imagenet' is not published for 'lenet'.*load",
        ),
        ("mlp", {"units": "abc"}, r"units must be whole numbers >= 1, e\.g\. .*, got 'abc'"),
        ("vgg16", {"include_top": "no"}, "include_top must be True or False, got 'no'"),
        ("lenet", {"input_shape": 32}, r"input_shape must be .*channels\), got 32"),
        ("lenet", {"num_classes": 0}, "num_classes must be a whole number >= 1, got 0"),
        ("lenet", {"num_classes": 2.0}, "num_classes must be a whole number >= 1, got 2.0"),
        ("lenet", {"num_classes": True}, "num_classes must be a whole number >= 1, got True"),
        ("lenet", {"input_shape": (28, 28)}, r"input_shape must be .*channels\), got \(28, 28\)"),
        ("lenet", {"input_shape": (28, 28.0, 1)}, r"input_shape must be .*got \(28, 28\.0, 1\)"),
        ("lenet", {"input_shape": (28, 28, 0)}, r"input_shape must be .*got \(28, 28, 0\)"),
        ("lenet", {"label_names": ("a", "b")}, "label_names has 2 names, the model has 10 classes"),
        (
            "lenet",
            {"preprocessing": "keras"},
            "preprocessing must be one of unit, none, tokens, tf, tf128, caffe, torch, got 'keras'",
        ),
        ("series_conv1d", {"filters": 0}, "filters must be a whole number >= 1, got 0"),
        ("series_gru", {"units": 8.0}, "units must be a whole number >= 1, got 8.0"),
        ("captcha", {"positions": "4"}, "positions must be a whole number >= 1, got '4'"),
        ("captcha", {"positions": True}, "positions must be a whole number >= 1, got True"),
        ("mobilenet", {"alpha": True}, "alpha must be a number, got True"),
        ("mlp", {"units": (8, True)}, "units must be whole numbers >= 1"),
        ("lenet", {"seed": 1.5}, "seed must be a whole number, got 1.5"),
        ("lenet", {"seed": None}, "seed must be a whole number, got None"),
        ("lenet", {"seed": -1}, r"seed must lie in \[0, 2\^32\), got -1"),
    ],
)
def test_what_cannot_be_built_is_named(name, arguments, message):
    with pytest.raises(ValueError, match=message):
        create_model(name, **arguments)


def test_numbers_of_numpy_are_numbers(tmp_path):
    arguments = {"units": [np.int64(4)], "dropout": np.float32(0.5)}
    model = create_model("mlp", input_shape=(3, 3, 1), seed=np.int64(2), **arguments)
    assert model.spec.arguments == {"units": (4,), "dropout": 0.5}
    save_model(model, tmp_path)
    assert load_model(tmp_path).spec == model.spec


def test_a_model_of_ones_own_is_one_decorator(tmp_path):
    @register("two_by_two", (4, 4, 1), min_size=2, num_classes=3, head=("logits",))
    class TwoByTwo(linen.Module):
        """The mean of each quarter, and logits of them."""

        num_classes: int = 3
        scale: float = 1.0

        @linen.compact
        def __call__(self, inputs):
            quarters = linen.avg_pool(inputs, (2, 2), strides=(2, 2)) * self.scale
            return linen.Dense(self.num_classes, name="logits")(quarters.reshape(len(inputs), -1))

    try:
        model = create_model("two_by_two", scale=2.0)
        assert model.spec.head == ("logits",)
        assert summary(model).parameters == 4 * 3 + 3
        save_model(model, tmp_path)
        assert load_model(tmp_path).spec == model.spec
        with pytest.raises(ValueError, match=r"[Dd]id you mean"):
            create_model("two_by_tow")

        with pytest.raises(ValueError, match=r"'lenet' is cnnjax\.models.*LeNet already"):
            register("lenet", (4, 4, 1))(TwoByTwo)
        with pytest.raises(ValueError, match=r"no setting 'min_siz'.*min_size"):
            register("other", (4, 4, 1), min_siz=2)
    finally:
        BUILDERS.pop("two_by_two")
