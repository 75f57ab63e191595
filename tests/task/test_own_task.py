"""A task and inputs of one's own go the way of ours: one file, by public names."""

from __future__ import annotations

import json
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen
from jax import Array

import cnnjax as cj
from cnnjax.runs.report import write_report


def poisson(outputs: Array, labels: Array) -> Array:
    return (jnp.exp(outputs) - labels * outputs).sum(axis=-1)


def relative_error(outputs: Array, labels: Array) -> Array:
    return (jnp.abs(jnp.exp(outputs) - labels) / (labels + 1)).mean(axis=-1)


def not_negative(labels: np.ndarray, outputs: tuple[int, ...], model: str) -> None:
    if labels.min() < 0:
        raise ValueError(f"{model} counts, so labels must be >= 0, got {labels.min()}")


def numbers(outputs: np.ndarray, label_names: tuple[str, ...]) -> list[str]:
    return [" ".join(f"{value:.0f}" for value in row) for row in outputs]


def decibels(power: Array) -> Array:
    return 10 * jnp.log10(power)


def positive(low: float, high: float) -> None:
    if low <= 0:
        raise ValueError(f"a power must be > 0, got {low:g}")


COUNTS = cj.Task(
    "counts",
    poisson,
    {"relative_error": relative_error},
    labels=("N", "K"),
    check=not_negative,
    activation=jnp.exp,
    decode=numbers,
    of_classes=False,
)
DECIBELS = cj.Inputs("decibels", decibels, check=positive)


class Counter(linen.Module):
    """Two counts of a series."""

    @linen.compact
    def __call__(self, series: Array) -> Array:
        return cj.nn.Dense(2, name="counts")(cj.nn.Flatten(name="flatten")(series))


def counter() -> cj.Model:
    return cj.Model.from_module(Counter(), (3, 1), task=COUNTS, preprocessing=DECIBELS)


def powers() -> cj.data.Dataset:
    series = np.random.default_rng(0).uniform(0.5, 2, (64, 3, 1)).astype(np.float32)
    return cj.data.Dataset(series, np.round(4 * series[:, :2, 0]).astype(np.int32), (), "powers")


CONFIG = cj.TrainingConfig(epochs=8, batch_size=32, optimizer="adam", learning_rate=0.03)


def test_a_task_of_ones_own_is_trained_measured_recorded_loaded_and_reproduced(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, model = powers(), counter()
    before = cj.evaluate(model, data)
    run = cj.fit(model, cj.data.Splits(data, test=data), CONFIG, directory=tmp_path / "run")
    assert "relative_error" in capsys.readouterr().out
    assert run.metrics["test_relative_error"] < before["relative_error"]

    logits = np.asarray(run.model(decibels(jnp.asarray(data.inputs))), np.float64)
    loss = (np.exp(logits) - data.labels * logits).sum(axis=1).mean()
    assert run.metrics["test_loss"] == pytest.approx(loss, rel=1e-4)
    counts = cj.predict(run.model, data.inputs)
    np.testing.assert_allclose(counts, np.exp(logits), rtol=1e-4)
    assert run.model.spec.task.decode(counts[:1], ()) == [f"{counts[0, 0]:.0f} {counts[0, 1]:.0f}"]

    described = json.loads((tmp_path / "run" / "model.json").read_text())
    assert (described["task"], described["preprocessing"]) == ("counts", "decibels")
    with pytest.raises(ValueError, match="task='counts', whose code is not stored with it: give"):
        cj.load(tmp_path / "run", Counter())
    with pytest.raises(ValueError, match="preprocessing='decibels', whose code is not stored"):
        cj.load(tmp_path / "run", Counter(), task=COUNTS)
    again = cj.load(tmp_path / "run", Counter(), task=COUNTS, preprocessing=DECIBELS)
    assert again.spec == run.model.spec
    np.testing.assert_array_equal(cj.predict(again, data.inputs), counts)
    splits = cj.data.Splits(data, test=data)
    same = cj.reproduce(tmp_path / "run", splits, counter(), verbose=False)
    assert same.same, str(same)
    assert "relative error" in write_report(tmp_path / "run").read_text()


def test_what_a_task_or_inputs_of_ones_own_refuse_is_one_sentence() -> None:
    data, model = powers(), counter()
    wrong = cj.data.Dataset(data.inputs, data.labels - 5, (), "powers")
    with pytest.raises(ValueError, match=r"^powers: Counter counts, so labels must be >= 0, got"):
        cj.evaluate(model, wrong)
    wrong = cj.data.Dataset(data.inputs, data.labels[:, :1], (), "powers")
    with pytest.raises(ValueError, match=r"labels of shape \[64, 1\].* needs integer \[N, 2\]"):
        cj.evaluate(model, wrong)
    with pytest.raises(ValueError, match=r"^powers: a power must be > 0, got -0\.\d+$"):
        cj.evaluate(model, cj.data.Dataset(data.inputs - 1, data.labels, (), "powers"))
    with pytest.raises(
        ValueError, match=r"of the 2 outputs of Counter, whose task is .counts., none is"
    ):
        cj.explain.saliency(model, jnp.ones((1, 3, 1)))


def test_a_task_that_cannot_be_is_refused() -> None:
    ours = {"accuracy": cj.metrics.correct}
    with pytest.raises(ValueError, match=r"outputs of a task must be .*, got \('K',\)"):
        cj.Task("mine", poisson, ours, outputs=("K",))
    with pytest.raises(ValueError, match="labels of a task must be 'N' and others of"):
        cj.Task("mine", poisson, ours, labels=("N", "P"))
    with pytest.raises(
        ValueError, match="label_kind must be 'integer', 'floating', 'number', got 'real'"
    ):
        cj.Task("mine", poisson, ours, label_kind="real")
    with pytest.raises(ValueError, match="the task 'mine' needs a metric at least"):
        cj.Task("mine", poisson, {})
    with pytest.raises(ValueError, match="dtype of inputs must be 'float32' or 'int32', got 'f4'"):
        cj.Inputs("mine", decibels, dtype="f4")
    with pytest.raises(ValueError, match="task of your own needs a name of its own, 'classes' is"):
        cj.Model.from_module(Counter(), (3, 1), task=cj.Task("classes", poisson, ours))
    with pytest.raises(ValueError, match="Did you mean 'values'"):
        cj.Model.from_module(Counter(), (3, 1), task="value")
