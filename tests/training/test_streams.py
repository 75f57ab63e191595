"""Training on streams: the same bits as on arrays, replayed when resumed, or refused."""

from __future__ import annotations

import itertools
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import after_every_dispatch

import cnnjax as cj
from cnnjax.training import Interrupted

COUNT, SIZE = 5, 8


def batches(epoch: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    numbers = np.random.default_rng(epoch)
    for _ in range(COUNT + 2):  # more than are taken
        yield numbers.integers(0, 256, (SIZE, 4, 4, 1), np.uint8), numbers.integers(0, 3, SIZE)


def net() -> cj.Model:
    return cj.create_model("mlp", input_shape=(4, 4, 1), num_classes=3, units=(3,))


def fit(data: Any, directory: Path | None = None, **settings: Any) -> cj.Run:
    config = cj.TrainingConfig(**{"epochs": 3, "batch_size": SIZE, **settings})
    return cj.fit(net(), data, config, directory=directory, verbose=False)


def splits(factory: Any = batches) -> cj.data.Splits:
    train, validation = (cj.data.stream(f, COUNT) for f in (factory, batches))
    return cj.data.Splits(train, validation)  # type: ignore[arg-type]


def test_it_trains_on_what_arrays_in_that_order_train_on() -> None:
    """A sampler visits the same examples in the same order."""
    taken = [itertools.islice(batches(epoch), COUNT) for epoch in range(3)]
    pairs = [pair for epoch in taken for pair in epoch]
    arrays = cj.data.from_arrays(*(np.concatenate(part) for part in zip(*pairs, strict=True)))
    size = COUNT * SIZE
    arranged = fit(
        arrays,
        sampler=lambda seed, epoch, data: np.arange(epoch * size, (epoch + 1) * size),
        monitor=None,
    )
    streamed = fit(cj.data.stream(batches, COUNT), monitor=None)
    assert streamed.parameter_hash == arranged.parameter_hash
    assert streamed.history["step"].tolist() == [5, 10, 15]


@pytest.mark.sample(1)
@pytest.mark.parametrize("after", [2, COUNT, COUNT + 3], ids=["within", "between", "later"])
def test_killed_and_resumed_it_ends_in_the_same_bits(tmp_path: Path, after: int) -> None:
    whole = fit(splits(), augment=cj.augment.Augment(width_shift=1))
    interrupted(tmp_path, after, splits(), augment=cj.augment.Augment(width_shift=1))
    again = fit(splits(), tmp_path / "run", resume=True, augment=cj.augment.Augment(width_shift=1))
    assert again.parameter_hash == whole.parameter_hash
    assert again.history["val_loss"].tolist() == whole.history["val_loss"].tolist()
    assert cj.reproduce(tmp_path / "run", splits(), verbose=False).same


def interrupted(tmp_path: Path, after: int, data: Any, **settings: Any) -> None:
    count = itertools.count(1)

    def hook(step: int) -> None:
        if next(count) == after:
            signal.raise_signal(signal.SIGINT)

    undo = after_every_dispatch(hook)
    try:
        with pytest.raises(Interrupted):
            fit(data, tmp_path / "run", **settings)
    finally:
        undo()


def by_chance(epoch: int) -> Iterator[Any]:
    return batches(np.random.default_rng().integers(2**60))


def other_later(epoch: int) -> Iterator[Any]:
    return batches(epoch if epoch == 0 else epoch + 50)


@pytest.mark.sample(1)
@pytest.mark.parametrize("after", [2, COUNT, COUNT + 3], ids=["within", "between", "later"])
def test_a_factory_that_gives_something_else_is_refused(tmp_path: Path, after: int) -> None:
    interrupted(tmp_path, after, splits(by_chance))
    with pytest.raises(ValueError, match=r"epoch \d of stream begins with another batch than bef"):
        fit(splits(by_chance), tmp_path / "run", resume=True)


def test_epochs_are_compared_one_by_one(tmp_path: Path) -> None:
    interrupted(tmp_path, COUNT + 3, splits())
    with pytest.raises(ValueError, match="epoch 1 of stream begins with another batch than before"):
        fit(splits(other_later), tmp_path / "run", resume=True)
    fit(splits(), tmp_path / "run", resume=True)


def test_other_data_are_named_as_such(tmp_path: Path) -> None:
    interrupted(tmp_path, 2, splits())
    with pytest.raises(cj.runs.RunError, match="was started on other data"):
        fit(splits(lambda epoch: batches(epoch + 1)), tmp_path / "run", resume=True)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"batch_size": 4},
            "batch_size=4 is not that of stream, whose batches have 8 examples: gi",
        ),
        ({"sampler": "balanced"}, "sampler='balanced' needs all training data at hand, and stream"),
        ({"class_weights": "balanced"}, "class_weights='balanced' needs all training data at hand"),
    ],
)
def test_settings_that_a_stream_cannot_honour_are_refused(settings: dict, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        fit(splits(), **settings)


def bad_at(step: int) -> Any:
    def factory(epoch: int) -> Iterator[Any]:
        for number, (images, labels) in enumerate(batches(epoch)):
            yield images, labels + 3 * (number == step)

    return factory


@pytest.mark.parametrize("step", [0, 3])
def test_labels_of_every_batch_are_looked_at(step: int) -> None:
    where = "" if step == 0 else "batch 3 of epoch 0 of "
    with pytest.raises(ValueError, match=rf"{where}stream: labels\[\d\] is \d, but mlp has num_cl"):
        fit(splits(bad_at(step)))


def test_another_shape_than_the_models_is_refused_before_training() -> None:
    model = cj.create_model("mlp", input_shape=(5, 4, 1), num_classes=3, units=(3,))
    with pytest.raises(ValueError, match=r"stream has images of shape \[4, 4, 1\], the model mlp"):
        cj.fit(model, splits(), cj.TrainingConfig(batch_size=8), verbose=False)


def test_reproduce_says_that_it_needs_the_stream(tmp_path: Path) -> None:
    fit(splits(), tmp_path / "run", epochs=1)
    with pytest.raises(cj.runs.RunError, match=r"as its data.*data=\.\.\."):
        cj.reproduce(tmp_path / "run", verbose=False)
