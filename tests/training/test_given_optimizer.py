"""Optimisers of the caller's in `fit`: with all that they look at, killed and resumed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from commands import killed_after
from optax import contrib

import cnnjax as cj
from cnnjax.core import trees
from cnnjax.data import Splits, from_arrays
from cnnjax.training import Run

Arrays = tuple[np.ndarray, np.ndarray]

SHARP = optax.chain(contrib.normalize(), optax.sgd(0.05))
SEARCH = optax.scale_by_backtracking_linesearch(3)


def cosine(total_steps: int) -> optax.GradientTransformation:
    """As long as the training."""
    return optax.adam(optax.cosine_decay_schedule(1e-2, total_steps))


OPTIMIZERS: dict[str, Any] = {
    "total_steps": cosine,
    "schedule_free": contrib.schedule_free_adamw(1e-2, warmup_steps=3),
    "lbfgs": optax.lbfgs(memory_size=2, linesearch=SEARCH),
    "zoom": optax.lbfgs(memory_size=2),
    "sam": contrib.sam(optax.adam(1e-2), SHARP, opaque_mode=True),
    "part": optax.partition(
        {"free": contrib.schedule_free_sgd(0.1), "usual": optax.sgd(0.1)},
        {"dense1": "free", "logits": "usual"},
    ),
}
CASES = [pytest.param(k, marks=[pytest.mark.thorough] * (k == "zoom")) for k in OPTIMIZERS]


def net() -> cj.Model:
    return cj.create_model("mlp", input_shape=(12, 12, 1), num_classes=3, units=(4,))


def fit(data: Arrays, optimizer: Any, directory: Path | None = None, **more: Any) -> Run:
    """Of 72 squares in batches of 24: 3 steps an epoch."""
    config = cj.TrainingConfig(**{"epochs": 3, "batch_size": 24, **more})
    splits = Splits(from_arrays(*data)).with_validation(0.25)
    return cj.fit(net(), splits, config, optimizer=optimizer, directory=directory, verbose=False)


@pytest.mark.sample(1)
@pytest.mark.parametrize("name", CASES)
def test_killed_and_resumed_has_the_same_bits(squares: Arrays, tmp_path: Path, name: str) -> None:
    through = fit(squares, OPTIMIZERS[name], tmp_path / "through")
    with killed_after(6):
        fit(squares, OPTIMIZERS[name], tmp_path / "run", checkpoint_every=2)
    resumed = fit(squares, OPTIMIZERS[name], tmp_path / "run", resume=True)
    assert through.history["loss"][2] < through.history["loss"][0]
    assert resumed.parameter_hash == through.parameter_hash
    assert resumed.metrics == through.metrics
    assert trees.tree_hash(cj.load(tmp_path / "run").variables) == through.parameter_hash


# Functions of total_steps


def test_a_function_gets_the_steps_of_the_whole_training(squares: Arrays) -> None:
    run = fit(squares, cosine)
    assert run.parameter_hash == fit(squares, cosine(9)).parameter_hash
    assert run.parameter_hash != fit(squares, cosine(18)).parameter_hash
    longer = fit(squares, cosine, epochs=6)
    assert longer.parameter_hash == fit(squares, cosine(18), epochs=6).parameter_hash


def test_another_function_is_another_run(squares: Arrays, tmp_path: Path) -> None:
    def faster(total_steps: int) -> optax.GradientTransformation:
        return optax.adam(optax.cosine_decay_schedule(2e-2, total_steps))

    fit(squares, cosine, tmp_path / "run")
    message = r"the optimizer .*faster differs: .*allow_changed=\('optimizer',\)"
    with pytest.raises(cj.runs.RunError, match=message):
        fit(squares, faster, tmp_path / "run", resume=True)
    with pytest.raises(cj.runs.RunError, match="training/epochs: expected 3, found 4"):
        fit(squares, cosine, tmp_path / "run", resume=True, epochs=4)
    data = Splits(from_arrays(*squares)).with_validation(0.25)
    assert cj.reproduce(tmp_path / "run", data, optimizer=cosine, verbose=False).same


def fails(total_steps: int) -> optax.GradientTransformation:
    """Raises something."""
    raise KeyError("nothing here")


@pytest.mark.parametrize(
    ("optimizer", "message"),
    [
        (optax.sgd, "or a function of total_steps that makes one, got <function sgd>"),
        (dict, "or a function of total_steps that makes one, got <class 'dict'>"),
        (fails, "optimizer cannot be made with total_steps=9: 'nothing here'"),
        (lambda total_steps: total_steps, r"must make an optax transformation of total_steps=9, a"),
    ],
    ids=["optax", "C", "fails", "number"],
)
def test_functions_that_make_none_are_refused(
    squares: Arrays, tmp_path: Path, optimizer: Any, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        fit(squares, optimizer, tmp_path / "run")
    assert not list(tmp_path.iterdir())


# Schedule-free ones


@pytest.mark.thorough
def test_a_schedule_free_one_is_evaluated_at_its_average(squares: Arrays) -> None:
    optimizer = contrib.schedule_free_sgd(0.5)
    images, labels = squares
    config = cj.TrainingConfig(epochs=4, batch_size=96, monitor="loss")
    data = Splits(from_arrays(*squares), from_arrays(*squares))
    run = cj.fit(net(), data, config, optimizer=optimizer, verbose=False)
    # By hand, as optax's documentation has it, on the whole data.
    model = net()
    inputs = model.spec.preprocess(images)

    def loss(params: Any) -> jax.Array:
        logits = model.functions().apply(params, {}, inputs)
        return cj.metrics.softmax_cross_entropy(logits, jnp.asarray(labels)).mean()

    params: Any = model.params
    state, losses = optimizer.init(params), []
    for _ in range(4):
        updates, state = optimizer.update(jax.grad(loss)(params), state, params)
        params = optax.apply_updates(params, updates)
        losses.append(float(loss(contrib.schedule_free_eval_params(state, params))))
    np.testing.assert_allclose(run.history["val_loss"], losses, rtol=1e-5)
    wanted = contrib.schedule_free_eval_params(state, params)
    close = dict(rtol=1e-4, atol=1e-6)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, **close), run.model.params, wanted)


def test_beside_frozen_layers_it_leaves_them(squares: Arrays) -> None:
    run = fit(squares, contrib.schedule_free_sgd(0.1), frozen=("dense1",))
    before, after = net().params, run.model.params
    assert trees.tree_hash(after["dense1"]) == trees.tree_hash(before["dense1"])
    assert trees.tree_hash(after["logits"]) != trees.tree_hash(before["logits"])


def test_averages_of_its_average_are_refused(squares: Arrays) -> None:
    optimizer = contrib.schedule_free_sgd(0.1)
    with pytest.raises(ValueError, match=r"^average=0\.9 averages the parameters, which the optim"):
        fit(squares, optimizer, average=0.9)
    run = fit(squares, optimizer, epochs=1)
    config = cj.TrainingConfig(epochs=1, monitor=None)
    with pytest.raises(ValueError, match=r"^opt_state does not fit the model: .* schedule-free"):
        cj.fit(run.model, squares, config, optimizer=optimizer, opt_state=run.opt_state)
