"""Metrics given to `fit`, `evaluate` and `sweep`: measured, recorded, monitored, resumed."""

from __future__ import annotations

import json
import re
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from commands import after_every_dispatch, python

import cnnjax as cj
from cnnjax.metrics import Metric
from cnnjax.runs import RunError
from cnnjax.training import tally
from cnnjax.training.epoch_bar import epoch_line

Arrays = tuple[np.ndarray, np.ndarray]
TABLES = {
    "f1": cj.metrics.f1(),
    "each": cj.metrics.recall(average=None),
    "pairs": cj.metrics.confusion_matrix(),
    "area": cj.metrics.auroc(),
}
TIMES = ("seconds", "images_per_second", "waiting")


def net() -> cj.Model:
    return cj.create_model("mlp", input_shape=(12, 12, 1), num_classes=3, units=(8,))


def fit(data: Arrays, directory: Path | None = None, **arguments: Any) -> cj.Run:
    settings = {"epochs": 2, "batch_size": 8, "optimizer": "adam", **arguments.pop("config", {})}
    splits = cj.data.Splits(cj.data.from_arrays(*data)).with_validation(0.25)
    arguments.setdefault("metrics", TABLES)
    return cj.fit(
        net(), splits, cj.TrainingConfig(**settings), directory=directory, verbose=False,
        **arguments,
    )  # fmt: skip


def misses(outputs: Any, labels: Any) -> Any:
    return 1 - cj.metrics.correct(outputs, labels)


RUNS: list[cj.Run] = []


@pytest.fixture
def run(squares: Arrays, tmp_path_factory: pytest.TempPathFactory) -> cj.Run:
    """One run for all, trained once."""
    if not RUNS:
        place = tmp_path_factory.mktemp("measured") / "run"
        RUNS.append(fit(squares, place, config={"checkpoint_every": 4}))
    return RUNS[0]


def test_the_metrics_of_a_run_are_those_of_its_predictions(run: cj.Run, squares: Arrays) -> None:
    sklearn_metrics = pytest.importorskip("sklearn.metrics")
    part = cj.data.Splits(cj.data.from_arrays(*squares)).with_validation(0.25).validation
    assert part
    answers = cj.predict(run.model, np.asarray(part.inputs)).argmax(axis=1)
    labels = np.asarray(part.labels)
    f1 = sklearn_metrics.f1_score(labels, answers, average="macro")
    assert run.metrics["val_f1"] == pytest.approx(f1, rel=1e-12)
    each = sklearn_metrics.recall_score(labels, answers, average=None)
    np.testing.assert_allclose(run.metrics["val_each"], each)
    pairs = sklearn_metrics.confusion_matrix(labels, answers)
    np.testing.assert_array_equal(run.metrics["val_pairs"], pairs)


def test_history_and_records_hold_numbers_and_tables(run: cj.Run) -> None:
    assert run.history["f1"].shape == run.history["val_f1"].shape == (2,)
    assert run.history["each"].shape == (2, 3)
    assert run.history["val_pairs"].shape == (2, 3, 3)
    assert run.history["pairs"].sum(axis=(1, 2)).tolist() == [72, 72]
    assert run.directory
    lines = (run.directory / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["val_pairs"] for line in lines] == run.history["val_pairs"].tolist()
    record = json.loads((run.directory / "run.json").read_text())
    assert record["metrics"]["val_each"] == run.metrics["val_each"].tolist()
    config = json.loads((run.directory / "config.json").read_text())
    assert config["metrics"] == list(TABLES)


def test_the_names_of_the_loop_are_all_that_a_record_has_beside_what_is_measured(
    run: cj.Run, squares: Arrays
) -> None:
    plain = fit(squares, metrics=None, config={"epochs": 1, "log_gradients": True})
    measured = {"accuracy", *(f"val_{name}" for name in ("loss", "accuracy"))}
    assert set(plain.history) - measured == set(cj.metrics.LOOP_NAMES) - {"count"}
    for name in TIMES:
        assert name in run.history


@pytest.mark.parametrize("size", [7, 32, 96])
def test_an_evaluation_is_the_same_for_any_batches(run: cj.Run, squares: Arrays, size: int) -> None:
    whole = cj.evaluate(run.model, squares, batch_size=96, metrics=TABLES)
    means = cj.evaluate(run.model, squares, batch_size=size, metrics=TABLES)
    assert set(means) == {"loss", "accuracy", *TABLES}
    for name in TABLES:
        np.testing.assert_array_equal(means[name], whole[name])


def test_metrics_change_nothing_of_what_is_trained(run: cj.Run, squares: Arrays) -> None:
    assert fit(squares, metrics=None).parameter_hash == run.parameter_hash


@pytest.mark.thorough
def test_steps_in_one_program_measure_the_same(run: cj.Run, squares: Arrays) -> None:
    scanned = fit(squares, config={"steps_per_dispatch": 4})
    for name in ("f1", "each", "val_pairs"):
        np.testing.assert_allclose(scanned.history[name], run.history[name], rtol=1e-6)


def test_a_run_killed_within_an_epoch_and_resumed_has_the_same_bits(
    run: cj.Run, squares: Arrays, tmp_path: Path
) -> None:
    class Killed(Exception):
        pass

    steps = iter(range(100))

    def hook(done: int) -> None:
        if next(steps) == 14:
            raise Killed

    undo = after_every_dispatch(hook)
    try:
        with pytest.raises(Killed):
            fit(squares, tmp_path / "run", config={"checkpoint_every": 4})
    finally:
        undo()
    resumed = fit(squares, tmp_path / "run", config={"checkpoint_every": 4, "resume": True})
    assert resumed.parameter_hash == run.parameter_hash
    assert list(resumed.history) == list(run.history)
    for name in run.history.keys() - set(TIMES):
        np.testing.assert_array_equal(resumed.history[name], run.history[name])
    np.testing.assert_equal(resumed.metrics, run.metrics)


def test_other_metrics_are_refused_on_resume(squares: Arrays, tmp_path: Path) -> None:
    place, config = tmp_path / "run", {"epochs": 1, "resume": True}
    fit(squares, place, metrics={"mine": misses, "f1": cj.metrics.f1()}, config=config)
    longer = {**config, "epochs": 2}
    with pytest.raises(RunError, match=r"a run with other settings.*metrics"):
        fit(squares, place, metrics={"f1": cj.metrics.f1()}, config=longer)
    with pytest.raises(RunError, match=r"a run with other settings.*metrics"):
        fit(squares, place, metrics=None, config=longer)
    micro = {"mine": misses, "f1": cj.metrics.f1("micro")}
    with pytest.raises(RunError, match=r"metrics.* differs.*allow_changed=\('metrics',\)"):
        fit(squares, place, metrics=micro, config=longer)
    fit(squares, place, metrics=micro, config={**longer, "allow_changed": ("metrics",)})


def test_the_best_epoch_is_that_of_the_monitored_metric(squares: Arrays) -> None:
    values = iter([0.5, 0.75, 0.25, 0.5])
    told = Metric(
        lambda: 0.0, lambda outputs, batch: batch["mask"].sum(), lambda sums: 0.0, mode="min"
    )
    for mode, best in ((None, 3), ("max", 2)):
        values = iter([0.0, *(v for x in (0.5, 0.75, 0.25, 0.5) for v in (0.0, x))])
        measure = Metric(told.init, told.update, lambda sums, v=values: next(v), mode=told.mode)
        config = {"epochs": 4, "monitor": "told", "mode": mode}
        run = fit(squares, metrics={"told": measure}, config=config)
        assert run.history["val_told"].tolist() == [0.5, 0.75, 0.25, 0.5]
        assert run.best_epoch == best
        assert run.metrics["val_told"] == run.history["val_told"][best - 1]


def test_a_training_stops_early_by_a_metric_of_the_callers(squares: Arrays) -> None:
    still = Metric(lambda: 0.0, lambda outputs, batch: batch["mask"].sum(), lambda sums: 1.0)
    config = {"epochs": 9, "monitor": "still", "early_stopping": 2}
    run = fit(squares, metrics={"still": still}, config=config)
    assert (len(run.history["epoch"]), run.best_epoch) == (3, 1)


def by_class(outputs: Any, batch: Any) -> Any:
    return outputs.sum() * 0 + batch["mask"].sum()


NAMED = Metric(lambda: 0.0, by_class, lambda sums: {"cat": 0.5, "dog": np.ones(2)})


def test_results_by_name_are_called_after_the_metric(squares: Arrays) -> None:
    run = fit(squares, metrics={"by": NAMED}, config={"epochs": 1, "monitor": "by_cat"})
    assert run.metrics["val_by_cat"] == 0.5
    assert run.history["by_dog"].tolist() == [[1, 1]]


WRONG: list[tuple[Any, dict[str, Any], str]] = [
    ({"loss": misses}, {}, "metrics: 'loss' means something else in a record"),
    ({"val_f1": misses}, {}, "metrics: 'val_f1' means something else in a record"),
    ({"accuracy": misses}, {}, "metrics: 'accuracy' is measured already, by the model's task"),
    ({"a/b": misses}, {}, "metrics: a name must be of letters, digits and '_'"),
    ({"f1": 3}, {}, "metrics: 'f1' must be a Metric, or a function"),
    ([misses], {}, "metrics must be a mapping of names to metrics"),
    ({"f1": cj.metrics.f1}, {}, "metrics: 'f1' is cj.metrics.f1 itself: give cj.metrics.f1()"),
    ({"top5": cj.metrics.top_k(5)}, {}, "k of top_k must be at most the number of classes, 3"),
    ({"all": lambda z, y: z}, {}, "metric 'all' must return [8], got [8, 3]"),
    (TABLES, {"monitor": "f2"}, "monitor='f2': there is no metric 'f2'"),
    (TABLES, {"monitor": "areal"}, "Did you mean 'area'?"),
    (TABLES, {"monitor": "val_f1"}, "there is no metric 'val_f1'. Did you mean 'f1'?"),
    (TABLES, {"monitor": "each"}, "monitor='each' must be a number, got an array [3]"),
    (TABLES, {"monitor": "pairs"}, "monitor='pairs' does not say which of its values is best"),
    ({"by": NAMED}, {"monitor": "by_cow"}, "monitor='by_cow': there is no metric 'by_cow'"),
    ({"margin": misses}, {"monitor": "margin"}, "monitor='margin' does not say which of its"),
]


@pytest.mark.parametrize(("given", "config", "message"), WRONG, ids=range(len(WRONG)))
def test_what_cannot_be_measured_or_monitored_is_refused_before_the_training(
    squares: Arrays, given: Any, config: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        fit(squares, metrics=given, config=config)


def test_what_is_not_known_is_none_in_the_record_and_an_error_where_it_is_monitored(
    squares: Arrays, tmp_path: Path
) -> None:
    nothing = Metric(lambda: 0.0, by_class, lambda sums: float("nan"))
    run = fit(squares, tmp_path / "run", metrics={"no": nothing}, config={"epochs": 1})
    assert np.isnan(run.metrics["val_no"])
    assert json.loads((tmp_path / "run" / "metrics.jsonl").read_text())["val_no"] is None
    with pytest.raises(cj.training.NonFiniteLoss, match="val_no became nan"):
        fit(squares, metrics={"no": nothing}, config={"epochs": 1, "monitor": "no"})


def test_a_task_may_have_a_metric_that_is_no_mean(squares: Arrays) -> None:
    task = cj.Task("shapes", cj.metrics.cross_entropy, {"overlap": cj.metrics.mean_iou()})
    from flax import linen

    class Net(linen.Module):
        @linen.compact
        def __call__(self, inputs: Any) -> Any:
            return linen.Dense(3)(inputs.reshape(len(inputs), -1))

    model = cj.Model.from_module(Net(), (12, 12, 1), task=task)
    data = cj.data.Splits(cj.data.from_arrays(*squares)).with_validation(0.25)
    run = cj.fit(model, data, cj.TrainingConfig(epochs=1, monitor="overlap"), verbose=False)
    assert 0 <= run.metrics["val_overlap"] <= 1


@pytest.mark.thorough
def test_a_sweep_has_them_and_knows_what_is_best_of_them(squares: Arrays) -> None:
    make = partial(cj.create_model, "mlp", input_shape=(12, 12, 1), num_classes=3)
    data = cj.data.Splits(cj.data.from_arrays(*squares)).with_validation(0.25)
    metrics = {"gap": cj.metrics.calibration_error(), "pairs": cj.metrics.confusion_matrix()}
    config = cj.TrainingConfig(epochs=1, batch_size=32)
    sweep = cj.sweep(
        make, data, config, seeds=1, metrics=metrics, units=((2,), (8,)), verbose=False
    )
    gaps = sweep.values("val_gap")[:, 0]
    assert sweep.best("val_gap") == {"units": (2,) if gaps[0] < gaps[1] else (8,)}
    assert sweep.best("val_gap", mode="max") != sweep.best("val_gap")
    for call in (sweep.values, sweep.history):
        with pytest.raises(ValueError, match=r"pairs of a run is an array \[3, 3\]"):
            call("val_pairs")
    with pytest.raises(ValueError, match="mode must be 'min' or 'max', got 'least'"):
        sweep.best("val_gap", mode="least")


def test_a_run_is_reproduced_with_its_metrics_of_which_the_shipped_need_not_be_given(
    run: cj.Run, squares: Arrays
) -> None:
    assert run.directory
    data = cj.data.Splits(cj.data.from_arrays(*squares)).with_validation(0.25)
    again = cj.reproduce(run.directory, data, metrics=TABLES, verbose=False)
    assert again.same, again
    few = {name: TABLES[name] for name in ("f1", "pairs")}
    assert cj.reproduce(run.directory, data, metrics=few, verbose=False).same  # the others are ours


def test_masked_examples_are_not_seen_by_a_metric_of_ones_own(squares: Arrays) -> None:
    ones = Metric(
        lambda: {"n": 0.0, "labels": 0.0},
        lambda outputs, batch: {
            "n": batch["mask"].sum(),
            "labels": jnp.zeros(3).at[batch["labels"]].add(batch["mask"]),
        },
        lambda sums: sums["labels"] / sums["n"],
    )
    means = cj.evaluate(net(), squares, batch_size=7, metrics={"shares": ones})
    np.testing.assert_allclose(means["shares"], np.bincount(squares[1]) / 96)


def test_a_line_shows_the_first_numbers_and_no_table() -> None:
    record = {
        "epoch": 1, "step": 9, "accuracy": 0.5, "each": [0.1, 0.2], "f1": 0.25, "loss": 1.0,
        "margin": None, "zeal": 1.0, "val_loss": 2.0, "val_accuracy": 0.75, "val_f1": 0.125,
        "learning_rate": 0.1, "seconds": 1.0, "images_per_second": 7.0, "waiting": 0.0,
    }  # fmt: skip
    line = "epoch 1/2  loss 1.0000  acc 0.5000  f1 0.2500  margin -"
    assert epoch_line(2, record) == f"{line}  val loss 2.0000  acc 0.7500  f1 0.1250  7 img/s"


def test_large_tables_are_fetched_before_they_fill_the_device(
    squares: Arrays, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = fit(squares)
    monkeypatch.setattr(tally, "_MOST_BYTES", 0)
    early = fit(squares)
    assert early.parameter_hash == whole.parameter_hash
    np.testing.assert_equal(early.metrics, whole.metrics)
    for name in ("f1", "pairs", "loss"):
        np.testing.assert_array_equal(early.history[name], whole.history[name])


DEVICES = """
import json
import numpy as np
import cnnjax as cj
with np.load("squares.npz") as file:
    data = file["x"], file["y"]
m = cj.metrics
metrics = {"f1": m.f1(), "pairs": m.confusion_matrix(), "area": m.auroc()}
model = cj.create_model("mlp", input_shape=(12, 12, 1), num_classes=3, units=(8,))
splits = cj.data.Splits(cj.data.from_arrays(*data)).with_validation(0.25)
config = cj.TrainingConfig(epochs=1, batch_size=24)
run = cj.fit(model, splits, config, metrics=metrics, verbose=False)
print(json.dumps([run.history[k].tolist() for k in ("pairs", "val_pairs", "val_area", "f1")]))
"""


@pytest.mark.thorough
def test_four_devices_count_what_one_does(squares: Arrays, tmp_path: Path) -> None:
    np.savez(tmp_path / "squares.npz", x=squares[0], y=squares[1])
    flag = "--xla_force_host_platform_device_count="
    one, four = (
        json.loads(python("-c", DEVICES, cwd=tmp_path, XLA_FLAGS=f"{flag}{n}").stdout)
        for n in (1, 4)
    )
    assert four == one


def test_an_objective_and_a_step_of_ones_own_are_measured_by_them(squares: Arrays) -> None:
    usual = cj.training.supervised(cj.metrics.cross_entropy)
    run = fit(squares, objective=usual, config={"monitor": "area"})
    assert run.history["pairs"].sum(axis=(1, 2)).tolist() == [72, 72]
    assert run.metrics["val_area"] == run.history["val_area"].max()
    functions = net().functions()

    def update(variables: Any, batch: Any, key: Any) -> Any:
        def mean(params: Any) -> Any:
            outputs = functions.apply(params, {}, batch["inputs"])
            losses = cj.metrics.cross_entropy(outputs, batch["labels"]) * batch["mask"]
            return losses.sum() / batch["mask"].sum(), losses

        gradients, losses = jax.grad(mean, has_aux=True)(variables["params"])
        params = jax.tree.map(lambda p, g: p - 0.1 * g, variables["params"], gradients)
        return {"params": params}, {"loss": losses}

    step = cj.training.Step(lambda model, key: model.variables, update, lambda value: value)
    splits = cj.data.Splits(cj.data.from_arrays(*squares)).with_validation(0.25)
    config = cj.TrainingConfig(epochs=2, batch_size=8, monitor="area")
    run = cj.fit(net(), splits, config, step=step, metrics=TABLES, verbose=False)
    assert run.metrics["val_area"] == run.history["val_area"].max()
    assert run.history["val_pairs"].sum(axis=(1, 2)).tolist() == [24, 24]
