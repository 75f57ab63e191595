"""Cuts within loops, recomputed blocks and repeated layers, against the loop in Python."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen

import cnnjax as cj
from cnnjax import explain, nn
from cnnjax.explain.cut import cut_at, map_shape

X = np.random.default_rng(0).normal(size=(3, 6, 6, 2)).astype(np.float32)


class Block(linen.Module):
    @linen.compact
    def __call__(self, x, _=None):
        return nn.Conv2D(2, 3, padding="same", activation=jnp.tanh, name="conv")(x), None


class Net(linen.Module):
    """A layer in each round of a scan, in a block under remat, or called again and again.

    The logits know one size only, so that another one shows whether the net is left before them.
    """

    how: str

    @linen.compact
    def __call__(self, x):
        if self.how == "scan":
            loop = linen.scan(
                linen.remat(Block),
                variable_axes={"params": 0},
                split_rngs={"params": True},
                length=3,
            )
            x, _ = loop(name="block")(x, None)
        elif self.how == "remat":
            block = linen.remat(Block)(name="block")
            for _ in range(3):
                x, _ = block(x)
        else:
            block = Block(name="block")
            for _ in range(3):
                x, _ = block(x)
        return nn.Dense(2, name="logits")(nn.Flatten(name="flat")(x))


def by_hand(model, x):
    """What the layer sees and makes in each round, before and after its activation."""
    layer, before = model.params["block"]["conv"], []
    for i in range(3):
        each = layer["kernel"].ndim == 5
        kernel, bias = (layer[n][i] if each else layer[n] for n in ("kernel", "bias"))
        y = jax.lax.conv_general_dilated(
            x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        before.append(y + bias.reshape(1, 1, 1, -1))
        x = jnp.tanh(before[-1])
    return before


@pytest.mark.thorough
@pytest.mark.parametrize("how", ["scan", "remat", "again"])
@pytest.mark.parametrize("size", [6, 9])
def test_each_round_is_cut_and_the_net_left_behind_it(how, size):
    model = cj.Model.from_module(Net(how), X.shape[1:])
    x = np.resize(X, (3, size, size, 2))
    numbers, rounds = jnp.array([1, 0, 1]), by_hand(model, x)
    for layer, before in [
        ("block/conv", rounds[0]),
        *((f"block/conv@{i}", rounds[i]) for i in range(3)),
    ]:
        for is_before, values in ((True, before), (False, jnp.tanh(before))):
            cut = jax.jit(cut_at(model, layer, is_before))
            np.testing.assert_allclose(cut(model.variables, x), values, atol=1e-5)
            single = cut(model.variables, x, numbers)
            expected = [value[..., n : n + 1] for value, n in zip(values, (1, 0, 1), strict=True)]
            np.testing.assert_allclose(single, expected, atol=1e-5)
    assert map_shape(model, "block/conv@1", 9) == (9, 9, 2)


@pytest.mark.thorough
def test_patterns_of_a_round_excite_that_round():
    model = cj.Model.from_module(Net("scan"), X.shape[1:])
    patterns = explain.filter_patterns(model, "block/conv@2", [1], size=8, steps=3)
    assert patterns.shape == (1, 8, 8, 2)
    assert not np.array_equal(
        patterns, explain.filter_patterns(model, "block/conv@0", [1], size=8, steps=3)
    )


def test_a_round_that_there_is_not_is_refused():
    model = cj.Model.from_module(Net("scan"), X.shape[1:])
    with pytest.raises(ValueError, match="is called 3 times: its calls are @0 to @2"):
        explain.filter_patterns(model, "block/conv@3", [0], size=8, steps=1)
    with pytest.raises(ValueError, match=r"'block/con@1' names no layer of Net\. Did you mean"):
        explain.filter_patterns(model, "block/con@1", [0], size=8, steps=1)
