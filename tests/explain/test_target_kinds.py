"""What can be asked: functions of the outputs, weights, several at once; values and labels."""

from __future__ import annotations

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen

import cnnjax as cj
from cnnjax import explain, nn
from cnnjax.explain.cam import class_maps

RNG = np.random.default_rng(0)
X = RNG.random((3, 8, 6, 2)).astype(np.float32)


class Small(linen.Module):
    """A convolution, the mean over space, logits: all behind the maps is linear and known."""

    classes: int = 4

    @linen.compact
    def __call__(self, x):
        x = nn.Conv2D(5, 3, padding="same", activation=jax.nn.relu, name="conv")(x)
        return nn.Dense(self.classes, name="logits")(x.mean((1, 2)))


def small(classes=4, **arguments):
    return cj.Model.from_module(Small(classes), X.shape[1:], **arguments)


def by_hand(model, weights):
    """Grad-CAM of sums of logits, of the weights [N, K]: their maps are those of the kernel."""
    maps = np.asarray(explain.activations(model, X, ["conv"])["conv"], np.float64)
    kernel = np.asarray(model.params["logits"]["kernel"], np.float64)
    heat = np.maximum(np.einsum("nhwc,ck,nk->nhw", maps, kernel, weights), 0)
    top = heat.max((1, 2), keepdims=True)
    return heat / np.where(top > 0, top, 1)


@pytest.fixture(autouse=True)
def _empty_maps():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", explain.EmptyMap)
        yield


def test_a_function_of_the_outputs_is_explained():
    model = small()
    weights = np.tile([1.0, -2, 0, 0.5], (3, 1))
    found = explain.grad_cam(model, X, "conv", lambda z: z[:, 0] - 2 * z[:, 1] + 0.5 * z[:, 3])
    np.testing.assert_allclose(found, by_hand(model, weights), atol=1e-5)


def test_soft_targets_are_weights_of_the_outputs():
    model = small()
    weights = RNG.normal(size=(3, 4)).astype(np.float32)
    expected = by_hand(model, weights)
    for target in (weights, jnp.asarray(weights), weights.tolist()):
        np.testing.assert_allclose(explain.grad_cam(model, X, "conv", target), expected, atol=1e-5)
    several = np.stack([weights, -weights], axis=1)
    found = explain.grad_cam(model, X, "conv", several)
    np.testing.assert_allclose(found[:, 0], expected, atol=1e-5)
    np.testing.assert_allclose(found[:, 1], by_hand(model, -weights), atol=1e-5)


@pytest.mark.sample(1)
@pytest.mark.parametrize("as_target", [list, np.asarray, jnp.asarray])
def test_several_classes_of_each_image_at_once(as_target):
    model = small(label_names=("a", "b", "c", "d"))
    asked = [[2, 0], [1, 1], [3, 2]]
    found = np.asarray(explain.grad_cam(model, X, "conv", as_target(asked)))
    assert found.shape == (3, 2, 8, 6)
    for k in range(2):
        weights = np.eye(4)[[row[k] for row in asked]]
        np.testing.assert_allclose(found[:, k], by_hand(model, weights), atol=1e-5)
    names = [["c", "a"], ["b", 1], [3, "c"]]
    np.testing.assert_array_equal(explain.grad_cam(model, X, "conv", names), found)
    each = explain.grad_cam(model, X, "conv", lambda z: z[:, :2])
    np.testing.assert_allclose(each[:, 1], by_hand(model, np.eye(4)[[1, 1, 1]]), atol=1e-5)


def test_the_layers_below_run_once_for_several_classes():
    model = small()
    program = jax.make_jaxpr(
        lambda x: explain.grad_cam(model, x, "conv", jnp.array([[0, 1, 2]] * 3))
    )(X)
    one = jax.make_jaxpr(lambda x: explain.grad_cam(model, x, "conv", jnp.array([0] * 3)))(X)
    assert str(program).count("conv_general_dilated") == str(one).count("conv_general_dilated") > 0


GRADIENTS = {
    "saliency": explain.saliency,
    "smooth_grad": lambda *args: explain.smooth_grad(*args, samples=2),
    "integrated": lambda *args: explain.integrated_gradients(*args, steps=2),
    "guided": explain.guided_backpropagation,
    "occlusion": explain.occlusion,
    "hires_cam": lambda m, x, t: explain.hires_cam(m, x, "conv", t),
    "plus_plus": lambda m, x, t: explain.grad_cam_plus_plus(m, x, "conv", t),
    "layer_cam": lambda m, x, t: explain.layer_cam(m, x, "conv", t),
    "score_cam": lambda m, x, t: explain.score_cam(m, x, "conv", t),
    "rise": lambda m, x, t: explain.rise(m, x, t, samples=8, grid=2),
}


@pytest.mark.sample(1)
@pytest.mark.parametrize("name", GRADIENTS)
def test_every_method_takes_every_kind_of_target(name):
    model, method = small(), GRADIENTS[name]
    each = [np.asarray(method(model, X, [a, b, c])) for a, b, c in ((2, 1, 3), (0, 1, 2))]
    together = np.asarray(method(model, X, [[2, 0], [1, 1], [3, 2]]))
    assert together.shape == (3, 2, *each[0].shape[1:])
    for k in range(2):
        np.testing.assert_allclose(together[:, k], each[k], atol=2e-5)
    if name != "rise":  # where a class is asked for by its probability
        soft = np.eye(4, dtype=np.float32)[[2, 1, 3]]
        np.testing.assert_allclose(method(model, X, soft), each[0], atol=2e-5)
        picked = method(model, X, lambda z: z[jnp.arange(3), jnp.array([2, 1, 3])])
        np.testing.assert_allclose(picked, each[0], atol=2e-5)


def test_another_target_of_a_kind_compiles_nothing():
    model = small()

    def first(outputs):
        return outputs[:, 0]

    for target, other in (
        ([[0, 1]] * 3, [[2, 3]] * 3),
        (np.eye(4, dtype=np.float32)[:3], np.ones((3, 4), np.float32)),
        (first, first),
    ):
        explain.grad_cam(model, X, "conv", target)
        compiled = class_maps._cache_size()
        explain.grad_cam(model, X, "conv", other)
        assert class_maps._cache_size() == compiled


@pytest.mark.thorough
def test_values_are_asked_for_by_number_or_name():
    model = small(task="values", label_names=tuple("abcd"))
    for target, number in ((1, 1), ("d", 3)):
        expected = by_hand(model, np.eye(4)[[number] * 3])
        np.testing.assert_allclose(explain.grad_cam(model, X, "conv", target), expected, atol=1e-5)
    message = "target=None, but of the 4 outputs of Small, whose task is 'values', none is the one"
    with pytest.raises(ValueError, match=message):
        explain.grad_cam(model, X, "conv")
    with pytest.raises(ValueError, match="target=4 is out of range: Small has 4 outputs"):
        explain.saliency(model, X, 4)
    one = small(1, task="values")
    expected = by_hand(one, np.ones((3, 1)))
    for target in (None, 0):
        np.testing.assert_allclose(explain.grad_cam(one, X, "conv", target), expected, atol=1e-5)


@pytest.mark.thorough
def test_of_several_labels_each_output_stands_for_itself():
    model = small(task="multilabel", label_names=tuple("abcd"))
    likely = np.asarray(model(X)).argmax(1)
    for target, numbers in ((2, [2] * 3), (["d", 0, "b"], [3, 0, 1]), (None, likely)):
        expected = by_hand(model, np.eye(4)[numbers])
        np.testing.assert_allclose(explain.grad_cam(model, X, "conv", target), expected, atol=1e-5)
    curve = explain.deletion(model, X, explain.occlusion(model, X, "d"), "d", steps=3)
    probs = 1 / (1 + np.exp(-np.asarray(model(X), np.float64)))
    np.testing.assert_allclose(curve.probabilities[:, 0], probs[:, 3], atol=1e-5)
    one = small(1, task="multilabel")  # one label that may hold, and no second class
    expected = by_hand(one, np.ones((3, 1)))
    np.testing.assert_allclose(explain.grad_cam(one, X, "conv", 0), expected, atol=1e-5)
    with pytest.raises(ValueError, match="target=1 is out of range: Small has 1 outputs"):
        explain.grad_cam(one, X, "conv", 1)


def test_yes_or_no_is_the_logit_or_its_negative():
    model = small(1, task="binary", label_names=("no", "yes"))
    for target, sign in ((1, 1), ("yes", 1), (0, -1), ("no", -1)):
        expected = by_hand(model, np.full((3, 1), sign))
        np.testing.assert_allclose(explain.grad_cam(model, X, "conv", target), expected, atol=1e-5)


class Dense(linen.Module):
    """A convolution, then the logits of a class at each pixel."""

    classes: int = 3

    @linen.compact
    def __call__(self, x):
        x = nn.Conv2D(5, 3, padding="same", activation=jax.nn.relu, name="conv")(x)
        return nn.Conv2D(self.classes, 1, name="logits")(x)


@pytest.mark.thorough
def test_a_class_at_each_pixel_is_asked_by_its_mean_or_by_a_function():
    model = cj.Model.from_module(
        Dense(), X.shape[1:], task="dense", label_names=("sky", "sea", "s")
    )
    maps = np.asarray(explain.activations(model, X, ["conv"])["conv"], np.float64)
    kernel = np.asarray(model.params["logits"]["kernel"], np.float64)[0, 0]

    def by_region(region, label):
        weights = kernel[:, label] * region.mean()  # the gradients' mean over the places
        heat = np.maximum(maps @ weights, 0)
        top = heat.max((1, 2), keepdims=True)
        return heat / np.where(top > 0, top, 1)

    whole, part = np.ones((8, 6)) / 48, np.zeros((8, 6))
    part[2:4, 1:3] = 1
    for target in (1, "sea", [1, 1, "sea"]):
        found = explain.grad_cam(model, X, "conv", target)
        np.testing.assert_allclose(found, by_region(whole, 1), atol=1e-5)
    found = explain.grad_cam(model, X, "conv", lambda z: z[:, 2:4, 1:3, 0].sum((1, 2)))
    np.testing.assert_allclose(found, by_region(part, 0), atol=1e-5)
    # HiResCAM shows where: nothing outside of the region that was asked for.
    local = np.asarray(explain.hires_cam(model, X, "conv", lambda z: z[:, 2:4, 1:3, 0].sum((1, 2))))
    np.testing.assert_array_equal(local * (1 - part), np.zeros_like(local))
    with pytest.raises(ValueError, match="whose task is 'dense', none is the one predicted"):
        explain.grad_cam(model, X, "conv")
    one = cj.Model.from_module(Dense(1), X.shape[1:], task="dense")
    positive, negative = (explain.input_gradient(one, X, label) for label in (1, 0))
    np.testing.assert_array_equal(positive, -negative)


@pytest.mark.thorough
def test_features_are_asked_by_a_function():
    features = cj.create_model("mobilenet", alpha=0.25, input_shape=(32, 32, 3), include_top=False)
    x = RNG.random((1, 32, 32, 3)).astype(np.float32)
    with pytest.raises(ValueError, match=r"has no head .* give target a function of its outputs"):
        explain.saliency(features, x, 0)
    gradient = explain.input_gradient(features, x, lambda z: z.reshape(len(z), -1)[:, 0])
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (lambda z: z.sum(), r"a score per example, \[3\] or \[3, K\], got \[\]"),
        (lambda z: z[:2, 0], r"a score per example, \[3\] or \[3, K\], got \[2\]"),
        (lambda z: z.argmax(1), "target must return floating scores, got int32"),
        (lambda z: None, r"\[3\] or \[3, K\], got NoneType"),
        (np.ones((3, 5), np.float32), r"target has the shape \[3, 5\], so it holds weights"),
        (np.ones(4, np.float32), r"weights of the outputs \[N, K\] of 3 examples, got shape \[4\]"),
        ([[0, 1], [2], [3, 1]], r"the same number of classes of each image.*got \[2, 1, 2\]"),
        ([[0, 1]], "target has 1 classes for 3 images|give one per image"),
        ([[0, 1], [0, 9], [0, 1]], "target=9 is out of range"),
    ],
)
def test_targets_that_cannot_be_are_refused(target, message):
    with pytest.raises(ValueError, match=message):
        explain.grad_cam(small(), X, "conv", target)


def test_deletion_of_a_function_follows_its_score_and_of_a_class_its_probability():
    model = small()
    heat = explain.occlusion(model, X, 2)
    curve = explain.deletion(model, X, heat, 2, steps=4)
    logits = np.asarray(model(X), np.float64)
    probs = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    np.testing.assert_allclose(curve.probabilities[:, 0], probs[:, 2], atol=1e-5)
    score = explain.deletion(model, X, heat, lambda z: z[:, 2] - z[:, 0], steps=4)
    np.testing.assert_allclose(score.probabilities[:, 0], logits[:, 2] - logits[:, 0], atol=1e-5)
    with pytest.raises(ValueError, match="target asks several things of each image"):
        explain.deletion(model, X, heat, [[0, 1]] * 3, steps=4)
