"""Augmentation: what is drawn; whole pixels against SciPy's shifts and NumPy's slices.

`augment/test_parity.py` has the resampling, `augment/test_mixing.py` mixup and CutMix.
"""

import dataclasses
import hashlib
import itertools
import json
import types
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy import ndimage, stats

import cnnjax
from cnnjax import augment
from cnnjax.augment import Augment, Parameters, draw
from cnnjax.augment.affine import translate
from cnnjax.augment.config import FILL_MODES, AugmentConfig
from cnnjax.config import to_dict
from cnnjax.core import rng, target
from cnnjax.core.settings import from_dict
from experiments.benchmarks import augment_speed

# A failing example is not made smaller, since every try would compile a program.
SETTINGS = settings(deadline=None, derandomize=True, phases=[Phase.explicit, Phase.generate])
KEY = rng.stream(0, "augment")
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


@pytest.mark.sample(2)
@pytest.mark.parametrize("fill_mode", FILL_MODES)
def test_shifts_equal_scipys_and_are_equally_likely(fill_mode):
    moves = [(down, right) for down in range(-1, 2) for right in range(-2, 3)]
    assert_uniform(small_shifts(fill_mode), [shifted(d, r, fill_mode) for d, r in moves])


@pytest.mark.parametrize("fill_mode", FILL_MODES)
@pytest.mark.thorough
def test_a_shift_may_exceed_the_image(fill_mode):
    results = outcomes(Augment(height_shift=13, fill_mode=fill_mode, fill_value=9.0))
    expected = {shifted(d, 0, fill_mode).tobytes() for d in range(-13, 14)}
    assert {r.tobytes() for r in results} == expected


@pytest.mark.parametrize("fill_mode", FILL_MODES)
def test_windows_as_accelerators_cut_them_are_what_scipy_shifts(fill_mode):
    moves = np.array([(d, r) for d in (-13, -6, -1, 0, 2, 11) for r in range(-14, 15)])
    with target.compiling_for("gpu"):
        image = jnp.asarray(IMAGE)
        move = jax.vmap(lambda down, right: translate(image, down, right, fill_mode, 9.0))
        results = jax.jit(move)(*moves.T)
    for (down, right), result in zip(moves, results, strict=True):
        np.testing.assert_array_equal(result, shifted(down, right, fill_mode), f"{down}, {right}")


@pytest.mark.parametrize("fill_mode", FILL_MODES)
def test_the_content_that_stays_is_rolled(fill_mode):
    rolled = {
        np.roll(IMAGE, (down, right), (0, 1))[1:-1, 2:-2].tobytes()
        for down in range(-1, 2)
        for right in range(-2, 3)
    }
    assert {r[1:-1, 2:-2].tobytes() for r in small_shifts(fill_mode)} == rolled


# What the recipes and others of their kind make of given images.
GOLDEN_RECIPES = {
    "cifar10": {"crop_padding": 2, "horizontal_flip": True},
    "mnist": {"width_shift": 1, "height_shift": 1},
    "all": {
        "width_shift": 3,
        "height_shift": 2,
        "crop_padding": 1,
        "horizontal_flip": True,
        "vertical_flip": True,
    },
}
GOLDEN = {
    ("cifar10", "nearest"): "91d2f47a485abb3e",
    ("cifar10", "constant"): "cbe7e2e7ed32c6fb",
    ("cifar10", "reflect"): "b4510436056dbbfc",
    ("mnist", "nearest"): "d125607b5e6d9148",
    ("mnist", "constant"): "9a432e396ef6c65f",
    ("mnist", "reflect"): "d125607b5e6d9148",
    ("all", "nearest"): "26dd617712c2beaf",
    ("all", "constant"): "9535b719d1c44d7a",
    ("all", "reflect"): "2cf4f34a2d623355",
}


@pytest.mark.sample(3)
@pytest.mark.parametrize(("recipe", "fill_mode"), GOLDEN)
@pytest.mark.thorough
def test_the_images_of_a_seed_are_for_ever(recipe, fill_mode):
    images = np.random.Philox(7).random_raw(12 * 9 * 11 * 3).astype(np.uint8)
    config = Augment(**GOLDEN_RECIPES[recipe], fill_mode=fill_mode, fill_value=7.0)
    found = augment.for_batch(
        config, rng.stream(5, "augment"), jnp.int32(3), jnp.arange(12, dtype=jnp.int32) * 5,
        jnp.asarray(images.reshape(12, 9, 11, 3)),
    )  # fmt: skip
    digest = hashlib.sha256(np.asarray(found).astype(np.uint8).tobytes()).hexdigest()[:16]
    assert digest == GOLDEN[recipe, fill_mode], (
        "other images than when the reported runs were made: a new setting draws from a named "
        "stream of its own and leaves these as they are"
    )


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


@settings(SETTINGS, max_examples=4)
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


def drawn(count=4000, shape=(50, 80, 3), **settings):
    """The parameters that `count` keys draw."""
    keys = jax.random.split(jax.random.key(1), count)
    config = AugmentConfig(**settings)
    found = jax.jit(jax.vmap(lambda key: draw(config, key, shape)))(keys)
    return Parameters(*(None if f is None else np.asarray(f) for f in found))


UNIFORM = [
    ("theta", {"rotation": 40}, -40, 40),
    ("shear", {"shear": 0.2}, -0.2, 0.2),
    ("zx", {"zoom": 0.2}, 0.8, 1.2),
    ("zy", {"zoom": (0.5, 1.0)}, 0.5, 1.0),
    ("tx", {"width_shift": 0.2}, -16, 16),  # of 80 columns
    ("ty", {"height_shift": 0.2}, -10, 10),  # of 50 rows
    ("ty", {"height_shift": 2.5}, -2.5, 2.5),
    ("tx", {"width_shift": 1.0}, -1, 1),
    ("channel_shift_intensity", {"channel_shift": 30}, -30, 30),
    ("brightness", {"brightness": (0.5, 1.5)}, 0.5, 1.5),
]


@pytest.mark.sample(3)
@pytest.mark.parametrize(("name", "settings", "low", "high"), UNIFORM)
def test_parameters_are_uniform_in_their_range(name, settings, low, high):
    values = getattr(drawn(**settings), name)
    assert values.dtype == np.float32
    assert low <= values.min() <= values.max() <= high
    assert stats.kstest(values, stats.uniform(low, high - low).cdf).pvalue > 1e-3


def test_nothing_is_drawn_that_is_not_asked_for():
    assert all(value is None for value in drawn(count=1))
    assert all(value is None for value in drawn(count=1, zoom=(1, 1), rescale=2.0, mixup=1.0))
    found = drawn(count=1, zoom=0.1)._asdict()
    assert {name for name, value in found.items() if value is not None} == {"zx", "zy"}


def test_whole_numbers_shift_by_whole_pixels():
    found = drawn(width_shift=2, height_shift=3, crop_padding=1)
    for values, most in ((found.tx, 2), (found.ty, 3), *((crop, 1) for crop in found.crop.T)):
        assert values.dtype == np.int32
        counts = np.bincount(values + most)
        assert len(counts) == 2 * most + 1
        assert stats.chisquare(counts).pvalue > 1e-3


@pytest.mark.parametrize("shape", [(50, 80, 3), (64, 64, 3), (20, 200, 3)])
def test_a_resized_crop_lies_in_the_image_with_its_share_and_ratio(shape):
    low, high = 0.08, 0.5
    found = drawn(shape=shape, resized_crop=(low, high))
    height, width = shape[:2]
    wide, high_ = found.zx * width, found.zy * height
    fallback = (shape == (20, 200, 3)) & np.isclose(found.zy, 1) & np.isclose(found.tx, 0)
    area = (found.zx * found.zy)[~fallback]
    assert low * 0.999 <= area.min() <= area.max() <= high * 1.001
    assert 0.7499 < (wide / high_).min() <= (wide / high_).max() < 1.3334
    assert (abs(found.tx) <= (width - wide) / 2 + 1e-3).all()
    assert (abs(found.ty) <= (height - high_) / 2 + 1e-3).all()
    if shape == (64, 64, 3):  # where every part fits: uniform in area and logarithm of the ratio
        assert stats.kstest(area, stats.uniform(low, high - low).cdf).pvalue > 1e-3
        ends = np.log(0.75), np.log(4 / 3)
        spread = stats.uniform(ends[0], ends[1] - ends[0])
        assert stats.kstest(np.log(wide / high_), spread.cdf).pvalue > 1e-3


def test_a_resized_crop_is_what_pillow_makes_of_that_part():
    image = np.random.default_rng(0).integers(0, 256, (40, 30, 3), dtype=np.uint8)
    config = AugmentConfig(resized_crop=(0.1, 0.9))
    for number in range(5):
        key = jax.random.key(number)
        found = draw(config, key, image.shape)
        wide, high = float(found.zx) * 30, float(found.zy) * 40
        left, top = float(found.tx) + (30 - wide) / 2, float(found.ty) + (40 - high) / 2
        box = (max(left, 0), max(top, 0), min(left + wide, 30), min(top + high, 40))
        expected = Image.fromarray(image).resize((30, 40), Image.Resampling.BILINEAR, box=box)
        changed = np.asarray(Augment(**vars(config))(key, image), int)
        assert abs(changed - np.asarray(expected, int)).max() <= 2  # Pillow rounds twice


def test_a_resized_crop_joins_zoom_and_shift():
    key, shape = jax.random.key(3), (8, 10, 1)
    crop = draw(AugmentConfig(resized_crop=(0.3, 0.6)), key, shape)
    other = draw(AugmentConfig(zoom=0.2, width_shift=0.1), key, shape)
    both = draw(AugmentConfig(resized_crop=(0.3, 0.6), zoom=0.2, width_shift=0.1), key, shape)
    np.testing.assert_allclose(both.zx, crop.zx * other.zx)
    np.testing.assert_allclose(both.tx, crop.tx + other.tx)
    np.testing.assert_allclose(both.ty, crop.ty)


def test_parameters_are_independent():
    found = drawn(
        rotation=40, width_shift=0.2, height_shift=0.2, shear=10, zoom=0.2, channel_shift=9,
        brightness=(0.5, 1.5), horizontal_flip=True, vertical_flip=True,
    )  # fmt: skip
    table = np.stack([np.asarray(v, float) for v in found if v is not None])
    assert len(table) == 10
    assert abs(np.corrcoef(table) - np.eye(10)).max() < 0.06
    assert abs(table[6:8].mean(1) - 0.5).max() < 0.03  # the flips


EVERYTHING = Augment(
    width_shift=2, height_shift=3, crop_padding=1, horizontal_flip=True, vertical_flip=True
)
everything = jax.jit(EVERYTHING)
INTERPOLATED = Augment(
    rotation=40, width_shift=0.2, height_shift=1, shear=15, zoom=0.2, horizontal_flip=True,
    crop_padding=1, channel_shift=5, brightness=(0.7, 1.3),
)  # fmt: skip


@pytest.mark.thorough
def test_the_same_key_makes_the_same_image():
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


AUGMENTS = st.builds(
    Augment,
    width_shift=st.sampled_from([0, 0.25, 3]),
    height_shift=st.sampled_from([0, 0.5, 9]),
    rotation=st.sampled_from([0, 20, 180.0]),
    shear=st.sampled_from([0, 45]),
    zoom=st.sampled_from([0, 0.3, (0.2, 4.0)]),
    crop_padding=st.integers(0, 3),
    horizontal_flip=st.booleans(),
    channel_shift=st.sampled_from([0.0, 40.0]),
    fill_mode=st.sampled_from(FILL_MODES),
    fill_value=st.sampled_from([0.0, 100.0]),
)


@pytest.mark.thorough
@settings(SETTINGS, max_examples=3)
@given(config=AUGMENTS, value=st.floats(-1e6, 1e6, width=32))
def test_a_constant_image_stays_constant(config, value):
    config = dataclasses.replace(config, fill_value=value)
    images = jnp.full((3, 6, 6, 1), value, jnp.float32)
    assert jax.jit(config)(KEY, images).tolist() == images.tolist()


@settings(SETTINGS, max_examples=4)
@given(
    config=AUGMENTS,
    shape=st.tuples(*[st.integers(1, 9)] * 2, st.sampled_from([1, 3])),
    dtype=st.sampled_from([np.uint8, np.float32, np.float16]),
    seed=st.integers(0, 2**31),
)
@pytest.mark.thorough
def test_shape_and_dtype_are_kept_and_pixels_stay_within_their_range(config, shape, dtype, seed):
    images = np.random.default_rng(seed).uniform(60, 190, (4, *shape)).astype(dtype)
    found = np.asarray(jax.jit(config)(jax.random.key(seed), jnp.asarray(images)))
    assert (found.shape, found.dtype) == (images.shape, dtype)
    low, high = images.min((1, 2, 3)), images.max((1, 2, 3))
    if config.fill_mode == "constant":
        fill = dtype(config.fill_value)
        low, high = np.minimum(low, fill), np.maximum(high, fill)
    few = 1e-3 if dtype is np.float32 else 0
    assert (found.min((1, 2, 3)) >= low - few).all()
    assert (found.max((1, 2, 3)) <= high + few).all()


def for_batch(config, epoch, index, images):
    arrays = jnp.int32(epoch), jnp.asarray(index, jnp.int32), jnp.asarray(images)
    return np.asarray(jax.jit(augment.for_batch, static_argnums=0)(config, KEY, *arrays))


@pytest.mark.sample(1)
@pytest.mark.parametrize("index", [[5, 3, 900], [3], [7, 8, 3]])
def test_an_examples_image_does_not_depend_on_its_batch(index):
    images = np.stack([IMAGE + i for i in index])
    key = jax.random.fold_in(jax.random.fold_in(KEY, 4), 3)
    single = everything(key, jnp.asarray(IMAGE + 3))
    assert for_batch(EVERYTHING, 4, index, images)[index.index(3)].tolist() == single.tolist()


def test_another_epoch_makes_other_images():
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


@pytest.mark.thorough
@pytest.mark.parametrize("index", [[5, 3, 900], [3], [7, 8, 3]])
def test_an_interpolated_image_does_not_depend_on_its_batch_either(index):
    images = np.stack([IMAGE + i for i in index])
    key = jax.random.fold_in(jax.random.fold_in(KEY, 4), 3)
    single = jax.jit(INTERPOLATED)(key, jnp.asarray(IMAGE + 3))
    assert not np.allclose(single, IMAGE + 3, atol=1)
    found = for_batch(INTERPOLATED, 4, index, images)[index.index(3)]
    np.testing.assert_allclose(found, single, rtol=0, atol=1e-3)
    # Whole numbers are converted on the way, as in training.
    found = for_batch(INTERPOLATED, 4, index, images.astype(np.uint8))[index.index(3)]
    if max(index) < 100:
        np.testing.assert_allclose(found, single, rtol=0, atol=1e-3)


@pytest.mark.parametrize(
    ("settings", "alone"),
    [
        ({"crop_padding": 2, "horizontal_flip": True, "width_shift": 2}, False),
        ({"width_shift": 2.0}, True),
        ({"zoom": 0.1}, True),
        ({"resized_crop": (0.1, 1.0)}, True),
        ({"horizontal_flip": True, "mixup": 0.2}, True),
    ],
)
def test_only_what_xla_would_repeat_stands_in_a_branch_of_its_own(settings, alone):
    images, index = jnp.asarray(IMAGE[None]), jnp.zeros(1, jnp.int32)
    program = jax.make_jaxpr(augment.for_batch, static_argnums=0)(
        Augment(**settings), KEY, jnp.int32(0), index, images
    )
    assert ("cond" in {str(equation.primitive) for equation in program.eqns}) == alone


@pytest.mark.thorough
def test_the_same_program_makes_the_same_bits():
    images = np.stack([IMAGE] * 9)
    first, again = (for_batch(INTERPOLATED, 1, range(9), images) for _ in range(2))
    assert first.tobytes() == again.tobytes()
    assert len({one_image.tobytes() for one_image in first}) == 9


def test_rescale_comes_last():
    plain, scaled = (
        Augment(rotation=40, brightness=(0.5, 2)),
        Augment(rotation=40, brightness=(0.5, 2), rescale=1 / 255),
    )
    np.testing.assert_allclose(outcomes(scaled, count=5) * 255, outcomes(plain, count=5), rtol=1e-5)


@pytest.mark.sample(1)
@pytest.mark.parametrize("fill_mode", FILL_MODES)
def test_a_crop_wider_than_the_image(fill_mode):
    found = outcomes(Augment(crop_padding=17, fill_mode=fill_mode, fill_value=9.0), count=50)
    expected = {
        shifted(down, right, fill_mode).tobytes()
        for down in range(-17, 18)
        for right in range(-17, 18)
    }
    assert {one_image.tobytes() for one_image in found} <= expected


NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize("kind", [AugmentConfig, Augment])
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rotation": -1}, "rotation must be a finite number >= 0, got -1"),
        ({"rotation": NAN}, "rotation must be a finite number >= 0, got nan"),
        ({"rotation": "40"}, "rotation must be a finite number >= 0, got '40'"),
        ({"rotation": INF}, "rotation must be a finite number >= 0, got inf"),
        ({"width_shift": INF}, "width_shift must be a finite number >= 0, got inf"),
        ({"shear": 90}, r"shear must lie in \[0, 90\), got 90"),
        ({"resized_crop": (0.5, 1.5)}, r"resized_crop must be shares .*, at most 1, got \(0.5, 1"),
        ({"resized_crop": 0.5}, r"resized_crop must be a pair of factors .* got 0.5"),
        ({"zoom": 1.0}, r"zoom must lie in \[0, 1\), or be a pair of factors .*, got 1.0"),
        ({"zoom": NAN}, r"zoom must lie in \[0, 1\), or be a pair of factors .*, got nan"),
        ({"zoom": True}, r"zoom must lie in \[0, 1\), or be a pair of factors .*, got True"),
        ({"zoom": (1.2, 0.8)}, r"zoom must be a pair .* 0 < low <= high, got \(1.2, 0.8\)"),
        ({"zoom": (0, 1)}, r"zoom must be a pair .* 0 < low <= high, got \(0, 1\)"),
        ({"zoom": "20%"}, r"zoom must be a pair .* got '20%'"),
        ({"brightness": 0.2}, r"brightness must be a pair of factors \(low, high\).*, got 0.2"),
        ({"brightness": (1, NAN)}, r"brightness must be a pair .*, got \(1, nan\)"),
        ({"brightness": [0.5]}, r"brightness must be a pair .*, got \[0.5\]"),
        ({"channel_shift": -5}, "channel_shift must be a finite number >= 0, got -5"),
        ({"rescale": 0}, "rescale must be a positive number, got 0"),
        ({"rescale": None}, "rescale must be a positive number, got None"),
        ({"fill_value": "edge"}, "fill_value must be a finite number, got 'edge'"),
        ({"fill_mode": "warp"}, "fill_mode must be one of .*; did you mean 'wrap'"),
        ({"mixup": -0.2}, "mixup must be a finite number >= 0, got -0.2"),
        ({"cutmix": INF}, "cutmix must be a finite number >= 0, got inf"),
    ],
)
def test_a_bad_setting_is_named_with_its_value(kind, changes, message):
    with pytest.raises(ValueError, match=message):
        kind(**changes)


def test_settings_go_to_json_and_back():
    config = AugmentConfig(zoom=[0.5, np.float32(1.5)], brightness=(np.int64(1), 2), mixup=0.2)
    assert (config.zoom, config.brightness) == ((0.5, 1.5), (1, 2))
    assert from_dict(AugmentConfig, json.loads(json.dumps(to_dict(config)))) == config
    # A float stays a float: 2 moves by whole pixels, 2.0 does not.
    for shift in (2, 2.0):
        again = from_dict(AugmentConfig, json.loads(json.dumps({"width_shift": shift})))
        assert type(again.width_shift) is type(shift)


@pytest.mark.sample(1)
@pytest.mark.parametrize("name", augment_speed.WORKERS)
def test_a_worker_of_the_benchmark_augments(name, monkeypatch):
    if "cnnjax" not in name:
        pytest.importorskip("keras")
    monkeypatch.setattr(cnnjax, "configure_runtime", lambda: None)
    with jax.numpy_rank_promotion("allow"), warnings.catch_warnings():  # Keras relies on it
        warnings.simplefilter("ignore", DeprecationWarning)
        assert augment_speed.measure(name, augment_speed.Config(batch=2, batches=1, size=6)) > 0


def test_the_benchmark_prints_medians_and_ratios(monkeypatch, capsys):
    rates = itertools.cycle([900.0, 600.0, 300.0, 30.0])

    class Process:
        def __init__(self, *_, **__): ...
        def __enter__(self):
            return self

        def __exit__(self, *_): ...
        def submit(self, *_):
            return types.SimpleNamespace(result=lambda: next(rates))

    monkeypatch.setattr(augment_speed, "ProcessPoolExecutor", Process)
    augment_speed.main(augment_speed.Config(rounds=3))
    out = capsys.readouterr().out
    assert "150x150x3, batch 32" in out
    assert "300 images/s   cnnjax / it: 3.00 (3.00 to 3.00)" in out


def test_images_of_a_wrong_rank_are_refused():
    with pytest.raises(ValueError, match=r"\[H, W, C\] or \[N, H, W, C\], got shape \(28, 28\)"):
        Augment(width_shift=2)(KEY, jnp.ones((28, 28)))


def test_a_subclass_may_augment_in_its_own_way():
    class Inverted(Augment):
        def __call__(self, key, images):
            return 255 - super().__call__(key, images)

    images = np.arange(2 * 4 * 4 * 3, dtype=np.uint8).reshape(2, 4, 4, 3)
    arrays = jnp.int32(0), jnp.arange(2), images
    found = augment.for_batch(Inverted(horizontal_flip=True), KEY, *arrays)
    flipped = augment.for_batch(Augment(horizontal_flip=True), KEY, *arrays)
    np.testing.assert_array_equal(found, 255 - np.asarray(flipped))


@pytest.mark.sample(2)
@pytest.mark.parametrize("setting", [{"rotation": 40}, {"width_shift": 2}, {"crop_padding": 1}])
@pytest.mark.thorough
def test_one_image_as_it_was_read_is_changed_like_an_array_of_jax(setting):
    photo = np.random.default_rng(0).integers(0, 256, (9, 7, 3), dtype=np.uint8)
    expected = Augment(**setting)(KEY, jnp.asarray(photo))
    np.testing.assert_array_equal(Augment(**setting)(KEY, photo), expected)
    turned = augment.transform(Augment(), photo, augment.Parameters(theta=10.0))
    assert turned.shape == photo.shape
