"""Which layer of a file is which: configuration first, then names, then positions."""

import json
import zipfile

import h5py
import jax
import keras
import numpy as np
import pytest
from keras import layers

import cnnjax as cj
from cnnjax.models import WeightsDoNotFit
from cnnjax.weights import DamagedWeights, read_weights
from experiments.parity import randomise

SHAPE = (28, 28, 1)
FORMATS = ("m.h5", "m.keras", "m.weights.h5")


def images():
    return np.random.default_rng(0).random((2, *SHAPE), np.float32)


def output(net, x=None):
    with jax.numpy_rank_promotion("allow"):  # Keras relies on it
        return np.asarray(net(images() if x is None else x))


def saved(net, path):
    if path.name.endswith(".weights.h5"):
        net.save_weights(path)
    else:
        net.save(path)
    return path


def same(net, path, name="mnist_convnet", x=None, **arguments):
    model = cj.create_model(name, weights=path, **arguments)
    x = images() if x is None else x
    np.testing.assert_allclose(model(x), output(net, x), rtol=1e-5, atol=1e-5)


def body(names=(None, None, None, None), trainable=(True, True, True, True)):
    """The layers of mnist_convnet before its logits."""
    kind = {"activation": "relu"}
    convs = [
        layers.Conv2D(f, 3, name=name, trainable=train, **kind)
        for f, name, train in zip((32, 64, 64), names, trainable, strict=False)
    ]
    return [
        layers.Input(SHAPE),
        convs[0],
        layers.MaxPooling2D(),
        convs[1],
        layers.MaxPooling2D(),
        convs[2],
        layers.Flatten(),
        layers.Dense(64, name=names[3], trainable=trainable[3], **kind),
    ]


# Nets in nets


@pytest.mark.sample(3)
@pytest.mark.parametrize("file", FORMATS)
@pytest.mark.parametrize("split", [3, 4, 8])
@pytest.mark.thorough
def test_a_net_in_a_net_with_automatic_names(split, file, tmp_path):
    """Wherever the inner one ends: its groups lie apart from those of the outer one."""
    first, *rest = body()
    inner = keras.Sequential([first, *rest[: split - 1]])
    net = keras.Sequential([layers.Input(SHAPE), inner, *rest[split - 1 :], layers.Dense(10)])
    randomise(net, 0)
    same(net, saved(net, tmp_path / file))


@pytest.mark.sample(1)
@pytest.mark.parametrize("file", FORMATS)
def test_nets_in_nets_in_nets(file, tmp_path):
    first, *rest = body()
    inner = keras.Sequential([first, *rest[:2]])
    i = layers.Input(SHAPE)
    middle = keras.Model(i, rest[2](inner(i)))
    net = keras.Sequential([layers.Input(SHAPE), middle, *rest[3:], layers.Dense(10)])
    same(net, saved(net, tmp_path / file))


def wide(units, nested):
    """An mlp of equal layers, some of them in a net of their own."""
    dense = [layers.Dense(units, activation="relu") for _ in range(4)]
    inner = keras.Sequential([layers.Input((784,)), dense[0], dense[1]])
    after = keras.Sequential([layers.Input((units,)), dense[2]])
    parts = {"first": [inner, dense[2], dense[3]], "both": [inner, after, dense[3]]}
    net = keras.Sequential([layers.Input((784,)), *parts[nested], layers.Dense(10)])
    randomise(net, 1)
    return net


@pytest.mark.parametrize("nested", ["first", "both"])
def test_equal_layers_come_in_the_order_of_the_configuration(nested, tmp_path):
    net = wide(784, nested)
    x = np.random.default_rng(0).random((2, 784), np.float32)
    model = cj.create_model(
        "mlp", units=(784,) * 4, weights=saved(net, tmp_path / "m.keras"), input_shape=(28, 28, 1)
    )
    np.testing.assert_allclose(model(x.reshape(2, *SHAPE)), output(net, x), rtol=1e-4, atol=1e-4)


def test_without_a_configuration_equal_layers_in_two_nets_are_an_error(tmp_path):
    path = saved(wide(784, "first"), tmp_path / "m.weights.h5")
    with pytest.raises(WeightsDoNotFit, match="can be read in several ways, which give 'dense"):
        cj.create_model("mlp", units=(784,) * 4, weights=path)


def test_names_of_ours_decide_where_the_order_does_not(tmp_path):
    dense = [layers.Dense(784, activation="relu", name=f"dense{i}") for i in (1, 2, 3)]
    inner = keras.Sequential([layers.Input((784,)), dense[1]])
    net = keras.Sequential(
        [layers.Input((784,)), dense[0], inner, dense[2], layers.Dense(10, name="logits")]
    )
    randomise(net, 2)
    x = np.random.default_rng(0).random((2, 784), np.float32)
    for file in FORMATS:
        model = cj.create_model("mlp", units=(784,) * 3, weights=saved(net, tmp_path / file))
        np.testing.assert_allclose(
            model(x.reshape(2, *SHAPE)), output(net, x), rtol=1e-4, atol=1e-4
        )


def test_names_decide_against_the_order_of_a_file(tmp_path):
    """A legacy file that lists conv3 before conv2: both fit in both places."""
    path = tmp_path / "order.h5"
    r = np.random.default_rng(0)
    shapes = {
        "conv3": (3, 3, 64, 64), "conv1": (3, 3, 1, 32), "conv2": (3, 3, 32, 64),
        "dense1": (576, 64), "logits": (64, 10),
    }  # fmt: skip
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = list(shapes)
        for name, shape in shapes.items():
            group = file.create_group(name)
            group.attrs["weight_names"] = [f"{name}/kernel:0", f"{name}/bias:0"]
            group[f"{name}/kernel:0"] = r.normal(size=shape).astype(np.float32)
            group[f"{name}/bias:0"] = np.zeros(shape[-1], np.float32)
    model = cj.create_model("mnist_convnet", weights=path)
    with h5py.File(path) as file:
        for name in shapes:
            assert np.array_equal(model.params[name]["kernel"], file[f"{name}/{name}/kernel:0"])


def test_a_few_names_against_the_positions_are_an_error(tmp_path):
    """dense2 and dense1 are named, in this order; is the third layer dense3, or the first one?"""
    names = ("x", "dense1", "dense2")
    net = keras.Sequential(
        [layers.Input((784,)), *(layers.Dense(784, activation="relu", name=n) for n in names)]
    )
    net.add(layers.Dense(10))
    with pytest.raises(WeightsDoNotFit, match="can be read in several ways"):
        cj.create_model("mlp", units=(784,) * 3, weights=saved(net, tmp_path / "m.h5"))


# Legacy files: trained weights before frozen ones


@pytest.mark.thorough
@pytest.mark.parametrize("frozen", [(0,), (1, 2), (0, 1, 2, 3)])
def test_frozen_layers_of_a_net_in_a_net(frozen, tmp_path):
    inner = keras.Sequential(body(trainable=[i not in frozen for i in range(4)]))
    net = keras.Sequential([layers.Input(SHAPE), inner, layers.Dense(10)])
    randomise(net, 0)
    for file in FORMATS:
        same(net, saved(net, tmp_path / file))


def without_configuration(path):
    with h5py.File(path, "r+") as file:
        del file.attrs["model_config"]
    return path


@pytest.mark.thorough
def test_a_frozen_layer_that_is_listed_last_is_not_taken_for_the_last(tmp_path):
    """Without a configuration the numbers of names say it; both orders fit: which is it?"""
    keras.utils.clear_session()
    dense = [layers.Dense(784, activation="relu") for _ in range(3)]
    dense[0].trainable = False
    inner = keras.Sequential([layers.Input((784,)), *dense])
    net = keras.Sequential([layers.Input((784,)), inner, layers.Dense(10)])
    randomise(net, 0)
    path = saved(net, tmp_path / "m.h5")
    x = np.random.default_rng(0).random((2, 784), np.float32)
    model = cj.create_model("mlp", units=(784,) * 3, weights=path)
    np.testing.assert_allclose(model(x.reshape(2, *SHAPE)), output(net, x), rtol=1e-4, atol=1e-4)
    with pytest.raises(WeightsDoNotFit, match="can be read in several ways"):
        cj.create_model("mlp", units=(784,) * 3, weights=without_configuration(path))


# Backends and formats of the data


def turned_around(path, backends):
    """The file that Theano would have written for the same function."""
    with h5py.File(path, "r+") as file:
        for place in backends:
            file[place].attrs["backend"] = b"theano"

        def turn(_, node):
            if isinstance(node, h5py.Dataset) and node.ndim in (3, 4):
                axes = tuple(range(node.ndim - 2))
                node.write_direct(np.ascontiguousarray(np.flip(node[...], axes)))

        file["model_weights"].visititems(turn)
    return path


def test_kernels_of_theano_are_turned_around(tmp_path):
    net = keras.Sequential([*body(), layers.Dense(10)])
    same(net, turned_around(saved(net, tmp_path / "m.h5"), ("/", "model_weights")))


def test_kernels_of_theano_under_names_of_ours(tmp_path):
    net = keras.Sequential(
        [*body(("conv1", "conv2", "conv3", "dense1")), layers.Dense(10, name="logits")]
    )
    same(net, turned_around(saved(net, tmp_path / "m.h5"), ("/", "model_weights")))


@pytest.mark.thorough
def test_kernels_of_theano_over_series_of_words(tmp_path):
    net = keras.Sequential(
        [
            layers.Input((500,)),
            layers.Embedding(50, 128),
            layers.Conv1D(32, 7, activation="relu"),
            layers.MaxPooling1D(5),
            layers.Conv1D(32, 7, activation="relu"),
            layers.GlobalMaxPooling1D(),
            layers.Dense(1),
        ]
    )
    path = turned_around(saved(net, tmp_path / "m.h5"), ("/", "model_weights"))
    x = np.random.default_rng(0).integers(0, 50, (2, 500), np.int32)
    same(net, path, "imdb_conv1d", x, vocabulary_size=50)


def test_two_backends_in_one_file_contradict_each_other(tmp_path):
    net = keras.Sequential([*body(), layers.Dense(10)])
    path = turned_around(saved(net, tmp_path / "m.h5"), ("model_weights",))
    with pytest.raises(DamagedWeights, match="says both backend='jax' and 'theano'"):
        cj.create_model("mnist_convnet", weights=path)


@pytest.mark.sample(1)
@pytest.mark.parametrize("knows", [True, False])
@pytest.mark.parametrize("file", FORMATS[:2])
def test_channels_first_behind_flatten(file, knows, tmp_path):
    """The rows of a dense layer go by (C, H, W), unless Flatten puts the channels last."""
    first = {"data_format": "channels_first"}
    conv = {"activation": "relu", **first}
    net = keras.Sequential(
        [
            layers.Input((1, 28, 28)),
            layers.Conv2D(32, 3, **conv),
            layers.MaxPooling2D(2, **first),
            layers.Conv2D(64, 3, **conv),
            layers.MaxPooling2D(2, **first),
            layers.Conv2D(64, 3, **conv),
            layers.Flatten(data_format="channels_first" if knows else "channels_last"),
            layers.Dropout(0.5),
            layers.Dense(64, activation="relu"),
            layers.Dense(10, activation="softmax"),
        ]
    )
    randomise(net, 0)
    model = cj.create_model("mnist_convnet", weights=saved(net, tmp_path / file))
    theirs = output(net, np.moveaxis(images(), -1, 1))
    np.testing.assert_allclose(jax.nn.softmax(model(images())), theirs, rtol=1e-4, atol=1e-5)


# Configurations that cannot be true


def rewritten(path, change):
    """A .keras archive with another configuration."""
    with zipfile.ZipFile(path) as archive:
        content = {name: archive.read(name) for name in archive.namelist()}
    content["config.json"] = change(content["config.json"])
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in content.items():
            archive.writestr(name, data)
    return path


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text[:100],
        lambda text: text.replace(b'"relu"', b'"relu\xff"'),
        lambda text: b"[" * 100_000,
        lambda text: text.replace(b'"layers": [', b'"layers": [3, '),
        lambda text: text.replace(b'"name":', b'"name": "twice", "name":', 1),
    ],
    ids=["cut", "no text", "deep", "a number for a layer", "a key twice"],
)
def test_a_configuration_that_is_not_readable(change, tmp_path):
    net = keras.Sequential([*body(), layers.Dense(10)])
    path = rewritten(saved(net, tmp_path / "m.keras"), change)
    with pytest.raises(DamagedWeights, match="its configuration is not readable"):
        read_weights(path)


def test_a_configuration_with_other_names_than_the_weights(tmp_path):
    net = keras.Sequential([*body(("a", "b", "c", "d")), layers.Dense(10)])
    path = rewritten(
        saved(net, tmp_path / "m.keras"), lambda text: text.replace(b'"name": "b"', b'"name": "e"')
    )
    with pytest.raises(DamagedWeights, match="the layer 'e' of its configuration is 'b' among"):
        read_weights(path)


def test_a_model_whose_layers_are_only_in_its_code(tmp_path):
    """Its configuration lists no layers, so that its file is as one without."""
    net = keras.Sequential([*body(("conv1", "conv2", "conv3", "dense1")), layers.Dense(10)])
    path = rewritten(
        saved(net, tmp_path / "m.keras"),
        lambda text: json.dumps({"class_name": "Mine", "config": {"units": 3}}).encode(),
    )
    assert read_weights(path).net == ()
    same(net, path)


def test_a_configuration_in_another_order_than_the_weights(tmp_path):
    inner = keras.Sequential(
        [layers.Input((784,)), *(layers.Dense(784, activation="relu") for _ in range(3))]
    )
    net = keras.Sequential([layers.Input((784,)), inner, layers.Dense(10)])
    path = saved(net, tmp_path / "m.h5")
    with h5py.File(path, "r+") as file:
        config = json.loads(file.attrs["model_config"])
        listed = config["config"]["layers"][1]["config"]["layers"]
        listed[1], listed[2] = listed[2], listed[1]
        file.attrs["model_config"] = json.dumps(config)
    with pytest.raises(DamagedWeights, match="have another order in its configuration than among"):
        cj.create_model("mlp", units=(784,) * 3, weights=path)
