"""Schedules have the values of Keras, and those that can be worked out by hand."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import optax
import pytest
from commands import killed_after

import cnnjax as cj
from cnnjax.config import SCHEDULES, TrainingConfig
from cnnjax.runs import RunError
from cnnjax.training import Run, make_optimizer, make_schedule

Arrays = tuple[np.ndarray, np.ndarray]


def rates(steps: int, **settings: Any) -> list[float]:
    schedule = make_schedule(TrainingConfig(**settings), steps)
    return [float(schedule(step)) for step in range(steps)]


def test_constant_schedule() -> None:
    assert rates(5, learning_rate=0.25) == [0.25] * 5


def test_cosine_schedule_by_hand() -> None:
    wanted = [(1 + np.cos(np.pi * t / 4)) / 2 * 0.8 for t in range(4)]
    np.testing.assert_allclose(rates(4, schedule="cosine", learning_rate=0.8), wanted, rtol=1e-6)
    assert wanted == pytest.approx([0.8, 0.6828427, 0.4, 0.1171573])


def test_one_cycle_schedule_by_hand() -> None:
    found = rates(8, schedule="one_cycle", learning_rate=0.6, warmup=0.25)
    np.testing.assert_allclose(found, [0.0, 0.3, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1], rtol=1e-5)


def test_one_cycle_is_highest_where_the_warmup_ends() -> None:
    found = rates(200, schedule="one_cycle", learning_rate=1.0, warmup=0.1)
    assert int(np.argmax(found)) == 20
    assert max(found) == pytest.approx(1.0)
    assert (np.diff(found[:21]) > 0).all()
    assert (np.diff(found[20:]) < 0).all()


@pytest.mark.parametrize("schedule", ["cosine", "one_cycle"])
def test_schedules_end_near_zero_and_are_never_negative(schedule: str) -> None:
    found = rates(100, schedule=schedule, learning_rate=1.0)
    assert 0 <= found[-1] < 0.02
    assert min(found) >= 0


@pytest.mark.parametrize("schedule", ["constant", "cosine", "one_cycle"])
def test_a_training_of_one_step_moves(schedule: str) -> None:
    assert rates(1, schedule=schedule, learning_rate=0.5)[0] > 0


def keras_rates(steps: int, schedule: str, **arguments: Any) -> list[float]:
    import keras

    theirs = getattr(keras.optimizers.schedules, schedule)(**arguments)
    with np.errstate(all="ignore"):
        return [float(theirs(step)) for step in range(steps)]


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (
            {"schedule": "warmup_cosine", "warmup": 0.2},
            {
                "schedule": "CosineDecay",
                "initial_learning_rate": 0.0,
                "decay_steps": 16,
                "warmup_target": 0.4,
                "warmup_steps": 4,
            },
        ),
        (
            {"schedule": "exponential", "rate_decay": 0.05},
            {
                "schedule": "ExponentialDecay",
                "initial_learning_rate": 0.4,
                "decay_steps": 20,
                "decay_rate": 0.05,
            },
        ),
        (
            # Keras' rate falls behind the step that is named.
            {"schedule": "step", "rate_decay": 0.5, "rate_drops": (0.25, 0.5, 0.9)},
            {
                "schedule": "PiecewiseConstantDecay",
                "boundaries": [4, 9, 17],
                "values": [0.4, 0.2, 0.1, 0.05],
            },
        ),
    ],
    ids=["warmup_cosine", "exponential", "step"],
)
def test_rates_are_those_of_keras(ours: dict[str, Any], theirs: dict[str, Any]) -> None:
    found = rates(20, learning_rate=0.4, **ours)
    np.testing.assert_allclose(found, keras_rates(20, **theirs), rtol=1e-5, atol=1e-8)


def test_drops_that_fall_on_one_step_both_count() -> None:
    config = {"schedule": "step", "rate_drops": (0.5, 0.51), "learning_rate": 1.0}
    np.testing.assert_allclose(rates(4, **config), [1, 1, 0.01, 0.01], rtol=1e-5)


def halving(step: Any) -> Any:
    """A schedule of one's own."""
    return 0.01 * 0.5 ** (step / 9)


def slower(step: Any) -> Any:
    """Another one."""
    return 0.01 * 0.6 ** (step / 9)


def fit(data: Arrays, directory: Path | None = None, **more: Any) -> Run:
    """Of 96 squares in batches of 8: 12 steps an epoch."""
    settings = {"epochs": 2, "batch_size": 8, "optimizer": "sgd", "monitor": None, **more}
    model = cj.create_model("mlp", input_shape=(12, 12, 1), num_classes=3, units=(4,))
    return cj.fit(model, data, TrainingConfig(**settings), directory=directory, verbose=False)


def test_a_function_of_the_step_is_the_rate(squares: Arrays) -> None:
    run = fit(squares, schedule=halving)
    np.testing.assert_allclose(run.history["learning_rate"], [halving(11), halving(23)], rtol=1e-6)
    model = cj.create_model("mlp", input_shape=(12, 12, 1), num_classes=3, units=(4,))
    config = TrainingConfig(epochs=2, batch_size=8, monitor=None)
    by_optax = cj.fit(model, squares, config, optimizer=optax.sgd(halving), verbose=False)
    assert run.parameter_hash == by_optax.parameter_hash


def test_a_plateau_lowers_the_rate_of_a_loss_that_falls_no_more(squares: Arrays) -> None:
    settings = {"learning_rate": 2.0, "rate_decay": 0.5, "rate_patience": 2, "epochs": 12}
    run = fit(squares, schedule="plateau", **settings)
    rate, best, waited, wanted = 2.0, np.inf, 0, []
    for loss in run.history["loss"]:  # batches of one size: the mean over the steps
        improved = loss < best * (1 - 1e-4)
        best, waited = (loss, 0) if improved else (best, waited + 1)
        if waited == 2:
            rate, waited = rate / 2, 0
        wanted.append(rate)
    assert 1 < len(set(wanted)) < 12
    # As ever that of an epoch's last step, with which it falls.
    np.testing.assert_allclose(run.history["learning_rate"], wanted, rtol=1e-6)


@pytest.mark.sample(1)
@pytest.mark.parametrize("optimizer", ["sgd", "adamw", "rmsprop"])
def test_without_a_plateau_it_is_the_constant_rate(squares: Arrays, optimizer: str) -> None:
    still = fit(squares, optimizer=optimizer)
    plateau = fit(squares, optimizer=optimizer, schedule="plateau", rate_patience=9)
    assert plateau.parameter_hash == still.parameter_hash


@pytest.mark.sample(1)
@pytest.mark.parametrize("schedule", [*SCHEDULES[3:], halving], ids=[*SCHEDULES[3:], "function"])
def test_killed_and_resumed_has_the_same_bits(
    squares: Arrays, tmp_path: Path, schedule: Any
) -> None:
    patience = {"rate_patience": 1} if schedule == "plateau" else {}
    rate = {} if callable(schedule) else {"learning_rate": 1.0}
    settings = {"epochs": 3, "schedule": schedule, **rate, **patience}
    through = fit(squares, **settings)
    with killed_after(20):
        fit(squares, tmp_path / "run", checkpoint_every=5, **settings)
    resumed = fit(squares, tmp_path / "run", resume=True, **settings)
    assert resumed.parameter_hash == through.parameter_hash
    rates = [run.history["learning_rate"].tolist() for run in (resumed, through)]
    assert rates[0] == rates[1]


@pytest.mark.sample(1)
@pytest.mark.parametrize("schedule", ["plateau", halving], ids=["plateau", "function"])
def test_what_does_not_depend_on_the_end_may_be_prolonged(
    squares: Arrays, tmp_path: Path, schedule: Any
) -> None:
    fit(squares, tmp_path / "run", epochs=1, schedule=schedule)
    prolonged = fit(squares, tmp_path / "run", schedule=schedule, resume=True)
    assert prolonged.parameter_hash == fit(squares, schedule=schedule).parameter_hash


def test_another_function_is_another_run(squares: Arrays, tmp_path: Path) -> None:
    fit(squares, tmp_path / "run", epochs=1, schedule=halving)
    message = r"the schedule .*slower differs: .*allow_changed=\('schedule',\)"
    with pytest.raises(RunError, match=message):
        fit(squares, tmp_path / "run", schedule=slower, resume=True)
    with pytest.raises(RunError, match=r"settings \(~ training/schedule: expected "):
        fit(squares, tmp_path / "run", schedule="constant", resume=True)
    allowed = {"resume": True, "allow_changed": ("schedule",)}
    assert fit(squares, tmp_path / "run", schedule=slower, **allowed).history["loss"].shape == (2,)


def test_it_is_reproduced_where_the_function_is_given(squares: Arrays, tmp_path: Path) -> None:
    again = partial(halving)  # which nothing can import
    fit(squares, tmp_path / "run", schedule=again)
    with pytest.raises(RunError, match=r"its schedule, which .* cj\.reproduce\(run, schedule=\.\."):
        cj.reproduce(tmp_path / "run", squares, verbose=False)
    assert cj.reproduce(tmp_path / "run", squares, schedule=again, verbose=False).same
    with pytest.raises(RunError, match=r"this is not the run of .*the schedule"):
        cj.reproduce(tmp_path / "run", squares, schedule=partial(slower), verbose=False)


@pytest.mark.parametrize(
    ("schedule", "message"),
    [
        (
            lambda step: 0.1 if step > 3 else 0.2,
            "schedule must be a function of the step, an int32 scalar, tha",
        ),
        (lambda: 0.1, "schedule must be a function of the step, an int32 scalar, that JAX can"),
        (lambda step: jnp.ones(2) * step, "schedule must return one rate for a step, a scalar"),
        (lambda step: None, "schedule must return one rate for a step, a scalar, got None"),
    ],
    ids=["untraceable", "no argument", "two rates", "none"],
)
def test_functions_that_are_no_schedule_are_refused(
    squares: Arrays, schedule: Any, message: str
) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        fit(squares, schedule=schedule)


def test_the_optimiser_of_a_plateau_steps_by_the_losses_it_gets() -> None:
    config = TrainingConfig(
        optimizer="sgd", learning_rate=1.0, schedule="plateau", rate_patience=1, epochs=2
    )
    optimizer: Any = make_optimizer(config, 4)  # two steps an epoch
    params = {"w": jnp.zeros(())}
    state, taken = optimizer.init(params), []
    for loss in (2.0, 1.0, 1.0, 2.0, 1.0, 0.9):  # epochs of 1.5, 1.5 and 0.95
        updates, state = optimizer.update({"w": jnp.ones(())}, state, params, value=loss)
        taken.append(-float(updates["w"]))
    np.testing.assert_allclose(taken, [1, 1, 1, 0.1, 0.1, 0.1], rtol=1e-6)


def test_where_the_loss_diverges_no_rate_is_named_that_was_none(squares: Arrays) -> None:
    with pytest.raises(cj.training.NonFiniteLoss, match=r"Try a smaller learning_rate$"):
        fit(squares, schedule=lambda step: 1e30 + 0.0 * step)
