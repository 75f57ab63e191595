"""Model: a value made of any Linen module."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen

from cnnjax import nn
from cnnjax.core import rng, trees
from cnnjax.models import Model, ModelSpec, create_model

IMAGES = np.random.default_rng(0).random((4, 8, 8, 2), np.float32)
KEY = jax.random.key(0)


class Block(linen.Module):
    features: int

    @linen.compact
    def __call__(self, x, deterministic):
        x = linen.Conv(self.features, (3, 3), name="conv")(x)
        x = linen.BatchNorm(deterministic, momentum=0.9, name="norm")(x)
        return linen.Dropout(0.5, deterministic=deterministic, name="drop")(linen.relu(x))


class Nested(linen.Module):
    """Blocks in a list (which has no hash), BatchNorm, dropout, `deterministic`."""

    widths: list[int]

    @linen.compact
    def __call__(self, x, deterministic: bool = True):
        for i, width in enumerate(self.widths, start=1):
            x = Block(width, name=f"block{i}")(x, deterministic)
        return linen.Dense(3, name="logits")(x.mean(axis=(1, 2)))


def nested(**options):
    return Model.from_module(Nested([4, 5]), (8, 8, 2), **options)


def test_a_users_module_becomes_a_model():
    model = nested(preprocessing="none", label_names=("a", "b", "c"))
    assert model.spec == ModelSpec(
        "Nested", (8, 8, 2), 3, preprocessing="none", label_names=("a", "b", "c")
    )
    assert set(model.state) == {"batch_stats"}
    assert set(model.params) == {"block1", "block2", "logits"}
    expected = Nested([4, 5]).apply(model.variables, IMAGES, deterministic=True)
    np.testing.assert_allclose(model(IMAGES), expected, rtol=1e-5, atol=1e-6)
    assert model(IMAGES).tolist() == model(IMAGES).tolist()


def test_layers_are_named_by_their_paths():
    assert nested().layer_names == (
        "block1/conv",
        "block1/norm",
        "block1/drop",
        "block2/conv",
        "block2/norm",
        "block2/drop",
        "logits",
    )


def test_parameters_are_those_of_the_stream():
    key = rng.stream(7, "parameters")
    expected = Nested([4, 5]).init({"params": key, "dropout": key}, jnp.zeros((1, 8, 8, 2)))
    found = trees.flatten(nested(seed=7).variables)
    assert {k: v.tolist() for k, v in found.items()} == {
        k: v.tolist() for k, v in trees.flatten(expected).items()
    }
    assert trees.tree_hash(nested(seed=8).params) != trees.tree_hash(nested(seed=7).params)


def test_a_model_may_be_made_within_a_program():
    made = jax.jit(lambda: nested(seed=7).variables)()
    assert trees.tree_hash(made) == trees.tree_hash(nested(seed=7).variables)


def test_training_draws_dropout_and_updates_the_statistics():
    model = nested()
    apply_train = jax.jit(model.functions().apply_train)
    logits, state = apply_train(model.params, model.state, IMAGES, KEY)
    assert logits.tolist() == apply_train(model.params, model.state, IMAGES, KEY)[0].tolist()
    other, _ = apply_train(model.params, model.state, IMAGES, jax.random.key(1))
    assert logits.tolist() != other.tolist()
    # The first block's statistics by hand: they start at 0 and 1.
    conv = linen.Conv(4, (3, 3)).apply({"params": model.params["block1"]["conv"]}, IMAGES)
    stats = state["batch_stats"]["block1"]["norm"]
    mean, variance = conv.mean(axis=(0, 1, 2)), conv.var(axis=(0, 1, 2))
    np.testing.assert_allclose(stats["mean"], 0.1 * mean, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(stats["var"], 0.9 + 0.1 * variance, rtol=1e-4)


def test_evaluation_is_the_call():
    model = nested()
    logits = jax.jit(model.functions().apply)(model.params, model.state, IMAGES)
    assert logits.tolist() == model(IMAGES).tolist()


@pytest.mark.parametrize("given", ["as attribute", "by name", "by position"])
def test_frozen_statistics_stay_and_are_used(given):
    class Norm(linen.Module):
        @linen.compact
        def __call__(self, x, train: bool = False):
            if given == "as attribute":
                x = linen.BatchNorm(use_running_average=not train, name="norm1")(x)
            elif given == "by name":
                x = linen.BatchNorm(name="norm1")(x, use_running_average=not train)
            else:
                x = linen.BatchNorm(name="norm1")(x, not train)
            return linen.BatchNorm(use_running_average=not train, name="norm2")(x).mean(axis=(1, 2))

    model = Model.from_module(Norm(), (8, 8, 2))
    stats = {"mean": jnp.array([1.0, 2.0]), "var": jnp.array([4.0, 9.0])}
    state = {"batch_stats": {"norm1": stats, "norm2": model.state["batch_stats"]["norm2"]}}

    def train(frozen):
        apply_train = model.functions(frozen=frozen).apply_train
        return apply_train(model.params, state, IMAGES, KEY)

    _, free = train(())
    assert free["batch_stats"]["norm1"]["mean"].tolist() != [1, 2]
    _, partly = train(("norm1",))
    assert {k: v.tolist() for k, v in partly["batch_stats"]["norm1"].items()} == {
        "mean": [1, 2],
        "var": [4, 9],
    }
    normalised = (IMAGES - np.float32([1, 2])) / np.sqrt(np.float32([4, 9]) + 1e-5)
    expected = 0.01 * normalised.mean(axis=(0, 1, 2))
    np.testing.assert_allclose(partly["batch_stats"]["norm2"]["mean"], expected, rtol=1e-4)
    logits, whole = train(("norm*",))
    assert trees.tree_hash(whole) == trees.tree_hash(state)
    evaluated = model.functions().apply(model.params, state, IMAGES)
    np.testing.assert_allclose(logits, evaluated, rtol=1e-6)


def told(x, switch):
    return jnp.full((x.shape[0], 1), float(switch))


class Train(linen.Module):
    def __call__(self, x, train):
        return told(x, train)


class Training(linen.Module):
    def __call__(self, x, *, training=True):
        return told(x, training)


class IsTraining(linen.Module):
    def __call__(self, x, is_training):
        return told(x, is_training)


class Deterministic(linen.Module):
    def __call__(self, x, *, deterministic):
        return told(x, not deterministic)


@pytest.mark.parametrize("module", [Train(), Training(), IsTraining(), Deterministic()])
def test_the_switch_to_training_may_have_any_usual_name(module):
    model = Model.from_module(module, (8, 8, 2))
    assert model(IMAGES).tolist() == [[0]] * 4
    logits, state = model.functions().apply_train(model.params, model.state, IMAGES, KEY)
    assert logits.tolist() == [[1]] * 4
    assert state == {}


class Scaled(linen.Module):
    factors: Any

    @linen.compact
    def __call__(self, x):
        return x.mean(axis=(1, 2)) * jnp.asarray(self.factors).reshape(1, 2)


@pytest.mark.parametrize("kind", [list, tuple, np.array])
def test_attributes_need_no_hash_and_are_not_confused(kind):
    means = IMAGES.mean(axis=(1, 2))
    for factors in ([1.0, 2.0], [3.0, 4.0], [1.0, 2.0]):
        model = Model.from_module(Scaled(kind(factors)), (8, 8, 2))
        np.testing.assert_allclose(model(IMAGES), means * np.float32(factors), rtol=1e-5)


def test_an_equal_module_is_not_compiled_again():
    traces = []

    def note(x):
        traces.append(None)
        return x

    def noted():
        return linen.Sequential([nn.Flatten(), note, linen.Dense(3)])

    first, second = (Model.from_module(noted(), (8, 8, 2), seed=s) for s in (0, 1))
    traces.clear()
    assert first(IMAGES).tolist() != second(IMAGES).tolist()
    assert len(traces) == 1


def test_a_sequential_of_unnamed_layers():
    module = linen.Sequential([nn.Flatten(), linen.Dense(4), jnp.tanh, linen.Dense(2)])
    model = Model.from_module(module, (8, 8, 2))
    assert set(model.params) == {"layers_1", "layers_3"}
    expected = module.apply(model.variables, IMAGES)
    np.testing.assert_allclose(model(IMAGES), expected, rtol=1e-5, atol=1e-6)


def test_perturbations_and_sown_values_are_no_variables():
    class Seen(linen.Module):
        @linen.compact
        def __call__(self, x):
            self.sow("seen", "inputs", x)
            return linen.Dense(2)(self.perturb("delta", x).mean(axis=(1, 2)))

    model = Model.from_module(Seen(), (8, 8, 2))
    assert set(model.variables) == {"params"}
    assert model(IMAGES).shape == (4, 2)
    _, state = model.functions().apply_train(model.params, model.state, IMAGES, KEY)
    assert state == {}


def returning(function):
    class Returning(linen.Module):
        @linen.compact
        def __call__(self, x):
            return function(x)

    return Returning()


@pytest.mark.parametrize(
    ("function", "found"),
    [
        (lambda x: x, r"\(2, 8, 8, 2\)"),
        (lambda x: x.mean(), r"\(\)"),
        (lambda x: x.mean(axis=(1, 2))[:1], r"\(1, 2\)"),
        (lambda x: {"logits": x}, "dict"),
        (lambda x: (x, x), "tuple"),
    ],
)
def test_a_module_that_returns_no_logits_is_refused(function, found):
    message = rf"Returning must return logits \[N, K\]; for N = 2 it returns {found}"
    with pytest.raises(ValueError, match=message):
        Model.from_module(returning(function), (8, 8, 2))


@pytest.mark.parametrize(
    "module",
    [
        returning(lambda x: x.reshape(x.shape[0], 7)),
        nn.Conv2D(3, 9),
        linen.BatchNorm(),
    ],
)
def test_a_module_that_takes_no_such_inputs_is_refused(module):
    message = rf"{type(module).__name__} cannot be applied to inputs of shape \[N, 8, 8, 2\]: .+"
    with pytest.raises(ValueError, match=message):
        Model.from_module(module, (8, 8, 2))


def test_bad_facts_are_named():
    with pytest.raises(ValueError, match=r"preprocessing must be one of .*, got 'keras'"):
        nested(preprocessing="keras")
    with pytest.raises(ValueError, match="label_names has 2 names, the model has 3 classes"):
        nested(label_names=("a", "b"))


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (IMAGES[:, :7], r"Nested takes inputs \[N, 8, 8, 2\], got \[4, 7, 8, 2\]$"),
        (IMAGES[..., :1], r"Nested takes inputs \[N, 8, 8, 2\], got \[4, 8, 8, 1\]"),
        (IMAGES[0], r"got \[8, 8, 2\]; a single image needs a batch axis"),
        (
            (IMAGES * 255).astype(np.uint8),
            r"preprocessed float32 inputs, got uint8: use cj\.predict",
        ),
    ],
)
def test_bad_inputs_are_named(inputs, message):
    with pytest.raises(ValueError, match=message):
        nested()(inputs)


def test_a_model_is_a_frozen_value():
    model = nested()
    with pytest.raises(dataclasses.FrozenInstanceError, match="variables"):
        model.variables = {}
    changed = model.replace(variables=jax.tree.map(jnp.zeros_like, model.variables))
    assert not changed(IMAGES).any()
    assert model(IMAGES).any()
    assert changed.spec is model.spec


def test_a_model_is_a_pytree_of_its_variables():
    model = create_model("mlp", input_shape=(8, 8, 2), units=(5,), num_classes=3)
    leaves, structure = jax.tree.flatten(model)
    assert len(leaves) == 4
    doubled = jax.tree.map(lambda leaf: 2 * leaf, model)
    assert isinstance(doubled, Model)
    np.testing.assert_allclose(doubled.params["dense1"]["kernel"], 2 * leaves[1], rtol=1e-6)
    rebuilt = jax.tree.unflatten(structure, leaves)
    assert rebuilt(IMAGES).tolist() == model(IMAGES).tolist()
    gradient = jax.grad(lambda m: m(jnp.asarray(IMAGES)).sum())(model)
    assert gradient.params["logits"]["bias"].tolist() == [4, 4, 4]


def test_preprocessing_brings_pixels_to_inputs():
    pixels = np.uint8([[0, 51, 255]])
    unit, none = (ModelSpec("a", (1, 3, 1), 2, preprocessing=p) for p in ("unit", "none"))
    assert unit.preprocess(pixels).dtype == jnp.float32
    np.testing.assert_allclose(unit.preprocess(pixels), [[0, 0.2, 1]], rtol=1e-6)
    assert none.preprocess(pixels).tolist() == [[0, 51, 255]]


def test_a_model_is_one_line_and_in_a_notebook_its_table():
    model = nested()
    assert repr(model) == "Model(Nested, 8x8x2 -> 3, 315 parameters)"
    shown = model._repr_html_()
    assert shown.count("<tr>") == 1 + len(model.layer_names) + 1
    assert all(name in shown for name in model.layer_names)
    assert repr(jax.tree.map(lambda leaf: None, model)).startswith("Model(Nested")
