"""The forms of an epoch: which is taken where, and that all of them do the same."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import numpy as np
import pytest
from commands import killed_after

import cnnjax as cj
from cnnjax.core import trees
from cnnjax.data import Loader, from_arrays
from cnnjax.training import dispatch, residency

Arrays = tuple[np.ndarray, np.ndarray]
# 96 squares in batches of 8: 12 steps an epoch.
SETTINGS = {"epochs": 2, "batch_size": 8, "monitor": None}


def model() -> cj.Model:
    return cj.create_model("mlp", input_shape=(12, 12, 1), num_classes=3, units=(8,))


def fit(data: Any, directory: Path | None = None, **changes: Any) -> cj.training.Run:
    config = cj.TrainingConfig(**SETTINGS, **changes)
    return cj.fit(model(), data, config, directory=directory, verbose=False)


def stream(data: Arrays) -> Any:
    images, labels = data

    def batches(epoch: int) -> Iterator[Arrays]:
        order = np.random.default_rng(epoch).permutation(len(images))
        yield from ((images[rows], labels[rows]) for rows in order.reshape(-1, 8))

    return cj.data.stream(batches, steps_per_epoch=len(images) // 8)


@pytest.fixture
def no_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """A device whose memory is used up, to which all batches are sent."""
    device = SimpleNamespace(memory_stats=lambda: {"bytes_limit": 2**30, "bytes_in_use": 2**30})
    monkeypatch.setattr(residency, "local_devices", lambda: [device])


def assert_close(ours: cj.training.Run, theirs: cj.training.Run) -> None:
    np.testing.assert_allclose(ours.history["loss"], theirs.history["loss"], rtol=1e-5)
    one, other = (trees.flatten(run.model.variables) for run in (ours, theirs))
    for path in one:
        np.testing.assert_allclose(one[path], other[path], rtol=1e-4, atol=1e-6, err_msg=path)


@pytest.mark.parametrize("chunk", [5, 12])
@pytest.mark.usefixtures("no_room")
def test_batches_that_are_sent_together_train_as_one_by_one(squares: Arrays, chunk: int) -> None:
    part = (squares[0][:91], squares[1][:91])  # the last batch holds three examples
    changes = {"augment": cj.augment.Augment(horizontal_flip=True), "average": 0.5}
    sent = fit(part, steps_per_dispatch=chunk, **changes)
    assert_close(sent, fit(part, steps_per_dispatch=1, **changes))


@pytest.mark.usefixtures("no_room")
def test_sent_together_and_kept_on_the_device_are_the_same_bits(
    squares: Arrays, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = fit(squares, steps_per_dispatch=5)
    monkeypatch.setattr(residency, "local_devices", lambda: [])
    kept = fit(squares, steps_per_dispatch=5)
    assert sent.parameter_hash == kept.parameter_hash


def test_batches_of_a_stream_are_sent_together(squares: Arrays) -> None:
    ours = fit(stream(squares), steps_per_dispatch=5)
    assert_close(ours, fit(stream(squares)))


@pytest.mark.usefixtures("no_room")
def test_killed_and_resumed_in_the_midst_of_sent_batches_ends_in_the_same_bits(
    squares: Arrays, tmp_path: Path
) -> None:
    settings: dict[str, Any] = {"steps_per_dispatch": 5, "checkpoint_every": 1}
    through = fit(squares, tmp_path / "through", **settings)
    with killed_after(2):
        fit(squares, tmp_path / "run", **settings)
    resumed = fit(squares, tmp_path / "run", **settings, resume=True)
    assert resumed.parameter_hash == through.parameter_hash


@pytest.mark.usefixtures("no_room")
def test_files_are_read_while_the_device_computes_and_the_wait_is_told(squares: Arrays) -> None:
    run = fit(squares, steps_per_dispatch=5)
    assert (run.history["waiting"] > 0).all()


def test_several_inputs_of_any_rank_stay_on_the_device_as_rows(squares: Arrays) -> None:
    arrays = {"inputs": {"a": squares[0], "b": squares[0][:, 0, 0, 0]}, "labels": squares[1]}
    flat = dispatch.scans.flat(arrays)
    assert flat["inputs"]["a"].shape == (96, 144)
    assert flat["inputs"]["b"].shape == flat["labels"].shape == (96,)


def test_on_an_accelerator_a_dispatch_ends_where_a_checkpoint_is_due(
    squares: Arrays, monkeypatch: pytest.MonkeyPatch
) -> None:
    loader = Loader(from_arrays(*squares), 8)

    def chunk(*, resident: bool = True, **changes: Any) -> int:
        return dispatch.chunk_size(cj.TrainingConfig(**SETTINGS, **changes), loader, resident)

    assert chunk() == chunk(resident=False) == 1
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert chunk() == chunk(resident=False) == loader.steps == 12
    assert chunk(checkpoint_every=5) == chunk(checkpoint_every=5, resident=False) == 5
    assert chunk(checkpoint_every=50) == 12
    assert chunk(steps_per_dispatch=4, checkpoint_every=5) == 4
    monkeypatch.setattr(
        dispatch, "_STAGED_BYTES", 3 * sum(v.nbytes for v in loader.batch(0, 0).values())
    )
    assert chunk(resident=False) == 3


def test_data_stay_on_the_device_where_half_of_what_is_free_holds_them(
    squares: Arrays, monkeypatch: pytest.MonkeyPatch
) -> None:
    loader = Loader(from_arrays(*squares), 8)
    size = squares[0].nbytes + loader.data.labels.nbytes

    def fits(*free: int) -> bool:
        def device(free: int) -> Any:
            facts = {"bytes_limit": free + 10, "bytes_in_use": 10}
            return SimpleNamespace(memory_stats=lambda: facts)

        devices = [device(one) for one in free]
        monkeypatch.setattr(residency, "local_devices", lambda: devices)
        return residency.fits(loader)

    assert fits(2 * size)
    assert not fits(2 * size - 1)
    assert not fits(9 * size, size)
    assert fits()  # a CPU does not tell
    assert not residency.fits(cj.training.streams.StreamLoader(stream(squares), print))
