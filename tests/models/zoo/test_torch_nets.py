"""Nets that PyTorch libraries have: their names for our layers, AlexNet and SqueezeNet."""

import re

import jax
import numpy as np
import pytest
from families import representatives
from keras_nets import abstract, parameters

from cnnjax.core import trees
from cnnjax.models import BUILDERS, convolutionalize, receptive_fields
from cnnjax.nn import AdaptiveAveragePooling2D

NAMED = [name for name in representatives() if BUILDERS[name].foreign]
TABLES = [
    pytest.param(
        name,
        table,
        marks=() if name == "alexnet" else pytest.mark.thorough,
        id=f"{name}-{table.source}",
    )
    for name in NAMED
    for table in BUILDERS[name].foreign
]
NUMBER = re.compile(r"\{(\w+)([+-]\d+)?\}")


def theirs(table, ours):
    """The name of a layer in a library, by the first of its patterns that makes ours."""
    for their_pattern, our_pattern in table.layers:
        shifts = {brace[1]: int(brace[2] or 0) for brace in NUMBER.finditer(our_pattern)}
        parts = NUMBER.split(our_pattern)[::3]
        names = [brace[1] for brace in NUMBER.finditer(our_pattern)]
        expression = re.escape(parts[0])
        for name, part in zip(names, parts[1:], strict=True):
            expression += rf"(?P<{name}>\d+)" + re.escape(part)
        if match := re.fullmatch(expression, ours):
            numbers = {name: int(text) - shifts[name] for name, text in match.groupdict().items()}
            return their_pattern.format(**numbers)
    return None


@pytest.mark.parametrize(("name", "table"), TABLES)
def test_every_layer_with_weights_has_one_name_in_each_library(name, table):
    net = abstract(name, **table.arguments)
    layers = {path.rpartition("/")[0] for path in trees.flatten(net.params)}
    if callable(table.layers):
        named = table.layers({**net.spec.arguments, **table.arguments})
        assert set(named.values()) == layers
        return
    parts = {f"{layer}/{part}_kernel" for layer in layers for part in ("depthwise", "pointwise")}
    separable = parts & set(trees.flatten(net.params))
    wanted = separable | layers - {path.rpartition("/")[0] for path in separable}
    names = {layer: theirs(table, layer) for layer in wanted}
    assert None not in names.values()
    assert len(set(names.values())) == len(names)
    assert table.ours(names.values(), {}) == {their: layer for layer, their in names.items()}


def test_numbers_of_parameters_are_those_of_torchvision():
    assert parameters("alexnet") == 61_100_840
    assert parameters("squeezenet1_0") == 1_248_424
    assert parameters("squeezenet1_1") == 1_235_496


@pytest.mark.parametrize("name", ["alexnet", "squeezenet1_0", "squeezenet1_1"])
def test_the_smallest_size_leaves_every_pooling_a_window(name):
    size = BUILDERS[name].min_size
    net = abstract(name, input_shape=(size, size, 3), num_classes=3)
    assert {net.spec.cam_layer, *net.spec.head} <= set(net.layer_names)
    with pytest.raises(ValueError, match=rf"too small for '{name}': at least {size}x{size}"):
        abstract(name, input_shape=(size - 1, size, 3))


@pytest.mark.parametrize("size", [(7, 13), (4, 6), (6, 6), (12, 18)])
def test_adaptive_pooling_is_that_of_keras(size):
    keras = pytest.importorskip("keras")
    x = np.random.default_rng(0).normal(size=(2, *size, 3)).astype(np.float32)
    with jax.numpy_rank_promotion("allow"):
        expected = keras.layers.AdaptiveAveragePooling2D((6, 5))(x)
    outputs = AdaptiveAveragePooling2D((6, 5)).apply({}, x)
    np.testing.assert_allclose(outputs, expected, rtol=1e-5, atol=1e-6)


def test_adaptive_pooling_at_the_wanted_size_changes_nothing():
    x = np.random.default_rng(0).normal(size=(1, 6, 6, 2)).astype(np.float32)
    np.testing.assert_array_equal(AdaptiveAveragePooling2D(6).apply({}, x), x)


def test_alexnet_sees_195_pixels_before_its_head():
    fields = receptive_fields(abstract("alexnet"))
    assert (fields["pool5"].extent, fields["pool5"].jump) == ((195, 195), (32, 32))
    assert fields["avg_pool"] == fields["pool5"]
    # Of a larger map each mean is over a window of a size of its own.
    assert receptive_fields(abstract("alexnet", input_shape=(300, 300, 3)))["avg_pool"] is None


def test_a_map_of_one_size_of_every_image_is_not_moved_over_it():
    with pytest.raises(
        ValueError, match=r"alexnet cannot be made fully.*'avg_pool' makes a map of"
    ):
        convolutionalize(abstract("alexnet"))
