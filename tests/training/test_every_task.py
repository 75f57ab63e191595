"""Every task and kind of inputs: it learns, is killed and resumed, saved, loaded and reproduced."""

from __future__ import annotations

import itertools
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from commands import after_every_dispatch
from flax import linen
from jax import Array

import cnnjax as cj
from cnnjax.runs import write_report

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (48, 4, 6, 1), dtype=np.uint8)
BRIGHT = (IMAGES > 127).astype(np.int32)[..., 0]


class Whole(linen.Module):
    """A few outputs for an image."""

    count: int

    @linen.compact
    def __call__(self, images: Array) -> Array:
        return linen.Dense(self.count, name="outputs")(images.reshape(len(images), -1))


class Pixels(linen.Module):
    """A few outputs for each pixel."""

    count: int = 2

    @linen.compact
    def __call__(self, images: Array) -> Array:
        return linen.Conv(self.count, (1, 1), name="outputs")(images)


class Case(NamedTuple):
    """Something to train, which accuracy or error above or below which it must reach."""

    model: cj.Model
    data: Any
    metric: str
    limit: float


def case(name: str) -> Case:
    labels: Any = BRIGHT[:, 0, 0]
    if name == "binary":
        net = cj.Model.from_module(Whole(1), (4, 6, 1), task=name)
        return Case(net, (IMAGES, labels.astype(np.float32)), "accuracy", 0.9)
    if name == "multilabel":
        net = cj.Model.from_module(Whole(3), (4, 6, 1), task=name, label_names=("a", "b", "c"))
        return Case(net, (IMAGES, BRIGHT[:, 0, :3]), "accuracy", 0.9)
    if name == "vector":
        net = cj.Model.from_module(Whole(1), (4, 6, 1), task="values")
        return Case(net, (IMAGES, IMAGES[:, 1, 1, 0] / 255), "absolute_error", -0.1)
    if name == "positions":
        net = cj.Model.from_module(Symbols(), (4, 6, 1), task=name)
        return Case(net, (IMAGES, BRIGHT[:, 0, :2]), "accuracy", 0.9)
    if name == "dense":
        net = cj.Model.from_module(Pixels(), (4, 6, 1), task=name, label_names=("dark", "light"))
        return Case(net, (IMAGES, np.where(IMAGES[..., 0] < 9, -1, BRIGHT)), "accuracy", 0.95)
    raise ValueError(name)


class Symbols(linen.Module):
    """A class at each of two positions."""

    @linen.compact
    def __call__(self, images: Array) -> Array:
        return Whole(4, name="whole")(images).reshape(-1, 2, 2)


CASES = ["dense", "multilabel", "binary", "vector", "positions"]


def splits_of(data: Any, model: cj.Model) -> cj.data.Splits:
    part = data if isinstance(data, cj.data.Dataset) else None
    part = part or cj.data.from_arrays(*data, task=model.spec.task, label_names=())
    return cj.data.Splits(part, test=part).with_validation(0.25)


@pytest.fixture(params=CASES)
def chosen(request: pytest.FixtureRequest) -> Case:
    return case(request.param)


def config(**more: Any) -> cj.TrainingConfig:
    return cj.TrainingConfig(batch_size=9, optimizer="adam", learning_rate=0.05, **more)


def killed_after(dispatches: int, train: Callable[[], Any]) -> None:
    count = itertools.count(1)

    def hook(done: int) -> None:
        if next(count) == dispatches:
            signal.raise_signal(signal.SIGINT)

    undo = after_every_dispatch(hook)
    try:
        with pytest.raises(cj.training.Interrupted):
            train()
    finally:
        undo()


@pytest.mark.sample(1)
def test_it_is_killed_resumed_loaded_and_reproduced_to_the_same_bits(
    chosen: Case, tmp_path: Path
) -> None:
    model, splits = chosen.model, splits_of(chosen.data, chosen.model)

    def train(name: str, **more: Any) -> cj.Run:
        settings = config(epochs=2, checkpoint_every=1, **more)
        return cj.fit(model, splits, settings, directory=tmp_path / name, verbose=False)

    killed_after(6, lambda: train("killed"))
    resumed, through = train("killed", resume=True), train("through")
    assert resumed.parameter_hash == through.parameter_hash
    assert resumed.metrics == through.metrics
    again = cj.load(tmp_path / "killed", module=model.module)
    assert again.spec == through.model.spec
    probs = cj.predict(again, splits.train.inputs)
    np.testing.assert_array_equal(probs, cj.predict(through.model, splits.train.inputs))
    assert len(model.spec.task.decode(probs, model.spec.label_names)) == len(probs)
    assert cj.reproduce(tmp_path / "through", splits, model, verbose=False).same
    assert str(cj.summary(model))
    assert write_report(tmp_path / "through").is_file()


@pytest.mark.sample(2)
def test_it_learns_from_arrays_and_says_how_well(chosen: Case) -> None:
    model, splits = chosen.model, splits_of(chosen.data, chosen.model)
    run = cj.fit(model, chosen.data, config(epochs=60, monitor=None), verbose=False)
    reached = cj.evaluate(run.model, splits.test or splits.train)[chosen.metric]
    assert reached == cj.evaluate(run.model, chosen.data)[chosen.metric]
    sign = 1 if chosen.limit > 0 else -1
    assert sign * reached > chosen.limit


def test_pixels_of_which_none_has_a_label_are_refused() -> None:
    model, none = case("dense").model, np.full(BRIGHT.shape, -1)
    with pytest.raises(
        ValueError,
        match=r"^night train: all labels are -1, of what counts nowhere, so there is nothing to "
        r"learn or to measure: give some their class$",
    ):
        cj.fit(model, cj.data.from_arrays(IMAGES, none, name="night train", task="dense"))
    some = none.copy()
    some[-1, 0, 0] = 1  # of the last image one pixel
    assert cj.evaluate(model, (IMAGES, some))["loss"] > 0
