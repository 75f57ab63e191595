"""A training pass that keeps less has the same gradients, and needs less memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import cnnjax as cj
from cnnjax.core.cost import cost_of
from cnnjax.core.runtime import compiler_options
from cnnjax.runs import RunError
from cnnjax.training import TrainState, make_train_step, supervised

OPTIONS = compiler_options(False, recomputed=True)
USUAL = supervised(cj.metrics.cross_entropy)


class Deep(nn.Module):
    """Residual blocks of a convolution, BatchNorm and dropout."""

    depth: int = 2
    width: int = 4

    @nn.compact
    def __call__(self, x: Any, train: bool = False) -> Any:
        x = nn.Conv(self.width, (3, 3), name="first")(x)
        for i in range(self.depth):
            y = nn.Conv(self.width, (3, 3), name=f"conv{i}")(x)
            y = nn.BatchNorm(use_running_average=not train, name=f"norm{i}")(y)
            y = nn.Dropout(0.2, deterministic=not train)(jax.nn.relu(y))
            x = x + jnp.tanh(y)
        return nn.Dense(3, name="logits")(x.mean(axis=(1, 2)))


def net(**settings: int) -> cj.Model:
    return cj.Model.from_module(Deep(**settings), (8, 8, 1))


def batch() -> dict[str, Any]:
    images = np.random.default_rng(0).integers(0, 256, (8, 8, 8, 1), dtype=np.uint8)
    return {"inputs": images, "labels": np.arange(8, dtype=np.int32) % 3}


def penalised(functions: Any, params: Any, state: Any, batch: Any, key: Any) -> Any:
    losses, aux = USUAL(functions, params, state, batch, key)
    again, _ = functions.apply_train(params, state, batch["inputs"], key)
    return losses + 0.1 * (again**2).mean(axis=1), aux


CASES: dict[str, dict[str, Any]] = {
    "plain": {},
    "parts": {"accumulate": 2},
    "frozen": {"frozen": ("conv0", "norm0", "first")},
    "objective": {"objective": penalised},
    "bfloat16": {"precision": "bfloat16"},
}


@pytest.mark.sample(2)
@pytest.mark.parametrize("remat", ["dots", "blocks"])
@pytest.mark.parametrize("case", CASES)
def test_the_step_is_the_same(remat: str, case: str) -> None:
    model, optimizer = net(), optax.sgd(0.1, momentum=0.9)
    states = []
    for way in ("none", remat):
        step = make_train_step(model, None, optimizer, remat=way, **CASES[case])
        step = jax.jit(step, compiler_options=OPTIONS)
        state = TrainState.create(model, optimizer, frozen=CASES[case].get("frozen", ()))
        for _ in range(2):
            state, sums = step(state, batch())
        states.append((state.variables(), state.opt_state, sums))
    tolerance = 2e-2 if case == "bfloat16" else 1e-5
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance), *states
    )


@pytest.mark.thorough
def test_what_is_kept_becomes_less() -> None:
    model, optimizer = net(depth=16, width=16), optax.sgd(0.1)
    state = TrainState.create(model, optimizer)
    kept = {}
    for remat in ("none", "dots", "blocks"):
        step = make_train_step(model, None, optimizer, remat=remat)
        kept[remat] = cost_of(jax.jit(step).lower(state, batch()), OPTIONS).temporary
    assert kept["dots"] < 0.8 * kept["none"]
    assert kept["blocks"] < 0.5 * kept["none"]


def test_nothing_recomputed_is_the_same_program() -> None:
    state = TrainState.create(net(), optax.sgd(0.1))
    programs = [
        str(jax.make_jaxpr(make_train_step(net(), None, optax.sgd(0.1), **o))(state, batch()))
        for o in ({}, {"remat": "none"})
    ]
    assert programs[0] == programs[1]


def test_an_unknown_way_is_refused() -> None:
    with pytest.raises(ValueError, match="remat must be one of none, dots, blocks, got 'block'"):
        cj.TrainingConfig(remat="block")
    with pytest.raises(ValueError, match="remat must be one of none, dots, blocks, got 'block'"):
        make_train_step(net(), remat="block")


def test_another_way_is_another_run(squares: Any, tmp_path: Path) -> None:
    model = cj.create_model("mlp", input_shape=(12, 12, 1), num_classes=3, units=(8,))

    def fit(remat: str, **more: Any) -> cj.Run:
        config = cj.TrainingConfig(epochs=1, batch_size=32, remat=remat, **more)
        return cj.fit(model, squares, config, directory=tmp_path, verbose=False)

    fit("blocks")
    assert fit("blocks", resume=True).history["loss"].shape == (1,)
    with pytest.raises(RunError, match="remat"):
        fit("none", resume=True)
