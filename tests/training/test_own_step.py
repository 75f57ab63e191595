"""A step of one's own inside `fit`: sharpness-aware minimisation and a small GAN."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from commands import after_every_dispatch
from optax import contrib

import cnnjax as cj
from cnnjax.augment import Augment
from cnnjax.core import trees
from cnnjax.data import Splits, from_arrays
from cnnjax.runs import CheckpointError, RunError
from cnnjax.training import Interrupted, Step

Arrays = tuple[np.ndarray, np.ndarray]


def small(**arguments: Any) -> cj.Model:
    arguments = {"num_classes": 3, "units": (8,), **arguments}
    return cj.create_model("mlp", input_shape=(12, 12, 1), **arguments)


FUNCTIONS = small().functions()


# Sharpness-aware minimisation (Foret et al. 2021): the gradient where the loss is worst nearby.


def start(model: cj.Model, key: Any) -> Any:
    return {"params": model.params, "velocity": jax.tree.map(jnp.zeros_like, model.params)}


def sharp(value: Any, batch: Any, key: Any, rho: float = 0.05, rate: float = 0.1) -> Any:
    def mean(params: Any) -> Any:
        outputs = FUNCTIONS.apply(params, {}, batch["inputs"])
        losses = cj.metrics.cross_entropy(outputs, batch["labels"])
        return (losses * batch["mask"]).sum() / batch["mask"].sum(), (losses, outputs)

    gradient, (losses, outputs) = jax.grad(mean, has_aux=True)(value["params"])
    far = rho / optax.tree.norm(gradient)
    worst = jax.tree.map(lambda p, g: p + far * g, value["params"], gradient)
    gradient, _ = jax.grad(mean, has_aux=True)(worst)
    velocity = jax.tree.map(lambda v, g: 0.9 * v + g, value["velocity"], gradient)
    params = jax.tree.map(lambda p, v: p - rate * v, value["params"], velocity)
    measured = {"loss": losses, "accuracy": cj.metrics.correct(outputs, batch["labels"])}
    return {"params": params, "velocity": velocity}, measured


def of_params(value: Any) -> Any:
    return {"params": value["params"]}


SAM = Step(start, sharp, of_params)


# A GAN (Goodfellow et al. 2014): the model tells images from those of a generator, which learns to
# deceive it. The noise has a key of its own.


def both(model: cj.Model, key: Any) -> Any:
    generator = 0.1 * jax.random.normal(key, (4, 144))
    moments = optax.adam(1e-3).init((model.params, generator))
    return {"nets": (model.params, generator), "moments": moments, "noise": jax.random.key(1)}


JUDGE = small(num_classes=1).functions()


def duel(value: Any, batch: Any, key: Any) -> Any:
    noise, drawn = jax.random.split(value["noise"])
    latent = jax.random.normal(drawn, (batch["mask"].shape[0], 4))
    ones = jnp.ones(batch["mask"].shape[0])

    def losses(judge: Any, generator: Any) -> Any:
        made = jax.nn.sigmoid(latent @ generator).reshape(-1, 12, 12, 1)
        real, fake = (JUDGE.apply(judge, {}, x) for x in (batch["inputs"], made))
        told = cj.metrics.sigmoid_cross_entropy(real, ones)
        told += cj.metrics.sigmoid_cross_entropy(fake, 0 * ones)
        return told, cj.metrics.sigmoid_cross_entropy(fake, ones)

    judge, generator = value["nets"]
    of_judge = jax.grad(lambda p: losses(p, generator)[0].mean())(judge)
    of_generator = jax.grad(lambda p: losses(judge, p)[1].mean())(generator)
    gradients = (of_judge, of_generator)
    updates, moments = optax.adam(1e-3).update(gradients, value["moments"], value["nets"])
    nets = optax.apply_updates(value["nets"], updates)
    told, deceived = losses(judge, generator)
    after = {"nets": nets, "moments": moments, "noise": noise}
    return after, {"loss": told, "generator_loss": deceived, "size": jnp.abs(generator).mean()}


def the_judge(value: Any) -> Any:
    return {"params": value["nets"][0]}


GAN = Step(both, duel, the_judge)


def fit(data: Arrays, directory: Path | None = None, model: Any = None, **more: Any) -> cj.Run:
    settings = {"epochs": 2, "batch_size": 16, **more.pop("config", {})}
    splits = Splits(from_arrays(*data)).with_validation(0.25)
    arguments = {"verbose": False, "directory": directory, "step": SAM, **more}
    return cj.fit(model or small(), splits, cj.TrainingConfig(**settings), **arguments)


def real(squares: Arrays) -> Arrays:
    return squares[0], np.ones(96, np.int32)


def broken(data: Arrays, directory: Path, **more: Any) -> None:
    """Stopped in the second epoch."""
    count = iter(range(100))
    undo = after_every_dispatch(
        lambda _: signal.raise_signal(signal.SIGINT) if next(count) == 6 else None
    )
    try:
        with pytest.raises(Interrupted):
            fit(data, directory, **more)
    finally:
        undo()


@pytest.mark.thorough
def test_sam_as_a_step_is_that_of_optax(squares: Arrays) -> None:
    run = fit(squares)
    chain = optax.chain(contrib.normalize(), optax.sgd(0.05))
    theirs = contrib.sam(optax.sgd(0.1, momentum=0.9), chain, sync_period=2, opaque_mode=True)
    wanted = fit(squares, step=None, optimizer=theirs)
    assert run.history["loss"].tolist() == pytest.approx(wanted.history["loss"].tolist(), rel=1e-4)
    assert run.history["accuracy"].tolist() == wanted.history["accuracy"].tolist()
    for path, leaf in trees.leaves(wanted.model.params).items():
        np.testing.assert_allclose(trees.leaves(run.model.params)[path], leaf, rtol=1e-3, atol=1e-5)
    assert run.opt_state is None
    assert run.value.keys() == {"params", "velocity"}


@pytest.mark.thorough
def test_a_gan_learns_within_fit(squares: Arrays, tmp_path: Path) -> None:
    run = fit(real(squares), tmp_path / "gan", small(num_classes=1), step=GAN)
    assert {"loss", "generator_loss", "size", "val_loss"} <= run.history.keys()
    assert "accuracy" not in run.history
    # The means are over the examples, of which the last batch has 8 of 16.
    assert run.history["size"][0] == pytest.approx(0.08, rel=0.1)
    assert run.value["nets"][1].shape == (4, 144)
    assert jnp.issubdtype(run.value["noise"].dtype, jax.dtypes.prng_key)
    loaded = cj.load(tmp_path / "gan")
    assert trees.tree_hash(loaded.variables) == run.parameter_hash


@pytest.mark.sample(1)
@pytest.mark.parametrize("which", ["sam", "gan"])
def test_a_resumed_run_ends_in_the_same_bits(squares: Arrays, tmp_path: Path, which: str) -> None:
    data = squares if which == "sam" else real(squares)
    arguments: dict[str, Any] = {"step": SAM if which == "sam" else GAN}
    arguments["model"] = small(num_classes=3 if which == "sam" else 1)
    settings = {"early_stopping": 3, "augment": Augment(width_shift=1)}
    through = fit(data, **arguments, config=settings)
    broken(data, tmp_path / "run", **arguments, config=settings)
    again = fit(data, tmp_path / "run", **arguments, config={**settings, "resume": True})
    assert again.parameter_hash == through.parameter_hash
    assert again.metrics == through.metrics
    assert again.history["loss"].tolist() == through.history["loss"].tolist()
    host = [
        np.asarray(jax.random.key_data(leaf) if isinstance(leaf, jax.Array) else leaf).tobytes()
        for run in (again, through)
        for leaf in jax.tree.leaves(run.value)
    ]
    assert host[: len(host) // 2] == host[len(host) // 2 :]


@pytest.mark.thorough
def test_steps_in_one_program_are_the_same_steps(squares: Arrays) -> None:
    one, four = (fit(squares, config={"steps_per_dispatch": n}) for n in (1, 4))
    assert four.history["loss"].tolist() == pytest.approx(one.history["loss"].tolist(), rel=1e-5)


def test_odd_leaves_come_back_as_they_were(squares: Arrays, tmp_path: Path) -> None:
    def init(model: cj.Model, key: Any) -> Any:
        return {
            "net": model.variables,
            "odd": [jnp.arange(3, dtype=jnp.bfloat16), jnp.array(True), 7, key, None, ()],
        }

    def update(value: Any, batch: Any, key: Any) -> Any:
        half, flag, count, own, *rest = value["odd"]
        odd = [half * 2, ~flag, count + 1, jax.random.split(own)[0], *rest]
        return {**value, "odd": odd}, {"loss": jnp.float32(1.0)}

    step = Step(init, update, lambda value: value["net"])
    through = fit(squares, step=step)
    broken(squares, tmp_path / "run", step=step)
    again = fit(squares, tmp_path / "run", step=step, config={"resume": True})
    for run in (through, again):
        half, flag, count, *_ = run.value["odd"]
        # Without anything better than the first epoch, that is the best one: 5 steps.
        assert (np.asarray(half, np.float32).tolist(), bool(flag)) == ([0, 32, 64], False)
        assert int(count) == 12
    keys = [jax.random.key_data(run.value["odd"][3]).tolist() for run in (through, again)]
    assert keys[0] == keys[1]


def test_the_best_epoch_is_returned_and_waiting_for_a_better_one_ends(squares: Arrays) -> None:
    def worse(value: Any, batch: Any, key: Any) -> Any:
        return sharp(value, batch, key, rate=-0.01)

    config = {"epochs": 9, "early_stopping": 2}
    run = fit(squares, step=changed(update=worse), config=config)
    assert len(run.history["loss"]) == run.best_epoch + 2 < 9
    assert run.metrics["val_loss"] == run.history["val_loss"].min()


# What does not fit


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"optimizer": optax.sgd(0.1)}, "optimizer= would be ignored, since step= takes the place"),
        ({"objective": lambda *a: a}, "objective= would be ignored"),
        ({"opt_state": ()}, "opt_state= would be ignored"),
        ({"config": {"learning_rate": 0.5}}, "learning_rate=0.5 would be ignored"),
        ({"config": {"frozen": ("dense1",)}}, r"frozen=\('dense1',\) would be ignored"),
        ({"config": {"average": 0.9}}, "average=0.9 would be ignored"),
        ({"config": {"accumulate": 2}}, "accumulate=2 would be ignored"),
        ({"config": {"class_weights": "balanced"}}, "class_weights='balanced' would be ignored"),
        ({"config": {"precision": "bfloat16"}}, "precision='bfloat16' would be ignored"),
        ({"config": {"augment": Augment(mixup=0.1)}}, "mixup or cutmix mixes the labels as well"),
        ({"step": sharp}, r"step must be a cj.training.Step\(init, update, variables\), got <func"),
    ],
)
def test_what_a_step_of_ones_own_would_ignore(
    squares: Arrays, arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message) as raised:
        fit(squares, **arguments)
    assert "\n" not in str(raised.value)


def changed(**parts: Any) -> Step:
    return Step(*({"init": start, "update": sharp, "variables": of_params} | parts).values())


@pytest.mark.parametrize(
    ("step", "message"),
    [
        (
            changed(update=lambda v, b, k: ({**v, "more": 1}, {"loss": 1.0})),
            r"must return a value of the structure that it got, which differ in value\['more'\]",
        ),
        (
            changed(update=lambda v, b, k: (jax.tree.map(jnp.int32, v), {"loss": 1.0})),
            r"must return value\['params'\]\['dense1'\]\['bias'\] as it got it, float32\[8\], ",
        ),
        (changed(update=lambda v, b, k: v), r"must return \(value, \{'loss': values, ...\}\), got"),
        (changed(update=lambda v, b, k: (v, {"error": 1.0})), "measure a 'loss', and measures 'er"),
        (
            changed(update=lambda v, b, k: (v, {"loss": jnp.ones((16, 2))})),
            r"'loss' must be a scalar or \[16\], got \[16, 2\]",
        ),
        (
            changed(update=lambda v, b, k: (v, {"loss": 1.0, "epoch": 1.0})),
            "cannot be called 'epoch', which the record of an epoch has already",
        ),
        (
            changed(init=lambda model, key: {"params": model.params, "name": "net"}),
            r"init of the step must return a pytree of arrays, and value\['name'\] is of str",
        ),
        (
            changed(variables=lambda value: {"params": value["params"]["dense1"]}),
            "variables of the step must return those of mlp, and they differ",
        ),
        (changed(variables=lambda value: 1), r"must return the model's variables, \{'params'"),
    ],
    ids=[
        "structure",
        "dtype",
        "no-pair",
        "no-loss",
        "shape",
        "name",
        "text",
        "variables",
        "number",
    ],
)
def test_what_the_functions_of_a_step_must_return(
    squares: Arrays, step: Step, message: str
) -> None:
    with pytest.raises(ValueError, match=message) as raised:
        fit(squares, step=step)
    assert "\n" not in str(raised.value)


def test_a_step_is_made_of_functions() -> None:
    with pytest.raises(ValueError, match="update of a Step must be a function, got None"):
        changed(update=None)


# Records


def test_a_run_goes_on_with_its_own_step_only(squares: Arrays, tmp_path: Path) -> None:
    broken(squares, tmp_path / "run")
    resume = {"resume": True}
    with pytest.raises(RunError, match=r"holds a run with other settings .*- step/init"):
        fit(squares, tmp_path / "run", step=None, config=resume)

    def slower(value: Any, batch: Any, key: Any) -> Any:
        return sharp(value, batch, key, rate=0.01)

    other = changed(update=slower)
    with pytest.raises(RunError, match=r"the step differs: .*allow_changed=\('step',\)"):
        fit(squares, tmp_path / "run", step=other, config=resume)
    fit(squares, tmp_path / "run", step=other, config={**resume, "allow_changed": ("step",)})


def test_a_checkpoint_of_another_value_does_not_fit(squares: Arrays, tmp_path: Path) -> None:
    broken(squares, tmp_path / "run")

    def more(model: cj.Model, key: Any) -> Any:
        return {**start(model, key), "extra": jnp.zeros(2)}

    def carried(value: Any, batch: Any, key: Any) -> Any:
        rest, measured = sharp({k: value[k] for k in ("params", "velocity")}, batch, key)
        return {**rest, "extra": value["extra"]}, measured

    other = changed(init=more, update=carried)
    config = {"resume": True, "allow_changed": ("step",)}
    with pytest.raises(CheckpointError, match="is of another model, optimiser or step: "):
        fit(squares, tmp_path / "run", step=other, config=config)


def test_a_run_is_reproduced_with_the_step_that_its_record_names(
    squares: Arrays, tmp_path: Path
) -> None:
    fit(squares, tmp_path / "run")
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config["step"]["update"].endswith("test_own_step:sharp")
    splits = Splits(from_arrays(*squares)).with_validation(0.25)
    assert cj.reproduce(tmp_path / "run", data=splits, verbose=False).same


def test_a_step_that_no_import_finds_is_named(squares: Arrays, tmp_path: Path) -> None:
    step = changed(variables=lambda value: {"params": value["params"]})
    fit(squares, tmp_path / "run", step=step)
    with pytest.raises(RunError, match=r"was trained with the function .*<lambda> as its step, w"):
        cj.reproduce(tmp_path / "run", data=squares, verbose=False)
