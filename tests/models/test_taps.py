"""Reading, editing and leaving a net at its layers: nested, repeated, in scans and under remat."""

from __future__ import annotations

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen

import cnnjax as cj
from cnnjax.models import taps

X = np.random.default_rng(0).normal(size=(2, 3, 3, 2)).astype(np.float32)


class Block(linen.Module):
    @linen.compact
    def __call__(self, x, _=None):
        return jnp.tanh(linen.Dense(2, name="inner")(x)), None


class Looped(linen.Module):
    """A stem, three rounds of a block, a head that takes the mean."""

    reverse: bool = False

    @linen.compact
    def __call__(self, x):
        x = linen.Dense(2, name="stem")(x)
        loop = linen.scan(
            Block,
            variable_axes={"params": 0},
            split_rngs={"params": True},
            length=3,
            reverse=self.reverse,
        )
        x, _ = loop(name="blocks")(x, None)
        return linen.Dense(2, name="head")(x.mean((1, 2)))


class Nested(linen.Module):
    """A block, under remat or not, whose layer is called twice."""

    remat: bool

    @linen.compact
    def __call__(self, x):
        kind = linen.remat(Twice) if self.remat else Twice
        return linen.Dense(2, name="head")(kind(name="block")(x).mean((1, 2)))


class Twice(linen.Module):
    @linen.compact
    def __call__(self, x):
        x = linen.Dense(2, name="once")(x)
        layer = linen.Dense(2, name="both")
        return layer(jnp.tanh(layer(x)))


def run(model, **how):
    return jax.jit(
        lambda variables, x: taps.run(model.static, variables, x, root=model.spec.name, **how)
    )(model.variables, X)


def model_of(module):
    return cj.Model.from_module(module, X.shape[1:])


@pytest.mark.sample(1)
@pytest.mark.parametrize("reverse", [False, True])
def test_a_layer_in_a_scan_is_read_in_every_round(reverse):
    model = model_of(Looped(reverse))
    params = jax.tree.map(np.asarray, model.params)
    inner = params["blocks"]["inner"]
    x, expected = X @ params["stem"]["kernel"] + params["stem"]["bias"], []
    for i in (2, 1, 0) if reverse else (0, 1, 2):
        expected.append(x @ inner["kernel"][i] + inner["bias"][i])
        x = np.tanh(expected[-1])
    outputs, layers = run(model, read=["blocks/inner", "stem"])
    assert [values.shape for values in layers["stem"]] == [X.shape]
    np.testing.assert_allclose(layers["blocks/inner"], expected, atol=1e-6)
    np.testing.assert_array_equal(outputs, model(X))


@pytest.mark.thorough
def test_what_is_read_and_explained_under_remat_is_the_same_as_without():
    plain, again = (model_of(Nested(remat)) for remat in (False, True))
    names = ["block/once", "block/both", "head"]
    expected, found = (run(model, read=names) for model in (plain, again))
    assert [len(expected.layers[name]) for name in names] == [1, 2, 1]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), found, expected)
    maps = [cj.explain.grad_cam(m, X, "block/once", [0, 1]) for m in (plain, again)]
    np.testing.assert_allclose(*maps, atol=1e-6)
    with pytest.raises(ValueError, match="layer='block/both' is called 2 times"):
        cj.explain.grad_cam(again, X, "block/both", 0)
    maps = [cj.explain.grad_cam(m, X, "block/both@0", [0, 1]) for m in (plain, again)]
    np.testing.assert_allclose(*maps, atol=1e-6)


def test_of_a_layer_in_a_scan_the_last_round_is_shown_but_there_is_no_single_map():
    model = model_of(Looped())
    found = cj.explain.activations(model, X, ["blocks/inner"])
    _, layers = run(model, read=["blocks/inner"])
    np.testing.assert_array_equal(found["blocks/inner"], layers["blocks/inner"][-1])
    with pytest.raises(ValueError, match=r"is called 3 times.*e.g. layer='blocks/inner@2'"):
        cj.explain.grad_cam(model, X, "blocks/inner", 0)


def unrolled(params, x, reverse, deltas):
    """`Looped` by a loop in Python, to whose rounds something is added."""
    x = x @ params["stem"]["kernel"] + params["stem"]["bias"]
    inner, rounds = params["blocks"]["inner"], (2, 1, 0) if reverse else (0, 1, 2)
    for number, i in enumerate(rounds):
        x = jnp.tanh(x @ inner["kernel"][i] + inner["bias"][i].reshape(1, 1, 1, 2) + deltas[number])
    return x.mean((1, 2)) @ params["head"]["kernel"] + params["head"]["bias"][None]


@pytest.mark.thorough
@pytest.mark.parametrize("reverse", [False, True])
def test_a_round_of_a_scan_is_explained_by_its_number(reverse):
    model = model_of(Looped(reverse))
    _, layers = run(model, read=["blocks/inner"])
    zeros = jnp.zeros((3, *X.shape))
    params = jax.tree.map(lambda leaf: leaf, model.params)
    params["stem"]["bias"] = params["stem"]["bias"].reshape(1, 1, 1, 2)
    gradients = jax.grad(lambda d: unrolled(params, X, reverse, d)[:, 1].sum())(zeros)
    for number in range(3):
        maps = np.asarray(layers["blocks/inner"][number])
        heat = np.maximum(np.einsum("nhwc,nc->nhw", maps, gradients[number].mean((1, 2))), 0)
        top = heat.max((1, 2), keepdims=True)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", cj.explain.EmptyMap)
            found = cj.explain.grad_cam(model, X, f"blocks/inner@{number}", 1)
        np.testing.assert_allclose(found, heat / np.where(top > 0, top, 1), atol=1e-5)
    read = cj.explain.activations(model, X, ["blocks/inner@0", "stem", "blocks/inner@2"])
    assert list(read) == ["stem", "blocks/inner@0", "blocks/inner@2"]
    np.testing.assert_array_equal(read["blocks/inner@0"], layers["blocks/inner"][0])
    with pytest.raises(ValueError, match="is called 3 times: its calls are @0 to @2"):
        cj.explain.grad_cam(model, X, "blocks/inner@3", 1)


def test_what_is_added_to_a_call_reaches_the_outputs_wherever_the_call_lies():
    for remat in (False, True):
        model = model_of(Nested(remat))
        params = model.params["block"]
        deltas = [jnp.full(X.shape, value) for value in (0.5, -0.25)]
        once, both = (
            lambda x, p=params[n]: x @ p["kernel"] + p["bias"].reshape(1, 1, 1, 2)
            for n in ("once", "both")
        )
        first = both(once(jnp.asarray(X))) + deltas[0]
        second = both(jnp.tanh(first)) + deltas[1]
        head = model.params["head"]
        expected = second.mean((1, 2)) @ head["kernel"] + head["bias"][None]
        add = {("block/both", i): delta for i, delta in enumerate(deltas)}
        outputs, layers = run(model, read=["block/both"], add=add)
        np.testing.assert_allclose(outputs, expected, atol=1e-6)
        np.testing.assert_allclose(layers["block/both"], [first, second], atol=1e-6)


@pytest.mark.parametrize("remat", [False, True])
def test_an_edit_stands_in_the_place_of_a_call(remat):
    model = model_of(Nested(remat))

    def doubled(visit):
        output = visit.proceed()
        return 2 * output if visit.path == "head" else output

    outputs, layers = run(model, edit=doubled, read=["head", "block/once"])
    np.testing.assert_allclose(outputs, 2 * model(X), rtol=1e-6)
    np.testing.assert_array_equal(layers["head"][0], outputs)


def test_a_run_that_stops_calls_nothing_behind():
    model, called = model_of(Nested(False)), []

    def noted(visit):
        called.append(visit.path)
        return visit.proceed()

    outputs, layers = run(model, edit=noted, stop_at="block/both")
    assert outputs is None
    assert len(layers["block/both"]) == 1
    assert called == ["Nested", "block", "block/once", "block/both"]


@pytest.mark.parametrize("how", [{"read": ["blocks/iner"]}, {"stop_at": "blocks/iner"}])
def test_a_path_that_no_layer_has_offers_the_nearest(how):
    with pytest.raises(
        ValueError, match=r"Looped called no layer 'blocks/iner'\. Did you mean 'blocks/inner'"
    ):
        run(model_of(Looped()), **how)


def test_a_layer_in_a_function_with_a_gradient_of_its_own_is_read_but_not_explained():
    class Own(linen.Module):
        @linen.compact
        def __call__(self, x):
            def forward(module, x):
                return module(x), x

            def backward(rest, gradient):
                return {"params": {"kernel": jnp.zeros((2, 2)), "bias": jnp.zeros(2)}}, 0 * rest

            layer = linen.Dense(2, name="inner")
            apply = linen.custom_vjp(lambda m, x: m(x), forward, backward)
            return linen.Dense(2, name="head")(apply(layer, x).mean((1, 2)))

    model = model_of(Own())
    read = cj.explain.activations(model, X, ["inner"])["inner"]
    np.testing.assert_allclose(read, X @ model.params["inner"]["kernel"], atol=1e-6)
    with pytest.raises(ValueError, match=r"has a gradient of its own \('custom_vjp"):
        cj.explain.grad_cam(model, X, "inner", 0)


def test_a_layer_in_a_branch_cannot_be_read():
    class Branch(linen.Module):
        @linen.compact
        def __call__(self, x):
            x = x.mean((1, 2))
            layer = linen.Dense(2, name="maybe")
            if self.is_initializing():
                return layer(x)
            return linen.cond(x.sum() > 0, lambda m, x: m(x), lambda m, x: x, layer, x)

    with pytest.raises(ValueError, match="lies within a 'cond', which runs an unknown number"):
        run(model_of(Branch()), read=["maybe"])
