"""Augmentation against SciPy's shifts and NumPy's slices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from scipy import ndimage, stats

from cnnjax import augment, rng
from cnnjax.augment import Augment
from cnnjax.config import AugmentConfig

# A failing example is not made smaller, since every try would compile a program.
SETTINGS = settings(deadline=None, derandomize=True, phases=[Phase.explicit, Phase.generate])
KEY = rng.stream(0, "augment")
FILL_MODES = ("nearest", "constant", "reflect")  # SciPy uses the same words
# Every pixel is different, so that every shift and flip can be told apart.
IMAGE = np.arange(1, 5 * 6 * 2 + 1, dtype=np.float32).reshape(5, 6, 2)


def outcomes(config, image=IMAGE, count=400):
    """What `count` random keys make of one image."""
    return np.asarray(jax.jit(config)(KEY, jnp.asarray(np.stack([image] * count))))


def shifted(down, right, mode, image=IMAGE):
    return ndimage.shift(image, (down, right, 0), order=0, mode=mode, cval=9)


def assert_uniform(results, candidates):
    """Every result is bitwise one of the candidates, each equally likely."""
    names = {c.tobytes(): i for i, c in enumerate(candidates)}
    assert len(names) == len(candidates)
    seen = [names[result.tobytes()] for result in results]
    counts = [seen.count(i) for i in range(len(candidates))]
    assert stats.chisquare(counts).pvalue > 1e-3, counts


def small_shifts(fill_mode):
    return outcomes(Augment(height_shift=1, width_shift=2, fill_mode=fill_mode, fill_value=9.0))


@pytest.mark.parametrize("fill_mode", FILL_MODES)
def test_shifts_equal_scipys_and_are_equally_likely(fill_mode):
    moves = [(down, right) for down in range(-1, 2) for right in range(-2, 3)]
    assert_uniform(small_shifts(fill_mode), [shifted(d, r, fill_mode) for d, r in moves])


@pytest.mark.parametrize("fill_mode", FILL_MODES)
def test_a_shift_may_exceed_the_image(fill_mode):
    results = outcomes(Augment(height_shift=13, fill_mode=fill_mode, fill_value=9.0))
    expected = {shifted(d, 0, fill_mode).tobytes() for d in range(-13, 14)}
    assert {r.tobytes() for r in results} == expected


@pytest.mark.parametrize("fill_mode", FILL_MODES)
def test_the_content_that_stays_is_rolled(fill_mode):
    rolled = {
        np.roll(IMAGE, (down, right), (0, 1))[1:-1, 2:-2].tobytes()
        for down in range(-1, 2)
        for right in range(-2, 3)
    }
    assert {r[1:-1, 2:-2].tobytes() for r in small_shifts(fill_mode)} == rolled


def test_a_shift_below_one_is_a_fraction():
    # .4 of 5 rows is 2, .5 of 6 columns is 3.
    results = outcomes(Augment(height_shift=0.4, width_shift=0.5), count=1500)
    moves = [(d, r) for d in range(-2, 3) for r in range(-3, 4)]
    assert_uniform(results, [shifted(d, r, "nearest") for d, r in moves])


@pytest.mark.parametrize(
    ("fill_mode", "numpy_mode"),
    [("nearest", "edge"), ("constant", "constant"), ("reflect", "symmetric")],
)
def test_a_crop_cuts_a_window_out_of_the_padded_image(fill_mode, numpy_mode):
    padded = np.pad(IMAGE, ((2, 2), (2, 2), (0, 0)), mode=numpy_mode)
    windows = [padded[i : i + 5, j : j + 6] for i in range(5) for j in range(5)]
    assert_uniform(outcomes(Augment(crop_padding=2, fill_mode=fill_mode), count=1000), windows)


def test_horizontal_flips_mirror_left_and_right_half_of_the_time():
    assert_uniform(outcomes(Augment(horizontal_flip=True)), [IMAGE, np.fliplr(IMAGE)])


def test_vertical_flips_mirror_up_and_down_half_of_the_time():
    assert_uniform(outcomes(Augment(vertical_flip=True)), [IMAGE, np.flipud(IMAGE)])


def test_both_flips_are_independent():
    results = outcomes(Augment(horizontal_flip=True, vertical_flip=True))
    horizontal, vertical = np.fliplr(IMAGE), np.flipud(IMAGE)
    assert_uniform(results, [IMAGE, horizontal, vertical, np.fliplr(vertical)])


@settings(SETTINGS, max_examples=8)
@given(st.integers(0, 2**31), st.booleans(), st.booleans())
def test_flips_with_one_key_undo_themselves(seed, horizontal, vertical):
    flip = jax.jit(Augment(horizontal_flip=horizontal, vertical_flip=vertical))
    key = jax.random.key(seed)
    assert flip(key, flip(key, jnp.asarray(IMAGE))).tolist() == IMAGE.tolist()


def test_crop_shift_and_flip_are_drawn_independently():
    results = outcomes(Augment(crop_padding=1, width_shift=2, horizontal_flip=True), count=800)
    seen = {r.tobytes() for r in results}
    expected = {
        shifted(0, right, "nearest", shifted(d, r, "nearest"))[:, ::step].tobytes()
        for d in (-1, 0, 1)
        for r in (-1, 0, 1)
        for right in range(-2, 3)
        for step in (1, -1)
    }
    assert seen == expected


EVERYTHING = Augment(
    width_shift=2, height_shift=0.3, crop_padding=1, horizontal_flip=True, vertical_flip=True
)
everything = jax.jit(EVERYTHING)


def test_the_same_key_makes_the_same_picture():
    image = jnp.asarray(IMAGE)
    first = everything(jax.random.key(3), image)
    assert first.tolist() == everything(jax.random.key(3), image).tolist()
    assert first.tolist() == EVERYTHING(jax.random.key(3), image).tolist()  # without jit
    assert len({everything(jax.random.key(s), image).tobytes() for s in range(8)}) > 4


def test_a_batch_uses_a_key_for_each_image():
    images = jnp.asarray(np.stack([IMAGE, IMAGE * 2, IMAGE * 3]))
    batch = everything(KEY, images)
    for i in range(3):
        single = everything(jax.random.fold_in(KEY, i), images[i])
        assert batch[i].tolist() == single.tolist()


def test_no_settings_change_nothing():
    assert outcomes(Augment(), count=1)[0].tolist() == IMAGE.tolist()


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, jnp.bfloat16])
def test_dtype_and_shape_are_kept(dtype):
    config = Augment(width_shift=2, horizontal_flip=True, fill_mode="constant", fill_value=7.0)
    result = jax.jit(config)(jax.random.key(1), jnp.asarray(IMAGE, dtype))
    assert (result.dtype, result.shape) == (dtype, IMAGE.shape)
    assert set(np.unique(result)) <= {7, *IMAGE.reshape(-1)}


@settings(SETTINGS, max_examples=6)
@given(
    config=st.builds(
        Augment,
        width_shift=st.sampled_from([0, 0.25, 3]),
        height_shift=st.sampled_from([0, 0.5, 9]),
        crop_padding=st.integers(0, 3),
        horizontal_flip=st.booleans(),
        fill_mode=st.sampled_from(["nearest", "reflect"]),
    ),
    value=st.floats(-1e6, 1e6, width=32),
)
def test_a_constant_image_stays_constant(config, value):
    images = jnp.full((3, 6, 6, 1), value, jnp.float32)
    assert jax.jit(config)(KEY, images).tolist() == images.tolist()


def for_batch(config, epoch, index, images):
    arrays = jnp.int32(epoch), jnp.asarray(index, jnp.int32), jnp.asarray(images)
    return np.asarray(jax.jit(augment.for_batch, static_argnums=0)(config, KEY, *arrays))


@pytest.mark.parametrize("index", [[5, 3, 900], [3], [7, 8, 3]])
def test_an_examples_picture_does_not_depend_on_its_batch(index):
    images = np.stack([IMAGE + i for i in index])
    key = jax.random.fold_in(jax.random.fold_in(KEY, 4), 3)
    single = everything(key, jnp.asarray(IMAGE + 3))
    assert for_batch(EVERYTHING, 4, index, images)[index.index(3)].tolist() == single.tolist()


def test_another_epoch_makes_other_pictures():
    index, images = range(20), np.stack([IMAGE] * 20)
    epochs = [for_batch(EVERYTHING, epoch, index, images) for epoch in range(2)]
    different = [a.tolist() != b.tolist() for a, b in zip(*epochs, strict=True)]
    assert sum(different) > 10


def test_plain_settings_and_any_function_serve_as_well():
    index, images = [8, 9], np.stack([IMAGE, IMAGE])
    plain = AugmentConfig(width_shift=2)
    expected = for_batch(Augment(width_shift=2), 1, index, images)
    assert for_batch(plain, 1, index, images).tolist() == expected.tolist()

    def noise(key, image):
        return image + jax.random.normal(key, image.shape)

    noisy = for_batch(noise, 1, index, images)
    by_hand = IMAGE + jax.random.normal(rng.at(KEY, 1, 9), IMAGE.shape)
    np.testing.assert_allclose(noisy[1], by_hand, rtol=1e-6)


def test_images_of_a_wrong_rank_are_refused():
    with pytest.raises(ValueError, match=r"\[H, W, C\] or \[N, H, W, C\], got shape \(28, 28\)"):
        Augment(width_shift=2)(KEY, jnp.ones((28, 28)))
