"""`transform` against SciPy and against Keras' `ImageDataGenerator`."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from cnnjax.augment import Parameters, draw, transform
from cnnjax.augment.config import FILL_MODES, AugmentConfig

# Keras calls SciPy through a module that SciPy has moved.
pytestmark = pytest.mark.filterwarnings("ignore:Please import `affine_transform`")

image = pytest.importorskip("keras.src.legacy.preprocessing.image")

AXES = {"row_axis": 0, "col_axis": 1, "channel_axis": 2}
IDENTITY = {"theta": 0.0, "tx": 0.0, "ty": 0.0, "shear": 0.0, "zx": 1.0, "zy": 1.0}
# With a shift, since coordinates that are just those of a border are a matter of rounding where
# the image jumps there.
ONE_BY_ONE = [
    {"theta": 31.0}, {"theta": -140.0}, {"tx": 3.4}, {"ty": -2.7}, {"shear": 25.0}, {"zx": 0.6},
    {"zy": 1.7},
]  # fmt: skip
ONE_BY_ONE = [{"tx": 0.123, "ty": -0.234} | parameters for parameters in ONE_BY_ONE]
COMPOSED = [
    {"theta": 17.3, "tx": -4.2, "ty": 3.7, "shear": 12.0, "zx": 0.8, "zy": 1.15},
    {"theta": -171.0, "tx": 30.5, "ty": -41.0, "shear": -33.0, "zx": 1.6, "zy": 0.5},
    {"theta": 80.2, "tx": 61.3, "ty": 47.7, "shear": 60.0, "zx": 2.4, "zy": 3.1},
]
SHAPES = [(24, 24, 3), (24, 24, 1), (17, 30, 3), (40, 13, 1), (1, 9, 3), (2, 2, 1)]
# Of 255, for noise: neighbours that differ by 200 and coordinates to 1e-5 pixels.
BOUND = 4e-3

run = jax.jit(transform, static_argnums=0)


def noise(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(0, 255, shape).astype(np.float32)


def ours(pixels: np.ndarray, config: AugmentConfig | None = None, **parameters: Any) -> np.ndarray:
    return np.asarray(run(config or AugmentConfig(), jnp.asarray(pixels), Parameters(**parameters)))


def matrices(parameters: dict[str, float]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rotation, the whole linear part, and the shift, on (x, y) in float64."""
    p = IDENTITY | parameters
    theta, shear = np.deg2rad(p["theta"]), np.deg2rad(p["shear"])
    rotation = np.array([[np.cos(theta), -np.sin(theta)], [np.sin(theta), np.cos(theta)]])
    sheared = np.array([[1, -np.sin(shear)], [0, np.cos(shear)]])
    linear = rotation @ sheared @ np.diag([p["zx"], p["zy"]])
    return rotation, linear, np.array([p["tx"], p["ty"]])


def scipys(pixels: np.ndarray, mode: str, parameters: dict[str, float]) -> np.ndarray:
    """SciPy with a matrix of our own, on (row, column)."""
    rotation, linear, shift = matrices(parameters)
    middle = np.array(pixels.shape[1::-1]) / 2 - 0.5
    offset = (middle - linear @ middle + rotation @ shift)[::-1]
    channels = [
        ndimage.affine_transform(c, linear[::-1, ::-1], offset, order=1, mode=mode, cval=33)
        for c in np.moveaxis(pixels, -1, 0)
    ]
    return np.stack(channels, axis=-1)


def kerass(pixels: np.ndarray, mode: str, parameters: dict[str, float]) -> np.ndarray:
    """Keras, whose centre (with its coordinates exchanged) is made the true one by a shift."""
    rotation, linear, shift = matrices(parameters)
    away = np.array(pixels.shape[1::-1]) / 2 - np.array(pixels.shape[:2]) / 2
    tx, ty = shift + np.linalg.solve(rotation, away - linear @ away)
    arguments = IDENTITY | parameters | {"tx": tx, "ty": ty}
    return image.apply_affine_transform(pixels, **arguments, **AXES, fill_mode=mode, cval=33)


@pytest.mark.sample(11)
@pytest.mark.parametrize("oracle", [scipys, kerass])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("mode", FILL_MODES)
def test_one_resampling_equals_scipys_and_kerass(mode, shape, oracle):
    pixels, config = noise(shape), AugmentConfig(fill_mode=mode, fill_value=33.0)
    for parameters in [*ONE_BY_ONE, *COMPOSED]:
        expected = oracle(pixels, mode, parameters)
        found = ours(pixels, config, **(IDENTITY | parameters))
        np.testing.assert_allclose(found, expected, rtol=0, atol=BOUND, err_msg=str(parameters))


@pytest.mark.parametrize("mode", FILL_MODES)
def test_square_images_are_kerass_as_they_stand(mode):
    pixels, config = noise((150, 150, 3)), AugmentConfig(fill_mode=mode, fill_value=33.0)
    for parameters in COMPOSED[:2]:
        expected = image.apply_affine_transform(
            pixels, **parameters, **AXES, fill_mode=mode, cval=33
        )
        found = ours(pixels, config, **parameters)
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-2)


@pytest.mark.parametrize("missing", IDENTITY)
def test_a_parameter_that_is_missing_is_that_of_the_identity(missing):
    parameters = {n: v for n, v in COMPOSED[0].items() if n != missing}
    pixels = noise((9, 11, 3))
    found = ours(pixels, **parameters)
    np.testing.assert_allclose(found, ours(pixels, **(IDENTITY | parameters)), atol=BOUND)


@pytest.mark.sample(3)
@pytest.mark.parametrize("mode", FILL_MODES)
@pytest.mark.parametrize("dtype", [np.uint8, np.float32, jnp.bfloat16])
def test_the_identity_returns_the_image_bit_for_bit(mode, dtype):
    pixels = np.asarray(noise((150, 37, 3)), dtype)
    nothing = IDENTITY | {"channel_shift_intensity": 0.0, "brightness": 1.0}
    nothing |= {"flip_horizontal": False, "flip_vertical": False, "crop": np.zeros(2, np.int32)}
    for factor in (1, -1.2):  # within [0, 255] and beyond
        scaled = (pixels * factor).astype(dtype)
        found = ours(scaled, AugmentConfig(fill_mode=mode), **nothing)
        assert found.dtype == dtype
        assert found.tobytes() == scaled.tobytes()


@pytest.mark.parametrize("mode", FILL_MODES)
@pytest.mark.parametrize("move", [(0, 0), (1, -2), (-5, 6), (-23, 17), (4, 5), (10, -12)])
def test_whole_pixels_move_without_interpolation(mode, move):
    pixels, config = noise((5, 6, 2)), AugmentConfig(fill_mode=mode, fill_value=33.0)
    expected = ndimage.shift(pixels, (*move, 0), order=0, mode=mode, cval=33)
    down, right = move
    found = ours(pixels, config, tx=np.int32(-right), ty=np.int32(-down))
    assert found.tolist() == expected.tolist()
    # The same through the resampling, which is exact for whole pixels too.
    assert ours(pixels, config, tx=float(-right), ty=float(-down)).tolist() == expected.tolist()


@pytest.mark.parametrize("path", [{}, {"theta": 25.0, "zx": 0.9}])
def test_flips_are_kerass(path):
    pixels = noise((9, 14, 3))
    moved = ours(pixels, **path)
    for horizontal in (False, True):
        for vertical in (False, True):
            expected = image.flip_axis(moved, 1) if horizontal else moved
            expected = image.flip_axis(expected, 0) if vertical else expected
            found = ours(pixels, **path, flip_horizontal=horizontal, flip_vertical=vertical)
            np.testing.assert_allclose(found, expected, rtol=0, atol=BOUND)


@pytest.mark.parametrize("intensity", [-400.0, -31.5, 0.0, 12.25, 300.0])
def test_channel_shift_is_kerass(intensity):
    pixels = noise((9, 14, 3)) * 0.7 + 20
    expected = image.apply_channel_shift(pixels, intensity, channel_axis=2)
    found = ours(pixels, channel_shift_intensity=intensity)
    np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("factor", [0.0, 0.25, 0.9, 1.0, 1.3, 4.0])
def test_brightness_is_kerass_but_for_its_rounding_down(factor, channels):
    pixels = np.floor(noise((9, 14, channels)))
    expected = image.apply_brightness_shift(pixels, factor, scale=False)
    found = ours(pixels, brightness=factor)
    assert (found - expected).min() > -1e-4
    assert (found - expected).max() < 1 + 1e-4
    rounded = ours(pixels.astype(np.uint8), brightness=factor)
    np.testing.assert_array_equal(rounded, np.round(found))


@pytest.mark.parametrize("factor", [0.25, 0.9, 1.3, 4.0])
def test_brightness_beyond_bytes_is_kerass_on_its_256_steps(factor):
    pixels = noise((9, 14, 3)) * 3 - 200
    expected = image.apply_brightness_shift(pixels, factor, scale=False)
    found = ours(pixels, brightness=factor)
    step = (pixels.max() - pixels.min()) / 255
    assert (found - expected).min() > -1e-2
    assert (found - expected).max() < (1 + factor) * step + 1e-2


def test_brightness_of_images_in_0_to_1_keeps_them():
    # Keras rounds all of it down to 0.
    pixels = noise((6, 6, 3)) / 255
    np.testing.assert_allclose(ours(pixels, brightness=0.5), pixels * 0.5, rtol=1e-6)


def generator(**settings: Any) -> Any:
    return image.ImageDataGenerator(data_format="channels_last", **settings)


EVERYTHING = {
    "rotation_range": 40, "width_shift_range": 0.2, "height_shift_range": 0.2, "shear_range": 20.0,
    "zoom_range": 0.2, "horizontal_flip": True, "vertical_flip": True, "channel_shift_range": 30.0,
}  # fmt: skip


@pytest.mark.parametrize("mode", FILL_MODES)
def test_a_whole_dictionary_of_parameters_does_what_it_does_in_keras(mode):
    theirs = generator(**EVERYTHING, fill_mode=mode, cval=33.0, rescale=1 / 255)
    config = AugmentConfig(fill_mode=mode, fill_value=33.0, rescale=1 / 255)
    for seed in range(6):
        pixels = noise((32, 32, 3), seed)
        parameters = theirs.get_random_transform(pixels.shape, seed=seed)
        expected = theirs.standardize(theirs.apply_transform(pixels, parameters))
        found = ours(pixels, config, **parameters)
        np.testing.assert_allclose(found, expected, rtol=0, atol=BOUND / 255)


def test_a_whole_dictionary_with_brightness():
    theirs = generator(**EVERYTHING, brightness_range=(0.5, 1.5))
    for seed in range(6):
        pixels = noise((32, 32, 3), seed)
        parameters = theirs.get_random_transform(pixels.shape, seed=seed)
        expected = theirs.apply_transform(pixels, parameters)
        difference = ours(pixels, **parameters) - expected
        assert difference.min() > -1e-2
        assert difference.max() < 1 + parameters["brightness"] + 1e-2


@pytest.mark.thorough
def test_keras_exchanges_the_two_shifts_and_we_do_not():
    # A shift along the height alone: Keras moves along the width.
    settings = generator(height_shift_range=0.4, fill_mode="constant")
    theirs = settings.get_random_transform((20, 20, 1), seed=1)
    ramp = np.repeat(np.arange(20.0, dtype=np.float32)[:, None], 20, axis=1)[:, :, None]
    moved = settings.apply_transform(ramp, theirs)
    assert theirs["tx"] != 0
    assert (moved == 0).all(axis=0).any()
    drawn = draw(AugmentConfig(height_shift=0.4), jax.random.key(0), (20, 20, 1))
    assert drawn.tx is None
    found = np.asarray(transform(AugmentConfig(fill_mode="constant"), jnp.asarray(ramp), drawn))
    assert (found == 0).all(axis=1).any()


def test_bad_images_are_refused():
    with pytest.raises(ValueError, match=r"image must be \[H, W, C\], got shape \(4, 4\)"):
        transform(AugmentConfig(), jnp.ones((4, 4)), Parameters())
    with pytest.raises(ValueError, match=r"rescale=0\.5 needs floating images, got uint8"):
        transform(AugmentConfig(rescale=0.5), jnp.ones((4, 4, 1), jnp.uint8), Parameters())
