"""Sanity checks: measures against SciPy and scikit-image, randomisation, deletion, insertion."""

import itertools

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage
import scipy.stats
from flax import linen
from skimage.metrics import structural_similarity as skimage_ssim

import cnnjax as cj
from cnnjax import explain
from cnnjax.core import trees
from cnnjax.explain.faithfulness import blurred, order
from cnnjax.explain.sanity import layer_groups, with_layers_of
from cnnjax.models.builder import build

RNG = np.random.default_rng(0)


class Corner(linen.Module):
    """Two logits: what the upper left corner holds, and its negative."""

    @linen.compact
    def __call__(self, x):
        scale = self.param("scale", linen.initializers.constant(4.0), (1,))
        read = x[:, :4, :4].mean((1, 2, 3))
        return jnp.stack([read, -read], 1) * scale[None]


def corner():
    model = cj.Model.from_module(Corner(), (8, 8, 1), preprocessing="tf")
    heat = np.zeros((1, 8, 8), np.float32)
    heat[:, :4, :4] = 1
    return model, np.ones((1, 8, 8, 1), np.float32), heat


@pytest.mark.parametrize("digits", [1, 8])
def test_rank_correlation_equals_scipy(digits):  # few digits make ties
    a, b = RNG.random((2, 20, 30)).round(digits)
    b = (0.3 * a + b).round(digits)
    expected = scipy.stats.spearmanr(a.ravel(), b.ravel()).statistic
    assert explain.rank_correlation(a, b) == pytest.approx(expected, abs=1e-12)
    assert explain.rank_correlation(a, -a) == pytest.approx(-1)
    assert np.isnan(explain.rank_correlation(a, np.ones_like(a)))


@pytest.mark.parametrize("shape", [(7, 7), (20, 31)])
def test_structural_similarity_equals_scikit_image(shape):
    a, b = RNG.random((2, *shape))
    for first, second in ((a, b), (a, 0.8 * a + 0.1 * b), (a, np.zeros(shape))):
        expected = skimage_ssim(first, second, data_range=1.0)
        assert explain.structural_similarity(first, second) == pytest.approx(expected, abs=1e-9)
    expected = skimage_ssim(a, b, data_range=2.0, win_size=5)
    assert explain.structural_similarity(a, b, 2.0, 5) == pytest.approx(expected, abs=1e-9)


def test_measures_refuse_what_they_cannot_compare():
    with pytest.raises(ValueError, match=r"one shape, got \[3\] and \[4\]"):
        explain.rank_correlation(np.ones(3), np.ones(4))
    with pytest.raises(ValueError, match=r"window odd, in \[3, 5\]"):
        explain.structural_similarity(np.ones((5, 9)), np.ones((5, 9)))


def test_layer_groups_are_all_layers_from_the_top():
    model = cj.Model.abstract(*build("mobilenet", alpha=0.25, input_shape=(32, 32, 3)))
    groups = layer_groups(model, 8)
    assert len(groups) == 8
    assert groups[0] == ["conv_preds"]
    assert groups[1][:2] == ["conv_pw_13", "conv_pw_13_bn"]
    assert groups[-1][-2:] == ["conv1", "conv1_bn"]
    names = [name for group in groups for name in group]
    owners = {path.rpartition("/")[0] for path in trees.flatten(model.params)}
    assert sorted(names) == sorted(owners)
    assert len(layer_groups(model, 100)) == 28
    assert len(layer_groups(model, 1)) == 1


def test_layers_of_another_model():
    model, other = (cj.create_model("mnist_convnet", seed=seed) for seed in (0, 1))
    mixed = with_layers_of(model, other, ["logits", "conv[12]"])
    for name, weights in mixed.params.items():
        source = other if name in ("logits", "conv1", "conv2") else model
        np.testing.assert_array_equal(weights["kernel"], source.params[name]["kernel"])
    with pytest.raises(ValueError, match=r"groups='conv9' names no layer\. Did you mean"):
        with_layers_of(model, other, ["conv9"])


def test_a_parameter_of_the_model_itself_is_a_layer_of_its_name():
    class Own(linen.Module):
        @linen.compact
        def __call__(self, x):
            x = x * self.param("scale", linen.initializers.normal(), (1, 2, 2, 3))
            return linen.Dense(2, name="out")(x.reshape(len(x), -1))

    model, other = (cj.Model.from_module(Own(), (2, 2, 3), seed=seed) for seed in (0, 1))
    assert sorted(name for group in layer_groups(model, 3) for name in group) == ["Own", "out"]
    mixed = with_layers_of(model, other, ["Own"])
    np.testing.assert_array_equal(mixed.params["scale"], other.params["scale"])
    np.testing.assert_array_equal(mixed.params["out"]["kernel"], model.params["out"]["kernel"])


@pytest.mark.parametrize("kind", ["cascading", "independent"])
def test_randomisation(kind):
    model = cj.create_model("mnist_convnet")
    images = RNG.random((2, 28, 28, 1)).astype(np.float32)
    seen = []

    def weights_of(model, images, target):
        """A method that shows which layers are random, and one target throughout."""
        seen.append((sorted(changed(model)), np.asarray(target).tolist()))
        return explain.saliency(model, images, target)

    def changed(other):
        return [
            name
            for name, weights in other.params.items()
            if not np.array_equal(weights["kernel"], model.params[name]["kernel"])
        ]

    def constant(model, images, target):
        return jnp.asarray(images[..., 0])

    methods = {"saliency": weights_of, "image": constant}
    groups = [["logits"], ["dense1"], ["conv*"]]
    found = explain.randomisation(model, images, methods, None, kind, groups, seed=5)
    predicted = np.asarray(model(images)).argmax(1).tolist()
    random = [["logits"], ["dense1"], ["conv1", "conv2", "conv3"]]
    steps = random
    if kind == "cascading":
        steps = [sorted(itertools.chain(*random[: k + 1])) for k in range(3)]
    assert seen == [([], predicted), *((step, predicted) for step in steps)]
    assert found.rank_correlation.shape == found.ssim.shape == (2, 3)
    assert found.heatmaps.shape == (2, 4, 2, 28, 28)
    np.testing.assert_allclose(found.rank_correlation[1], 1)  # the image itself never changes
    np.testing.assert_allclose(found.ssim[1], 1)
    assert found.rank_correlation[0].max() < 0.95
    expected = np.mean([
        explain.rank_correlation(a, b)
        for a, b in zip(found.heatmaps[0, 0], found.heatmaps[0, 2], strict=True)
    ])  # fmt: skip
    assert found.rank_correlation[0, 1] == pytest.approx(expected)
    table = str(found).splitlines()
    assert table[0] == f"{kind} randomisation: rank correlation / SSIM"
    assert table[1].split() == ["saliency", "image"]
    assert table[-1].startswith("conv*")
    assert table[-1].endswith("1.00 / 1.00")


@pytest.mark.thorough
def test_randomisation_at_the_end_is_another_model():
    model = cj.create_model("mnist_convnet")
    images = RNG.random((1, 28, 28, 1)).astype(np.float32)
    found = explain.randomisation(model, images, target=3, groups=2, seed=7)
    assert found.methods == ("grad_cam", "saliency", "guided_backpropagation")
    other = cj.create_model("mnist_convnet", seed=7)
    np.testing.assert_allclose(found.heatmaps[1, -1], explain.saliency(other, images, 3), atol=1e-6)
    with pytest.raises(ValueError, match="kind must be 'cascading' or 'independent', got 'random'"):
        explain.randomisation(model, images, kind="random")
    with pytest.raises(ValueError, match="groups must be at least 1, got 0"):
        explain.randomisation(model, images, groups=0)


@pytest.mark.thorough
def test_methods_by_name():
    model = cj.create_model("mnist_convnet")
    images = RNG.random((2, 28, 28, 1)).astype(np.float32)
    for name, method in explain.methods_at("conv2").items():
        heat = np.asarray(method(model, images, None))
        assert heat.shape == (2, 28, 28), name
        assert heat.min() >= 0
        assert heat.max() <= 1 + 1e-6
    with pytest.raises(ValueError, match=r"'gradcam' is no method\. Did you mean 'grad_cam'"):
        explain.methods_at(None, ["gradcam"])


def test_deletion_and_insertion_on_a_model_that_reads_a_corner():
    model, x, heat = corner()
    deleted = explain.deletion(model, x, heat, 0, steps=4, fill=127.5)
    assert deleted.fractions.tolist() == [0, 0.25, 0.5, 0.75, 1]
    # White is +1 and grey 0: the corner is gone after a quarter of the pixels.
    high, low = 1 / (1 + np.exp(-8)), 0.5
    np.testing.assert_allclose(deleted.probabilities, [[high, low, low, low, low]], atol=1e-6)
    np.testing.assert_allclose(deleted.areas, [0.25 * (high + low) / 2 + 0.75 * low], atol=1e-6)
    late = explain.deletion(model, x, 1 - heat, 0, steps=4, fill=127.5)
    np.testing.assert_allclose(late.probabilities, [[high, high, high, high, low]], atol=1e-6)
    photo = np.where(heat[..., None] > 0, 1.0, -1.0).astype(np.float32)
    early = explain.insertion(model, photo, heat, 0, steps=4, blur=200)
    late = explain.insertion(model, photo, 1 - heat, 0, steps=4, blur=200)
    assert early.areas[0] > late.areas[0]
    np.testing.assert_allclose(early.probabilities[0, 1:], high, atol=1e-6)
    np.testing.assert_allclose(late.probabilities[0, :4], late.probabilities[0, 0], atol=1e-6)


@pytest.mark.thorough
def test_one_logit_has_the_probability_of_its_class():
    model = cj.create_model("cats_convnet", input_shape=(46, 46, 3))
    x = RNG.random((1, 46, 46, 3)).astype(np.float32)
    heat = RNG.random((1, 46, 46))
    dog = explain.deletion(model, x, heat, 1, steps=2).probabilities
    cat = explain.deletion(model, x, heat, 0, steps=2).probabilities
    np.testing.assert_allclose(dog[:, 0], 1 / (1 + np.exp(-np.asarray(model(x))[:, 0])), rtol=1e-5)
    np.testing.assert_allclose(dog + cat, 1, rtol=1e-6)


def test_order_breaks_ties_without_a_direction():
    places = order(np.zeros((40, 40)))
    assert sorted(places.ravel()) == list(range(1600))
    assert abs(np.corrcoef(places.ravel(), np.arange(1600))[0, 1]) < 0.1


def test_blur_equals_scipy():
    image = RNG.random((1, 30, 24, 2)).astype(np.float32)
    expected = scipy.ndimage.gaussian_filter(image[0], (3, 3, 0), mode="nearest", truncate=2)
    np.testing.assert_allclose(blurred(jnp.asarray(image), 3.0)[0], expected, atol=1e-5)


def test_pointing_game():
    heat = np.zeros((2, 10, 12))
    heat[0, 3, 7], heat[0, 0, 0] = 3, 1
    found = explain.pointing_game(heat, [(6, 2, 9, 5), (0, 0, 12, 10)])
    assert found.hits.tolist() == [True, False]  # an empty map points at nothing
    for box, distance in (((8, 2, 9, 5), 1), ((2, 0, 5, 3), 3), ((7, 5, 9, 9), 2)):
        for tolerance in range(4):
            hits = explain.pointing_game(heat[:1], [box], tolerance).hits
            assert hits.tolist() == [tolerance >= distance]
    np.testing.assert_allclose(found.shares, [0.75, 0])
    np.testing.assert_allclose(found.chances, [9 / 120, 1])


@pytest.mark.parametrize(
    ("boxes", "message"),
    [([(0, 0, 1, 1)], "1 boxes for heatmaps"), ([(0, 0, 13, 5)] * 2, "must be x0 < x1 <= 12")],
)
def test_pointing_game_errors(boxes, message):
    with pytest.raises(ValueError, match=message):
        explain.pointing_game(np.ones((2, 10, 12)), boxes)


def test_faithfulness_errors():
    model, x, heat = corner()
    with pytest.raises(
        ValueError, match=r"heatmaps must be \[1, 8, 8\], one per image, got \[8, 8"
    ):
        explain.deletion(model, x, heat[0])
    with pytest.raises(ValueError, match="steps must be at least 1"):
        explain.insertion(model, x, heat, steps=0)
    with pytest.raises(ValueError, match="blur must be > 0 pixels, got 0"):
        explain.insertion(model, x, heat, blur=0)


def test_no_images():
    model, x, heat = corner()
    assert explain.deletion(model, x[:0], heat[:0], steps=4).areas.shape == (0,)
    assert explain.insertion(model, x[:0], heat[:0], steps=4).areas.shape == (0,)
    with pytest.raises(ValueError, match="images must hold at least one image"):
        explain.randomisation(model, x[:0])
