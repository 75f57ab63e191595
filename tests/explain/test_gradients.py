"""Gradients of pixels and occlusion: closed forms, nets written out in NumPy, errors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen

import cnnjax as cj
from cnnjax import nn
from cnnjax.explain import (
    as_heatmaps,
    guided_backpropagation,
    input_gradient,
    integrated_gradients,
    occlusion,
    saliency,
    smooth_grad,
)
from cnnjax.explain.masked import masked_scores
from cnnjax.explain.occlusion import patches
from cnnjax.explain.targets import asked

RNG = np.random.default_rng(0)


class Linear(linen.Module):
    """Logits that are linear in the pixels."""

    @linen.compact
    def __call__(self, x):
        return nn.Dense(3, name="logits")(nn.Flatten(name="flatten")(x))


class Rectified(linen.Module):
    """Two hidden layers."""

    function: object = jax.nn.relu

    @linen.compact
    def __call__(self, x):
        x = nn.Flatten(name="flatten")(x)
        x = nn.Dense(9, activation=self.function, name="dense1")(x)
        x = nn.Activation(self.function, name="relu2")(nn.Dense(8, name="dense2")(x))
        return nn.Dense(3, name="logits")(x)


def model_of(module, preprocessing="unit"):
    return cj.Model.from_module(module, (6, 5, 2), preprocessing=preprocessing)


def inputs(count=2):
    return RNG.random((count, 6, 5, 2)).astype(np.float32)


def weights(model, target):
    return np.asarray(model.params["logits"]["kernel"])[:, target].reshape(6, 5, 2)


def test_saliency_of_a_linear_model_is_the_size_of_its_weights():
    model, x = model_of(Linear()), inputs()
    np.testing.assert_allclose(input_gradient(model, x, 1)[0], weights(model, 1), rtol=1e-6)
    expected = np.abs(weights(model, 1)).max(-1)
    np.testing.assert_allclose(saliency(model, x, 1)[1], expected / expected.max(), rtol=1e-5)
    np.testing.assert_allclose(
        smooth_grad(model, x, 1, samples=3)[0], saliency(model, x, 1)[0], rtol=1e-5
    )


@pytest.mark.thorough
def test_the_class_predicted_is_the_default():
    model, x = model_of(Rectified()), inputs(4)
    predicted = np.asarray(model(x)).argmax(1)
    assert len(set(predicted.tolist())) > 1
    for method in (saliency, smooth_grad, integrated_gradients, guided_backpropagation, occlusion):
        np.testing.assert_allclose(method(model, x), method(model, x, predicted), atol=1e-6)


def test_smooth_grad_is_a_mean_over_seeded_noise():
    model, x = model_of(Rectified()), inputs(1)
    first = smooth_grad(model, x, 0, samples=4, noise=0.5, seed=1)
    np.testing.assert_array_equal(first, smooth_grad(model, x, 0, samples=4, noise=0.5, seed=1))
    assert not np.array_equal(first, smooth_grad(model, x, 0, samples=4, noise=0.5, seed=2))
    np.testing.assert_allclose(
        smooth_grad(model, x, 0, noise=0.0), saliency(model, x, 0), rtol=1e-5
    )


@pytest.mark.parametrize("preprocessing", ["unit", "tf"])
def test_integrated_gradients_add_up_to_the_difference_of_the_logits(preprocessing):
    model, x = model_of(Rectified(), preprocessing), inputs(3)
    black = np.full_like(x, {"unit": 0.0, "tf": -1.0}[preprocessing])
    found = np.asarray(integrated_gradients(model, x, 2, steps=200)).sum((1, 2, 3))
    wanted = np.asarray(model(x) - model(black))[:, 2]
    np.testing.assert_allclose(found, wanted, atol=0.02 * np.abs(wanted).max())
    # Of a linear model exactly, pixel by pixel, for any baseline.
    linear, start = model_of(Linear()), inputs(1)[0]
    exact = integrated_gradients(linear, x, 0, baseline=start, steps=1)
    np.testing.assert_allclose(exact, (x - start) * weights(linear, 0), atol=1e-5)


@pytest.mark.parametrize("function", [jax.nn.relu, jax.nn.relu6])
def test_guided_backpropagation_written_out(function):
    model = model_of(Rectified(function))
    p = jax.tree.map(np.asarray, model.params)
    x = 20 * inputs(1)  # some units of ReLU6 are at 6
    top = 6.0 if function is jax.nn.relu6 else np.inf
    a1 = x.reshape(1, -1) @ p["dense1"]["kernel"] + p["dense1"]["bias"]
    a2 = np.clip(a1, 0, top) @ p["dense2"]["kernel"] + p["dense2"]["bias"]
    g2 = p["logits"]["kernel"][:, 1][None]
    g2 = np.maximum(g2, 0) * ((a2 > 0) & (a2 < top))
    g1 = np.maximum(g2 @ p["dense2"]["kernel"].T, 0) * ((a1 > 0) & (a1 < top))
    expected = (g1 @ p["dense1"]["kernel"].T).reshape(1, 6, 5, 2)
    assert np.abs(expected).max() > 0
    np.testing.assert_allclose(guided_backpropagation(model, x, 1), expected, atol=1e-5)
    assert not np.allclose(input_gradient(model, x, 1), expected, atol=1e-3)


def test_guided_backpropagation_needs_modules():
    class Hidden(linen.Module):
        @linen.compact
        def __call__(self, x):
            x = jax.nn.relu(nn.Dense(4, name="dense1")(x.reshape(x.shape[0], -1)))
            return nn.Dense(2, name="logits")(x)

    model = cj.Model.from_module(Hidden(), (6, 5, 2))
    with pytest.raises(ValueError, match="Hidden has no ReLU that guided backpropagation could"):
        guided_backpropagation(model, inputs())


def test_maps_of_nothing_are_zero():
    np.testing.assert_array_equal(as_heatmaps(jnp.zeros((2, 3, 3, 1))), np.zeros((2, 3, 3)))
    heat = as_heatmaps(jnp.asarray([[[[-4.0, 1.0], [2.0, 2.0]]]]))
    assert heat.tolist() == [[[1.0, 0.5]]]


def test_occlusion_finds_the_patch_that_counts():
    class Corner(linen.Module):
        """A logit that reads only four pixels."""

        @linen.compact
        def __call__(self, x):
            scale = self.param("scale", linen.initializers.ones, (1,))
            read = x[:, 2:4, 6:8].sum((1, 2, 3))
            return jnp.stack([read, -read], 1) * scale[None]

    model = cj.Model.from_module(Corner(), (10, 12, 1))
    heat = np.asarray(
        occlusion(model, np.ones((2, 10, 12, 1), np.float32), 0, size=2, stride=2, fill=0)
    )
    expected = np.zeros((10, 12))
    expected[2:4, 6:8] = 1
    np.testing.assert_allclose(heat, [expected, expected], atol=1e-6)
    # Rises of the other class's logit are no evidence for it.
    assert np.asarray(occlusion(model, np.ones((1, 10, 12, 1), np.float32), 1, fill=0)).max() == 0


def test_patches_cover_everything_and_end_at_the_edge():
    masks = patches((7, 10), size=4, stride=3)
    assert masks.shape == (2 * 3, 7, 10)
    assert set(masks.sum((1, 2))) == {16}
    assert masks.any(0).all()


def test_masked_scores_in_chunks():
    model, images = model_of(Rectified()), inputs()
    others, question = images[::-1], asked(model, [2, 0], 2)
    masks = RNG.random((45, 6, 5)) < 0.5
    shares = masks[:, None] * RNG.random((45, 2, 6, 5)).astype(np.float32)
    of_shares = masked_scores(model, question, images, others, shares)
    of_masks = masked_scores(model, question, images, others, masks)
    for n, label in enumerate((2, 0)):
        mixed = np.where(masks[..., None], others[n], images[n])
        np.testing.assert_allclose(of_masks[:, n], model(mixed)[:, label], atol=1e-5)
        part = shares[:, n, ..., None]
        mixed = part * others[n] + (1 - part) * images[n]
        np.testing.assert_allclose(of_shares[:, n], model(mixed)[:, label], atol=1e-5)


@pytest.mark.parametrize(
    "method", [saliency, smooth_grad, integrated_gradients, guided_backpropagation, occlusion]
)
def test_an_empty_batch(method):
    found = method(model_of(Rectified()), inputs(0))
    assert found.shape[:3] == (0, 6, 5)


@pytest.mark.parametrize(
    ("method", "arguments", "message"),
    [
        (smooth_grad, {"samples": 0}, "samples must be at least 1, got 0"),
        (integrated_gradients, {"steps": 0}, "steps must be at least 1, got 0"),
        (
            integrated_gradients,
            {"baseline": np.zeros((6, 5))},
            r"baseline must be \[6, 5, 2\] or a",
        ),
        (occlusion, {"size": 6}, r"size must lie in \[1, 5\]"),
        (occlusion, {"size": 2, "stride": 3}, "got size=2 and stride=3"),
        (saliency, {"target": 3}, "target=3 is out of range"),
        (guided_backpropagation, {"target": "cat"}, "has no label names"),
    ],
)
def test_errors(method, arguments, message):
    with pytest.raises(ValueError, match=message):
        method(model_of(Rectified()), inputs(), **arguments)
