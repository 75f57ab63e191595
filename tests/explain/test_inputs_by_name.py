"""Several inputs by name, and outputs that are a tree: against gradients written out."""

from __future__ import annotations

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen

import cnnjax as cj
from cnnjax import explain
from cnnjax.explain.cam import _mean_gradients as mean_gradients
from cnnjax.explain.cam import class_maps
from cnnjax.explain.gradients import _gradient as gradient
from cnnjax.explain.inputs import image_of, image_size, with_image
from cnnjax.explain.scores import Question, class_scores
from cnnjax.models.modules import Static

RNG = np.random.default_rng(0)
X = {
    "photo": jnp.asarray(RNG.random((3, 6, 4, 2)), jnp.float32),
    "facts": jnp.asarray(RNG.random((3, 5)), jnp.float32),
    "word": jnp.array([[1], [0], [2]], jnp.int32),
}


class Several(linen.Module):
    """A photo, facts and a word to logits, alone or beside a value."""

    joint: bool = True

    @linen.compact
    def __call__(self, x):
        maps = jnp.tanh(linen.Conv(4, (3, 3), name="conv")(x["photo"]))
        word = linen.Embed(3, 4, name="embed")(x["word"][:, 0])
        together = maps.mean((1, 2)) * jnp.tanh(linen.Dense(4, name="dense")(x["facts"])) + word
        kind = linen.Dense(3, name="kind")(together)
        return {"kind": kind, "size": together[:, :1]} if self.joint else kind


@pytest.fixture(scope="module")
def net():
    module = Several()
    return Static(module), module.init(jax.random.key(0), X)


def margin(outputs, values):
    return outputs["kind"][:, 0] - 2 * outputs["kind"][:, 2] + outputs["size"][:, 0]


@pytest.mark.thorough
def test_gradients_come_by_name_of_what_is_floating(net):
    static, variables = net
    question = Question(margin, jnp.zeros(3, jnp.int32))
    found = gradient(static, False, variables, X, question)
    assert set(found) == {"photo", "facts"}  # token ids have no gradient
    for name in found:

        def total(part, name=name):
            return margin(static.module.apply(variables, {**X, name: part}), None).sum()

        np.testing.assert_allclose(found[name], jax.grad(total)(X[name]), atol=1e-6)
    maps = explain.as_heatmaps(found)
    assert set(maps) == {"photo"}
    np.testing.assert_allclose(maps["photo"].max((1, 2)), 1)


def test_the_maps_of_a_layer_lie_over_the_image_among_the_inputs(net):
    static, variables = net
    question = Question(margin, jnp.zeros(3, jnp.int32))
    heat, empty, finite = class_maps(
        static, "Several", "conv", mean_gradients, variables, X, question
    )
    maps = linen.Conv(4, (3, 3)).apply({"params": variables["params"]["conv"]}, X["photo"])

    def above(maps):
        x = jnp.tanh(maps).mean((1, 2))
        dense, kind = variables["params"]["dense"], variables["params"]["kind"]
        x = x * jnp.tanh(X["facts"] @ dense["kernel"] + dense["bias"][None])
        x = x + variables["params"]["embed"]["embedding"][X["word"][:, 0]]
        logits = x @ kind["kernel"] + kind["bias"][None]
        return margin({"kind": logits, "size": x[:, :1]}, None).sum()

    weights = jax.grad(above)(maps).mean((1, 2))
    expected = np.maximum(np.einsum("nhwc,nc->nhw", maps, weights), 0)
    top = expected.max((1, 2), keepdims=True)
    np.testing.assert_allclose(heat, expected / np.where(top > 0, top, 1), atol=1e-5)
    np.testing.assert_array_equal(empty, top[:, 0, 0] == 0)
    assert finite.all()


def test_a_class_of_a_tree_of_outputs_is_asked_by_a_function(net):
    static, variables = net
    with pytest.raises(ValueError, match="the outputs are a dict of several, so target must"):
        gradient(static, False, variables, X, Question(class_scores, jnp.zeros(3, jnp.int32)))


def test_the_image_among_the_inputs_is_found_covered_and_measured():
    assert image_size(X) == (6, 4)
    assert image_of(X) is X["photo"]
    twice = with_image(X, jnp.zeros((6, 6, 4, 2)))
    np.testing.assert_array_equal(twice["word"][:, 0], [1, 0, 2, 1, 0, 2])
    assert not twice["photo"].any()
    with pytest.raises(ValueError, match=r"the inputs hold no images \[N, H, W, C\]"):
        image_size({"facts": X["facts"]})
    two = {"left": X["photo"], "right": jnp.zeros((3, 8, 8, 1))}
    with pytest.raises(ValueError, match="the inputs hold images of 6x4 and 8x8, so a map has no"):
        image_size(two)
    with pytest.raises(ValueError, match="the inputs hold 2 images, left, right: parts of one"):
        image_of(two)


@pytest.mark.thorough
@pytest.mark.parametrize("joint", [False, True])
def test_every_method_takes_inputs_by_name(joint):
    kinds = {"photo": "unit", "facts": "none", "word": "tokens"}
    shapes = {"photo": (6, 4, 2), "facts": (5,), "word": (1,)}
    task = {"kind": "classes", "size": "values"} if joint else "classes"
    model = cj.Model.from_module(Several(joint), shapes, preprocessing=kinds, task=task)

    def kind(outputs):
        return (outputs["kind"] if joint else outputs)[:, 1]

    gradients = explain.input_gradient(model, X, kind)
    expected = jax.grad(lambda photo: kind(model({**X, "photo": photo})).sum())(X["photo"])
    np.testing.assert_allclose(gradients["photo"], expected, atol=1e-6)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", explain.EmptyMap)
        for name in explain.METHODS:
            if name != "guided_backpropagation":  # there is no ReLU
                maps = explain.methods_at("conv", [name])[name](model, X, kind)
                maps = maps["photo"] if isinstance(maps, dict) else maps
                assert maps.shape == (3, 6, 4), name
    heat = explain.occlusion(model, X, kind)
    curve = explain.deletion(model, X, heat, kind, steps=2)
    np.testing.assert_allclose(curve.probabilities[:, 0], kind(model(X)), atol=1e-6)
    if joint:
        with pytest.raises(ValueError, match="Several has several outputs, kind, size: give targ"):
            explain.saliency(model, X, 1)
