"""A second training of a kind compiles nothing, and is none the worse for it."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jax
import numpy as np
import pytest
from jax import Array

import cnnjax as cj
from cnnjax import metrics
from cnnjax.training.given import Given
from cnnjax.training.shared import make_steps

CONFIG = cj.TrainingConfig(epochs=2, batch_size=32, optimizer="adam", augment=None)


def net(seed: int = 0, units: tuple[int, ...] = (8,)) -> cj.Model:
    return cj.create_model("mlp", input_shape=(12, 12, 1), num_classes=3, units=units, seed=seed)


def steps_of(model: cj.Model | None = None, **changes: Any) -> Any:
    return make_steps(model or net(), Given(), replace(CONFIG, **changes), 10)


def shout(key: Array, image: Array) -> Array:
    return image


@pytest.fixture
def compilations(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of what is compiled from here on."""
    from jax._src import compiler

    names: list[str] = []
    compile_before: Callable[..., Any] = compiler.compile_or_get_cached

    def counted(backend: Any, computation: Any, *args: Any, **kwargs: Any) -> Any:
        names.append(computation.operation.attributes["sym_name"].value)
        return compile_before(backend, computation, *args, **kwargs)

    monkeypatch.setattr(compiler, "compile_or_get_cached", counted)
    return names


def test_another_seed_compiles_nothing_and_ends_as_if_alone(
    squares: tuple[np.ndarray, np.ndarray], compilations: list[str]
) -> None:
    settings = replace(CONFIG, average=0.9, clip_norm=1.0)
    alone = cj.fit(net(1), squares, replace(settings, seed=1), verbose=False).parameter_hash
    assert "jit_train_step" in compilations
    cj.fit(net(0), squares, settings, verbose=False)
    del compilations[:]
    again = cj.fit(net(1), squares, replace(settings, seed=1), verbose=False)
    assert not [name for name in compilations if "step" in name]
    assert again.parameter_hash == alone


def test_what_steps_do_not_depend_on_makes_no_difference() -> None:
    steps = steps_of()
    for changes in ({"seed": 3}, {"epochs": 9}, {"keep": 2}, {"checkpoint_every": 4}):
        assert steps_of(**changes) is steps
    assert steps_of(net(seed=5)) is steps
    assert make_steps(net(), Given(), CONFIG, 99) is steps  # the rate is constant


@pytest.mark.parametrize(
    "changes",
    [
        {"learning_rate": 0.5}, {"weight_decay": 0.1}, {"average": 0.5}, {"frozen": ("dense1",)},
        {"precision": "bfloat16"}, {"label_smoothing": 0.1}, {"augment": shout},
        {"augment": cj.augment.Augment(horizontal_flip=True)}, {"schedule": "cosine"},
        {"rate_factors": (("dense1", 0.1),)}, {"log_gradients": True},
    ],
    ids=lambda changes: next(iter(changes)),
)  # fmt: skip
def test_what_they_depend_on_does(changes: dict[str, Any]) -> None:
    assert steps_of(**changes) is not steps_of()
    assert steps_of(**changes) is steps_of(**changes)


def test_so_do_model_loss_and_length_of_a_schedule() -> None:
    steps = steps_of()
    assert steps_of(net(units=(9,))) is not steps
    spec = replace(net().spec, preprocessing="none")
    assert steps_of(net().replace(spec=spec)) is not steps
    assert make_steps(net(), Given(metrics.softmax_cross_entropy), CONFIG, 10) is not steps
    cosine = replace(CONFIG, schedule="cosine")
    assert make_steps(net(), Given(), cosine, 9) is not make_steps(net(), Given(), cosine, 8)


def test_no_weights_are_kept() -> None:
    model = net(units=(7,))
    leaf = weakref.ref(jax.tree.leaves(model.params)[0])
    kept = steps_of(model)
    del model
    gc.collect()
    assert leaf() is None
    assert callable(kept.train)


def test_what_cannot_be_a_key_is_no_obstacle(squares: tuple[np.ndarray, np.ndarray]) -> None:
    class Still:
        __hash__ = None  # type: ignore[assignment]

        def __call__(self, key: Array, image: Array) -> Array:
            return image

    config = replace(CONFIG, epochs=1, augment=Still())
    assert cj.fit(net(), squares, config, verbose=False).history["loss"].shape == (1,)
