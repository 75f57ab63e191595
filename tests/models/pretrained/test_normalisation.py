"""The pixels' mean and variance in files of Keras, which are preprocessing here."""

from pathlib import Path

import numpy as np
import pytest

from cnnjax.models.builder import build
from cnnjax.models.pretrained.normalisation import without_normalisation
from cnnjax.models.pretrained.order import WeightsDoNotFit
from cnnjax.models.scaling import scaling
from cnnjax.weights import KerasLayer, StoredLayer, StoredWeights

MEAN, DEVIATION = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])


def file_of(mean, variance, name="normalization_3"):
    layers = (
        StoredLayer(name, "", {"0": np.asarray(mean), "1": np.asarray(variance)}),
        StoredLayer("stem_conv", "conv2d", {"0": np.zeros((3, 3, 3, 32))}),
    )
    return StoredWeights(Path("net.h5"), layers, positional=True)


@pytest.mark.parametrize(
    ("mean", "variance", "preprocessing"),
    [
        (MEAN, DEVIATION, None),  # as published: another division by the root is in Keras' code
        (MEAN, DEVIATION**2, None),
        (np.zeros(3), np.ones(3), "unit"),
        (np.zeros(3), np.full(3, 0.3), "none"),
    ],
)
def test_statistics_that_are_the_preprocessing_are_taken(mean, variance, preprocessing):
    module, spec = build("efficientnet_b0", preprocessing=preprocessing)
    kept = without_normalisation(file_of(mean, variance), module, spec)
    assert [layer.name for layer in kept.layers] == ["stem_conv"]


def test_other_statistics_are_refused_with_the_preprocessing_that_is_theirs():
    module, spec = build("efficientnet_b0")
    with pytest.raises(WeightsDoNotFit, match=r"not preprocessing='torch': .*preprocessing='unit'"):
        without_normalisation(file_of(np.zeros(3), np.ones(3)), module, spec)
    with pytest.raises(WeightsDoNotFit, match=r"the mean \(0\.5, 0\.5, 0\.5\) .*'none', and do so"):
        without_normalisation(file_of([0.5] * 3, [0.07] * 3), module, spec)


def test_nets_that_have_no_such_layer_in_keras_keep_theirs():
    module, spec = build("mobilenet")
    stored = file_of(MEAN, DEVIATION)
    assert without_normalisation(stored, module, spec) is stored


def test_a_normalization_in_a_configuration_is_torchs_preprocessing():
    _, spec = build("efficientnet_b0")
    statistics = {"mean": (255 * MEAN).tolist(), "variance": ((255 * DEVIATION) ** 2).tolist()}
    layer = KerasLayer("n", "Normalization", (), (), statistics)
    assert scaling([layer], spec).fitting == ("torch",)
