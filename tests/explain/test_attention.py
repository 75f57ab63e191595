"""Attention maps against what Flax sows, rollout against its definition."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen
from PIL import Image

import cnnjax as cj
from cnnjax import explain

X = np.random.default_rng(0).random((2, 8, 8, 1)).astype(np.float32)


class Block(linen.Module):
    sow: bool = False
    kind: type = linen.MultiHeadDotProductAttention

    @linen.compact
    def __call__(self, x, _=None):
        attend = self.kind(num_heads=2, name="attend")
        return x + attend(jnp.sin(3 * x), sow_weights=self.sow), None


class ViT(linen.Module):
    """A class token, patches of 4 x 4, three blocks, one after the other or as a scan."""

    how: str = "plain"
    sow: bool = False
    kind: type = linen.MultiHeadDotProductAttention

    @linen.compact
    def __call__(self, x):
        x = linen.Conv(6, (4, 4), (4, 4), name="patches")(x).reshape(len(x), -1, 6)
        token = self.param("token", linen.initializers.normal(1.0), (1, 1, 6))
        x = jnp.concatenate([jnp.broadcast_to(token, (len(x), 1, 6)), x], axis=1)
        if self.how == "scan":
            loop = linen.scan(
                linen.remat(Block),
                variable_axes={"params": 0, "intermediates": 0},
                split_rngs={"params": True},
                length=3,
            )
            x, _ = loop(self.sow, self.kind, name="blocks")(x, None)
        else:
            for i in range(3):
                x, _ = Block(self.sow, self.kind, name=f"block{i}")(x)
        return linen.Dense(3, name="logits")(x[:, 0])


def sown(model):
    """The weights as Flax notes them, [3, N, heads, T, T], by a twin that sows."""
    twin = model.module.clone(sow=True)
    _, noted = twin.apply(model.variables, X, mutable=["intermediates"])
    leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(noted)]
    return leaves[0] if len(leaves) == 1 else np.stack(leaves)


@pytest.mark.thorough
@pytest.mark.parametrize("how", ["plain", "scan"])
@pytest.mark.filterwarnings("ignore:SelfAttention")
@pytest.mark.parametrize("kind", [linen.MultiHeadDotProductAttention, linen.SelfAttention])
def test_attention_maps_are_the_weights_that_flax_sows(how, kind):
    model = cj.Model.from_module(ViT(how, kind=kind), X.shape[1:])
    maps = explain.attention_maps(model, X)
    names = [f"block{i}/attend" for i in range(3)]
    assert list(maps) == (names if how == "plain" else [f"blocks/attend@{i}" for i in range(3)])
    np.testing.assert_allclose(np.stack(list(maps.values())), sown(model), atol=1e-6)
    np.testing.assert_array_equal(model(X), model.module.apply(model.variables, X))


def test_layers_are_chosen_by_name_or_pattern():
    model = cj.Model.from_module(ViT(), X.shape[1:])
    assert list(explain.attention_maps(model, X, ["block[12]/*"])) == [
        "block1/attend",
        "block2/attend",
    ]
    with pytest.raises(ValueError, match=r"='block3/attend' names no layer\. Did you mean"):
        explain.attention_maps(model, X, ["block3/attend"])


def softmax_one(query, key, value):
    """Attention that may attend to nothing, whose values must be of the keys' shape."""
    assert value.shape == key.shape
    scores = jnp.einsum("nthd,nshd->nhts", query, key)
    weights = jnp.exp(scores) / (1 + jnp.exp(scores).sum(-1, keepdims=True))
    return jnp.einsum("nhts,nshd->nthd", weights, value)


def test_attention_of_ones_own_is_read_too():
    class Net(linen.Module):
        @linen.compact
        def __call__(self, x):
            x = x.reshape(len(x), 16, 4)
            layer = linen.MultiHeadDotProductAttention(2, attention_fn=softmax_one, name="attend")
            return linen.Dense(2, name="logits")(layer(x).mean(1))

    model = cj.Model.from_module(Net(), X.shape[1:])
    params = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), model.params["attend"])
    tokens = X.reshape(2, 16, 4).astype(np.float64)
    query, key = (
        np.einsum("ntc,chd->nthd", tokens, params[name]["kernel"]) + params[name]["bias"]
        for name in ("query", "key")
    )
    scores = np.exp(np.einsum("nthd,nshd->nhts", query, key))
    expected = scores / (1 + scores.sum(-1, keepdims=True))
    found = explain.attention_maps(model, X)["attend"]
    np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.sample(1)
@pytest.mark.parametrize("to_map", [None, (2, 2, 1)])
def test_rollout_is_the_product_of_the_mixed_weights(to_map):
    model = cj.Model.from_module(ViT(), X.shape[1:])
    product = np.broadcast_to(np.eye(5), (2, 5, 5))
    for weights in sown(model).astype(np.float64):
        product = (weights.mean(1) + np.eye(5)) / 2 @ product
    expected = []
    for row in product[:, 0, 1:].reshape(2, 2, 2):
        image = Image.fromarray((row / row.max()).astype(np.float32))
        expected.append(np.asarray(image.resize((8, 8), Image.Resampling.BILINEAR)))
    found = explain.attention_rollout(model, X, to_map)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_a_net_without_attention_is_refused():
    with pytest.raises(ValueError, match=r"mlp calls no linen.MultiHeadDotProductAttention"):
        explain.attention_maps(cj.create_model("mlp"), np.zeros((1, 28, 28, 1), np.float32))
    model = cj.Model.from_module(ViT(), X.shape[1:])
    with pytest.raises(ValueError, match=r"to_map=\(3, 3, 1\) needs an output \[N, 10, C\]"):
        explain.attention_rollout(model, X, (3, 3, 1))
