"""RandAugment, colour jitter and erasing, operation by operation beside Pillow and torchvision."""

from __future__ import annotations

import colorsys
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageFilter, ImageOps

import cnnjax as cj
from cnnjax.augment import Augment, Parameters, draw, transform
from cnnjax.augment.config import AugmentConfig
from cnnjax.augment.erasing import draw_box, erase
from cnnjax.augment.operations import OPERATIONS, draw_operations, rand_augment

MAGNITUDES = (9, 30)


def image(seed: int = 0, height: int = 24, width: int = 30) -> np.ndarray:
    """A smooth image with noise, none of whose channels has all grey levels."""
    generator = np.random.default_rng(seed)
    rows, columns = np.mgrid[:height, :width]
    waves = [100 + 70 * np.sin(rows / (3 + c) + columns / (5 + c)) for c in range(3)]
    return (np.stack(waves, -1) + generator.uniform(-20, 20, (height, width, 3))).astype(np.uint8)


def acted(name: str, pixels: np.ndarray, magnitude: float, sign: float) -> np.ndarray:
    number = jnp.array([OPERATIONS.index(name)])
    floats = jnp.asarray(pixels, jnp.float32)
    return np.asarray(_acted(floats, number, jnp.array([float(sign)]), magnitude))


@functools.partial(jax.jit, static_argnums=3)
def _acted(image: jax.Array, number: jax.Array, sign: jax.Array, magnitude: float) -> jax.Array:
    return rand_augment(image, number, sign, magnitude, "constant", 0.0)


def affine(pixels: np.ndarray, *numbers: float) -> np.ndarray:
    picture = Image.fromarray(pixels)
    way = Image.Transform.AFFINE
    return np.asarray(
        picture.transform(picture.size, way, numbers, Image.Resampling.BILINEAR), np.float32
    )


def by_pillow(name: str, pixels: np.ndarray, magnitude: int, sign: int) -> np.ndarray:
    """What Pillow does, with magnitudes as torchvision has them."""
    picture, share = Image.fromarray(pixels), magnitude / 30
    slope, factor = 0.3 * share * sign, 1 + 0.9 * share * sign
    across, down = (int(150 / 331 * size * share) * sign for size in picture.size)
    if name == "sharpness":  # whose class smooths the border too in some versions
        smooth = picture.filter(ImageFilter.SMOOTH)
        return np.asarray(Image.blend(smooth, picture, factor), np.float32)
    made: Any = {
        "identity": lambda: picture,
        "shear_x": lambda: affine(pixels, 1, slope, 0, 0, 1, 0),
        "shear_y": lambda: affine(pixels, 1, 0, 0, slope, 1, 0),
        "translate_x": lambda: affine(pixels, 1, 0, -across, 0, 1, 0),
        "translate_y": lambda: affine(pixels, 1, 0, 0, 0, 1, -down),
        "rotate": lambda: picture.rotate(30 * share * sign, Image.Resampling.BILINEAR),
        "brightness": lambda: ImageEnhance.Brightness(picture).enhance(factor),
        "colour": lambda: ImageEnhance.Color(picture).enhance(factor),
        "contrast": lambda: ImageEnhance.Contrast(picture).enhance(factor),
        "posterize": lambda: ImageOps.posterize(picture, 8 - round(magnitude / 7.5)),
        "solarize": lambda: ImageOps.solarize(picture, round(255 * (1 - share), 6)),
        "autocontrast": lambda: ImageOps.autocontrast(picture),
        "equalize": lambda: ImageOps.equalize(picture),
    }[name]()
    return np.asarray(made, np.float32)


@pytest.mark.parametrize("name", OPERATIONS)
def test_an_operation_does_to_pixels_what_pillow_does(name: str):
    pixels = image()
    for magnitude in MAGNITUDES:
        for sign in (-1, 1):
            ours = acted(name, pixels, magnitude, sign)
            theirs = by_pillow(name, pixels, magnitude, sign)
            # Pillow rounds or cuts off after each of up to two steps, to whole grey levels; at the
            # border of what a move uncovers it goes on half a pixel further.
            moves = name.startswith(("shear", "translate", "rotate"))
            inside = (ours > 0) & (theirs > 0) if moves else np.ones_like(ours, bool)
            assert inside.mean() > 0.4
            limit = 2.1 if name in ("contrast", "colour", "sharpness") else 1.01
            assert np.abs(ours - theirs)[inside].max() <= limit, (magnitude, sign)


@pytest.mark.parametrize("turn", [-0.5, -0.2, 0.1, 0.5])
def test_the_hue_is_turned_as_in_hsv(turn: float):
    pixels = image(height=5, width=6) / 255
    ours = transform(AugmentConfig(), jnp.asarray(255 * pixels), Parameters(hue=turn))
    for row, column in np.ndindex(5, 6):
        h, s, v = colorsys.rgb_to_hsv(*pixels[row, column])
        expected = colorsys.hsv_to_rgb((h + turn) % 1, s, v)
        np.testing.assert_allclose(ours[row, column] / 255, expected, atol=1e-5)


def test_what_turns_nothing_and_factors_of_one_leave_every_bit():
    pixels = jnp.asarray(image(), jnp.float32)
    still = Parameters(contrast=1.0, saturation=1.0, hue=0.0, erased=jnp.array([3, 4, 0, 0]))
    assert np.array_equal(transform(AugmentConfig(), pixels, still), pixels)


def test_erasing_puts_the_mean_into_boxes_of_the_published_sizes():
    keys = jax.vmap(jax.random.fold_in, (None, 0))(jax.random.key(0), jnp.arange(400))
    boxes = np.asarray(jax.jit(jax.vmap(lambda key: draw_box(0.5, key, (40, 60, 3))))(keys))
    drawn = boxes[boxes[:, 2] > 0]
    assert 150 < len(drawn) < 250
    share, ratio = drawn[:, 2] * drawn[:, 3] / 2400, drawn[:, 2] / drawn[:, 3]
    assert share.min() > 0.015
    assert share.max() < 0.36
    assert 0.25 < ratio.min() < 0.6
    assert 1.8 < ratio.max() < 4
    assert ((drawn[:, 0] + drawn[:, 2] <= 40) & (drawn[:, 1] + drawn[:, 3] <= 60)).all()
    pixels = jnp.asarray(image(), jnp.float32)
    erased = np.asarray(erase(pixels, jnp.array([2, 3, 4, 5])))
    expected = np.array(pixels)
    expected[2:6, 3:8] = expected.mean((0, 1))
    np.testing.assert_allclose(erased, expected, rtol=1e-5)


@pytest.mark.thorough
def test_an_image_is_changed_alike_wherever_it_stands_in_a_batch():
    augment = Augment(rand_augment=(2, 20), hue=0.1, contrast=(0.5, 2), erasing=1)
    images = jnp.stack([jnp.asarray(image(seed)) for seed in range(6)])
    key, index = jax.random.key(3), jnp.arange(6)

    def batch(rows: jax.Array) -> jax.Array:
        return cj.augment.for_batch(augment, key, jnp.int32(1), rows, images[rows])

    compiled = jax.jit(batch)
    whole, backwards = compiled(index), compiled(index[::-1])
    np.testing.assert_allclose(whole, backwards[::-1], atol=1e-3)
    chosen, signs = draw_operations(20_000, key)
    assert np.bincount(chosen, minlength=14).min() > 1200
    assert abs(float(signs.mean())) < 0.05
    assert draw(augment, key, (24, 30, 3)).operations[0].shape == (2,)


def test_what_the_images_or_labels_do_not_bear_is_refused():
    grey, key = np.zeros((8, 8, 1), np.float32), jax.random.key(0)
    for name, value in (("rand_augment", (1, 5)), ("saturation", (0.5, 1)), ("hue", 0.1)):
        with pytest.raises(ValueError, match=f"{name}=.* is for images of red, green and blue"):
            Augment(**{name: value})(key, grey)
    for wrong, sentence in (
        ({"rand_augment": 2}, r"must be a pair \(operations, magnitude\)"),
        ({"rand_augment": (0, 9)}, "number of operations must be a whole number >= 1, got 0"),
        ({"rand_augment": (2, 31)}, "magnitude must be at most 30, got 31"),
        ({"erasing": 1.5}, r"erasing must lie in \[0, 1\]"),
        ({"hue": 0.6}, r"hue must lie in \[0, 0.5\]"),
        ({"mix_switch": 0.3, "mixup": 1}, "mix_switch=0.3 needs mixup and cutmix both"),
        ({"mix_per": "batch"}, "mix_per='batch' needs mixup or cutmix"),
    ):
        with pytest.raises(ValueError, match=sentence):
            Augment(**wrong)
    images = np.zeros((4, 8, 8, 3), np.float32)
    labels = np.zeros((4, 8, 8), np.int32)
    dense = cj.task.any_task("dense")
    with pytest.raises(ValueError, match="turns and shears images"):
        cj.augment.check_labels_stay_true(
            Augment(rand_augment=(1, 5)), dense, labels.shape[1:], images.shape[1:]
        )


def test_training_refuses_it_for_images_in_unknown_units():
    model = cj.create_model("mlp", input_shape=(8, 8, 3), units=(4,), num_classes=2)
    floats = np.random.default_rng(0).uniform(0, 255, (8, 8, 8, 3)).astype(np.float32)
    data = cj.data.from_arrays(floats, np.arange(8, dtype=np.int32) % 2)
    config = cj.TrainingConfig(epochs=1, batch_size=4, augment=Augment(rand_augment=(1, 5)))
    with pytest.raises(ValueError, match="is for pixels of 8 bits, and the images are float32"):
        cj.fit(model, cj.data.Splits(data), config, verbose=False)


def test_magnitudes_and_operations_are_those_of_torchvision():
    v2: Any = pytest.importorskip("torchvision.transforms.v2", reason="of the extra 'bench'")
    torch: Any = pytest.importorskip("torch")
    functional, pixels = v2.functional, image()
    tensor = torch.as_tensor(pixels).permute(2, 0, 1)
    theirs = v2.RandAugment(interpolation="bilinear", fill=0)
    moves = ("Shear", "Trans", "Rotat")
    names = dict(zip(v2.RandAugment._AUGMENTATION_SPACE, OPERATIONS, strict=True))
    for name, (magnitudes, signed) in v2.RandAugment._AUGMENTATION_SPACE.items():
        row = magnitudes(31, *pixels.shape[:2])
        for magnitude in MAGNITUDES:
            for sign in (-1, 1) if signed else (1,):
                value = 0.0 if row is None else sign * float(row[magnitude])
                made = theirs._apply_image_or_video_transform(
                    tensor, name, value, "bilinear", theirs._fill
                )
                expected = made.permute(1, 2, 0).numpy().astype(np.float32)
                # The signs of the moves are drawn evenly, so that their direction is free.
                directions = (-sign, sign) if name.startswith(moves) else (sign,)
                found = min(
                    np.median(np.abs(acted(names[name], pixels, magnitude, one) - expected))
                    for one in directions
                )
                assert found <= 1, (name, magnitude, sign)
    floats = torch.as_tensor(pixels / 255).permute(2, 0, 1)
    for name, change in (
        ("hue", functional.adjust_hue), ("contrast", functional.adjust_contrast),
        ("saturation", functional.adjust_saturation), ("brightness", functional.adjust_brightness),
    ):  # fmt: skip
        for factor in (-0.3, 0.2) if name == "hue" else (0.5, 1.7):
            expected = 255 * change(floats, factor).permute(1, 2, 0).numpy()
            found = transform(
                AugmentConfig(), jnp.asarray(pixels, jnp.float32), Parameters(**{name: factor})
            )
            np.testing.assert_allclose(found, expected, atol=0.05)
