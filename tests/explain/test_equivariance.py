"""Moved images and moved maps."""

import functools

import jax
import numpy as np
import pytest
from flax import linen
from scipy import ndimage

from cnnjax.explain import Move, activations, equivariance
from cnnjax.models import Model
from cnnjax.nn import Conv2D, Flatten, MaxPooling2D

RNG = np.random.default_rng(0)


class Net(linen.Module):
    padding: str = "valid"

    @linen.compact
    def __call__(self, x):
        x = Conv2D(4, 3, padding=self.padding, activation=jax.nn.relu, name="conv1")(x)
        x = MaxPooling2D(2, name="pool1")(x)
        x = Conv2D(4, 3, padding=self.padding, activation=jax.nn.relu, name="conv2")(x)
        return linen.Dense(2, name="logits")(Flatten(name="flatten")(x))


@functools.cache
def model_of(padding="valid"):
    return Model.from_module(Net(padding), (24, 28, 2))


IMAGES = RNG.random((2, 24, 28, 2), np.float32)


@pytest.mark.sample(1)
@pytest.mark.parametrize("padding", ["valid", "same"])
def test_the_map_of_a_convolution_moves_with_the_image(padding):
    found = equivariance(model_of(padding), IMAGES, Move(down=4, right=-2))
    for layer in ("conv1", "pool1", "conv2"):
        assert found[layer].equivariance < 1e-6
        assert found[layer].invariance > 0.2
        assert found[layer].pixels > 40


def test_the_interior_is_what_does_not_see_the_border():
    # Rows and columns by hand: of 24x28 under 3x3, moved by 4 down and 2 to the left.
    found = equivariance(model_of(), IMAGES, Move(down=4, right=-2), ["conv1"])
    assert found["conv1"].pixels == (22 - 4) * (26 - 2)
    found = equivariance(model_of("same"), IMAGES, Move(down=4, right=-2), ["conv1"])
    assert found["conv1"].pixels == (22 - 4) * (26 - 2)


def test_a_shift_that_the_strides_do_not_divide_is_no_shift_of_the_map():
    found = equivariance(model_of(), IMAGES, Move(right=1))
    assert found["conv1"].equivariance < 1e-6
    assert found["pool1"].equivariance > 0.05
    assert found["pool1"].invariance < found["conv1"].invariance  # but pooling hides a part of it


def test_by_hand_with_slices():
    model, move = model_of(), Move(right=3)
    before = np.asarray(activations(model, IMAGES, ["conv1"])["conv1"])
    after = np.asarray(activations(model, move(IMAGES), ["conv1"])["conv1"])
    np.testing.assert_allclose(after[:, :, 3:], before[:, :, :-3], rtol=1e-5, atol=1e-6)
    old, new = before[:, :, 3:], after[:, :, 3:]
    expected = np.linalg.norm(new - old) / np.linalg.norm(old)
    found = equivariance(model, IMAGES, move, ["conv1"])["conv1"]
    assert found.invariance == pytest.approx(expected, rel=1e-5)


def test_nothing_moved_is_nothing_changed():
    for change in equivariance(model_of("same"), IMAGES, Move()).values():
        assert change.invariance == 0
        assert change.equivariance == 0 or np.isnan(change.equivariance)


def test_layers_without_rows_are_compared_where_they_stand():
    found = equivariance(model_of(), IMAGES, Move(right=3), ["flatten", "logits"])
    assert all(np.isnan(c.equivariance) and c.invariance > 0 for c in found.values())


def test_too_far_is_no_figure():
    change = equivariance(model_of(), IMAGES, Move(right=40), ["conv1"])["conv1"]
    assert change.pixels == 0
    assert np.isnan(change.invariance)


@pytest.mark.parametrize(
    "move",
    [
        Move(degrees=30),
        Move(scale=1.4),
        Move(down=1.5, right=-2),
        Move(shear=20),
        Move(down=1, scale=0.9, degrees=10, shear=-15),
    ],
)
def test_moves_are_scipys(move):
    image = RNG.random((15, 18))
    angle = np.deg2rad(move.degrees)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    lean = np.array([[1, 0], [np.tan(np.deg2rad(move.shear)), 1]])
    back = np.linalg.inv(move.scale * turn @ lean)
    centre = np.array([7.0, 8.5])
    shift = np.array([move.down, move.right])
    offset = centre - back @ (centre + shift)
    expected = ndimage.affine_transform(image, back, offset, order=1, mode="nearest")
    found = move(image[None, :, :, None].astype(np.float32))[0, :, :, 0]
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_directions():
    spot = np.zeros((1, 9, 9, 1), np.float32)
    spot[0, 4, 7] = 1  # right of the centre
    up = np.asarray(Move(degrees=90)(spot))[0, :, :, 0]
    assert np.unravel_index(up.argmax(), up.shape) == (1, 4)
    down = np.asarray(Move(down=2)(spot))[0, :, :, 0]
    assert np.unravel_index(down.argmax(), down.shape) == (6, 7)
    lean = np.asarray(Move(shear=45)(np.rot90(spot, axes=(1, 2))))[0, :, :, 0]  # above the centre
    assert np.unravel_index(lean.argmax(), lean.shape) == (1, 1)
    farther = np.asarray(Move(scale=4 / 3)(spot))[0, :, :, 0]
    assert np.unravel_index(farther.argmax(), farther.shape) == (4, 8)


def test_bad_input():
    with pytest.raises(ValueError, match="scale must be positive, got 0"):
        Move(scale=0)
    with pytest.raises(ValueError, match="shear must lie between -90 and 90 degrees, got 90"):
        Move(shear=90)
    with pytest.raises(ValueError, match="names no layer"):
        equivariance(model_of(), IMAGES, Move(), ["conv9"])
