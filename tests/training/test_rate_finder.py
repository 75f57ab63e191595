"""The finder's training is the one that can be worked out by hand, and changes nothing."""

from __future__ import annotations

import contextlib
import re
from typing import Any

import numpy as np
import optax
import pytest
from flax import linen

import cnnjax as cj
from cnnjax.core import trees
from cnnjax.plot import learning_rates
from cnnjax.training import find_learning_rate

Arrays = tuple[np.ndarray, np.ndarray]


def net() -> cj.Model:
    return cj.create_model("mlp", input_shape=(12, 12, 1), num_classes=3, units=(8,))


class Linear(linen.Module):
    """One value an image."""

    @linen.compact
    def __call__(self, x: Any) -> Any:
        return linen.Dense(1, use_bias=False, name="line")(x.reshape(x.shape[0], -1))


def test_losses_and_suggestion_are_those_of_gradient_descent_by_hand() -> None:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (32, 1, 5, 1), dtype=np.uint8)
    x = images.reshape(32, 5).astype(np.float64) / 255
    y = (x @ rng.normal(size=(5, 1))).astype(np.float32)
    model = cj.Model.from_module(Linear(), (1, 5, 1), preprocessing="unit", task="values")
    config = cj.TrainingConfig(batch_size=32, optimizer="sgd")
    found = find_learning_rate(model, (images, y), config, lowest=1e-3, highest=10, steps=60)

    weights = np.asarray(model.params["line"]["kernel"], np.float64)
    losses = []
    for rate in found.rates:
        rest = x @ weights - y
        losses.append((rest**2).mean())
        weights -= rate * 2 / len(x) * x.T @ rest
    np.testing.assert_allclose(found.rates[:2], [1e-3, 1e-3 * 1e4 ** (1 / 59)])
    # Where it diverges, it enlarges how float32 rounds.
    np.testing.assert_allclose(found.losses[:50], losses[:50], rtol=1e-3)
    # Beyond two by the largest curvature gradient descent diverges, and soon it was stopped.
    limit = 2 / np.linalg.eigvalsh(2 / len(x) * x.T @ x).max()
    assert 1e-2 < found.suggestion < limit < found.rates[-1] < 10


def test_it_is_the_same_every_time_and_changes_nothing(squares: Arrays) -> None:
    model = net()
    before = trees.tree_hash(model.variables)
    first, second = (find_learning_rate(model, squares) for _ in range(2))
    assert first.losses.tolist() == second.losses.tolist()
    assert trees.tree_hash(model.variables) == before
    assert first.smoothed.shape == first.losses.shape == first.rates.shape


def test_the_config_of_the_training_to_come_may_be_given_as_it_is(squares: Arrays) -> None:
    settings = {"optimizer": "adam", "batch_size": 24, "weight_decay": 0.1, "average": 0.9}
    more = {"schedule": "step", "rate_decay": 0.3, "epochs": 99, "monitor": "accuracy"}
    more |= {"early_stopping": 3, "keep": 2, "resume": True, "checkpoint_every": 5}
    plain = find_learning_rate(net(), squares, cj.TrainingConfig(**settings))
    whole = find_learning_rate(net(), squares, cj.TrainingConfig(**settings, **more))
    assert whole.losses.tolist() == plain.losses.tolist()


@pytest.mark.thorough
def test_an_optimiser_may_be_a_function_of_the_rate(squares: Arrays) -> None:
    ours = find_learning_rate(net(), squares, cj.TrainingConfig(optimizer="sgd"))
    theirs = find_learning_rate(net(), squares, optimizer=optax.sgd)
    np.testing.assert_allclose(ours.losses, theirs.losses, rtol=1e-5)


@pytest.mark.thorough
def test_a_training_at_the_suggestion_learns(squares: Arrays) -> None:
    config = {"optimizer": "adam", "batch_size": 8, "epochs": 2, "monitor": None}
    found = find_learning_rate(net(), squares, cj.TrainingConfig(**config))
    rate = found.suggestion
    run = cj.fit(net(), squares, cj.TrainingConfig(**config, learning_rate=rate), verbose=False)
    assert run.history["accuracy"][-1] > 0.9


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("name", "arguments"),
    [("mlp", {"units": (32,)}), ("mlp", {"units": (64, 64)}), ("mnist_convnet", {})],
    ids=["narrow", "deep", "convolutions"],
)
def test_fewer_steps_find_a_rate_near_that_of_many_or_nothing(
    name: str, arguments: dict[str, Any]
) -> None:
    model, digits = cj.create_model(name, **arguments), cj.data.load("digits")
    config = cj.TrainingConfig(optimizer="adam", batch_size=32)
    many = find_learning_rate(model, digits, config, lowest=1e-6, highest=1.0, steps=100)
    found = []
    for steps in (36, 40, 60):
        with contextlib.suppress(ValueError):  # which says that it finds nothing
            few = find_learning_rate(model, digits, config, lowest=1e-6, highest=1.0, steps=steps)
            found.append(few.suggestion / many.suggestion)
    assert found
    assert 1 / 8 < min(found) <= max(found) < 8


def test_a_fall_within_the_noise_of_batches_is_none() -> None:
    rng = np.random.default_rng(0)
    noise = (rng.integers(0, 256, (64, 12, 12, 1), dtype=np.uint8), rng.integers(0, 3, 64))
    config = cj.TrainingConfig(optimizer="sgd", batch_size=4)
    with pytest.raises(
        ValueError,
        match=r"^the loss fell by .*, which does not stand out of what batches differ by \(.*\): "
        r"give more steps than 40, or a larger batch_size$",
    ):
        find_learning_rate(net(), noise, config, lowest=1e-9, highest=1e-6, steps=40)


def test_the_figure_shows_losses_and_suggestion(squares: Arrays) -> None:
    found = find_learning_rate(net(), squares)
    (axes,) = found.figure().axes
    assert axes.get_xscale() == "log"
    dots, line, mark = axes.lines
    np.testing.assert_array_equal(dots.get_ydata(), found.losses)
    np.testing.assert_array_equal(line.get_ydata(), found.smoothed)
    assert set(mark.get_xdata()) == {found.suggestion}
    assert learning_rates(found.rates, found.losses, found.smoothed, 1e-3).axes


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"lowest": 0}, "lowest must be a positive number, got 0"),
        ({"highest": 1e-9}, "highest must be above lowest=1e-07, got 1e-09"),
        ({"steps": 3}, "steps must be a whole number >= 10, got 3"),
        (
            {"steps": 47},
            "steps=47 are too few between lowest=1e-07 and highest=10, so that the loss would "
            "diverge before it has fallen: give 48 or more, or a narrower range",
        ),
        ({"lowest": 50.0, "highest": 1e9}, "the loss fell at none of the learning rates from"),
        ({"optimizer": optax.adam(0.1)}, "optimizer must be a function of the learning rate, e.g."),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else None,
)
def test_what_finds_nothing_is_said(squares: Arrays, arguments: dict, message: str) -> None:
    config = cj.TrainingConfig(optimizer="sgd")
    with pytest.raises(ValueError, match=re.escape(message)):
        find_learning_rate(net(), squares, config, **arguments)
