"""TrainState: what it holds, what it copies, what it refuses."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen

import cnnjax as cj
from cnnjax.core import trees
from cnnjax.training import TrainState


class Normalised(linen.Module):
    @linen.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        x = linen.Dense(4, name="dense")(x.reshape(x.shape[0], 9))
        x = linen.BatchNorm(use_running_average=not train, name="norm")(x)
        return linen.Dense(2, name="logits")(x)


@pytest.fixture(scope="module")
def model() -> cj.Model:
    return cj.Model.from_module(Normalised(), (3, 3, 1))


def test_holds_the_variables_of_the_model_at_step_zero(model: cj.Model) -> None:
    state = TrainState.create(model, optax.sgd(0.1))
    assert (int(state.step), state.step.dtype) == (0, jnp.int32)
    assert trees.tree_hash(state.variables()) == trees.tree_hash(model.variables)
    assert state.average == {}
    assert jax.tree.structure(state.trained) == jax.tree.structure(model.params)


def test_is_a_pytree_whose_leaves_survive_a_round_trip(model: cj.Model) -> None:
    state = TrainState.create(model, optax.adam(0.1), frozen=("dense",), average=True)
    leaves, treedef = jax.tree.flatten(state)
    again = jax.tree.unflatten(treedef, [leaf + 0 for leaf in leaves])
    assert isinstance(again, TrainState)
    assert jax.tree.map(np.shape, again) == jax.tree.map(np.shape, state)
    assert trees.tree_hash(again.variables()) == trees.tree_hash(model.variables)


def named(tree: Any) -> set[str]:
    return {p for p, leaf in trees.flatten(tree).items() if not isinstance(leaf, optax.MaskedNode)}


def test_all_parameters_are_in_one_tree_and_the_optimiser_knows_only_of_the_trained(
    model: cj.Model,
) -> None:
    state = TrainState.create(model, optax.trace(0.9), frozen=("dense", "norm/scale"), average=True)
    assert trees.tree_hash(state.params) == trees.tree_hash(model.params)
    assert named(state.trained) == {"norm/bias", "logits/bias", "logits/kernel"}
    assert named(state.average) == named(state.trained)
    moments = [leaf.shape for leaf in jax.tree.leaves(state.opt_state)]
    assert moments == [leaf.shape for leaf in jax.tree.leaves(state.trained)]
    assert (9, 4) not in moments
    assert trees.tree_hash(state.variables()) == trees.tree_hash(model.variables)


def test_its_arrays_are_copies_so_that_a_step_may_donate_them(model: cj.Model) -> None:
    before = trees.tree_hash(model.variables)
    state = TrainState.create(model, optax.adam(0.1), average=True)
    double = jax.jit(lambda s: jax.tree.map(lambda x: x * 2, s), donate_argnums=0)
    double(state)
    assert trees.tree_hash(model.variables) == before
    assert not any(leaf.is_deleted() for leaf in jax.tree.leaves(model.variables))


def test_no_two_leaves_share_a_buffer_also_if_the_optimiser_uses_one_twice(
    model: cj.Model,
) -> None:
    def init(params: optax.Params) -> tuple[optax.Params, optax.Params]:
        zeros = jax.tree.map(jnp.zeros_like, params)
        return zeros, zeros

    twice = optax.GradientTransformation(init, lambda u, s, p=None: (u, s))
    state = TrainState.create(model, twice, average=True)
    pointers = [leaf.unsafe_buffer_pointer() for leaf in jax.tree.leaves(state)]
    assert len(set(pointers)) == len(pointers)


def test_average_starts_at_the_parameters_and_is_what_is_evaluated(model: cj.Model) -> None:
    state = TrainState.create(model, optax.sgd(0.1), frozen=("dense",), average=True)
    assert trees.tree_hash(state.variables()) == trees.tree_hash(model.variables)
    changed = jax.tree.map(jnp.zeros_like, state.average)
    state = TrainState(**{**vars(state), "average": changed})
    evaluated = state.variables()
    assert float(jnp.abs(evaluated["params"]["logits"]["kernel"]).max()) == 0
    np.testing.assert_array_equal(
        evaluated["params"]["dense"]["kernel"], model.params["dense"]["kernel"]
    )


def test_the_key_is_that_of_the_seed(model: cj.Model) -> None:
    one, two = (TrainState.create(model, optax.sgd(0.1), seed=seed) for seed in (1, 2))
    np.testing.assert_array_equal(one.key, jax.random.key_data(jax.random.key(1)))
    assert not np.array_equal(one.key, two.key)


def test_a_pattern_that_matches_nothing_offers_the_nearest(model: cj.Model) -> None:
    with pytest.raises(ValueError, match=r"frozen='dens' names no parameter\. .*'dense'"):
        TrainState.create(model, optax.sgd(0.1), frozen=("dens",))


@pytest.mark.parametrize("frozen", [("*",), ("dense", "norm", "logits")])
def test_nothing_left_to_train_is_an_error(model: cj.Model, frozen: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="leaves no parameter to train"):
        TrainState.create(model, optax.sgd(0.1), frozen=frozen)
