"""Variables whose own names hold "/", "." or "~" keep their places through all that is done."""

from __future__ import annotations

import functools
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import stored_states
from flax import linen

import cnnjax as cj
from cnnjax.core import trees
from cnnjax.runs import Checkpoints
from cnnjax.training import TrainState, make_train_step


class Wrapped(linen.Module):
    """Normalisation wrappers, which name their variables by paths, and odd names of one's own."""

    @linen.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        x = x.reshape(x.shape[0], -1)
        x = linen.SpectralNorm(linen.Dense(6))(x, update_stats=train)
        x = linen.relu(linen.WeightNorm(linen.Dense(5))(x))
        x = linen.Dense(4, name="a/b")(x)
        # By Orbax's own names this one and the kernel of "a.b" are the same.
        x = Nested(name="a")(linen.Dense(4, name="a.b")(x))
        scale = self.param("a/b~", linen.initializers.ones, (4,))
        return linen.Dense(3, name="logits")(x * scale[None])


class Nested(linen.Module):
    """A layer "b" within another one."""

    @linen.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        return linen.Dense(4, name="b")(x)


@functools.cache
def model() -> cj.Model:
    return cj.Model.from_module(Wrapped(), (4, 4, 1))


@functools.cache
def arrays() -> tuple[np.ndarray, np.ndarray]:
    images = np.random.default_rng(0).integers(0, 256, (8, 4, 4, 1), dtype=np.uint8)
    return images, np.arange(8, dtype=np.int32) % 3


def config(**changes: object) -> cj.TrainingConfig:
    return cj.TrainingConfig(epochs=1, batch_size=4, optimizer="sgd", **changes)


def same(first: cj.Model, second: cj.Model) -> bool:
    return jax.tree.all(jax.tree.map(np.array_equal, first.variables, second.variables))


def test_the_net_has_such_names():
    names = set(trees.flatten(model().variables))
    assert {
        "params/a~1b/kernel",
        "params/a/b/kernel",
        "params/a.b/kernel",
        "params/a~1b~0",
        "params/WeightNorm_0/Dense_1~1kernel~1scale",
        "batch_stats/SpectralNorm_0/Dense_0~1kernel~1u",
    } <= names


@pytest.mark.thorough
def test_training_moves_everything_and_keeps_the_form():
    run = cj.fit(model(), arrays(), config(), verbose=False)
    assert jax.tree.structure(run.model.variables) == jax.tree.structure(model().variables)
    before, after = trees.flatten(model().variables), trees.flatten(run.model.variables)
    still = {path for path in before if np.array_equal(before[path], after[path])}
    assert not {p for p in still if p.endswith(("kernel", "scale", "~0", "~1u"))}


@pytest.mark.thorough
def test_training_is_that_of_the_module_alone():
    """One step against Flax and optax without anything of ours between."""
    images, labels = arrays()
    run = cj.fit(
        model(), (images, labels), cj.TrainingConfig(epochs=1, batch_size=8, optimizer="sgd"),
        verbose=False,
    )  # fmt: skip
    start = model().variables

    def loss(params: dict) -> jax.Array:
        logits, _ = Wrapped().apply(
            {**start, "params": params}, jnp.float32(images) / 255, True, mutable=["batch_stats"]
        )
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

    wanted = jax.tree.map(
        lambda p, g: p - 1e-3 * g, start["params"], jax.grad(loss)(start["params"])
    )
    jax.tree.map(
        functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6),
        run.model.params,
        wanted,
    )


@pytest.mark.sample(1)
@pytest.mark.parametrize(
    ("pattern", "held"),
    [
        ("a~1b", {"a~1b/bias", "a~1b/kernel"}),
        ("a/b", {"a~1b/bias", "a~1b/kernel", "a/b/bias", "a/b/kernel"}),
        ("WeightNorm_0/Dense_1/kernel", {"WeightNorm_0/Dense_1~1kernel~1scale"}),
        ("a.b/kernel", {"a.b/kernel"}),
    ],
)
def test_patterns_freeze_them(pattern, held):
    run = cj.fit(model(), arrays(), config(frozen=(pattern,)), verbose=False)
    before, after = trees.flatten(model().params), trees.flatten(run.model.params)
    assert {path for path in before if np.array_equal(before[path], after[path])} == held


def test_saved_and_loaded_they_are_the_same(tmp_path):
    cj.save(model(), tmp_path / "model")
    assert same(cj.load(tmp_path / "model", Wrapped()), model())


@pytest.mark.thorough
def test_a_run_resumed_from_its_checkpoint_ends_in_the_same_bits(tmp_path):
    settings = {"checkpoint_every": 1, "average": 0.5, "frozen": ("a.b",)}
    whole = cj.fit(model(), arrays(), cj.TrainingConfig(epochs=2, batch_size=4, **settings),
                   directory=tmp_path / "whole", verbose=False)  # fmt: skip
    half = cj.TrainingConfig(epochs=1, batch_size=4, **settings)
    cj.fit(model(), arrays(), half, directory=tmp_path / "half", verbose=False)
    more = cj.TrainingConfig(epochs=2, batch_size=4, resume=True, **settings)
    resumed = cj.fit(model(), arrays(), more, directory=tmp_path / "half", verbose=False)
    assert resumed.parameter_hash == whole.parameter_hash
    assert same(cj.load(tmp_path / "half", Wrapped()), whole.model)


@pytest.mark.parametrize("ending", [".npz", ".safetensors"])
def test_exported_arrays_are_named_by_their_paths(tmp_path, ending):
    file = cj.export_weights(model(), tmp_path / f"weights{ending}")
    if ending == ".npz":
        found = dict(np.load(file))
    else:
        from safetensors.numpy import load_file

        found = load_file(file)
    wanted = {
        path.partition("/")[2]: leaf for path, leaf in trees.flatten(model().variables).items()
    }
    wanted["/a~1b~0"] = wanted.pop("a~1b~0")  # of no layer
    assert found.keys() == wanted.keys()
    assert all(np.array_equal(found[name], wanted[name]) for name in found)


def test_two_variables_of_one_name_are_not_exported_as_one(tmp_path):
    class Twice(linen.Module):
        @linen.compact
        def __call__(self, x: jax.Array) -> jax.Array:
            x = linen.Dense(2, name="logits")(x.reshape(x.shape[0], -1))
            self.variable("ema", "scale", jnp.ones, (2,))
            return x * self.param("scale", linen.initializers.ones, (2,))[None]

    twice = cj.Model.from_module(Twice(), (2, 2, 1))
    with pytest.raises(ValueError, match="two variables 'scale', in two collections"):
        cj.export_weights(twice, tmp_path / "weights.npz")


def test_the_summary_counts_them_where_they_belong():
    rows = {row.name: row.parameters for row in cj.summary(model()).rows}
    assert rows["a/b"] == rows["a~1b"] - 4 == 20
    assert sum(rows.values()) == sum(
        leaf.size for leaf in trees.flatten(model().variables).values()
    )


def test_an_empty_dictionary_among_the_variables_survives_steps_and_checkpoints(tmp_path):
    """Its loss changed the form of a state between two steps."""
    variables = {**model().variables, "params": {**model().params, "none": {"here": {}}}}
    padded = model().replace(variables=variables)
    optimizer = optax.adam(1e-3)
    state = TrainState.create(padded, optimizer, frozen=("a/b",), average=True)
    step = jax.jit(make_train_step(padded, optimizer=optimizer, frozen=("a/b",), average=0.9))
    images, labels = arrays()
    after, _ = step(state, {"inputs": images, "labels": labels})
    assert jax.tree.structure(after) == jax.tree.structure(state)
    assert after.variables()["params"]["none"] == {"here": {}}
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    stored_states.save(checkpoints, after, {})
    checkpoints.wait()
    again, _ = stored_states.load(checkpoints, state)
    checkpoints.close()
    assert jax.tree.structure(again) == jax.tree.structure(state)
    assert jax.tree.all(jax.tree.map(np.array_equal, again, after))


def test_records_name_the_hash_of_what_was_trained(tmp_path):
    run = cj.fit(model(), arrays(), config(), directory=tmp_path, verbose=False)
    record = json.loads(Path(tmp_path, "run.json").read_text())
    assert record["initial_hash"] == trees.tree_hash(model().variables)
    assert run.parameter_hash == trees.tree_hash(run.model.variables)
