"""EfficientNet: counts as published, and every layer against Keras' through a weight file."""

import jax
import jax.numpy as jnp
import keras
import numpy as np
import pytest
from keras_nets import abstract, beyond, named_lines, parameters, twin

from cnnjax.models import BUILDERS, create_model
from cnnjax.models.pretrained.order import WeightsDoNotFit
from cnnjax.nn import he_truncated_fan_out, uniform_fan_out
from cnnjax.task import INPUTS
from experiments import parity

# As published by Keras, less the seven numbers that its nets of the first kind normalise pixels by.
COUNTS = {
    "efficientnet_b0": 5_330_571 - 7,
    "efficientnet_v2_s": 21_612_360,
    "efficientnet_b1": 7_856_239 - 7,
    "efficientnet_b2": 9_177_569 - 7,
    "efficientnet_b3": 12_320_535 - 7,
    "efficientnet_b4": 19_466_823 - 7,
    "efficientnet_b5": 30_562_527 - 7,
    "efficientnet_b6": 43_265_143 - 7,
    "efficientnet_b7": 66_658_687 - 7,
}
MEAN, DEVIATION = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])


@pytest.mark.parametrize(
    "name",
    [
        "efficientnet_b0",
        *(pytest.param(name, marks=pytest.mark.slow) for name in list(COUNTS)[1:]),
    ],
)
def test_number_of_parameters_is_that_published_by_keras(name):
    assert parameters(name) == COUNTS[name]


def test_the_rates_of_the_branches_grow_with_depth_as_in_keras():
    net = abstract("efficientnet_b0")
    assert {net.spec.cam_layer, *net.spec.head} <= set(net.layer_names)
    assert "block2b_drop" in net.layer_names
    assert "block1a_drop" not in net.layer_names
    with pytest.raises(ValueError, match=r"stochastic_depth must be a number in \[0, 1\), got 1"):
        abstract("efficientnet_b0", stochastic_depth=1)


def b0(size=(33, 40), variance=DEVIATION**2, **arguments):
    """Keras' net with the pixels' mean and variance that its files have."""
    keras.utils.clear_session()
    net = keras.applications.EfficientNetB0(
        weights=None, classifier_activation=None, input_shape=(*size, 3), **arguments
    )
    layer = next(one for one in net.layers if one.name == "normalization")
    layer.set_weights([MEAN, variance, np.int32(0)])
    layer.finalize_state()
    return net


def pixels(x):
    """Of inputs preprocessed as "torch" the pixels in [0, 255]."""
    deviation, mean = (jnp.asarray(v, x.dtype).reshape(1, 1, 1, 3) for v in (DEVIATION, MEAN))
    return (x * deviation + mean) * 255


@pytest.mark.slow
def test_every_layer_equals_keras_behind_its_own_scaling_of_pixels():
    pair = twin(b0, "efficientnet_b0")
    lines, only_theirs, only_ours = named_lines(pair, pixels)
    assert beyond([line for line in lines if line.layer != "input_layer"]) == ""
    assert (only_theirs, only_ours) == (["normalization", "rescaling"], [])


@pytest.mark.slow
@pytest.mark.parametrize("file_format", parity.FORMATS)
def test_every_format_loads_and_says_which_preprocessing_it_needs(file_format, tmp_path):
    net = b0((32, 32), include_top=False)
    path = tmp_path / f"net.{file_format}"
    parity.save_weights(net, path)
    arguments = {"include_top": False, "input_shape": (32, 32, 3), "weights": path}
    assert create_model("efficientnet_b0", **arguments).spec.inputs.name == "torch"
    with pytest.raises(WeightsDoNotFit, match=r"create the model with preprocessing='torch'"):
        create_model("efficientnet_b0", preprocessing="unit", **arguments)


@pytest.mark.slow
@pytest.mark.parametrize(("variance", "preprocessing"), [(DEVIATION, "torch"), (np.ones(3), None)])
def test_published_files_divide_by_the_deviations_root_twice(variance, preprocessing, tmp_path):
    net = b0((32, 32), variance, include_top=False)
    net.save_weights(tmp_path / "net.weights.h5")
    arguments = {"input_shape": (32, 32, 3), "weights": tmp_path / "net.weights.h5"}
    if preprocessing:
        model = create_model("efficientnet_b0", include_top=False, **arguments)
        assert model.spec.inputs.name == preprocessing
        return
    with pytest.raises(WeightsDoNotFit, match=r"takes the mean .* create the model with .*'none'"):
        create_model("efficientnet_b0", include_top=False, **arguments)


@pytest.mark.slow
def test_every_layer_of_the_second_version_equals_keras_at_an_odd_size():
    def net():
        keras.utils.clear_session()
        return keras.applications.EfficientNetV2S(
            weights=None,
            classifier_activation=None,
            input_shape=(33, 40, 3),
            include_preprocessing=False,
        )

    lines, only_theirs, only_ours = named_lines(twin(net, "efficientnet_v2_s"))
    assert beyond(lines) == ""
    assert (only_theirs, only_ours) == ([], [])


def test_the_second_versions_pixels_go_to_minus_one_to_one_as_in_keras():
    inputs = INPUTS[BUILDERS["efficientnet_v2_s"].preprocessing]
    x = jnp.asarray([[0.0, 64.0, 255.0]])
    expected = keras.layers.Rescaling(1 / 128.0, offset=-1)(x)
    np.testing.assert_allclose(inputs.preprocess(x), expected, rtol=1e-6)


@pytest.mark.thorough
def test_kernels_start_with_keras_deviations():
    settings = {"scale": 2.0, "mode": "fan_out", "distribution": "truncated_normal"}
    for ours, config in (
        (he_truncated_fan_out, settings),
        (uniform_fan_out, {"scale": 1 / 3, "mode": "fan_out", "distribution": "uniform"}),
    ):
        theirs = np.asarray(keras.initializers.VarianceScaling(**config, seed=0)((3, 3, 64, 48)))
        values = np.asarray(ours(jax.random.key(0), (3, 3, 64, 48)))
        assert values.std() == pytest.approx(theirs.std(), rel=0.02)
        assert np.abs(values).max() == pytest.approx(np.abs(theirs).max(), rel=0.02)
