"""MobileNetV2: counts as published, and every layer against Keras' through a weight file."""

import functools

import jax
import keras
import pytest
from keras_nets import abstract, beyond, parameters, twin

from cnnjax.models import BUILDERS
from cnnjax.models.graph import trace
from cnnjax.models.zoo.mobilenet_v2 import ALPHAS
from cnnjax.nn import DepthwiseConv2D
from experiments import parity


def keras_net(size=(51, 32), **arguments):
    keras.utils.clear_session()
    return keras.applications.MobileNetV2(
        weights=None, classifier_activation=None, input_shape=(*size, 3), **arguments
    )


def test_number_of_parameters_is_that_published_by_keras_and_torchvision():
    assert parameters("mobilenet_v2") == 3_538_984
    # torchvision does not count the moving statistics.
    net = abstract("mobilenet_v2", origin="torch")
    assert sum(leaf.size for leaf in jax.tree.leaves(net.params)) == 3_504_872


@pytest.mark.slow
@pytest.mark.parametrize("alpha", ALPHAS)
def test_every_width_has_keras_shapes(alpha):
    with jax.numpy_rank_promotion("allow"):
        theirs = keras_net((32, 32), alpha=alpha).count_params()
    assert parameters("mobilenet_v2", alpha=alpha) == theirs


@pytest.mark.thorough
def test_every_layer_equals_keras_at_an_odd_size():
    pair = twin(functools.partial(keras_net, alpha=0.35), "mobilenet_v2", alpha=0.35)
    assert beyond(parity.compare(pair, batch=2)) == ""


@pytest.mark.slow
def test_a_training_step_equals_keras():
    arguments = {"alpha": 0.35, "include_top": False, "pooling": "avg"}
    pair = twin(functools.partial(keras_net, **arguments), "mobilenet_v2", **arguments)
    worst = parity.compare_training(pair).worst()
    assert {kind: line for kind, line in worst.items() if not line.relative < parity.EXACT} == {}


@pytest.mark.slow
@pytest.mark.parametrize("file_format", parity.FORMATS)
@pytest.mark.parametrize("size", [(32, 32), (96, 96), (65, 70)])
def test_every_layer_equals_keras_through_every_format(size, file_format):
    pair = twin(functools.partial(keras_net, size), "mobilenet_v2", file_format)
    assert beyond(parity.compare(pair)) == ""


def test_layers_differ_by_origin_only_in_their_settings():
    ours, torch = abstract("mobilenet_v2"), abstract("mobilenet_v2", origin="torch")
    assert ours.layer_names == torch.layer_names
    assert {ours.spec.cam_layer, *ours.spec.head} <= set(ours.layer_names)
    with pytest.raises(ValueError, match="origin must be 'keras' or 'torch', got 'tf'"):
        abstract("mobilenet_v2", origin="tf")


def test_published_files_are_named_by_width_and_size():
    release = BUILDERS["mobilenet_v2"].release({"alpha": 0.5})
    assert release.without_top[0].format(size=96).endswith("tf_kernels_0.5_96_no_top.h5")
    assert 224 in release.sizes


def test_depthwise_layers_take_the_engine_of_depthwise_convolution():
    kinds = [type(call.module) for call in trace(abstract("mobilenet_v2"))]
    assert kinds.count(DepthwiseConv2D) == 17
