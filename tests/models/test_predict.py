"""From images to probabilities: sizes against Pillow, probabilities by hand, names."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen
from PIL import Image

from cnnjax.data import from_arrays
from cnnjax.models import Model, create_model, decode_predictions, predict
from cnnjax.models.spec import ModelSpec

PIXELS = np.random.default_rng(0).integers(0, 256, (5, 8, 8, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def model():
    return create_model("mlp", input_shape=(8, 8, 3), units=(6,), num_classes=4)


def by_hand(model, pixels):
    """Softmax of the net in float64."""
    x = np.float64(pixels).reshape(len(pixels), -1) / 255
    for name in ("dense1", "logits"):
        layer = {k: np.float64(v) for k, v in model.params[name].items()}
        x = x @ layer["kernel"] + layer["bias"]
        x = np.maximum(x, 0) if name == "dense1" else x
    return np.exp(x) / np.exp(x).sum(axis=1, keepdims=True)


def test_probabilities_are_the_softmax_of_the_logits(model):
    found = predict(model, PIXELS)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, by_hand(model, PIXELS), rtol=1e-4)
    np.testing.assert_allclose(found.sum(axis=1), np.ones(5), rtol=1e-6)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
def test_floats_are_pixels_too(model, dtype):
    assert predict(model, PIXELS.astype(dtype)).tolist() == predict(model, PIXELS).tolist()


def test_a_list_of_uint8_and_floats_may_be_mixed(model):
    mixed = [PIXELS[0], PIXELS[1].astype(np.float32), PIXELS[2]]
    assert predict(model, mixed).tolist() == predict(model, PIXELS[:3]).tolist()


@pytest.mark.parametrize("count", [1, 3, 63, 64, 65, 130])
def test_any_number_of_images(model, count):
    pixels = np.resize(PIXELS, (count, 8, 8, 3))
    found = predict(model, pixels)
    assert found.shape == (count, 4)
    np.testing.assert_allclose(found, by_hand(model, pixels), rtol=1e-4)


def test_no_images(model):
    assert predict(model, []).shape == (0, 4)
    assert predict(model, PIXELS[:0]).shape == (0, 4)


def test_few_programs_serve_any_number_of_images():
    shapes = []

    class Noting(linen.Module):
        @linen.compact
        def __call__(self, x):
            shapes.append(x.shape[0])
            return x.mean(axis=(1, 2))

    noting = Model.from_module(Noting(), (8, 8, 3))
    shapes.clear()
    for count in (1, 2, 3, 4, 5, 7, 9, 17, 33, 63, 64, 65, 70):
        predict(noting, np.resize(PIXELS, (count, 8, 8, 3)))
    assert shapes == [1, 2, 4, 8, 16, 32, 64]


def with_policy(model, policy):
    spec = ModelSpec(model.spec.name, model.spec.input_shape, model.spec.num_classes, resize=policy)
    return model.replace(spec=spec)


PHOTO = np.random.default_rng(1).integers(0, 256, (30, 44, 3), dtype=np.uint8)


@pytest.mark.parametrize(
    ("policy", "box", "bars"),
    [("crop", (7, 0, 37, 30), 0), ("stretch", (0, 0, 44, 30), 0), ("pad", (0, 0, 44, 30), 1)],
)
def test_other_sizes_are_resized_by_the_policy_of_the_spec(model, policy, box, bars):
    image = Image.fromarray(PHOTO)
    image = image.crop(box)
    inner = image.resize((8, 8 - 3 * bars), Image.Resampling.BILINEAR)  # 30 / 44 * 8 = 5.5
    if bars:
        inner = image.resize((8, 5), Image.Resampling.BILINEAR)
    by_pillow = np.zeros((8, 8, 3), np.uint8)
    by_pillow[bars : bars + inner.height] = np.asarray(inner)
    found = predict(with_policy(model, policy), [PHOTO, PIXELS[0]])
    assert found.tolist() == predict(model, [by_pillow, PIXELS[0]]).tolist()


def test_a_bright_spot_that_resizing_spreads_is_no_fraction():
    """The range of the pixels is that of the image that was given."""
    grey = create_model("mlp", input_shape=(8, 8, 1), units=(6,), num_classes=4)
    one_image = np.zeros((600, 600, 1), np.float32)
    one_image[300, 300] = 200
    assert predict(grey, [one_image]).shape == (1, 4)


def test_grey_images():
    grey = create_model("mlp", input_shape=(8, 8, 1), units=(6,), num_classes=4)
    large = np.resize(PIXELS[..., :1], (2, 20, 20, 1))
    found = predict(grey, large)
    assert found.shape == (2, 4)
    assert predict(grey, large[..., 0]).tolist() == found.tolist()


def test_a_model_of_normalised_data_takes_any_finite_values():
    raw = create_model(
        "mlp", input_shape=(8, 8, 3), units=(6,), num_classes=4, preprocessing="none"
    )
    normalised = (PIXELS / 128 - 1).astype(np.float32)
    logits = raw(normalised)
    np.testing.assert_allclose(predict(raw, normalised), jax.nn.softmax(logits), rtol=1e-5)
    with pytest.raises(ValueError, match=r"images\[3\] holds NaN"):
        predict(raw, changed(np.nan))


def test_one_logit_is_the_probability_of_the_second_class():
    binary = create_model("mlp", input_shape=(8, 8, 3), units=(6,), num_classes=1)
    logits = np.float64(binary(PIXELS.astype(np.float32) / 255))
    found = predict(binary, PIXELS)
    assert found.shape == (5, 1)
    np.testing.assert_allclose(found, 1 / (1 + np.exp(-logits)), rtol=1e-5)


def changed(value, dtype=np.float32):
    pixels = PIXELS.astype(dtype)
    pixels[3, 0, 0, 0] = value
    return pixels


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (PIXELS[..., :1], r"images\[0\] must be \[H, W, 3\], got shape \[8, 8, 1\]"),
        (
            PIXELS[0],
            r"images\[0\] must be .*got shape \[8, 3\]; a single image needs a batch axis",
        ),
        ([PIXELS[0], PIXELS[0, ..., 0]], r"images\[1\] must be \[H, W, 3\], got shape \[8, 8\]"),
        (changed(np.nan), r"images\[3\] holds NaN or infinity"),
        (changed(-np.inf), r"images\[3\] holds NaN or infinity"),
        (changed(-1.0), r"images\[3\]: floating images must be pixels in \[0, 255\], these lie in"),
        (changed(256.0), r"images\[3\]: floating .*\[0, 256\]: scale them back"),
        (PIXELS / 255, r"images: floating .* use a model with preprocessing='none'"),
        (from_arrays(PIXELS, range(5)), r"images must be arrays, got Dataset: give its \.inputs"),
        (
            PIXELS.astype(np.int32),
            r"images\[0\] must be uint8, uint16, int16 or floating, got int32",
        ),
        (PIXELS[:, :0], r"images\[0\] of shape \[0, 8, 3\] has no pixels"),
        ([PIXELS[0], np.zeros((5, 0, 3))], r"images\[1\] of shape \[5, 0, 3\] has no pixels"),
    ],
)
def test_what_is_no_image_is_named(model, images, message):
    with pytest.raises(ValueError, match=message):
        predict(model, images)


def test_predictions_are_decoded_most_probable_first():
    probs = np.array([[0.1, 0.6, 0.3], [0.5, 0.2, 0.3]])
    assert decode_predictions(probs, top=2, label_names=("a", "b", "c")) == [
        [("1", "b", 0.6), ("2", "c", 0.3)],
        [("0", "a", 0.5), ("2", "c", 0.3)],
    ]


def test_top_is_cut_to_the_number_of_classes_and_numbers_stand_in_for_names():
    assert decode_predictions(np.array([[0.4, 0.6]])) == [[("1", "1", 0.6), ("0", "0", 0.4)]]


def test_equal_probabilities_come_in_the_order_of_the_classes():
    (best,) = decode_predictions(np.full((1, 20), 0.05), top=20)
    assert [number for number, _, _ in best] == [str(i) for i in range(20)]


def test_one_probability_is_decoded_as_two_classes():
    found = decode_predictions(np.array([[0.25], [1.0]]), label_names=("cat", "dog"))
    assert found == [
        [("0", "cat", 0.75), ("1", "dog", 0.25)],
        [("1", "dog", 1.0), ("0", "cat", 0.0)],
    ]


def test_predictions_of_a_model_are_decoded(model):
    probs = predict(model, PIXELS)
    decoded = decode_predictions(probs, top=1)
    assert [int(best[0][0]) for best in decoded] == by_hand(model, PIXELS).argmax(axis=1).tolist()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"probs": np.ones(3)}, r"probs must be \[N, num_classes\], got shape \[3\]"),
        ({"top": 0}, "top must be a whole number >= 1, got 0"),
        ({"top": 1.5}, r"top must be a whole number >= 1, got 1\.5"),
        ({"label_names": ("a", "b")}, "2 label_names for 3 classes"),
    ],
)
def test_what_cannot_be_decoded_is_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        decode_predictions(**{"probs": np.ones((1, 3)) / 3, **arguments})


def test_resizing_uses_the_same_pixels_whatever_the_array(model):
    found = predict(model, jnp.asarray(PIXELS))
    assert found.tolist() == predict(model, PIXELS).tolist()
    assert isinstance(found, np.ndarray)
    assert not isinstance(found, jax.Array)


def test_a_single_grey_image_is_not_taken_for_many():
    model = create_model("mlp", input_shape=(8, 8, 1), units=(6,), num_classes=4)
    grey = PIXELS[..., :1]
    assert predict(model, grey).shape == (5, 4)
    assert predict(model, grey[..., 0]).tolist() == predict(model, grey).tolist()
    for one_image in (grey[0], np.resize(grey[0], (20, 17, 1))):
        with pytest.raises(ValueError, match=r"are one grey image \[H, W, 1\].*images\[None\]"):
            predict(model, one_image)


def test_one_dark_image_among_others_is_an_image(model):
    pixels = PIXELS.astype(np.float32)
    pixels[1] = 0.5
    for images in (pixels, list(pixels)):
        np.testing.assert_allclose(predict(model, images), by_hand(model, pixels), rtol=1e-4)
    for images in (PIXELS / 255, list(PIXELS / 255)):
        with pytest.raises(ValueError, match=r"images: floating images must be pixels"):
            predict(model, images)


def test_an_image_of_pillow_is_refused_with_what_to_give(model):
    with pytest.raises(ValueError, match=r"one of Pillow is given as np.asarray\(image\)\[None\]"):
        predict(model, Image.fromarray(PIXELS[0]))


def test_several_inputs_are_none_of_a_model_of_one():
    model = create_model("mlp", input_shape=(4, 4, 1), units=())
    with pytest.raises(ValueError, match=r"images must be of one array, as mlp takes them, got"):
        predict(model, {"photo": np.zeros((2, 4, 4, 1), np.uint8)})
