"""Score-CAM, Eigen-CAM and LayerCAM against their definitions, written out in NumPy."""

from __future__ import annotations

import jax
import numpy as np
import pytest
from flax import linen
from PIL import Image

import cnnjax as cj
from cnnjax import explain, nn

RNG = np.random.default_rng(0)
X = RNG.random((2, 8, 8, 2)).astype(np.float32)


class Net(linen.Module):
    """A convolution that halves, one that tells signs, logits."""

    @linen.compact
    def __call__(self, x):
        x = nn.Conv2D(3, 2, strides=2, activation=jax.nn.relu, name="conv")(x)
        x = nn.Conv2D(4, 2, activation=jax.nn.relu, name="next")(x)
        return nn.Dense(3, name="logits")(x.mean((1, 2)))


@pytest.fixture(scope="module")
def model():
    return cj.Model.from_module(Net(), X.shape[1:])


def correlated(x, layer):
    """A convolution without padding, by a loop over the places; then ReLU."""
    kernel, bias = (np.asarray(layer[name], np.float64) for name in ("kernel", "bias"))
    step = kernel.shape[0] if x.shape[1] == 8 else 1
    side = (x.shape[1] - kernel.shape[0]) // step + 1
    y = np.zeros((len(x), side, side, kernel.shape[3]))
    for i in range(side):
        for j in range(side):
            part = x[:, i * step : i * step + 2, j * step : j * step + 2]
            y[:, i, j] = np.einsum("nabc,abcd->nd", part, kernel) + bias
    return np.maximum(y, 0)


def logits_of(model, x):
    dense = {name: np.asarray(value, np.float64) for name, value in model.params["logits"].items()}
    y = correlated(correlated(x, model.params["conv"]), model.params["next"])
    return y.mean((1, 2)) @ dense["kernel"] + dense["bias"]


def resized(heat):
    image = Image.fromarray(np.asarray(heat, np.float32))
    return np.asarray(image.resize((8, 8), Image.Resampling.BILINEAR), np.float64)


def drawn(heat):
    heat = np.maximum(heat, 0)
    return resized(heat / heat.max() if heat.max() > 0 else heat)


@pytest.mark.sample(1)
@pytest.mark.parametrize("label", [0, 2])
def test_score_cam_is_its_definition(model, label):
    maps = correlated(X.astype(np.float64), model.params["conv"])
    expected = []
    for image, own in zip(X, maps, strict=True):
        rises = []
        for c in range(3):
            mask = resized(own[..., c])
            mask = (mask - mask.min()) / (mask.max() - mask.min()) if np.ptp(mask) else 0 * mask
            seen, nothing = image * mask[..., None], np.zeros_like(image)
            both = logits_of(model, np.stack([seen, nothing]))[:, label]
            rises.append(both[0] - both[1])
        weights = np.exp(rises) / np.exp(rises).sum()
        expected.append(drawn(own @ weights))
    found = explain.score_cam(model, X, "conv", label)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_eigen_cam_is_the_first_principal_component(model):
    maps = correlated(X.astype(np.float64), model.params["conv"])
    expected = []
    for own in maps:
        flat = own.reshape(-1, 3)
        values, vectors = np.linalg.eigh(flat.T @ flat)
        heat = flat @ vectors[:, np.argmax(values)]
        expected.append(drawn((heat * np.sign(heat.sum())).reshape(own.shape[:2])))
    for target in (None, 0, 2):  # whatever the class
        np.testing.assert_allclose(explain.eigen_cam(model, X, "conv", target), expected, atol=1e-4)


def test_layer_cam_weighs_each_place_by_its_own_positive_gradient(model):
    maps = correlated(X.astype(np.float64), model.params["conv"])
    kernel = np.asarray(model.params["next"]["kernel"], np.float64)
    dense = np.asarray(model.params["logits"]["kernel"], np.float64)[:, 1]
    behind = correlated(maps, model.params["next"])
    share = (behind > 0) * dense / np.prod(behind.shape[1:3])  # d logit / d what "next" is of
    gradients = np.zeros_like(maps)
    for i in range(behind.shape[1]):
        for j in range(behind.shape[2]):
            gradients[:, i : i + 2, j : j + 2] += np.einsum("nd,abcd->nabc", share[:, i, j], kernel)
    expected = [drawn(heat) for heat in (np.maximum(gradients, 0) * maps).sum(-1)]
    np.testing.assert_allclose(explain.layer_cam(model, X, "conv", 1), expected, atol=1e-5)


@pytest.mark.thorough
def test_they_refuse_what_grad_cam_refuses(model):
    for method in (explain.layer_cam, explain.eigen_cam, explain.score_cam):
        with pytest.raises(ValueError, match="layer='logits' has no spatial extent"):
            method(model, X, "logits")
        with pytest.raises(ValueError, match="target=3 is out of range: Net has 3 classes"):
            method(model, X, "conv", 3)
    broken = model.replace(variables=jax.tree.map(lambda leaf: leaf * np.nan, model.variables))
    with pytest.raises(ValueError, match=r"the logits of Net for images \[0, 1\] are not finite"):
        explain.score_cam(broken, X, "conv", 0)
