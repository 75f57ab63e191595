"""U-Net against the same net of Keras, on sizes that halve and sizes that do not."""

from __future__ import annotations

import jax.numpy as jnp
import keras
import numpy as np
import pytest
from keras import layers

import cnnjax as cj
from cnnjax.core import trees

FILTERS = (3, 4, 5)


def kerass(shape: tuple[int, int, int], classes: int) -> keras.Model:
    """In the words of Keras' functional interface."""

    def conv(filters: int, size: int, name: str, x):
        return layers.Conv2D(filters, size, padding="same", activation="relu", name=name)(x)

    def two(filters: int, name: str, x):
        return conv(filters, 3, name, conv(filters, 3, f"{name}_first", x))

    inputs = keras.Input(shape)
    first = two(3, "down1", inputs)
    second = two(4, "down2", layers.MaxPooling2D()(first))
    x = two(5, "bottom", layers.MaxPooling2D()(second))
    x = conv(4, 2, "up2", layers.UpSampling2D()(x))
    x = two(4, "merge2", layers.Concatenate()([second, x]))
    x = conv(3, 2, "up1", layers.UpSampling2D()(x))
    x = two(3, "merge1", layers.Concatenate()([first, x]))
    return keras.Model(inputs, layers.Conv2D(classes, 1, name="logits")(x))


def with_weights(net: keras.Model, model: cj.Model) -> keras.Model:
    ours = trees.leaves(model.params)
    for layer in net.layers:
        if layer.weights:
            layer.set_weights([np.asarray(ours[f"{layer.name}/{w}"]) for w in ("kernel", "bias")])
    return net


@pytest.mark.thorough
def test_it_is_kerass_net_layer_by_layer() -> None:
    model = cj.create_model("unet", filters=FILTERS, input_shape=(8, 12, 2), num_classes=4)
    net = with_weights(kerass((8, 12, 2), 4), model)
    assert cj.summary(model).parameters == net.count_params()
    images = np.random.default_rng(0).random((3, 8, 12, 2), np.float32)
    np.testing.assert_allclose(model(images), net.predict(images, verbose=0), atol=1e-5)


@pytest.mark.thorough
def test_sides_that_do_not_halve_are_padded_and_the_logits_cropped() -> None:
    model = cj.create_model("unet", filters=FILTERS, input_shape=(7, 10, 2), num_classes=4)
    net = with_weights(kerass((8, 12, 2), 4), model)
    images = np.random.default_rng(0).random((2, 7, 10, 2), np.float32)
    padded = np.pad(images, ((0, 0), (0, 1), (0, 2), (0, 0)))
    wanted = net.predict(padded, verbose=0)[:, :7, :10]
    np.testing.assert_allclose(model(images), wanted, atol=1e-5)
    assert model.spec.output_shape == (7, 10, 4)


def test_it_is_a_model_of_pixels() -> None:
    model = cj.create_model("unet", filters=(2, 3), dropout=0.5)
    assert (model.spec.task.name, model.spec.output_shape) == ("dense", (64, 64, 2))
    images = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), dtype=np.uint8)
    np.testing.assert_allclose(cj.predict(model, images).sum(-1), 1, rtol=1e-5)
    one = cj.create_model("unet", filters=(2, 3), num_classes=1, label_names=("land", "sea"))
    assert cj.predict(one, images).shape == (2, 64, 64, 1)
    with pytest.raises(ValueError, match=r"must return logits \[N, K\]; for N = 2 it returns"):
        cj.create_model("unet", task="classes")


def test_pixels_are_repeated_as_kerass_layer_does() -> None:
    images = jnp.asarray(np.random.default_rng(0).random((2, 3, 4, 5), np.float32))
    found = cj.nn.UpSampling2D((2, 3)).apply({}, images)
    np.testing.assert_array_equal(found, layers.UpSampling2D((2, 3))(images))
