"""A profile measures a training and leaves it as it is."""

from __future__ import annotations

import contextlib
import json
import math
import signal
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import pytest
from commands import after_every_dispatch
from flax import linen
from modules import Convnet

import cnnjax as cj
from cnnjax.core.cost import Cost
from cnnjax.training import Interrupted, Profile
from cnnjax.training.speed import Interval, figures, text


@pytest.fixture(autouse=True)
def _a_small_peak(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cnnjax.core.peaks._MATRIX", {"cpu": 32})
    monkeypatch.setattr("cnnjax.core.peaks._COPIED", {"cpu": 1024})


def fit(data: Any, callbacks: Any, **settings: Any) -> cj.Run:
    model = cj.create_model("mlp", input_shape=(12, 12, 1), num_classes=3, units=(8,))
    config = cj.TrainingConfig(epochs=4, batch_size=8, **settings)  # 12 steps an epoch
    return cj.fit(model, data, config, callbacks=callbacks, verbose=False)


@pytest.mark.parametrize("chunk", [None, 4, 5, 12])
def test_the_bits_are_the_same(
    squares: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str], chunk: int | None
) -> None:
    profile = Profile(tmp_path, steps=10, skipped=3, traced=2)
    plain = fit(squares, [], steps_per_dispatch=chunk)
    profiled = fit(squares, [profile], steps_per_dispatch=chunk)
    assert profiled.parameter_hash == plain.parameter_hash
    assert profiled.history["loss"].tolist() == plain.history["loss"].tolist()
    found = json.loads((tmp_path / "profile.json").read_text(encoding="utf-8"))
    assert found == profile.figures
    assert found["steps"] >= 10
    assert found["flops"] > 2 * 2 * 8 * (144 * 8)  # forward and the gradient of the kernel
    assert found["step_memory"] > 4 * (144 * 8)
    assert list(tmp_path.glob("plugins/profile/*/*.xplane.pb"))
    printed = capsys.readouterr().out
    assert f"profile of {found['steps']} steps in {tmp_path}" in printed
    assert "roofline" in printed


@pytest.mark.parametrize(("chunk", "steps"), [(None, [3, 4]), (4, [12]), (12, [12])])
def test_so_many_steps_are_traced(
    squares: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    chunk: int | None,
    steps: list[int],
) -> None:
    tracing: list[bool] = []
    seen: list[int] = []

    @contextlib.contextmanager
    def trace(*_: Any, **__: Any) -> Iterator[None]:
        tracing.append(True)
        yield
        tracing.clear()

    monkeypatch.setattr("jax.profiler.trace", trace)
    undo = after_every_dispatch(lambda step: seen.append(step) if tracing else None)
    try:
        profile = Profile(tmp_path, steps=1, skipped=1, traced=2)
        fit(squares, [profile], steps_per_dispatch=chunk)
    finally:
        undo()
    assert seen == steps
    assert profile.figures is not None


def test_a_training_that_is_over_before_is_shown_as_far_as_it_came(
    squares: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    profile = Profile(tmp_path, steps=1000)
    fit(squares, [profile])
    assert profile.figures is not None
    assert profile.figures["steps"] == 48 - 5
    assert "profile of 43 steps" in capsys.readouterr().out


def test_a_training_that_only_warmed_up_is_said_to(
    squares: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    profile = Profile(tmp_path, skipped=48)
    fit(squares, [profile])
    assert profile.figures is None
    assert "nothing was profiled: the training was over after 48 steps" in capsys.readouterr().out


def test_only_one_profile_and_only_numbers_of_steps(squares: Any, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="callbacks must hold one Profile at most, got 2"):
        fit(squares, [Profile(tmp_path), Profile(tmp_path)])
    profile = Profile(tmp_path, skipped=48)
    fit(squares, [profile])
    with pytest.raises(ValueError, match="a Profile that has seen a training already"):
        fit(squares, [profile])
    with pytest.raises(ValueError, match=r"steps of a Profile must be .* got 0"):
        Profile(tmp_path, steps=0)


@pytest.mark.thorough
def test_a_profiled_and_recomputed_training_resumed_ends_in_the_same_bits(
    squares: Any, tmp_path: Path
) -> None:
    model = cj.Model.from_module(Convnet(), (12, 12, 1))

    def fit(name: str, **more: Any) -> cj.Run:
        config = cj.TrainingConfig(epochs=2, batch_size=16, remat="blocks", **more)
        profile = Profile(tmp_path / "speed", steps=1, skipped=1, traced=3)
        return cj.fit(
            model,
            squares,
            config,
            directory=tmp_path / name,
            callbacks=[profile],
            verbose=False,
        )

    through, count = fit("through"), iter(range(100))
    undo = after_every_dispatch(
        lambda _: signal.raise_signal(signal.SIGINT) if next(count) == 4 else None
    )
    try:
        with pytest.raises(Interrupted):
            fit("broken")
    finally:
        undo()
    assert fit("broken", resume=True).parameter_hash == through.parameter_hash


def interval(steps: int, seconds: float, waited: float = 0.0) -> Interval:
    began: Future[float] = Future()
    ended: Future[float] = Future()
    began.set_result(1.0)
    ended.set_result(1.0 + seconds)
    return Interval(steps, waited, began, ended)


def test_figures_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    class H200:
        device_kind = "NVIDIA H200"

    monkeypatch.setattr("cnnjax.training.speed.jax.devices", lambda: [H200()])
    cost = Cost(flops=67e9, moved=9.6e9, memory=2**30, temporary=2**29)
    timed = [interval(1, 0.004), interval(2, 0.008), interval(1, 0.4, waited=0.01)]
    found = figures(timed, cost, devices=1, batch=32, precision="float32")
    assert found["steps"] == 4
    assert math.isclose(found["step_seconds"], 0.004)
    assert math.isclose(found["examples_per_second"], 8000)
    assert math.isclose(found["waiting"], 0.01 / 0.412)
    assert math.isclose(found["flops_per_second"], 67e9 / 0.004)
    assert math.isclose(found["share_of_peak"], 0.25)
    assert math.isclose(found["bound_seconds"], 0.002)
    assert found["bound_by"] == "memory"
    lines = text(found).splitlines()
    assert lines[5].split("  ")[-1].strip() == "16.7 TFLOP/s, 25.0 % of 67 TFLOP/s (the data sheet)"
    waiting = figures([interval(1, 0.1, waited=0.05)], cost, 1, 32, "float32")
    assert waiting["bound_by"] == "waiting for data"


class SummedRows(linen.Module):
    """Logits of the sum of an image's rows, in a loop."""

    @linen.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        rows = jnp.moveaxis(x[..., 0], 1, 0)
        total, _ = jax.lax.scan(lambda sums, row: (sums + row, None), 0.0 * rows[0], rows)
        return linen.Dense(3)(total)


@pytest.mark.parametrize("loops", [True, False])
def test_of_a_loop_one_turn_is_counted_and_the_table_says_so(
    squares: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str], loops: bool
) -> None:
    model = cj.create_model("mlp", input_shape=(12, 12, 1), num_classes=3, units=(8,))
    if loops:
        model = cj.Model.from_module(SummedRows(), (12, 12, 1))
    config = cj.TrainingConfig(epochs=1, batch_size=8)
    profile = Profile(tmp_path, steps=2, skipped=1, traced=1)
    cj.fit(model, squares, config, callbacks=[profile], verbose=False)
    assert profile.figures
    assert profile.figures["at_least"] is loops
    assert capsys.readouterr().out.count("at least") == 3 * loops


def test_what_is_unknown_is_said_to_be(monkeypatch: pytest.MonkeyPatch) -> None:
    class T4:
        device_kind = "Tesla T4"

    monkeypatch.setattr("cnnjax.training.speed.jax.devices", lambda: [T4()])
    cost = Cost(flops=1e9, moved=1e9, memory=1, temporary=1)
    found = figures([interval(1, 0.1)], cost, 1, 8, "bfloat16")
    assert found["share_of_peak"] is None
    assert found["bound_by"] == "unknown"
    assert "peak unknown" in text(found)
    assert "unknown, bound by unknown" in text(found)
