"""Files of nets that compute something else with weights of the same shapes."""

import jax
import keras
import numpy as np
import pytest
from keras import layers

import cnnjax as cj
from cnnjax.models import WeightsDoNotFit
from cnnjax.models.pretrained.fill import OtherActivations

SHAPE = (28, 28, 1)


def net(  # every argument is one setting that a file may have otherwise
    activation="relu",
    last=None,
    pool=None,
    apart=False,
    behind_pool=False,
    third=None,
    end=None,
):
    pool = pool or (lambda: layers.MaxPooling2D(2))

    def conv(filters, own, **more):
        convolution = layers.Conv2D(filters, 3, activation=None if apart else activation, **more)
        return [convolution, *([layers.Activation(activation)] if own else [])]

    return keras.Sequential(
        [
            layers.Input(SHAPE),
            *conv(32, apart and not behind_pool),
            pool(),
            *([layers.Activation(activation)] if behind_pool else []),
            *conv(64, apart),
            pool(),
            *conv(64, apart, **(third or {})),
            end() if end else layers.Flatten(),
            layers.Dropout(0.5),
            layers.Dense(64, activation=activation),
            layers.Dense(10, activation=last),
        ]
    )


def loaded(net, path, **arguments):
    net.save(path)
    return cj.create_model("mnist_convnet", weights=path, **arguments)


def output(net):
    with jax.numpy_rank_promotion("allow"):  # Keras relies on it
        return np.asarray(net(images()))


def images():
    return np.random.default_rng(0).random((2, *SHAPE), np.float32)


@pytest.mark.sample(2)
@pytest.mark.parametrize("suffix", [".h5", ".keras"])
@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"activation": "tanh"}, "conv1 has activation tanh in the file and relu here"),
        ({"activation": "elu", "apart": True}, "conv1 has activation elu in the file and relu"),
        ({"activation": None}, "conv1 has activation linear in the file and relu here"),
        ({"activation": "softmax"}, "conv1 has activation softmax in the file and relu here"),
        ({"activation": layers.LeakyReLU(0.2)}, "conv1 has activation leaky_relu in the file"),
        ({"activation": layers.ReLU(6)}, "conv1 has activation relu6 in the file and relu here"),
        ({"last": "relu"}, "logits has activation relu in the file and linear here"),
    ],
)
def test_other_activations(settings, text, suffix, tmp_path):
    with pytest.raises(WeightsDoNotFit, match=text) as caught:
        loaded(net(**settings), tmp_path / f"m{suffix}")
    assert "allow_other_activations=True" in str(caught.value)
    with pytest.warns(OtherActivations, match=text):
        loaded(net(**settings), tmp_path / f"m{suffix}", allow_other_activations=True)


@pytest.mark.sample(2)
@pytest.mark.parametrize("suffix", [".h5", ".keras"])
@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"pool": lambda: layers.AveragePooling2D(2)}, r"conv1 is followed by AveragePooling2D\("),
        (
            {"third": {"padding": "same"}, "end": layers.GlobalAveragePooling2D},
            r"conv3 has padding 'same' \(\(1, 1\), \(1, 1\)\) in the file and 'valid'",
        ),
        (
            {"third": {"strides": 2}, "end": layers.GlobalAveragePooling2D},
            r"conv3 has strides \(2, 2\) in the file and 1 here",
        ),
        (
            {"third": {"dilation_rate": 2}, "end": layers.GlobalAveragePooling2D},
            r"conv3 has dilation_rate \(2, 2\) in the file and 1 here",
        ),
        (
            {"end": layers.GlobalMaxPooling2D},
            "conv3 is followed by GlobalMaxPooling2D in the file, by GlobalAveragePooling2D here",
        ),
    ],
)
def test_other_settings(settings, text, suffix, tmp_path):
    pooling = "avg" if "end" in settings else None
    for insists in (False, True):
        with pytest.raises(WeightsDoNotFit, match=f"holds another net than .*{text}"):
            loaded(
                net(**settings),
                tmp_path / f"m{suffix}",
                pooling=pooling,
                allow_other_activations=insists,
            )


@pytest.mark.sample(3)
@pytest.mark.parametrize("suffix", [".h5", ".keras"])
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"apart": True},
        {"apart": True, "behind_pool": True},
        {"activation": layers.ReLU()},
        {"pool": lambda: layers.MaxPooling2D(2, strides=2)},
        {"last": "linear"},
    ],
    ids=["own", "apart", "behind the pooling", "a layer", "strides", "linear"],
)
def test_the_same_function_written_otherwise(settings, suffix, tmp_path):
    theirs = net(**settings)
    model = loaded(theirs, tmp_path / f"m{suffix}")  # warnings are errors here
    np.testing.assert_allclose(model(images()), output(theirs), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
def test_probabilities_at_the_end_are_what_our_logits_are_for(activation, tmp_path):
    theirs = net(last=activation)
    logits = loaded(theirs, tmp_path / "m.keras")(images())
    function = getattr(jax.nn, activation)
    np.testing.assert_allclose(function(logits), output(theirs), rtol=1e-4, atol=1e-6)


def test_the_argument_that_makes_ours_the_same(tmp_path):
    theirs = net(activation="tanh")
    model = loaded(theirs, tmp_path / "m.keras", activation="tanh")
    np.testing.assert_allclose(model(images()), output(theirs), rtol=1e-5, atol=1e-5)


def mobilenet(epsilon=1e-3, max_value=6.0):
    base = keras.applications.MobileNet(alpha=0.25, weights=None, input_shape=(32, 32, 3))
    base.get_layer("conv_dw_3_bn").epsilon = epsilon
    base.get_layer("conv_dw_3_relu").max_value = max_value
    return base


@pytest.mark.thorough
def test_settings_of_normalisation_and_of_layers_that_are_activations(tmp_path):
    arguments = {"alpha": 0.25, "input_shape": (32, 32, 3), "weights": tmp_path / "m.keras"}
    mobilenet().save(tmp_path / "m.keras")
    cj.create_model("mobilenet", **arguments)
    mobilenet(epsilon=1e-5).save(tmp_path / "m.keras")
    with pytest.raises(WeightsDoNotFit, match="conv_dw_3_bn has epsilon 1e-05 in the file"):
        cj.create_model("mobilenet", **arguments)
    mobilenet(max_value=None).save(tmp_path / "m.keras")
    with pytest.raises(WeightsDoNotFit, match="conv_dw_3_bn has activation relu in the file and r"):
        cj.create_model("mobilenet", **arguments)


@pytest.mark.thorough
def test_zeros_around_are_a_padding(tmp_path):
    """Keras' MobileNet of other versions pads before its first convolution."""
    old = mobilenet()
    path = tmp_path / "m.keras"

    def with_pad(layer):
        if layer.name != "conv1":
            return layer
        config = {**layer.get_config(), "padding": "valid"}
        conv = layers.Conv2D.from_config(config)
        return lambda x: conv(layers.ZeroPadding2D(((0, 1), (0, 1)))(x))

    x = i = layers.Input((32, 32, 3))
    for layer in old.layers[1:]:
        x = with_pad(layer)(x)
    keras.Model(i, x).save(path)
    cj.create_model("mobilenet", alpha=0.25, input_shape=(32, 32, 3), weights=path)
    with pytest.raises(WeightsDoNotFit, match="conv1 has padding 'valid'"):
        cj.create_model("mobilenet", alpha=0.25, input_shape=(33, 33, 3), weights=path)


@pytest.mark.thorough
def test_recurrent_nets_that_run_backwards(tmp_path):
    def words(**settings):
        return keras.Sequential(
            [
                layers.Input((20,)),
                layers.Embedding(50, 8),
                layers.GRU(4, **settings),
                layers.Dense(1, activation="sigmoid"),
            ]
        )

    arguments = {"input_shape": (20,), "vocabulary_size": 50, "embedding_size": 8, "units": 4}
    path = tmp_path / "m.keras"
    for settings, text in (
        ({"go_backwards": True}, "gru has go_backwards True in the file and False here"),
        ({"activation": "relu"}, "gru has activation relu in the file and tanh here"),
        ({"recurrent_activation": "hard_sigmoid"}, "gru has recurrent_activation hard_sigmoid in"),
    ):
        with jax.numpy_rank_promotion("allow"):
            words(**settings).save(path)
        with pytest.raises(WeightsDoNotFit, match=text):
            cj.create_model("imdb_gru", weights=path, **arguments)
    with jax.numpy_rank_promotion("allow"):
        words().save(path)
    cj.create_model("imdb_gru", weights=path, **arguments)
