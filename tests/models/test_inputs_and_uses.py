"""Files of nets with layers, calls and inputs that ours do not have."""

import zipfile

import h5py
import jax
import keras
import numpy as np
import pytest
from keras import layers

import cnnjax as cj
from cnnjax.models import WeightsDoNotFit
from cnnjax.models.pretrained.fill import OtherInputs

SHAPE = (28, 28, 1)


@pytest.fixture(autouse=True)
def _promotion():
    with jax.numpy_rank_promotion("allow"):  # Keras relies on it
        yield


def images():
    return np.random.default_rng(0).random((2, *SHAPE), np.float32)


def convnet(*front, between=(), pad=(), behind=()):
    """mnist_convnet with means of its last maps, and layers of others in it."""
    kind = {"activation": "relu"}
    return keras.Sequential(
        [
            layers.Input(SHAPE),
            *front,
            layers.Conv2D(32, 3, **kind),
            *between,
            layers.MaxPooling2D(),
            *pad,
            layers.Conv2D(64, 3, **kind),
            layers.MaxPooling2D(),
            layers.Conv2D(64, 3, **kind),
            layers.GlobalAveragePooling2D(),
            *behind,
            layers.Dense(64, **kind),
            layers.Dense(10),
        ]
    )


def loaded(net, path, **arguments):
    net.save(path)
    return cj.create_model("mnist_convnet", pooling="avg", weights=path, **arguments)


def same(model, net, x=None):
    x = images() if x is None else x
    np.testing.assert_allclose(model(images()), net(x, training=False), rtol=1e-4, atol=1e-5)


@pytest.mark.sample(3)
@pytest.mark.parametrize("suffix", [".h5", ".keras"])
@pytest.mark.parametrize(
    "parts",
    [
        {"between": [layers.UnitNormalization()]},
        {"between": [layers.Permute((2, 1, 3))]},
        {"between": [layers.Rescaling(2.0)]},
        {"between": [layers.ZeroPadding2D(1)]},
        {"pad": [layers.ZeroPadding2D(1), layers.Dropout(0.5)]},
        {"behind": [layers.UnitNormalization()]},
    ],
    ids=["unit norm", "permuted", "scaled", "padded pool", "padded later", "behind pooling"],
)
def test_layers_without_weights_that_ours_do_not_have(parts, suffix, tmp_path):
    with pytest.raises(WeightsDoNotFit, match=r"is followed by .* in the file, by .* here"):
        loaded(convnet(**parts), tmp_path / f"m{suffix}")


@pytest.mark.parametrize("suffix", [".h5", ".keras"])
def test_layers_that_change_nothing_when_a_net_predicts(suffix, tmp_path):
    net = convnet(
        layers.RandomFlip(),
        layers.RandomRotation(0.1),
        between=[layers.SpatialDropout2D(0.1), layers.Identity(), layers.GaussianNoise(0.1)],
        behind=[layers.ActivityRegularization(0.1), layers.AlphaDropout(0.1)],
    )
    same(loaded(net, tmp_path / f"m{suffix}"), net)


@pytest.mark.sample(2)
@pytest.mark.parametrize("suffix", [".h5", ".keras"])
@pytest.mark.parametrize(
    ("scale", "offset", "preprocessing"),
    [(1 / 255, 0.0, "unit"), (1 / 127.5, -1.0, "tf"), (1.0, 0.0, "none")],
)
def test_scaled_inputs_are_our_preprocessing(scale, offset, preprocessing, suffix, tmp_path):
    net = convnet(layers.Resizing(28, 28), layers.Rescaling(scale, offset))
    model = loaded(net, tmp_path / f"m{suffix}", preprocessing=preprocessing)
    pixels = np.random.default_rng(0).integers(0, 256, (2, *SHAPE), np.uint8)
    np.testing.assert_allclose(
        model(model.spec.preprocess(pixels)),
        net(pixels.astype(np.float32), training=False),
        rtol=1e-4,
        atol=1e-4,
    )
    other = "unit" if preprocessing != "unit" else "tf"
    with pytest.raises(WeightsDoNotFit, match=f"create the model with .*'{preprocessing}'"):
        loaded(net, tmp_path / f"m{suffix}", preprocessing=other)


@pytest.mark.sample(1)
@pytest.mark.parametrize(
    ("front", "text"),
    [
        (lambda: [layers.Rescaling(1 / 128)], r"Rescaling\(scale=0.0078125, offset=0.0\)"),
        (lambda: [layers.Normalization(mean=0.5, variance=2.0)], "Normalization"),
        (lambda: [layers.Rescaling(1 / 255), layers.Lambda(abs)], "Rescaling.*, Lambda"),
    ],
    ids=["another scale", "normalised", "a function"],
)
def test_inputs_that_no_preprocessing_of_ours_makes_are_said(front, text, tmp_path):
    net = convnet(*front())
    with pytest.warns(OtherInputs, match=f"does {text} to its inputs, which is not compared"):
        loaded(net, tmp_path / "m.h5", preprocessing="none")
    net = convnet(layers.Rescaling(1 / 128))
    with pytest.raises(WeightsDoNotFit, match="preprocessing='none', and do so to the images"):
        loaded(net, tmp_path / "m.keras")


def chain(*order, units=784):
    """Dense layers applied in this order, each of one set of weights."""
    x = i = layers.Input((units,))
    for layer in order:
        x = layer(x)
    return keras.Model(i, layers.Dense(10)(x))


def dense(**more):
    return layers.Dense(784, activation="relu", **more)


@pytest.mark.parametrize("suffix", [".h5", ".keras"])
@pytest.mark.parametrize("kind", ["a layer", "a net", "a net in a net"])
@pytest.mark.thorough
def test_weights_that_are_applied_twice(kind, suffix, tmp_path):
    inner = keras.Sequential([layers.Input((784,)), dense()])
    outer = keras.Sequential([layers.Input((784,)), inner])
    twice = {"a layer": dense(), "a net": inner, "a net in a net": outer}[kind]
    path = tmp_path / f"m{suffix}"
    chain(twice, twice, dense()).save(path)
    with pytest.raises(WeightsDoNotFit, match="dense1 has its weights applied 2 times in the file"):
        cj.create_model("mlp", units=(784, 784), weights=path)


@pytest.mark.thorough
def test_the_base_of_a_net_that_compares_two_images_is_kept(tmp_path):
    base = keras.applications.MobileNet(
        alpha=0.25, weights=None, include_top=False, input_shape=(32, 32, 3), pooling="avg"
    )
    one, two = layers.Input((32, 32, 3)), layers.Input((32, 32, 3))
    net = keras.Model([one, two], layers.Dense(1)(layers.concatenate([base(one), base(two)])))
    net.save(tmp_path / "m.keras")
    model = cj.create_model(
        "mobilenet", alpha=0.25, input_shape=(32, 32, 3), include_top=False, pooling="avg",
        weights=tmp_path / "m.keras",
    )  # fmt: skip
    x = np.random.default_rng(0).random((1, 32, 32, 3), np.float32)
    np.testing.assert_allclose(model(x), base(x), rtol=1e-3, atol=1e-4)


@keras.saving.register_keras_serializable("tests")
class Doubled(layers.Dense):
    """With the weights of a dense layer."""

    def call(self, inputs):
        """Twice what it would be."""
        return 2 * super().call(inputs)


@pytest.mark.parametrize(
    ("layer", "text"),
    [
        (lambda: Doubled(784, activation="relu"), "tests>Doubled"),
        (
            lambda: layers.EinsumDense("ab,bc->ac", 784, bias_axes="c", activation="relu"),
            "EinsumDense",
        ),
    ],
    ids=["a class of one's own", "einsum"],
)
def test_other_classes_with_the_weights_of_ours(layer, text, tmp_path):
    chain(layer()).save(tmp_path / "m.h5")
    with pytest.raises(WeightsDoNotFit, match=f"dense1 has the class {text} in the file and Dense"):
        cj.create_model("mlp", units=(784,), weights=tmp_path / "m.h5")


def test_classes_by_their_names_of_keras_1(tmp_path):
    net = convnet()
    path = tmp_path / "m.h5"
    net.save(path)
    with h5py.File(path, "r+") as file:
        text = file.attrs["model_config"].replace('"Conv2D"', '"Convolution2D"')
        file.attrs["model_config"] = text
    same(cj.create_model("mnist_convnet", pooling="avg", weights=path), net)


@pytest.mark.slow
def test_functions_of_a_net_with_branches_are_compared_whatever_their_names(tmp_path):
    small = {"include_top": False, "input_shape": (71, 71, 3)}
    path = tmp_path / "m.keras"
    keras.applications.Xception(weights=None, **small).save(path)
    with zipfile.ZipFile(path) as archive:
        content = {name: archive.read(name) for name in archive.namelist()}
    text = content["config.json"].decode().replace('_act"', '_function"')
    relu = '"activation": "relu"'
    for changed, match in (
        (text, None),
        (text.replace(relu, '"activation": "tanh"', 1), "the net has activation tanh in the file"),
        (text.replace('"Add"', '"Maximum"', 1), "the net has branches joined by Maximum in the"),
    ):
        with zipfile.ZipFile(path, "w") as archive:
            for name, data in {**content, "config.json": changed.encode()}.items():
                archive.writestr(name, data)
        if match is None:
            cj.create_model("xception", weights=path, **small)
            continue
        assert changed != text
        with pytest.raises(WeightsDoNotFit, match=match):
            cj.create_model("xception", weights=path, **small)


@pytest.mark.thorough
@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_words_that_are_left_out(cell, tmp_path):
    def words(masked):
        recurrent = {"gru": layers.GRU, "lstm": layers.LSTM}[cell]
        return keras.Sequential(
            [
                layers.Input((20,)),
                layers.Embedding(50, 8, mask_zero=masked),
                recurrent(4),
                layers.Dense(1),
            ]
        )

    arguments = {"input_shape": (20,), "vocabulary_size": 50, "embedding_size": 8, "units": 4}
    for masked in (False, True):
        words(masked).save(tmp_path / f"{masked}.keras")
    cj.create_model("imdb_gru", cell=cell, weights=tmp_path / "False.keras", **arguments)
    with pytest.raises(WeightsDoNotFit, match="embedding has mask_zero True in the file"):
        cj.create_model("imdb_gru", cell=cell, weights=tmp_path / "True.keras", **arguments)
