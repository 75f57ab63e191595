"""How many digits, and which random numbers: what is computed, recorded, refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from commands import killed_after
from flax import linen

import cnnjax as cj
from cnnjax.core import rng
from cnnjax.nn import Dense, Dropout
from cnnjax.training.precision import meaning

Arrays = tuple[np.ndarray, np.ndarray]


class Dropping(linen.Module):
    """A net whose loss shows which units were dropped."""

    @linen.compact
    def __call__(self, x: Any, train: bool = False) -> Any:
        x = Dropout(0.5, name="dropout")(x.reshape(len(x), -1), train)
        return Dense(3, name="logits")(x)


def fit(data: Arrays, directory: Path | None = None, **changes: Any) -> cj.training.Run:
    model = cj.Model.from_module(Dropping(), (12, 12, 1))
    config = cj.TrainingConfig(**{"epochs": 2, "batch_size": 16, "monitor": None, **changes})
    return cj.fit(model, data, config, directory=directory, verbose=False)


def test_on_a_cpu_tf32_is_float32_to_the_bit(squares: Arrays) -> None:
    assert fit(squares, precision="tf32").parameter_hash == fit(squares).parameter_hash


@pytest.mark.parametrize("precision", ["float32", "tf32", "bfloat16"])
def test_the_record_says_what_a_precision_is_here(
    squares: Arrays, tmp_path: Path, precision: str
) -> None:
    fit(squares, tmp_path, precision=precision, epochs=1)
    record = json.loads((tmp_path / "run.json").read_text())
    assert record["precision"] == meaning(precision, jax.default_backend())
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["training"]["precision"] == precision


def test_every_precision_has_a_meaning_on_every_kind_of_device() -> None:
    texts = {
        platform: [meaning(precision, platform) for precision in cj.config.PRECISIONS]
        for platform in ("cpu", "gpu", "tpu", "metal")
    }
    assert texts["cpu"][:2] == ["float32", "float32, since CPUs have no TF32"]
    assert "TensorFloat-32" in texts["gpu"][1]
    assert "three of bfloat16" in texts["tpu"][1]
    assert all(len(set(each)) == 3 for each in texts.values())


def test_the_generator_of_the_device_drops_other_units_and_the_same_each_time(
    squares: Arrays,
) -> None:
    first, second, other = (
        fit(squares, generator="rbg"), fit(squares, generator="rbg"), fit(squares)
    )  # fmt: skip
    assert first.parameter_hash == second.parameter_hash
    assert first.parameter_hash != other.parameter_hash
    np.testing.assert_allclose(first.history["loss"], other.history["loss"], rtol=0.2)


def test_with_it_a_run_that_is_killed_and_resumed_ends_in_the_same_bits(
    squares: Arrays, tmp_path: Path
) -> None:
    settings: dict[str, Any] = {"generator": "rbg", "checkpoint_every": 2}
    through = fit(squares, tmp_path / "through", **settings)
    with killed_after(4):
        fit(squares, tmp_path / "run", **settings)
    resumed = fit(squares, tmp_path / "run", **settings, resume=True)
    assert resumed.parameter_hash == through.parameter_hash


def test_keys_of_the_device_differ_as_those_do_of_which_they_are_made() -> None:
    keys = [rng.of_device(rng.at(rng.stream(0, "dropout"), step)) for step in range(20)]
    bits = {np.asarray(jax.random.bits(key, (4,))).tobytes() for key in keys}
    assert len(bits) == 20
    kept = [jax.random.bernoulli(key, 0.5, (1000,)).mean() for key in keys]
    np.testing.assert_allclose(jnp.asarray(kept).mean(), 0.5, atol=0.02)


@pytest.mark.parametrize("setting", ["precision", "generator"])
def test_an_unknown_one_is_refused_with_what_there_is(setting: str) -> None:
    with pytest.raises(ValueError, match=f"{setting} must be one of .*, got 'exact'"):
        cj.training.make_train_step(cj.create_model("mlp", units=(3,)), **{setting: "exact"})
    with pytest.raises(ValueError, match=f"{setting} must be one of .*, got 'exact'"):
        cj.TrainingConfig(**{setting: "exact"})
