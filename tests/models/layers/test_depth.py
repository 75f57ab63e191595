"""Depth by the flow of the data: parameters of the net itself, branches, loops, shared layers."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import pytest
from flax import linen

import cnnjax as cj
from cnnjax.models.builder import build
from cnnjax.models.graph import weighted_layers
from cnnjax.models.layers.depth import depths
from cnnjax.training.optim import learning_rate_factors

BLOCKS = 3


class Transformer(linen.Module):
    """The skeleton of a vision transformer; its names are those of BEiT and timm."""

    @linen.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = linen.Conv(4, (4, 4), (4, 4), name="patch_embed")(x)
        x = x.reshape(x.shape[0], -1, 4)
        cls = self.param("cls_token", linen.initializers.normal(), (1, 1, 4))
        x = jnp.concatenate([jnp.broadcast_to(cls, (x.shape[0], 1, 4)), x], axis=1)
        x = x + self.param("pos_embed", linen.initializers.normal(), (1, x.shape[1], 4))
        self.param("mask_token", linen.initializers.normal(), (1, 1, 4))  # of the pretraining
        for i in range(BLOCKS):
            x = x + Block(name=f"blocks_{i}")(x)
        return linen.Dense(3, name="head")(x[:, 0])


class Block(linen.Module):
    @linen.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        return linen.gelu(linen.Dense(4, name="fc")(x))


def beit_layer(name: str, layers: int) -> int:
    """`get_num_layer_for_vit` of BEiT (github.com/microsoft/unilm, beit/optim_factory.py)."""
    if name in ("cls_token", "mask_token", "pos_embed") or name.startswith("patch_embed"):
        return 0
    if name.startswith("blocks"):
        return int(name.split("/", maxsplit=1)[0].split("_")[1]) + 1
    return layers - 1


def named(model: cj.Model) -> dict[str, int]:
    """Without the collections."""
    return {path.partition("/")[2]: depth for path, depth in depths(model).items()}


@pytest.mark.thorough
def test_a_transformer_has_the_rates_of_beit() -> None:
    model = cj.Model.from_module(Transformer(), (16, 16, 3))
    factors = learning_rate_factors(cj.TrainingConfig(layer_decay=0.75), model)
    layers = BLOCKS + 2
    scales = [0.75 ** (layers - 1 - i) for i in range(layers)]  # as BEiT's LayerDecayValueAssigner
    assert factors == {path: scales[beit_layer(path, layers)] for path in factors}


@pytest.mark.parametrize("name", ["mnist_convnet", "vgg16", "mobilenet", "lenet", "imdb_conv1d"])
@pytest.mark.thorough
def test_a_chain_is_counted_as_its_layers_come(name: str) -> None:
    given: dict[str, Any] = {"input_shape": (64,), "vocabulary_size": 9} if "imdb" in name else {}
    model = cj.Model.abstract(*build(name, **given))
    order = weighted_layers(model)
    assert {path.rpartition("/")[0]: d for path, d in named(model).items()} == {
        layer: i + 1 for i, layer in enumerate(order)
    }


@pytest.mark.thorough
def test_branches_of_a_backbone_begin_at_one_depth() -> None:
    model = cj.Model.abstract(*build("resnet50"))
    found = named(model)
    for block in ("conv2_block1", "conv3_block1", "conv4_block1"):
        assert found[f"{block}_0_conv/kernel"] == found[f"{block}_1_conv/kernel"]
        assert found[f"{block}_0_bn/gamma"] == found[f"{block}_1_bn/gamma"]
    # Of Inception's first block with four branches; the next one follows its longest.
    found = named(cj.Model.abstract(*build("inception_v3")))
    first = [found[f"conv2d_{i}/kernel"] for i in (5, 6, 8)]
    assert first == [first[0]] * 3
    assert found["conv2d_12/kernel"] == found["conv2d_10/kernel"] + 2


def of(function: Any, shape: tuple[int, ...] = (4, 4, 1), **given: Any) -> dict[str, int]:
    class Net(linen.Module):
        @linen.compact
        def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
            return function(self, x, train)

    return named(cj.Model.from_module(Net(), shape, **given))


def flat(x: jax.Array) -> jax.Array:
    return x.reshape(x.shape[0], -1)


def test_a_position_embedding_of_the_input_is_of_the_first_layer() -> None:
    def net(self: linen.Module, x: jax.Array, train: bool) -> jax.Array:
        x = flat(x) + self.param("pos", linen.initializers.zeros, (1, 16))
        return linen.Dense(2, name="b")(linen.Dense(4, name="a")(x))

    assert of(net) == {"a/bias": 1, "a/kernel": 1, "b/bias": 2, "b/kernel": 2, "pos": 1}


def test_a_net_without_layers_is_counted_by_its_products() -> None:
    def net(self: linen.Module, x: jax.Array, train: bool) -> jax.Array:
        x = flat(x)
        for i, width in enumerate((4, 3)):
            kernel = self.param(f"kernel{i}", linen.initializers.ones, (x.shape[1], width))
            x = jax.nn.relu(
                x @ kernel + self.param(f"bias{i}", linen.initializers.zeros, (width,))[None]
            )
        return x * self.param("scale", linen.initializers.ones, (1, 3))

    assert of(net) == {"kernel0": 1, "bias0": 1, "kernel1": 2, "bias1": 2, "scale": 3}


def test_branches_of_other_lengths_begin_together_and_the_next_follows_the_longest() -> None:
    def net(self: linen.Module, x: jax.Array, train: bool) -> jax.Array:
        x = linen.Dense(4, name="stem")(flat(x))
        long = linen.Dense(4, name="l2")(linen.relu(linen.Dense(4, name="l1")(x)))
        return linen.Dense(2, name="head")(long + linen.Dense(4, name="short")(x))

    found = {k.split("/")[0]: v for k, v in of(net).items()}
    assert found == {"stem": 1, "l1": 2, "short": 2, "l2": 3, "head": 4}


def test_a_layer_called_twice_counts_once() -> None:
    def net(self: linen.Module, x: jax.Array, train: bool) -> jax.Array:
        shared = linen.Dense(16, name="shared")
        return linen.Dense(2, name="head")(shared(linen.relu(shared(flat(x)))))

    assert set(of(net).items()) == {
        ("shared/kernel", 1), ("shared/bias", 1), ("head/kernel", 2), ("head/bias", 2),
    }  # fmt: skip


@pytest.mark.thorough
def test_recurrent_cells_and_scanned_blocks_are_looked_into() -> None:
    def recurrent(self: linen.Module, x: jax.Array, train: bool) -> jax.Array:
        x = linen.Dense(4, name="stem")(x)
        x = linen.RNN(linen.GRUCell(4, name="cell"))(x)[:, -1]
        return linen.Dense(2, name="head")(x)

    found = of(recurrent, (5, 3))
    assert {d for path, d in found.items() if path.startswith("cell")} == {2}
    assert found["stem/kernel"] == 1
    assert found["head/kernel"] == 3

    class Cell(linen.Module):
        @linen.compact
        def __call__(self, x: jax.Array, _: None) -> tuple[jax.Array, None]:
            return linen.relu(linen.Dense(16, name="fc")(x)), None

    def scanned(self: linen.Module, x: jax.Array, train: bool) -> jax.Array:
        kind = linen.scan(
            linen.remat(Cell), variable_axes={"params": 0}, split_rngs={"params": True}, length=3
        )
        return linen.Dense(2, name="head")(kind(name="blocks")(flat(x), None)[0])

    found = of(scanned)
    assert found["blocks/fc/kernel"] == 1
    assert found["head/kernel"] == 2


def test_what_only_training_uses_is_found_there() -> None:
    def net(self: linen.Module, x: jax.Array, train: bool) -> jax.Array:
        x = linen.BatchNorm(use_running_average=not train, name="norm")(
            linen.Dense(4, name="stem")(flat(x))
        )
        noise = linen.Dense(4, name="auxiliary")(x)
        return linen.Dense(2, name="head")(x + noise if train else x)

    found = {k.split("/")[0]: v for k, v in of(net).items()}
    assert found == {"stem": 1, "norm": 2, "head": 3, "auxiliary": 3}


def test_both_arms_of_a_condition_and_a_loop_are_followed() -> None:
    def net(self: linen.Module, x: jax.Array, train: bool) -> jax.Array:
        first = self.param("first", linen.initializers.ones, (16, 16))
        second = self.param("second", linen.initializers.ones, (16, 16))
        x = flat(x)
        x = jax.lax.cond(x.sum() > 0, lambda x: x @ first, lambda x: x, x)
        x = jax.lax.while_loop(lambda x: x.max() > 1, lambda x: 0.5 * x @ second, x)
        return linen.Dense(2, name="head")(x)

    assert of(net) == {"first": 1, "second": 2, "head/kernel": 3, "head/bias": 3}
