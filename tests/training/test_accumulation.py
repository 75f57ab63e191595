"""A batch in parts is the whole batch, to rounding."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from commands import after_every_dispatch
from modules import Convnet

import cnnjax as cj
from cnnjax.augment import Augment
from cnnjax.config import TrainingConfig
from cnnjax.data import Splits, from_arrays
from cnnjax.training import Aux, Interrupted, TrainState, make_train_step, supervised

Arrays = tuple[np.ndarray, np.ndarray]
USUAL = supervised(cj.metrics.cross_entropy)


def small() -> cj.Model:
    return cj.create_model("mlp", input_shape=(12, 12, 1), num_classes=3, units=(8,))


def batch_of(data: Arrays, real: int = 24) -> dict[str, Any]:
    """Of 24 examples, some of them padding."""
    index = np.arange(24, dtype=np.int32)
    return {
        "inputs": data[0][:24],
        "labels": data[1][:24],
        "index": index,
        "epoch": np.int32(1),
        "mask": index < real,
        "weights": np.linspace(0.5, 1.5, 24).astype(np.float32),
    }


def stepped(
    batch: dict[str, Any], optimizer: Any = None, steps: int = 2, **arguments: Any
) -> tuple[Any, dict[str, float]]:
    model, optimizer = small(), optimizer or optax.sgd(0.5, momentum=0.9)
    frozen, average = arguments.get("frozen", ()), "average" in arguments
    step = jax.jit(make_train_step(model, optimizer=optimizer, **arguments))
    state, sums = TrainState.create(model, optimizer, frozen=frozen, average=average), {}
    for _ in range(steps):
        state, sums = step(state, batch)
    return state, {name: float(value) for name, value in sums.items()}


def doubled(functions: Any, params: Any, state: Any, batch: Any, key: Any) -> Any:
    losses, aux = USUAL(functions, params, state, batch, key)
    penalty = sum((leaf**2).sum() for leaf in jax.tree.leaves(params))
    return 2 * losses + 0.1 * penalty, Aux(aux.outputs, aux.state, {"half": losses / 2})


CASES: dict[str, dict[str, Any]] = {
    "plain": {},
    "settings": {"average": 0.9, "frozen": ("dense1",), "log_gradients": True},
    "mixup": {"augment": Augment(mixup=0.4), "label_smoothing": 0.1},
    "objective": {"objective": doubled},
    "line-search": {"optimizer": optax.lbfgs()},
}


@pytest.mark.sample(2)
@pytest.mark.parametrize("form", ["unrolled", "scanned"])
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("real", [24, 17], ids=["full", "ragged"])
def test_parts_of_a_batch_add_up_to_it(
    squares: Arrays, monkeypatch: pytest.MonkeyPatch, form: str, case: str, real: int
) -> None:
    batch = batch_of(squares, real)
    if case == "mixup":
        del batch["weights"]
    whole, sums = stepped(batch, **CASES[case])
    if form == "scanned":
        monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    parts, parts_sums = stepped(batch, accumulate=4, **CASES[case])
    assert parts_sums == pytest.approx(sums, rel=1e-4)
    assert parts_sums["count"] == real
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-4, atol=1e-5),
        parts.variables(),
        whole.variables(),
    )


@pytest.mark.thorough
def test_a_whole_epoch_in_parts_is_the_epoch(squares: Arrays) -> None:
    runs = [
        cj.fit(
            small(),
            Splits(from_arrays(*squares)).with_validation(0.25),  # 72: the last batch has 8 of 16
            TrainingConfig(epochs=2, batch_size=16, accumulate=parts, optimizer="adam"),
            verbose=False,
        )
        for parts in (1, 4)
    ]
    assert runs[1].history["loss"].tolist() == pytest.approx(runs[0].history["loss"].tolist(), 1e-4)
    assert runs[1].history["accuracy"].tolist() == runs[0].history["accuracy"].tolist()


def test_one_part_is_no_other_program(squares: Arrays) -> None:
    state = TrainState.create(small(), optax.sgd(0.1))
    programs = [
        str(jax.make_jaxpr(make_train_step(small(), None, optax.sgd(0.1), **o))(state, batch))
        for batch in (batch_of(squares),)
        for o in ({}, {"accumulate": 1})
    ]
    assert programs[0] == programs[1]


@pytest.mark.thorough
def test_batch_norm_has_the_statistics_of_a_part(squares: Arrays) -> None:
    model, optimizer = cj.Model.from_module(Convnet(), (12, 12, 1)), optax.sgd(0.0)
    batch = {"inputs": squares[0][:8], "labels": squares[1][:8]}
    step = jax.jit(make_train_step(model, None, optimizer, accumulate=2))
    state, _ = step(TrainState.create(model, optimizer), batch)
    by_hand = TrainState.create(model, optimizer)
    plain = jax.jit(make_train_step(model, None, optimizer))
    for start in (0, 1):
        by_hand, _ = plain(by_hand, {k: v[start::2] for k, v in batch.items()})
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6),
        state.state,
        by_hand.state,
    )


def test_dropout_draws_anew_for_each_part(squares: Arrays) -> None:
    keys: list[Any] = []

    def noisy(functions: Any, params: Any, state: Any, batch: Any, key: Any) -> Any:
        losses, aux = USUAL(functions, params, state, batch, key)
        drawn = jnp.full(losses.shape, jax.random.uniform(key))
        keys.append(drawn)
        return losses, Aux(aux.outputs, aux.state, {"drawn": drawn, "squared": drawn**2})

    _, sums = stepped(batch_of(squares), objective=noisy, accumulate=4, steps=1)
    mean, square = sums["drawn"] / 24, sums["squared"] / 24
    assert len(keys) == 4
    assert square - mean**2 > 1e-3


def test_the_batch_must_divide(squares: Arrays) -> None:
    with pytest.raises(ValueError, match="accumulate=5 must divide batch_size=64 into equal parts"):
        TrainingConfig(accumulate=5)
    with pytest.raises(ValueError, match=r"accumulate=5 must divide the batch .* it has 24 examp"):
        stepped(batch_of(squares), accumulate=5)


@pytest.mark.thorough
def test_a_resumed_run_in_parts_ends_in_the_same_bits(squares: Arrays, tmp_path: Path) -> None:
    model = cj.Model.from_module(Convnet(), (12, 12, 1))

    def fit(directory: Path, **more: Any) -> cj.Run:
        config = TrainingConfig(epochs=2, batch_size=32, accumulate=2, **more)
        return cj.fit(model, squares, config, directory=directory, verbose=False)

    through, count = fit(tmp_path / "through"), iter(range(100))
    undo = after_every_dispatch(
        lambda _: signal.raise_signal(signal.SIGINT) if next(count) == 3 else None
    )
    try:
        with pytest.raises(Interrupted):
            fit(tmp_path / "broken")
    finally:
        undo()
    assert fit(tmp_path / "broken", resume=True).parameter_hash == through.parameter_hash
