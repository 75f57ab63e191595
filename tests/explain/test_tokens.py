"""Maps of tokens: a small ViT, whose tokens behind the last mixing are known by hand."""

from __future__ import annotations

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen
from PIL import Image

import cnnjax as cj
from cnnjax import explain
from cnnjax.explain.tokens import Grid, rearrangement

X = np.random.default_rng(0).random((2, 12, 8, 1)).astype(np.float32)


class ViT(linen.Module):
    """Patches of 4 x 4, a class token or none, one block, the mean of the tokens."""

    class_token: bool = True

    @linen.compact
    def __call__(self, x):
        x = linen.Conv(4, (4, 4), (4, 4), name="patches")(x)
        x = x.reshape(len(x), -1, 4)
        if self.class_token:
            token = self.param("token", linen.initializers.normal(1.0), (1, 1, 4))
            x = jnp.concatenate([jnp.broadcast_to(token, (len(x), 1, 4)), x], axis=1)
        places = self.param("places", linen.initializers.normal(0.5), (1, x.shape[1], 4))
        x = linen.MultiHeadDotProductAttention(num_heads=2, name="attend")(x + places)
        x = linen.Dense(4, name="last")(x)
        return linen.Dense(3, name="logits")(jax.nn.relu(x).mean(axis=1))


def vit(class_token=True):
    return cj.Model.from_module(ViT(class_token), X.shape[1:])


def by_hand(model, label):
    """Grad-CAM at "last", [N, 3, 2]: behind it there are a ReLU, the mean and the logits."""
    tokens = np.asarray(explain.activations(model, X, ["last"])["last"], np.float64)
    kernel = np.asarray(model.params["logits"]["kernel"], np.float64)[:, label]
    gradients = (tokens > 0) * kernel / tokens.shape[1]
    skipped = tokens.shape[1] - 6
    weights = gradients[:, skipped:].mean(axis=1, keepdims=True)
    heat = np.maximum((tokens[:, skipped:] * weights).sum(-1), 0).reshape(-1, 3, 2)
    return heat / np.maximum(heat.max((1, 2), keepdims=True), 1e-30)


def resized(heat):
    image = Image.fromarray(heat.astype(np.float32))
    return np.asarray(image.resize((8, 12), Image.Resampling.BILINEAR))


def moved(tokens):
    return tokens[:, 1:].reshape(len(tokens), 3, 2, -1)


@pytest.mark.thorough
@pytest.mark.parametrize("to_map", [None, (3, 2, 1), moved], ids=["told", "grid", "function"])
def test_token_grad_cam_is_that_of_the_tokens_as_a_map(to_map):
    model, drawn = vit(), 0.0
    for label in range(3):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", explain.EmptyMap)
            found = explain.grad_cam(model, X, "last", label, to_map)
        expected = [resized(heat) for heat in by_hand(model, label)]
        np.testing.assert_allclose(found, expected, atol=1e-5)
        drawn += np.max(expected)
    assert drawn > 0


@pytest.mark.thorough
def test_without_a_class_token_all_tokens_are_the_map():
    model = vit(class_token=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", explain.EmptyMap)
        found = explain.grad_cam(model, X, "last", [[0, 1, 2]] * 2)
    for label in range(3):
        expected = [resized(heat) for heat in by_hand(model, label)]
        np.testing.assert_allclose(found[:, label], expected, atol=1e-5)


@pytest.mark.thorough
def test_every_method_at_a_layer_takes_tokens():
    model = vit()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", explain.EmptyMap)
        for name, method in explain.METHODS.items():
            if method.at_layer:
                heat = np.asarray(explain.methods_at("last", [name])[name](model, X, 1))
                assert heat.shape == (2, 12, 8)
                assert np.isfinite(heat).all()


class AnySize(linen.Module):
    """Patches of 4 x 4, each a token, which a layer of its own reads; the mean."""

    @linen.compact
    def __call__(self, x):
        x = linen.Conv(4, (4, 4), (4, 4), name="patches")(x)
        x = linen.Dense(4, name="last")(x.reshape(len(x), -1, 4))
        return linen.Dense(3, name="logits")(jax.nn.relu(x).mean(axis=1))


@pytest.mark.thorough
@pytest.mark.parametrize("grid", [(3, 2), (2, 5)])
def test_of_images_of_any_size_the_tokens_lie_in_the_one_at_hand(grid):
    model = cj.Model.from_module(AnySize(), (None, None, 1))
    rows, columns = grid
    x = np.random.default_rng(0).random((2, 4 * rows, 4 * columns, 1)).astype(np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", explain.EmptyMap)
        told, given = (explain.layer_cam(model, x, "last", 1, to_map) for to_map in (None, grid))
    assert told.shape == x.shape[:3]
    assert np.max(told) > 0
    np.testing.assert_array_equal(told, given)


@pytest.mark.parametrize(
    ("tokens", "image", "grid"),
    [
        (49, (28, 28), Grid(7, 7)),
        (197, (224, 224), Grid(14, 14, 1)),
        (16, (32, 8), Grid(8, 2)),
        (129, (32, 128), None),  # 128 is no grid of these proportions
        (51, (28, 28), None),  # two tokens before a grid of 7 x 7: to be said
        (2, (28, 28), None),
    ],
)
def test_a_grid_is_told_where_one_alone_fits(tokens, image, grid):
    if grid is not None:
        assert rearrangement(None, "block", (1, tokens, 8), image) == grid
        return
    with pytest.raises(ValueError, match=rf"layer='block' has {tokens} tokens, .*: give to_map="):
        rearrangement(None, "block", (1, tokens, 8), image)


@pytest.mark.sample(3)
@pytest.mark.parametrize(
    ("to_map", "message"),
    [
        (
            (3, 3, 1),
            r"to_map=\(3, 3, 1\) needs an output \[N, 10, C\], that of 'last' is",
        ),
        (
            (3,),
            r"to_map must be \(rows, columns, first tokens skipped\) or a func.* got \(3,\)",
        ),
        ((3, 2, -1), r"to_map must be \(rows, columns"),
        (5, r"to_map must be \(rows, columns.*got 5"),
        (lambda t: t, r"to_map must make \[N, h, w, C\] of the output \[N, 7, 4\] of 'last'"),
        (lambda t: 2 * moved(t), "to_map must only move the values of 'last'"),
        (lambda t: moved(t)[..., :1] + moved(t), "to_map must only move the values of 'last'"),
    ],
)
def test_what_makes_no_map_of_the_tokens_is_refused(to_map, message):
    with pytest.raises(ValueError, match=message):
        explain.grad_cam(vit(), X, "last", 0, to_map)
