"""MobileNetV3: counts as published, and every layer against Keras' through a weight file."""

import functools

import jax
import keras
import pytest
from keras_nets import abstract, beyond, named_lines, parameters, twin

import cnnjax as cj
from cnnjax.models import BUILDERS
from experiments import parity

NETS = {"mobilenet_v3_small": "MobileNetV3Small", "mobilenet_v3_large": "MobileNetV3Large"}
# As published by Keras, with the moving statistics, and by torchvision, without them.
COUNTS = {
    "mobilenet_v3_small": (2_554_968, 2_542_856),
    "mobilenet_v3_large": (5_507_432, 5_483_032),
}


def keras_net(name, size=(33, 40), **arguments):
    keras.utils.clear_session()
    build = getattr(keras.applications, NETS[name])
    arguments = {"weights": None, "classifier_activation": None, **arguments}
    return build(input_shape=(*size, 3), include_preprocessing=False, **arguments)


@pytest.mark.sample(1)
@pytest.mark.parametrize("name", NETS)
def test_number_of_parameters_is_that_published_by_keras_and_torchvision(name):
    theirs, torch = COUNTS[name]
    assert parameters(name) == theirs
    assert sum(leaf.size for leaf in jax.tree.leaves(abstract(name).params)) == torch


@pytest.mark.slow
@pytest.mark.parametrize("alpha", [0.75, 1.0])
@pytest.mark.parametrize("name", NETS)
def test_every_layer_equals_keras_at_an_odd_size(name, alpha):
    pair = twin(functools.partial(keras_net, name, alpha=alpha), name, alpha=alpha)
    lines, only_theirs, only_ours = named_lines(pair)
    assert beyond(lines) == ""
    assert {layer.partition("_lu")[0] for layer in only_theirs} == {"re"}
    assert {layer.rpartition("_")[2] for layer in only_ours} == {"gate"}
    assert len(only_theirs) == len(only_ours)


@pytest.mark.slow
@pytest.mark.parametrize("file_format", parity.FORMATS)
def test_every_layer_equals_keras_through_every_format(file_format):
    name = "mobilenet_v3_small"
    pair = twin(functools.partial(keras_net, name), name, file_format)
    assert beyond(named_lines(pair)[0]) == ""


@pytest.mark.slow
@pytest.mark.parametrize("name", NETS)
def test_a_training_step_equals_keras(name):
    arguments = {"include_top": False, "pooling": "avg"}
    pair = twin(functools.partial(keras_net, name, **arguments), name, **arguments)
    worst = parity.compare_training(pair).worst()
    assert {kind: line for kind, line in worst.items() if not line.relative < parity.EXACT} == {}


def test_pytorchs_widths_are_those_of_alpha_1_alone():
    with pytest.raises(ValueError, match=r"alpha=0.75 rounds other widths in PyTorch's nets"):
        cj.create_model("mobilenet_v3_small", alpha=0.75, origin="torch")


@pytest.mark.parametrize("alpha", [0.75, 1.0])
def test_published_files_are_named_by_width(alpha):
    release = BUILDERS["mobilenet_v3_large"].release({"alpha": alpha})
    assert release.top[0].endswith(f"weights_mobilenet_v3_large_224_{alpha}_float.h5")
    assert release.without_top[0].endswith(f"large_224_{alpha}_float_no_top_v2.h5")
