"""An objective of one's own in place of a loss, and losses that modules sow."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from commands import after_every_dispatch
from flax import linen
from modules import Convnet

import cnnjax as cj
from cnnjax.augment import Augment
from cnnjax.core import trees
from cnnjax.data import Splits, from_arrays
from cnnjax.runs import RunError
from cnnjax.training import Aux, Interrupted, TrainState, make_train_step, supervised

Arrays = tuple[np.ndarray, np.ndarray]

USUAL = supervised(cj.metrics.cross_entropy)


def penalised(functions: Any, params: Any, state: Any, batch: Any, key: Any) -> Any:
    """The usual losses, and the size of the kernels."""
    losses, aux = USUAL(functions, params, state, batch, key)
    sizes = [jnp.abs(leaf).sum() for leaf in jax.tree.leaves(params) if leaf.ndim > 1]
    noise = jax.random.normal(key, losses.shape)
    return losses + 1e-3 * sum(sizes), Aux(aux.outputs, aux.state, {"noise": noise})


class Sowing(linen.Module):
    """A net that sows what is to be added to its loss."""

    scale: float = 0.01
    each: bool = False
    collection: str = "losses"

    @linen.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = linen.Dense(8, name="hidden")(x.reshape(x.shape[0], 144))
        sizes = self.scale * jnp.sum(x**2, axis=1)
        self.sow(self.collection, "activity", sizes if self.each else jnp.mean(sizes))
        return linen.Dense(3, name="logits")(linen.relu(x))


def small(**arguments: Any) -> cj.Model:
    arguments = {"num_classes": 3, "units": (8,), **arguments}
    return cj.create_model("mlp", input_shape=(12, 12, 1), **arguments)


def fit(data: Arrays, directory: Path | None = None, model: Any = None, **more: Any) -> cj.Run:
    settings = {"epochs": 2, "batch_size": 16, **more.pop("config", {})}
    splits = Splits(from_arrays(*data)).with_validation(0.25)
    arguments = {"verbose": False, "directory": directory, **more}
    return cj.fit(model or small(), splits, cj.TrainingConfig(**settings), **arguments)


def batch_of(data: Arrays, stop: int = 16) -> dict[str, Any]:
    return {"inputs": data[0][:stop], "labels": data[1][:stop]}


def one_step(model: cj.Model, batch: dict[str, Any], **arguments: Any) -> tuple[Any, Any]:
    optimizer = optax.sgd(0.1)
    frozen = arguments.get("frozen", ())
    step = jax.jit(make_train_step(model, optimizer=optimizer, **arguments))
    state, sums = step(TrainState.create(model, optimizer, frozen=frozen), batch)
    return state, {name: float(value) for name, value in sums.items()}


# In a step


def test_the_usual_objective_by_name_is_the_usual_training_to_the_bit(squares: Arrays) -> None:
    model = cj.Model.from_module(Convnet(), (12, 12, 1))
    plain, named = (fit(squares, model=model, **o) for o in ({}, {"objective": USUAL}))
    assert named.parameter_hash == plain.parameter_hash
    assert named.metrics == plain.metrics


def test_a_step_is_the_gradient_of_the_mean_of_the_objective(squares: Arrays) -> None:
    model, batch = small(), batch_of(squares)

    def margin(functions: Any, params: Any, state: Any, batch: Any, key: Any) -> Any:
        outputs = functions.apply(params, state, batch["inputs"])
        return outputs[:, 0] ** 2, Aux(outputs, state, {"first": outputs[:, 0]})

    state, sums = one_step(model, batch, objective=margin)

    def by_hand(params: Any) -> Any:
        x = batch["inputs"].reshape(16, 144).astype(np.float32) / 255
        hidden = jax.nn.relu(x @ params["dense1"]["kernel"] + params["dense1"]["bias"][None])
        z = hidden @ params["logits"]["kernel"] + params["logits"]["bias"][None]
        return jnp.mean(z[:, 0] ** 2), z

    (value, z), gradient = jax.value_and_grad(by_hand, has_aux=True)(model.params)
    wanted = jax.tree.map(lambda p, g: p - 0.1 * g, model.params, gradient)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7), state.params, wanted
    )
    assert sums["loss"] == pytest.approx(16 * float(value), rel=1e-5)
    assert sums["first"] == pytest.approx(float(z[:, 0].sum()), rel=1e-4)
    assert sums["accuracy"] == float((z.argmax(axis=1) == batch["labels"]).sum())


def test_what_is_frozen_is_not_differentiated_by_an_objective_of_ones_own(squares: Arrays) -> None:
    model, batch = small(), batch_of(squares)
    state, _ = one_step(model, batch, objective=penalised, frozen=("dense1",))
    assert trees.tree_hash(state.params["dense1"]) == trees.tree_hash(model.params["dense1"])
    assert not np.array_equal(state.params["logits"]["kernel"], model.params["logits"]["kernel"])

    def products(**arguments: Any) -> int:
        optimizer = optax.sgd(0.1)
        state = TrainState.create(model, optimizer, frozen=("dense1",))
        step = make_train_step(model, None, optimizer, ("dense1",), **arguments)
        return str(jax.make_jaxpr(step)(state, batch)).count("dot_general")

    assert products(objective=penalised) == products()


def test_an_objective_sees_examples_inputs_and_its_functions_in_the_precision(
    squares: Arrays,
) -> None:
    seen: dict[str, Any] = {}

    class Spy(linen.Module):
        @linen.compact
        def __call__(self, x: jax.Array) -> jax.Array:
            seen["layer"] = x.dtype
            return linen.Dense(3, name="logits", dtype=x.dtype)(x.reshape(x.shape[0], 144))

    def looking(functions: Any, params: Any, state: Any, batch: Any, key: Any) -> Any:
        seen.update(batch)
        again = functions.preprocess(batch["examples"])
        outputs, state = functions.apply_train(params, state, again, key)
        seen["outputs"] = outputs.dtype
        return USUAL(functions, params, state, batch, key)

    model = cj.Model.from_module(Spy(), (12, 12, 1))
    one_step(model, batch_of(squares), objective=looking, precision="bfloat16")
    assert (seen["examples"].dtype, seen["inputs"].dtype) == (np.uint8, np.float32)
    assert seen["mask"].shape == (16,)
    assert (seen["layer"], seen["outputs"]) == (jnp.bfloat16, jnp.float32)


def test_measures_of_an_objective_are_means_over_the_unmasked_examples(squares: Arrays) -> None:
    def indexed(functions: Any, params: Any, state: Any, batch: Any, key: Any) -> Any:
        losses, aux = USUAL(functions, params, state, batch, key)
        return losses, Aux(None, aux.state, {"place": batch["index"].astype(jnp.float32)})

    run = fit(squares, objective=indexed, config={"epochs": 1, "batch_size": 32})
    assert run.history["place"].tolist() == [71 / 2]  # of 72 examples, the last batch has 8
    assert "accuracy" not in run.history
    assert {"val_loss", "val_accuracy"} <= run.metrics.keys()


def test_validation_keeps_to_the_loss_given(squares: Arrays) -> None:
    def doubled(outputs: Any, labels: Any) -> Any:
        return 2 * cj.metrics.cross_entropy(outputs, labels)

    plain = fit(squares, objective=USUAL)
    twice = fit(squares, objective=USUAL, loss=doubled)
    assert twice.parameter_hash == plain.parameter_hash
    assert twice.metrics["val_loss"] == pytest.approx(2 * plain.metrics["val_loss"], rel=1e-6)


# Refused


def returning(made: Any) -> Any:
    def objective(functions: Any, params: Any, state: Any, batch: Any, key: Any) -> Any:
        losses, aux = USUAL(functions, params, state, batch, key)
        return made(losses, aux)

    return objective


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (lambda losses, aux: losses, r"objective must return \(losses \[N\], .*got a .*Tracer"),
        (lambda losses, aux: (losses, {}), r"objective must return .*got \(.*, dict\)"),
        (lambda losses, aux: (losses.mean(), aux), r"return losses \[16\], got \[\]: one value"),
        (
            lambda losses, aux: (losses, Aux(aux.outputs, aux.state, {"a": losses[:2]})),
            r"Aux.metrics\['a'\] must be \[16\], got \[2\]",
        ),
        (
            lambda losses, aux: (losses, Aux(aux.outputs, aux.state, {"accuracy": losses})),
            "cannot be called 'accuracy', which the record of an epoch has already",
        ),
        (
            lambda losses, aux: (losses, Aux(aux.outputs, {})),
            "Aux.state lacks batch_stats/norm/mean: give the state that functions.apply_train",
        ),
        (lambda losses, aux: (losses, Aux(aux.outputs, None)), "Aux.state must be the state"),
    ],
    ids=["no-aux", "dict", "mean", "metric-shape", "metric-name", "no-state", "none"],
)
def test_what_an_objective_must_return(squares: Arrays, made: Any, message: str) -> None:
    model = cj.Model.from_module(Convnet(), (12, 12, 1))
    with pytest.raises(ValueError, match=message) as raised:
        one_step(model, batch_of(squares), objective=returning(made))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"label_smoothing": 0.1}, "label_smoothing=0.1 is for the usual objective"),
        ({"augment": Augment(mixup=0.2)}, "augment with mixup or cutmix mixes the labels as well"),
    ],
)
def test_settings_that_an_objective_would_ignore(
    squares: Arrays, config: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        fit(squares, objective=penalised, config=config)


def test_an_objective_must_be_a_function(squares: Arrays) -> None:
    with pytest.raises(ValueError, match=r"objective must be a function .*got 'l1'"):
        fit(squares, objective="l1")


# Sown losses


@pytest.mark.sample(1)
@pytest.mark.parametrize("each", [False, True], ids=["scalar", "per-example"])
def test_losses_that_a_module_sows_are_added(squares: Arrays, each: bool) -> None:
    model = cj.Model.from_module(Sowing(each=each), (12, 12, 1))
    assert set(model.variables) == {"params"}
    batch = {**batch_of(squares), "mask": np.arange(16) < 10}
    state, sums = one_step(model, batch)

    def by_hand(params: Any) -> Any:
        x = batch["inputs"].reshape(16, 144).astype(np.float32) / 255
        hidden = x @ params["hidden"]["kernel"] + params["hidden"]["bias"][None]
        z = jax.nn.relu(hidden) @ params["logits"]["kernel"] + params["logits"]["bias"][None]
        losses = -jax.nn.log_softmax(z)[np.arange(16), batch["labels"]]
        sizes = 0.01 * (hidden**2).sum(axis=1)
        return losses[:10].mean() + (sizes[:10].mean() if each else sizes.mean())

    value, gradient = jax.value_and_grad(by_hand)(model.params)
    wanted = jax.tree.map(lambda p, g: p - 0.1 * g, model.params, gradient)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), state.params, wanted
    )
    assert sums["loss"] == pytest.approx(10 * float(value), rel=1e-4)


def test_sown_losses_are_added_to_an_objective_of_ones_own_too_and_not_in_evaluation(
    squares: Arrays,
) -> None:
    losses, val_losses = [], []
    for scale in (0.0, 1.0):
        model = cj.Model.from_module(Sowing(scale), (12, 12, 1))
        run = fit(squares, model=model, objective=USUAL, optimizer=optax.sgd(1e-30))
        losses.append(run.history["loss"][0])
        val_losses.append(run.history["val_loss"][0])
    assert losses[1] > losses[0] + 0.1
    assert val_losses[1] == val_losses[0]


def test_what_is_sown_elsewhere_is_refused_and_told_where_to_go() -> None:
    with pytest.raises(ValueError, match=r"sows penalties/activity, .*into the collection"):
        cj.Model.from_module(Sowing(collection="penalties"), (12, 12, 1))


def test_sown_losses_must_be_scalars_or_one_per_example() -> None:
    class Wide(linen.Module):
        @linen.compact
        def __call__(self, x: jax.Array) -> jax.Array:
            x = linen.Dense(8, name="hidden")(x.reshape(x.shape[0], 144))
            self.sow("losses", "activity", x)
            return linen.Dense(3, name="logits")(x)

    with pytest.raises(ValueError, match=r"losses/activity.* of shape \[2, 8\].*sum or mean"):
        cj.Model.from_module(Wide(), (12, 12, 1))


def test_a_loss_that_is_summed_up_where_it_is_sown_is_one(squares: Arrays) -> None:
    class Summing(linen.Module):
        @linen.compact
        def __call__(self, x: jax.Array) -> jax.Array:
            x = linen.Dense(3, name="logits")(x.reshape(x.shape[0], 144))
            for _ in range(2):
                self.sow("losses", "total", jnp.float32(1.5), lambda a, b: a + b, lambda: 0.0)
            return x

    model = cj.Model.from_module(Summing(), (12, 12, 1))
    assert set(model.variables) == {"params"}
    _, sums = one_step(model, batch_of(squares))
    z = np.asarray(model(model.spec.preprocess(squares[0][:16])))
    plain = -np.asarray(jax.nn.log_softmax(z))[np.arange(16), squares[1][:16]].sum()
    assert sums["loss"] == pytest.approx(plain + 16 * 3.0, rel=1e-5)


# Kept, resumed, reproduced


def broken(data: Arrays, directory: Path, **more: Any) -> None:
    """Stopped in the second epoch."""
    import signal

    count = iter(range(100))

    def hook(_: int) -> None:
        if next(count) == 6:
            signal.raise_signal(signal.SIGINT)

    undo = after_every_dispatch(hook)
    try:
        with pytest.raises(Interrupted):
            fit(data, directory, **more)
    finally:
        undo()


def test_a_resumed_run_ends_in_the_same_bits(squares: Arrays, tmp_path: Path) -> None:
    through = fit(squares, objective=penalised, config={"average": 0.9})
    broken(squares, tmp_path / "run", objective=penalised, config={"average": 0.9})
    again = fit(
        squares, tmp_path / "run", objective=penalised, config={"average": 0.9, "resume": True}
    )
    assert again.parameter_hash == through.parameter_hash
    assert again.history["noise"].tolist() == through.history["noise"].tolist()
    assert again.metrics == through.metrics


def test_a_run_goes_on_with_its_own_objective_only(squares: Arrays, tmp_path: Path) -> None:
    broken(squares, tmp_path / "run", objective=penalised)
    config = {"resume": True}
    with pytest.raises(RunError, match=r"holds a run with other settings .*- objective"):
        fit(squares, tmp_path / "run", config=config)
    with pytest.raises(RunError, match=r"the objective .*allow_changed=\('objective',\)"):
        fit(squares, tmp_path / "run", objective=returning(lambda *made: made), config=config)
    allowed = {**config, "allow_changed": ("objective",)}
    run = fit(squares, tmp_path / "run", objective=USUAL, config=allowed)
    assert len(run.history["loss"]) == 2


def test_a_run_is_reproduced_with_the_objective_that_its_record_names(
    squares: Arrays, tmp_path: Path
) -> None:
    run = fit(squares, tmp_path / "run", objective=penalised)
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config["objective"].endswith("test_objective:penalised")
    splits = Splits(from_arrays(*squares)).with_validation(0.25)
    again = cj.reproduce(tmp_path / "run", data=splits, model=small(), verbose=False)
    assert again.same
    assert again.run.parameter_hash == run.parameter_hash


def test_an_objective_that_no_import_finds_is_named(squares: Arrays, tmp_path: Path) -> None:
    objective = returning(lambda losses, aux: (losses, aux))
    fit(squares, tmp_path / "run", objective=objective)
    message = re.escape("returning.<locals>.objective as its objective, which a record cannot hold")
    with pytest.raises(RunError, match=message) as raised:
        cj.reproduce(tmp_path / "run", data=squares, verbose=False)
    assert "cj.reproduce(run, objective=...)" in str(raised.value)
    assert "\n" not in str(raised.value)
