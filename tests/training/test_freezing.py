"""What is frozen does not move, costs no gradient, and takes no part in clipping."""

from __future__ import annotations

import dataclasses
import functools
import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from commands import after_every_dispatch

import cnnjax as cj
from cnnjax import metrics
from cnnjax.core import trees
from cnnjax.models.builder import build
from cnnjax.runs.seal import sealed
from cnnjax.training import FrozenLayersMoved, Interrupted, TrainState, make_train_step, shared
from cnnjax.training.frozen_hash import frozen_hash
from cnnjax.transfer import Head, base_layers, layers_before, replace_head

Arrays = tuple[np.ndarray, np.ndarray]


BASE = dict(alpha=0.25, include_top=False, pooling="avg", input_shape=(32, 32, 3))


@functools.cache
def model() -> cj.Model:
    base = cj.create_model("mobilenet", **BASE)
    # Larger scales, so that the features are no zeros.
    louder = trees.map_flat(
        lambda path, leaf: 4.5 * leaf if path.endswith("gamma") else leaf, base.variables
    )
    return replace_head(base.replace(variables=louder), Head(2))


# The last block and the head are trained.
FROZEN = layers_before(cj.Model.abstract(*build("mobilenet", **BASE)), "conv_dw_13")


@functools.cache
def image_list() -> Arrays:
    images = np.random.default_rng(0).integers(0, 256, (16, 32, 32, 3), dtype=np.uint8)
    labels = np.arange(16, dtype=np.int32) % 2
    images[labels == 1, :16] //= 3
    return images, labels


def batch(count: int = 8) -> dict[str, np.ndarray]:
    images, labels = image_list()
    return {"inputs": images[:count], "labels": labels[:count]}


def fit(directory: Path | None = None, **changes: Any) -> cj.Run:
    settings = {"epochs": 2, "batch_size": 8, "frozen": FROZEN, "monitor": None, **changes}
    config = cj.TrainingConfig(**settings)
    return cj.fit(model(), image_list(), config, directory=directory, verbose=False)


def moved(run: cj.Run) -> set[str]:
    """Layers of which anything changed, and of those that are trained all has to."""
    before, after = (trees.flatten(m.variables) for m in (model(), run.model))
    changed = {p for p in before if not np.array_equal(before[p], after[p])}
    layers = {path.split("/")[1] for path in changed}
    still = {p for p in before if p not in changed and p.split("/")[1] in layers}
    assert not still
    return layers


TRAINED = {"conv_dw_13", "conv_dw_13_bn", "conv_pw_13", "conv_pw_13_bn", "logits"}


@pytest.mark.thorough
@pytest.mark.parametrize(
    "settings",
    [
        {"optimizer": "rmsprop", "average": 0.9},
        # With decay, which would pull on every kernel that the optimiser knows of.
        {"optimizer": "adamw", "weight_decay": 0.1, "layer_decay": 0.9, "clip_norm": 0.1},
    ],
    ids=lambda settings: settings["optimizer"],
)
def test_frozen_layers_stay_to_the_bit_and_all_others_move(settings: dict) -> None:
    assert moved(fit(**settings)) == TRAINED


# The record


def facts(directory: Path) -> dict[str, Any]:
    return json.loads((directory / "run.json").read_text())


@pytest.mark.thorough
def test_the_record_proves_it(squares: Arrays, tmp_path: Path) -> None:
    run = fit(tmp_path / "run")
    recorded = facts(tmp_path / "run")
    wanted = frozen_hash(model().variables, FROZEN)
    assert recorded["frozen_hash"] == recorded["frozen_hash_after"] == wanted
    assert frozen_hash(run.model.variables, FROZEN) == wanted
    free = cj.create_model("mlp", input_shape=(12, 12, 1), num_classes=3, units=(4,))
    config = cj.TrainingConfig(epochs=1, monitor=None)
    cj.fit(free, squares, config, directory=tmp_path / "free", verbose=False)
    assert "frozen_hash" not in facts(tmp_path / "free")


def test_the_hash_covers_parameters_and_statistics_of_frozen_layers_only() -> None:
    whole = frozen_hash(model().variables, FROZEN)
    flat = trees.flatten(model().variables)

    def with_changed(path: str) -> str:
        return frozen_hash(trees.unflatten({**flat, path: flat[path] + 1e-6}), FROZEN)

    for path in ("params/conv1/kernel", "batch_stats/conv_pw_12_bn/moving_mean"):
        assert with_changed(path) != whole
    for path in ("params/logits/kernel", "batch_stats/conv_pw_13_bn/moving_mean"):
        assert with_changed(path) == whole


@pytest.mark.thorough
def test_a_resumed_run_is_proven_from_its_beginning(tmp_path: Path) -> None:
    def stop(done: int) -> None:
        if done == 1:
            raise KeyboardInterrupt

    undo = after_every_dispatch(stop)
    try:
        with pytest.raises(KeyboardInterrupt):
            fit(tmp_path / "run")
    finally:
        undo()
    began = facts(tmp_path / "run")["frozen_hash"]
    assert "frozen_hash_after" not in facts(tmp_path / "run")
    fit(tmp_path / "run", resume=True)  # from the beginning: nothing was saved
    fit(tmp_path / "run", resume=True, epochs=3)  # from a checkpoint
    recorded = facts(tmp_path / "run")
    assert recorded["frozen_hash"] == recorded["frozen_hash_after"] == began
    # A record of before there was such a hash.
    old = {k: v for k, v in recorded.items() if not k.startswith("frozen")}
    (tmp_path / "run" / "run.json").write_text(sealed(old))
    fit(tmp_path / "run", resume=True, epochs=4)
    assert facts(tmp_path / "run")["frozen_hash"] == began
    # A checkpoint of other frozen layers than the run began with.
    other = {**facts(tmp_path / "run"), "frozen_hash": "0" * 64}
    (tmp_path / "run" / "run.json").write_text(sealed(other))
    with pytest.raises(FrozenLayersMoved, match=r"frozen layers in .*checkpoints are not those"):
        fit(tmp_path / "run", resume=True, epochs=5)


@pytest.mark.sample(1)
@pytest.mark.parametrize("where", ["parameters", "statistics"])
@pytest.mark.thorough
def test_a_layer_that_moved_all_the_same_fails_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    original = shared.make_train_step
    shared.forget()

    def nudge(path: str, leaf: jax.Array) -> jax.Array:
        wanted = path.endswith(("conv1/kernel", "conv1_bn/moving_mean"))
        return leaf + 1e-6 if wanted else leaf

    def broken(*arguments: Any, **settings: Any) -> Any:
        step = original(*arguments, **settings)

        def moving(state: TrainState, one: Any) -> Any:
            state, sums = step(state, one)
            if where == "parameters":
                changed = dataclasses.replace(state, params=trees.map_flat(nudge, state.params))
            else:
                changed = dataclasses.replace(state, state=trees.map_flat(nudge, state.state))
            return changed, sums

        return moving

    monkeypatch.setattr(shared, "make_train_step", broken)
    with pytest.raises(FrozenLayersMoved, match=r"training changed layers that frozen=\('conv1'"):
        fit(tmp_path / "run", epochs=1)
    assert facts(tmp_path / "run")["status"] == "failed"
    shared.forget()


# What it costs


def program(frozen: tuple[str, ...], **settings: Any) -> Any:
    optimizer = optax.sgd(0.1)
    state = TrainState.create(model(), optimizer, frozen=frozen)
    step = make_train_step(model(), None, optimizer, frozen, **settings)
    return jax.jit(step, donate_argnums=0).lower(state, batch())


@pytest.mark.thorough
def test_the_frozen_part_runs_as_in_prediction_and_costs_no_gradient() -> None:
    forward = jax.jit(lambda variables, x: model().functions().apply(variables["params"], {
        "batch_stats": variables["batch_stats"]}, x))  # fmt: skip
    inputs = jnp.zeros((8, 32, 32, 3))
    predicting = forward.lower(model().variables, inputs)
    frozen, free = program(base_layers(model())), program(())

    def convolutions(lowered: Any) -> int:
        return lowered.as_text().count("stablehlo.convolution")

    # The engine of prediction, where training has the one whose gradient is fast.
    assert convolutions(frozen) == convolutions(predicting)
    if jax.default_backend() == "cpu":
        assert convolutions(predicting) > convolutions(free)
    flops = [p.compile().cost_analysis()["flops"] for p in (predicting, frozen, free)]
    assert flops[1] < 1.1 * flops[0]
    assert flops[1] < 0.5 * flops[2]


# Gradients of what is trained


def reference_gradients() -> dict[str, jax.Array]:
    """Those of all parameters by hand, of which only the trainable are kept."""
    net, one = model(), batch()
    x = net.spec.preprocess(one["inputs"])

    def mean_loss(params: Any) -> jax.Array:
        logits, _ = net.functions(FROZEN).apply_train(params, net.state, x, jax.random.key(0))
        return metrics.softmax_cross_entropy(logits, jnp.asarray(one["labels"])).mean()

    flat = trees.flatten(jax.jit(jax.grad(mean_loss))(net.params))
    return {p: g for p, g in flat.items() if not any(trees.matches(p, f) for f in FROZEN)}


@pytest.mark.slow
def test_norm_and_clipping_are_those_of_the_trained_part() -> None:
    gradients = reference_gradients()
    norm = float(np.sqrt(sum(np.square(np.float64(g)).sum() for g in gradients.values())))
    config = cj.TrainingConfig(optimizer="sgd", learning_rate=1.0, clip_norm=norm / 3)
    optimizer = cj.training.make_optimizer(config, 1)
    state = TrainState.create(model(), optimizer, frozen=FROZEN)
    step = jax.jit(make_train_step(model(), None, optimizer, FROZEN, log_gradients=True))
    after, sums = step(state, batch())
    assert float(sums["gradient_norm"] / sums["count"]) == pytest.approx(norm, rel=1e-3)
    taken = trees.flatten(jax.tree.map(lambda a, b: a - b, state.params, after.params))
    taken = {path: change for path, change in taken.items() if np.any(change)}
    assert set(taken) == set(gradients)
    largest = max(float(jnp.abs(g).max()) for g in gradients.values())
    for path, gradient in gradients.items():
        np.testing.assert_allclose(
            taken[path], gradient / 3, rtol=2e-2, atol=1e-3 * largest, err_msg=path
        )
    length = np.sqrt(sum(np.square(np.float64(g)).sum() for g in taken.values()))
    assert length == pytest.approx(norm / 3, rel=1e-3)


@pytest.mark.thorough
def test_smaller_gradients_are_not_clipped() -> None:
    plain = fit(epochs=1, optimizer="sgd")
    clipped = fit(epochs=1, optimizer="sgd", clip_norm=1e6)
    assert plain.parameter_hash == clipped.parameter_hash


@pytest.mark.thorough
def test_the_norm_is_in_every_epochs_record(squares: Arrays, tmp_path: Path) -> None:
    def training(directory: Path | None = None, **settings: Any) -> cj.Run:
        net = cj.create_model("mlp", input_shape=(12, 12, 1), num_classes=3, units=(8,))
        config = cj.TrainingConfig(epochs=2, monitor=None, **settings)
        return cj.fit(net, squares, config, directory=directory, verbose=False)

    logged = training(tmp_path / "run", batch_size=20, log_gradients=True)
    plain = training(batch_size=20)
    assert logged.parameter_hash == plain.parameter_hash  # looking changes nothing
    assert "gradient_norm" not in plain.history
    norms = logged.history["gradient_norm"]
    assert norms.shape == (2,)
    assert (norms > 0).all()
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["gradient_norm"] for line in lines] == norms.tolist()
    chunks = training(batch_size=20, log_gradients=True, steps_per_dispatch=3)
    np.testing.assert_allclose(chunks.history["gradient_norm"], norms, rtol=1e-4)
    assert cj.load(tmp_path / "run").spec.name == "mlp"


@pytest.mark.thorough
def test_a_norm_survives_an_interruption(squares: Arrays, tmp_path: Path) -> None:
    net = cj.create_model("mlp", input_shape=(12, 12, 1), num_classes=3, units=(8,))
    config = cj.TrainingConfig(epochs=1, batch_size=16, log_gradients=True, monitor=None)
    whole = cj.fit(net, squares, config, verbose=False)
    config = dataclasses.replace(config, checkpoint_every=2)

    def stop(done: int) -> None:
        if done == 5:
            raise Interrupted

    undo = after_every_dispatch(stop)
    try:
        with pytest.raises(Interrupted):
            cj.fit(net, squares, config, directory=tmp_path / "run", verbose=False)
    finally:
        undo()
    config = dataclasses.replace(config, resume=True)
    resumed = cj.fit(net, squares, config, directory=tmp_path / "run", verbose=False)
    assert resumed.history["gradient_norm"].tolist() == whole.history["gradient_norm"].tolist()
