"""Weights of examples and of classes: in training only, and as Keras has them."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from sklearn.utils.class_weight import compute_class_weight

import cnnjax as cj
from cnnjax.augment import Augment
from cnnjax.config import TrainingConfig, to_dict
from cnnjax.core.settings import from_dict
from cnnjax.training import Aux, TrainState, make_eval_step, make_train_step
from cnnjax.training.class_weights import balanced, checked_class_weights, resolved

Arrays = tuple[np.ndarray, np.ndarray]


def linear(classes: int = 3) -> cj.Model:
    return cj.create_model("mlp", input_shape=(12, 12, 1), num_classes=classes, units=())


def stepped(model: cj.Model, batches: list[dict[str, Any]], **arguments: Any) -> tuple[Any, Any]:
    optimizer = optax.sgd(0.5)
    step = jax.jit(make_train_step(model, optimizer=optimizer, **arguments))
    state, sums = TrainState.create(model, optimizer), {}
    for batch in batches:
        state, sums = step(state, batch)
    return state, {name: float(value) for name, value in sums.items()}


def batches(data: Arrays, weights: np.ndarray | None = None) -> list[dict[str, Any]]:
    given = {"inputs": data[0], "labels": data[1]}
    given |= {} if weights is None else {"weights": weights}
    return [{k: v[i : i + 32] for k, v in given.items()} for i in (0, 32, 64)]


def in_keras(model: cj.Model, data: Arrays, **weights: Any) -> tuple[np.ndarray, float]:
    """The kernel after three steps, and the loss of the last one, as Keras has them."""
    import keras

    with jax.numpy_rank_promotion("allow"):
        net = keras.Sequential([keras.Input((144,)), keras.layers.Dense(3)])
        net.layers[0].set_weights([np.array(model.params["logits"][k]) for k in ("kernel", "bias")])
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        net.compile(keras.optimizers.SGD(0.5), loss)
        flat, last = data[0].reshape(-1, 144).astype(np.float32) / 255, 0.0
        for i in (0, 32, 64):
            part = slice(i, i + 32)
            more = {k: v if isinstance(v, dict) else v[part] for k, v in weights.items()}
            net.reset_metrics()
            last = float(net.train_on_batch(flat[part], data[1][part], **more))
        return np.array(net.layers[0].kernel.value), last


@pytest.mark.thorough
@pytest.mark.parametrize("kind", ["examples", "classes"])
def test_weighted_steps_are_those_of_keras(squares: Arrays, kind: str) -> None:
    model, of_class = linear(), (0.2, 1.0, 3.0)
    weights = np.random.default_rng(0).uniform(0, 2, 96).astype(np.float32)
    if kind == "examples":
        state, sums = stepped(model, batches(squares, weights))
        kernel, loss = in_keras(model, squares, sample_weight=weights)
    else:
        state, sums = stepped(model, batches(squares), class_weights=of_class)
        kernel, loss = in_keras(model, squares, class_weight=dict(enumerate(of_class)))
    np.testing.assert_allclose(state.params["logits"]["kernel"], kernel, rtol=1e-3, atol=1e-5)
    assert sums["loss"] / sums["count"] == pytest.approx(loss, rel=1e-4)


def test_the_loss_is_the_weighted_sum_over_the_number_of_examples(squares: Arrays) -> None:
    model = linear()
    weights = np.linspace(0, 2, 32).astype(np.float32)
    batch = {**batches(squares, weights)[0], "mask": np.arange(32) < 20}
    _, sums = stepped(model, [batch], class_weights=(1.0, 2.0, 0.0))
    z = np.asarray(model(model.spec.preprocess(batch["inputs"])), np.float64)
    losses = -np.asarray(jax.nn.log_softmax(z))[np.arange(32), batch["labels"]]
    counted = weights * np.array([1.0, 2.0, 0.0])[batch["labels"]] * batch["mask"]
    assert sums["loss"] == pytest.approx(float((losses * counted).sum()), rel=1e-5)
    assert sums["count"] == 20
    right = (z.argmax(axis=1) == batch["labels"]) & batch["mask"]
    assert sums["accuracy"] == right.sum()


def test_evaluation_has_no_weights(squares: Arrays) -> None:
    model, step = linear(), make_eval_step(linear())
    plain = step(model.variables, batches(squares)[0])
    given = step(model.variables, batches(squares, np.zeros(96, np.float32))[0])
    assert jax.tree.map(float, plain) == jax.tree.map(float, given)


def test_losses_of_an_objective_of_ones_own_are_weighted_too(squares: Arrays) -> None:
    def ones(functions: Any, params: Any, state: Any, batch: Any, key: Any) -> Any:
        outputs, state = functions.apply_train(params, state, batch["inputs"], key)
        return jnp.ones(32) + 0 * outputs[:, 0], Aux(outputs, state)

    weights = np.linspace(0, 2, 96).astype(np.float32)
    _, sums = stepped(linear(), batches(squares, weights)[:1], objective=ones)
    assert sums["loss"] == pytest.approx(float(weights[:32].sum()), rel=1e-5)


def test_balanced_weights_are_those_of_scikit_learn() -> None:
    labels = np.repeat([0, 1, 3], [7, 2, 5])
    theirs = compute_class_weight("balanced", classes=np.array([0, 1, 3]), y=labels)
    assert [balanced(labels, 4)[k] for k in (0, 1, 3)] == pytest.approx(theirs.tolist())


def test_balanced_is_what_the_training_labels_make_of_it(squares: Arrays) -> None:
    images, labels = squares
    few = np.flatnonzero((labels > 0) | (np.arange(96) < 9))
    data = cj.data.from_arrays(images[few], labels[few])
    runs = []
    for weights in ("balanced", balanced(labels[few], 3), None):
        config = TrainingConfig(epochs=1, batch_size=16, class_weights=weights)
        runs.append(cj.fit(linear(), data, config, verbose=False).parameter_hash)
    assert runs[0] == runs[1] != runs[2]


def test_one_logit_has_two_classes(squares: Arrays) -> None:
    data = squares[0], np.minimum(squares[1], 1)
    _, sums = stepped(linear(1), batches(data)[:1], class_weights=(0.0, 0.0001))
    _, plain = stepped(linear(1), batches(data)[:1])
    assert 0 < sums["loss"] < 0.0001 * plain["loss"]


def test_settings_keep_a_mapping_as_a_tuple_and_go_to_json_and_back() -> None:
    config = TrainingConfig(class_weights={1: 2.0, 0: 0.5})
    assert config.class_weights == (0.5, 2.0)
    assert from_dict(TrainingConfig, to_dict(config)) == config


@pytest.mark.parametrize(
    "given", ["even", (1.0, -1.0), {0: 1.0, 2: 1.0}, {"cat": 1.0}, (0.0, 0.0), (), 3.0]
)
def test_what_class_weights_must_be(given: Any) -> None:
    with pytest.raises(ValueError, match="class_weights must be 'balanced' or numbers >= 0"):
        TrainingConfig(class_weights=given)


@pytest.mark.parametrize(
    ("model", "arguments", "message"),
    [
        (linear(), {"class_weights": (1.0, 2.0)}, "class_weights must be 3 numbers, .* got 2"),
        (linear(), {"class_weights": "balanced"}, "class_weights='balanced' is for fit, which"),
        (
            linear(),
            {"class_weights": (1.0, 2.0, 3.0), "augment": Augment(mixup=0.2)},
            "mixup or cutmix mixes examples whose weights would differ",
        ),
    ],
    ids=["number", "balanced", "mixup"],
)
def test_class_weights_that_cannot_be_honoured(
    squares: Arrays, model: cj.Model, arguments: dict[str, Any], message: str
) -> None:
    batch = {**batches(squares)[0], "index": np.arange(32), "epoch": np.int32(0)}
    with pytest.raises(ValueError, match=message):
        stepped(model, [batch], **arguments)


def test_class_weights_are_for_classes(squares: Arrays) -> None:
    from flax import linen

    class Net(linen.Module):
        @linen.compact
        def __call__(self, x: jax.Array) -> jax.Array:
            return linen.Dense(2, name="values")(x.reshape(x.shape[0], 144))

    model = cj.Model.from_module(Net(), (12, 12, 1), task="values")
    data = squares[0], np.ones((96, 2), np.float32)
    config = TrainingConfig(epochs=1, class_weights="balanced")
    with pytest.raises(ValueError, match="is for labels that are one class an example, and Net"):
        cj.fit(model, data, config, verbose=False)


def test_a_stream_cannot_be_balanced() -> None:
    with pytest.raises(ValueError, match=r"which a stream does not know: give 3 numbers"):
        resolved("balanced", linear().spec, None)
    assert resolved((1.0, 2.0, 3.0), linear().spec, None) == (1.0, 2.0, 3.0)


def test_weights_must_be_one_per_example(squares: Arrays) -> None:
    with pytest.raises(ValueError, match=r"batch\['weights'\] must be \[32\], got \[32, 1\]"):
        stepped(linear(), [{**batches(squares)[0], "weights": np.ones((32, 1), np.float32)}])


@pytest.mark.parametrize("weights", ["balanced", (1.0, 2.0)])
def test_classes_of_one_of_several_outputs_have_no_weights(weights: Any) -> None:
    from cnnjax.task import joint

    spec = dataclasses.replace(linear().spec, task=joint({"kind": "classes", "size": "values"}))
    with pytest.raises(ValueError, match="predicts kind classes, size values: give a weight per"):
        resolved("balanced", spec, {"kind": np.zeros(2, np.int32)})
    with pytest.raises(ValueError, match="is for labels that are one class an example"):
        checked_class_weights(weights, spec)


def test_a_data_set_is_no_batch() -> None:
    model, data = linear(), cj.data.from_arrays(np.zeros((2, 12, 12, 1)), [0, 1])
    with pytest.raises(ValueError, match=r"got Dataset: cj.data.Loader\(data, batch_size\).batch"):
        cj.research.per_example_gradients(model, data)  # type: ignore[arg-type]
