"""Receptive fields by gradients: equal to those by arithmetic, in size and place."""

import numpy as np
import pytest
from flax import linen

import cnnjax as cj
from cnnjax.explain import Box, receptive_box, receptive_field
from cnnjax.models import Model, create_model, receptive_fields, summary
from cnnjax.nn import (
    Add,
    BatchNormalization,
    Conv2D,
    Cropping2D,
    DepthwiseConv2D,
    GlobalAveragePooling2D,
    GlobalMaxPooling2D,
    LayerNormalization,
    LayerScale,
    MaxPooling2D,
    Multiply,
    SeparableConv2D,
    StochasticDepth,
    ZeroPadding2D,
)


def compare(model, layers, cut=False):
    """Measured and computed boxes of the central pixels; `cut`: of the rows alone."""
    fields = receptive_fields(model)
    table = {row.name: row for row in summary(model).rows}
    height, _width, _ = model.spec.input_shape
    for layer in layers:
        field, shape = fields[layer], table[layer].output_shape
        top, left, bottom, right = field.box((shape[0] // 2, shape[1] // 2))
        assert top >= 0, f"{layer} sees more than the image"
        assert bottom <= height, f"{layer} sees more than the image"
        box = receptive_box(model, layer)
        if cut:
            assert (box.top, box.bottom) == (top, bottom), layer
        else:
            assert box == (top, left, bottom, right), layer
            assert receptive_field(model, layer) == table[layer].receptive_field, layer


@pytest.mark.thorough
def test_some_layers_of_vgg16():
    # Narrow, so that it takes a moment: rows and columns are alike.
    model = create_model("vgg16", include_top=False, input_shape=(224, 32, 3))
    compare(model, ["block1_conv2", "block3_pool", "block5_pool"], cut=True)


@pytest.mark.thorough
def test_some_layers_of_mobilenet():
    model = create_model("mobilenet", alpha=0.25, include_top=False, input_shape=(384, 32, 3))
    compare(model, ["conv_dw_2", "conv_pw_13_relu"], cut=True)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "size", "arguments"), [("vgg16", 224, {}), ("mobilenet", 384, {"alpha": 0.25})]
)
def test_every_layer(name, size, arguments):
    model = create_model(name, include_top=False, input_shape=(size, size, 3), **arguments)
    layers = model.layer_names
    compare(model, layers)
    last = summary(model).rows[-1].receptive_field
    assert last == {"vgg16": (212, 212), "mobilenet": (315, 315)}[name]


class Mixed(linen.Module):
    """What can hide or move pixels: strides, padding to one side, maxima, ReLU, a shortcut."""

    @linen.compact
    def __call__(self, x):
        x = ZeroPadding2D(((0, 1), (2, 0)), name="pad")(x)
        x = Conv2D(3, (3, 5), strides=2, activation=linen.relu, name="conv")(x)
        x = BatchNormalization(name="norm")(x)
        y = DepthwiseConv2D(3, padding="same", activation=linen.relu, name="depthwise")(x)
        y = SeparableConv2D(3, (1, 3), dilation_rate=2, padding="same", name="separable")(y)
        x = Add(name="sum")([x, y])
        x = MaxPooling2D(3, strides=2, padding="same", name="pool")(x)
        x = linen.Conv(2, (3, 3), strides=2, name="linen")(x)
        x = linen.Conv(2, (2, 2), padding=((1, 0), (0, 1)), name="pairs")(x)
        return linen.Dense(2, name="logits")(GlobalMaxPooling2D(name="global")(x))


@pytest.mark.thorough
def test_strides_padding_and_shortcuts():
    model = Model.from_module(Mixed(), (64, 72, 2), train_argument=False)
    compare(
        model, ["pad", "conv", "norm", "depthwise", "separable", "sum", "pool", "linen", "pairs"]
    )
    # No window of the first convolution takes the last column.
    assert receptive_box(model, "logits") == (0, 0, 64, 71)


class Cropped(linen.Module):
    """A crop that is not alike on the four sides."""

    @linen.compact
    def __call__(self, x):
        x = Conv2D(2, 3, strides=2, name="conv1")(x)
        x = Cropping2D(((1, 2), (3, 0)), name="crop")(x)
        x = Conv2D(3, 3, name="conv2")(x)
        return linen.Dense(2, name="logits")(GlobalMaxPooling2D(name="global")(x))


@pytest.mark.thorough
def test_a_crop_moves_the_window():
    model = Model.from_module(Cropped(), (20, 22, 1), train_argument=False)
    compare(model, ["conv1", "crop", "conv2"])
    assert receptive_box(model, "conv2", (0, 0)) == (2, 6, 9, 13)


class Normed(linen.Module):
    """What newer nets have: norm of each pixel, factors, groups, a product of maps, a gate."""

    @linen.compact
    def __call__(self, x):
        x = Conv2D(4, 3, strides=2, name="conv1")(x)
        x = LayerScale(0.5, name="scale")(LayerNormalization(name="norm")(x))
        y = Conv2D(4, 5, groups=4, padding="same", name="groups")(x)
        x = Multiply(name="product")([x, StochasticDepth(0.1, name="depth")(y)])
        gate = GlobalAveragePooling2D(keepdims=True, name="mean")(x)
        x = Multiply(name="gated")([x, gate])
        return linen.Dense(2, name="logits")(GlobalMaxPooling2D(name="global")(x))


def test_a_product_sees_what_its_factors_see_and_behind_a_gate_all_is_seen():
    model = Model.from_module(Normed(), (30, 32, 3), train_argument=False)
    compare(model, ["conv1", "scale", "groups", "product"])
    assert receptive_fields(model)["gated"].size == "all"


@pytest.mark.thorough
def test_any_pixel_and_the_cut_at_the_border():
    model = create_model("lenet", input_shape=(28, 28, 1))
    assert receptive_box(model, "conv1", (5, 9)) == Box(3, 7, 8, 12)
    assert receptive_box(model, "conv1", (0, 27)) == Box(0, 25, 3, 28)
    field = receptive_fields(model)["conv1"]
    assert (field.box((0, 27)), field.size) == ((-2, 25, 3, 30), (5, 5))
    assert receptive_fields(model)["logits"].size == "all"


def test_dead_nets_and_weights_do_not_matter():
    model = create_model("mnist_convnet")
    dead = model.replace(variables={"params": {k: {w: np.zeros(a.shape, np.float32) - 1
                                                   for w, a in layer.items()}
                                               for k, layer in model.params.items()}})  # fmt: skip
    assert receptive_field(dead, "pool2") == receptive_field(model, "pool2") == (10, 10)


def test_bad_input():
    model = create_model("mnist_convnet")
    with pytest.raises(ValueError, match=r"layer='conv4' names no layer of mnist_convnet.*'conv3'"):
        receptive_field(model, "conv4")
    with pytest.raises(ValueError, match=r"pixel=\(13, 0\) is not in the map of 'pool1'.*13x13"):
        receptive_box(model, "pool1", (13, 0))


class Blind(linen.Module):
    @linen.compact
    def __call__(self, x):
        return linen.Dense(2, name="logits")(0 * x.mean(axis=(1, 2)))


def test_a_layer_that_sees_nothing():
    with pytest.raises(ValueError, match="'logits' does not depend on the input"):
        cj.explain.receptive_field(Model.from_module(Blind(), (4, 4, 1)), "logits")
