"""Models of tokens, of a class at each position, and of values go the way of image classifiers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen
from jax import Array

import cnnjax as cj
from cnnjax import metrics
from cnnjax.runs import write_report

TINY = {"epochs": 3, "batch_size": 16, "learning_rate": 0.01}


class WordNet(linen.Module):
    """Which of two words stands in a sentence."""

    @linen.compact
    def __call__(self, tokens: Array) -> Array:
        assert jnp.issubdtype(tokens.dtype, jnp.integer)
        x = linen.Embed(10, 4, name="embedding")(tokens)
        return cj.nn.Dense(2, name="logits")(x.max(axis=1))


class PositionNet(linen.Module):
    """A class at each of two positions."""

    @linen.compact
    def __call__(self, images: Array) -> Array:
        x = cj.nn.Flatten(name="flatten")(images)
        x = cj.nn.Dense(6, name="logits")(x)
        return x.reshape(-1, 2, 3)


class ValueNet(linen.Module):
    """Two values of a series."""

    @linen.compact
    def __call__(self, series: Array) -> Array:
        return cj.nn.Dense(2, name="values")(cj.nn.Flatten(name="flatten")(series))


def words() -> cj.data.Dataset:
    labels = np.arange(64, dtype=np.int32) % 2
    tokens = np.random.default_rng(0).integers(2, 10, (64, 7), dtype=np.int32)
    tokens[:, 3] = labels
    return cj.data.Dataset(tokens, labels, ("no", "yes"), "words")


def positions() -> cj.data.Dataset:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, (96, 2), dtype=np.int32)
    images = np.zeros((96, 3, 2, 1), np.uint8)
    rows = np.arange(96)
    for position in range(2):
        images[rows, labels[:, position], position] = 255
    return cj.data.Dataset(images, labels, ("a", "b", "c"), "positions")


def values() -> cj.data.Dataset:
    series = np.random.default_rng(0).normal(size=(96, 5, 1)).astype(np.float32)
    return cj.data.Dataset(series, series[:, -2:, 0] * [2, -1], (), "series")


def model_of(task: str) -> tuple[cj.Model, cj.data.Dataset]:
    if task == "words":
        return cj.Model.from_module(WordNet(), (7,), preprocessing="tokens"), words()
    if task == "positions":
        names = ("a", "b", "c")
        net = cj.Model.from_module(PositionNet(), (3, 2, 1), task=task, label_names=names)
        return net, positions()
    return cj.Model.from_module(ValueNet(), (5, 1), preprocessing="none", task=task), values()


@pytest.fixture(params=["words", "positions", "values"])
def task(request: pytest.FixtureRequest) -> Any:
    return request.param, *model_of(request.param)


@pytest.mark.thorough
def test_it_learns_is_saved_loaded_and_reproduced(task: Any, tmp_path: Path) -> None:
    name, model, data = task
    config = cj.TrainingConfig(**{**TINY, "epochs": 40, "learning_rate": 0.03}, optimizer="adam")
    splits = cj.data.Splits(data, test=data).with_validation(0.25)
    run = cj.fit(model, splits, config, directory=tmp_path / "run", verbose=False)
    metric = "absolute_error" if name == "values" else "accuracy"
    assert {f"val_{metric}", f"test_{metric}", "test_loss"} <= set(run.metrics)
    if name == "values":
        assert run.metrics["test_absolute_error"] < 0.1
    else:
        assert run.metrics["test_accuracy"] > 0.95

    again = cj.load(tmp_path / "run", module=model.module)
    assert again.spec == run.model.spec
    outputs = cj.predict(again, data.inputs)
    np.testing.assert_array_equal(outputs, cj.predict(run.model, data.inputs))
    if name == "values":
        error = np.abs(outputs - data.labels).mean()
        assert error == pytest.approx(run.metrics["test_absolute_error"], rel=1e-5)
    else:
        np.testing.assert_allclose(outputs.sum(axis=-1), 1, rtol=1e-5)
        right = (outputs.argmax(axis=-1) == data.labels).reshape(len(data), -1).all(axis=1)
        assert right.mean() == pytest.approx(run.metrics["test_accuracy"])
    same = cj.reproduce(tmp_path / "run", splits, model, verbose=False)
    assert same.same, str(same)
    assert str(cj.summary(model))
    assert write_report(tmp_path / "run").is_file()


def test_losses_are_those_written_out() -> None:
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(size=(4, 3, 5)), rng.integers(0, 5, (4, 3))
    shifted = np.exp(logits - logits.max(-1, keepdims=True))
    log_probs = np.log(shifted / shifted.sum(-1, keepdims=True))
    wanted = -np.take_along_axis(log_probs, labels[..., None], -1)[..., 0].sum(-1)
    found = metrics.positions_cross_entropy(jnp.asarray(logits, jnp.float32), jnp.asarray(labels))
    np.testing.assert_allclose(found, wanted, rtol=1e-5)
    best = logits.argmax(-1)
    np.testing.assert_array_equal(metrics.correct(jnp.asarray(logits), jnp.asarray(best)), 1)
    best[1, 2] += 1
    np.testing.assert_array_equal(
        metrics.correct(jnp.asarray(logits), jnp.asarray(best)), [1, 0, 1, 1]
    )
    a, b = rng.normal(size=(4, 3)), rng.normal(size=(4, 3))
    found = metrics.mean_squared_error(jnp.asarray(a, jnp.float32), jnp.asarray(b, jnp.float32))
    np.testing.assert_allclose(found, ((a - b) ** 2).mean(axis=1), rtol=1e-5)


def test_a_mask_takes_examples_out_of_the_absolute_error() -> None:
    sums = metrics.batch_sums(
        jnp.ones(2), jnp.array([[1.0, 3.0], [9.0, 9.0]]),
        {"labels": jnp.zeros((2, 2)), "mask": jnp.array([1, 0])},
        {"absolute_error": metrics.absolute_error},
    )  # fmt: skip
    assert metrics.divide({k: float(v) for k, v in sums.items()}) == {
        "loss": 1.0,
        "absolute_error": 2.0,
    }


@pytest.mark.parametrize("name", ["words", "positions", "values"])
def test_data_of_another_task_are_refused(name: str) -> None:
    model, data = model_of(name)
    images, labels = data.inputs, data.labels
    if name == "words":
        images, message = images.astype(np.float32), "token ids, int32"
    elif name == "positions":
        labels, message = labels[:, 0], r"needs integer \[N, 2\]"
    else:
        labels, message = np.zeros(96, np.int32), r"needs floating \[N, 2\]"
    with pytest.raises(ValueError, match=message):
        cj.fit(model, cj.data.Dataset(images, labels), cj.TrainingConfig(**TINY), verbose=False)


def test_what_does_not_fit_is_named() -> None:
    model, data = model_of("positions")
    wrong = data.labels.copy()
    wrong[5, 1] = 3
    with pytest.raises(ValueError, match=r"labels\[5, 1\] is 3, but PositionNet has num_classes=3"):
        cj.evaluate(model, cj.data.Dataset(data.inputs, wrong))
    with pytest.raises(ValueError, match=r"must return logits \[N, P, K\]"):
        cj.Model.from_module(ValueNet(), (5, 1), task="positions")
    with pytest.raises(ValueError, match="task must be one of classes, positions, values"):
        cj.Model.from_module(ValueNet(), (5, 1), task="regression")
    model, data = model_of("values")
    config = cj.TrainingConfig(**TINY, monitor="accuracy")
    with pytest.raises(ValueError, match="monitor='accuracy': there is no metric 'accuracy'"):
        cj.fit(model, data, config, verbose=False)
    config = cj.TrainingConfig(**TINY, augment=cj.augment.Augment(rotation=3))
    with pytest.raises(ValueError, match=r"an Augment changes images \[H, W, C\]"):
        cj.fit(model, data, config, verbose=False)
    with pytest.raises(ValueError, match="the labels hold NaN"):
        cj.evaluate(model, cj.data.Dataset(data.inputs, data.labels * np.float32("nan")))
    words_model, _ = model_of("words")
    with pytest.raises(ValueError, match="takes tokens, whole numbers, got float32"):
        words_model(jnp.zeros((1, 7)))
    with pytest.raises(ValueError, match=r"takes \[N, 7\], got shape \[2, 6\]"):
        cj.predict(words_model, np.zeros((2, 6), np.int32))


def test_tokens_are_words_to_the_last_bit_in_bfloat16(tmp_path: Path) -> None:
    model, data = model_of("words")
    big = cj.data.Dataset(np.where(data.inputs > 1, 9, data.inputs), data.labels)
    run = cj.fit(model, big, cj.TrainingConfig(**TINY, precision="bfloat16"), verbose=False)
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(run.model.variables))
