"""ConvNeXt: counts as published, and every layer against Keras' through a weight file."""

import functools

import jax
import keras
import pytest
from keras_nets import abstract, beyond, named_lines, parameters, twin

from cnnjax.models import BUILDERS
from cnnjax.transfer import Head, replace_head
from experiments import parity

COUNTS = {
    "convnext_tiny": 28_589_128,
    "convnext_small": 50_223_688,
    "convnext_base": 88_591_464,
    "convnext_large": 197_767_336,
}


@pytest.mark.parametrize(
    "name",
    [
        "convnext_tiny",
        *(pytest.param(name, marks=pytest.mark.slow) for name in list(COUNTS)[1:]),
    ],
)
def test_number_of_parameters_is_that_published_by_torchvision(name):
    assert parameters(name) == COUNTS[name]
    net = abstract(name)
    assert {net.spec.cam_layer, *net.spec.head} <= set(net.layer_names)


def tiny(size=(33, 40), **arguments):
    keras.utils.clear_session()
    with jax.numpy_rank_promotion("allow"):
        return keras.applications.ConvNeXtTiny(
            weights=None,
            classifier_activation=None,
            input_shape=(*size, 3),
            include_preprocessing=False,
            **arguments,
        )


@pytest.mark.thorough
@pytest.mark.parametrize(
    "arguments",
    [{}, pytest.param({"include_top": False, "pooling": "avg"}, marks=pytest.mark.slow)],
    ids=str,
)
def test_every_layer_equals_keras_at_an_odd_size(arguments):
    pair = twin(functools.partial(tiny, **arguments), "convnext_tiny", **arguments)
    lines, only_theirs, only_ours = named_lines(pair)
    assert beyond(lines) == ""
    # Keras' additions have no names, and what stands for no stochastic depth has one.
    unnamed = {"add", "layernorm", "conv", "0", "1", "2"}
    assert {name.rpartition("_")[2] for name in only_ours} <= unnamed
    assert not any("block_0_layer_scale" in name for name in only_theirs)


@pytest.mark.slow
@pytest.mark.parametrize("file_format", parity.FORMATS)
def test_the_outputs_equal_keras_through_every_format(file_format):
    pair = twin(tiny, "convnext_tiny", file_format)
    assert beyond(named_lines(pair)[0]) == ""


def test_stochastic_depth_grows_to_its_rate_in_the_last_block():
    net = abstract("convnext_tiny", stochastic_depth=0.1)
    assert "convnext_tiny_stage_3_block_2_stochastic_depth" in net.layer_names
    assert "convnext_tiny_stage_0_block_0_stochastic_depth" not in net.layer_names
    assert set(abstract("convnext_tiny").layer_names) < set(net.layer_names)


def test_published_files_have_sha256():
    release = BUILDERS["convnext_base"].release
    assert [len(digest) for _, digest in (release.top, release.without_top)] == [64, 64]


def test_depthwise_kernels_have_keras_shapes():
    net = abstract("convnext_tiny")
    kernel = net.params["convnext_tiny_stage_1_block_0_depthwise_conv"]["kernel"]
    assert kernel.shape == (7, 7, 1, 192)


def test_the_last_norm_keeps_its_weights_without_the_published_head():
    """Keras calls it otherwise there; PyTorch's files have one name for both."""
    for table, name in zip(
        BUILDERS["convnext_tiny"].foreign, ("classifier.0", "head.norm"), strict=True
    ):
        without = table.ours([name], {"include_top": False})
        assert without == {name: "layer_normalization"}
        assert table.ours([name], {}) == {name: "convnext_tiny_head_layernorm"}
    net = abstract("convnext_tiny")
    new = replace_head(net, Head(3, units=(2,)))
    kept = net.params["convnext_tiny_head_layernorm"]["gamma"]
    assert new.params["layer_normalization"]["gamma"] is kept
