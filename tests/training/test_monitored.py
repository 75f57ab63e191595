"""What chooses the best epoch: metrics of validation data, or what an objective itself measures."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from commands import after_every_dispatch

import cnnjax as cj
from cnnjax.training import Aux, Interrupted, NonFiniteLoss, Step, supervised

Arrays = tuple[np.ndarray, np.ndarray]

USUAL = supervised(cj.metrics.cross_entropy)


def counting(functions: Any, params: Any, state: Any, batch: Any, key: Any) -> Any:
    """The usual losses; measured is how far the epoch is from the second one."""
    losses, aux = USUAL(functions, params, state, batch, key)
    apart = jnp.abs(batch["epoch"] - 1.0) * jnp.ones_like(losses)
    return losses, Aux(aux.outputs, aux.state, {"apart": apart, "strange": jnp.log(-1 - apart)})


def start(model: cj.Model, key: Any) -> Any:
    return model.variables


def idle(value: Any, batch: Any, key: Any) -> Any:
    return value, {"loss": 1.0, "apart": jnp.abs(batch["epoch"] - 1.0)}


def same(value: Any) -> Any:
    return value


def small() -> cj.Model:
    return cj.create_model("mlp", input_shape=(12, 12, 1), num_classes=3, units=(4,))


def fit(data: Arrays, directory: Path | None = None, given: Any = None, **settings: Any) -> cj.Run:
    settings = {"epochs": 4, "batch_size": 32, "monitor": "apart", "mode": "min", **settings}
    given = given or {"objective": counting}
    config = cj.TrainingConfig(**settings)
    return cj.fit(small(), data, config, directory=directory, verbose=False, **given)


@pytest.mark.parametrize(
    "given",
    [{"objective": counting}, {"step": Step(start, idle, same)}],
    ids=["objective", "step"],
)
def test_what_the_callers_own_measures_chooses_the_epoch_and_stops(
    squares: Arrays, given: dict[str, Any]
) -> None:
    run = fit(squares, given=given, epochs=6, early_stopping=2)
    assert run.history["apart"].tolist() == [1, 0, 1, 2]
    assert run.best_epoch == 2


def test_the_model_is_that_of_the_chosen_epoch(squares: Arrays) -> None:
    second = fit(squares, epochs=2, monitor=None, mode=None)
    assert fit(squares, schedule="constant").parameter_hash == second.parameter_hash


def test_a_run_that_was_stopped_still_knows_its_best_epoch(squares: Arrays, tmp_path: Path) -> None:
    count = iter(range(100))
    undo = after_every_dispatch(
        lambda _: signal.raise_signal(signal.SIGINT) if next(count) == 7 else None
    )
    try:
        with pytest.raises(Interrupted):
            fit(squares, tmp_path / "run")
    finally:
        undo()
    resumed, through = fit(squares, tmp_path / "run", resume=True), fit(squares)
    assert (resumed.best_epoch, resumed.parameter_hash) == (2, through.parameter_hash)
    assert cj.load(tmp_path / "run").variables.keys() == through.model.variables.keys()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"mode": None},
            r"^monitor='apart' does not say which of its values is best: give mode='max' or "
            r"mode='min'$",
        ),
        (
            {"monitor": "aparts"},
            r"^monitor='aparts': there is no metric 'aparts'\. Did you mean 'apart'\?",
        ),
        ({"monitor": "count"}, r"^monitor='count': there is no metric 'count'\."),
        ({"monitor": "accuracy"}, r"^monitor='accuracy' needs validation data: give Splits with"),
    ],
    ids=["no-mode", "unknown", "count", "of-validation"],
)
def test_what_cannot_choose_is_refused(
    squares: Arrays, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        fit(squares, **settings)


def test_without_an_objective_there_is_nothing_of_the_training_alone(squares: Arrays) -> None:
    with pytest.raises(ValueError, match=r"^monitor='apart': there is no metric 'apart'"):
        fit(squares, given={"metrics": {}})


ADVICE = (
    r"The loss is a number, so this metric has nothing to measure in these data, e\.g\. no "
    r"example of a class: monitor another one, or give data that have all that it counts$"
)


def test_a_training_metric_that_is_no_number_chooses_nothing(squares: Arrays) -> None:
    with pytest.raises(NonFiniteLoss, match=rf"^strange became nan in epoch 1, .* {ADVICE}"):
        fit(squares, monitor="strange")


def test_a_metric_without_anything_to_measure_is_no_matter_of_the_rate(squares: Arrays) -> None:
    images, labels = squares
    none = labels != 1
    parts = cj.data.Splits(
        cj.data.from_arrays(images, labels), cj.data.from_arrays(images[none], labels[none])
    )
    ratio = cj.metrics.Metric(lambda: 0.0, _ones_found, _nothing_of_them, mode="max")
    config = cj.TrainingConfig(epochs=1, batch_size=32, monitor="ratio")
    with pytest.raises(NonFiniteLoss, match=rf"^val_ratio became nan in epoch 1, .* {ADVICE}"):
        cj.fit(small(), parts, config, metrics={"ratio": ratio}, verbose=False)


def _ones_found(outputs: Any, batch: Any) -> Any:
    return ((batch["labels"] == 1) * batch["mask"]).sum()


def _nothing_of_them(sums: Any) -> Any:
    return 1.0 if sums else np.nan
