"""Streams: what batches become, what is replayed, and what is refused in one sentence."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import cnnjax as cj
from cnnjax.data import Stream, StreamLoader, stream


def numbered(epoch: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Images that know epoch and place."""
    for step in range(5):
        places = 100 * epoch + np.arange(4 * step, 4 * step + 4)
        yield np.full((1, 2, 2, 1), 1.0) * places[:, None, None, None], places % 3


def any_labels(labels: np.ndarray) -> None:
    pass


def loader(data: Stream) -> StreamLoader:
    return StreamLoader(data, any_labels)


def places(batches: Any) -> list[list[int]]:
    return [batch["inputs"][batch["mask"], 0, 0, 0].astype(int).tolist() for batch in batches]


def test_batches_come_as_of_a_loader() -> None:
    data = stream(numbered, 3, label_names="abc", name="numbers")
    assert (len(data), data.batch_size, data.input_shape) == (12, 4, (2, 2, 1))
    batches = list(loader(data).epoch(2))
    assert places(batches) == [[200, 201, 202, 203], [204, 205, 206, 207], [208, 209, 210, 211]]
    last = batches[-1]
    assert last["labels"].tolist() == [208 % 3, 209 % 3, 210 % 3, 211 % 3]
    assert last["index"].tolist() == [8, 9, 10, 11]
    assert (last["epoch"].item(), last["mask"].all(), "weights" in last) == (2, True, False)
    assert {k: v.dtype for k, v in last.items()} == {
        "inputs": np.float32, "labels": np.int32, "mask": bool, "index": np.int32,
        "epoch": np.int32,
    }  # fmt: skip


def test_those_before_the_start_are_drawn_and_dropped() -> None:
    data = loader(stream(numbered, 4))
    assert places(data.epoch(1, 2)) == places(data.epoch(1))[2:]
    assert places([data.batch(1, 3)]) == places(data.epoch(1))[3:]


def test_a_smaller_batch_is_filled_up_and_masked() -> None:
    def shrinking(epoch: int) -> Iterator[Any]:
        for count in (4, 3):
            numbers = np.arange(count)
            yield {
                "inputs": numbers[:, None] * np.ones(2), "labels": numbers, "weights": numbers,
            }  # fmt: skip

    batches = list(loader(stream(shrinking, 2)).epoch(0))
    assert batches[1]["mask"].tolist() == [True, True, True, False]
    assert batches[1]["inputs"][:, 0].tolist() == [0, 1, 2, 0]
    assert batches[1]["weights"].tolist() == [0, 1, 2, 0]


def test_evaluation_is_that_of_the_same_examples_as_arrays() -> None:
    def factory(epoch: int) -> Iterator[Any]:
        numbers = np.random.default_rng(epoch)
        for count in (4, 4, 2):
            yield numbers.uniform(0, 255, (count, 2, 2, 1)), numbers.integers(0, 3, count)

    model = cj.create_model("mlp", input_shape=(2, 2, 1), num_classes=3, units=(3,))
    images, labels = (np.concatenate(parts) for parts in zip(*factory(0), strict=True))
    wanted = cj.evaluate(model, (images, labels))
    assert cj.evaluate(model, stream(factory, 3)) == pytest.approx(wanted, rel=1e-6)


def test_the_fingerprint_knows_first_batch_and_steps() -> None:
    marks = [
        stream(numbered, 3).fingerprint,
        stream(numbered, 4).fingerprint,
        stream(lambda epoch: numbered(epoch + 1), 3).fingerprint,
    ]
    assert len(set(marks)) == 3
    assert stream(numbered, 3).fingerprint == marks[0]
    numbers = np.random.default_rng(0)
    chance = stream(lambda epoch: [(numbers.random((4, 2)), [0, 1, 0, 1])], 1)
    assert chance.fingerprint == "not a function of the epoch"


def test_generators_are_closed_at_the_end_of_an_epoch() -> None:
    closed = []

    def factory(epoch: int) -> Iterator[Any]:
        try:
            while True:
                yield np.zeros((2, 3)), [0, 1]
        finally:
            closed.append(epoch)

    data = loader(stream(factory, 2))
    closed.clear()
    list(data.epoch(7))
    assert closed == [7]


def test_tensors_and_iterables_of_other_libraries() -> None:
    torch = pytest.importorskip("torch")
    rows = torch.utils.data.TensorDataset(torch.rand(8, 2, 2, 1), torch.arange(8))
    data = stream(lambda epoch: torch.utils.data.DataLoader(rows, batch_size=4), 2)
    assert [b["labels"].tolist() for b in loader(data).epoch(0)] == [[0, 1, 2, 3], [4, 5, 6, 7]]


def test_grain_iterates() -> None:
    grain = pytest.importorskip("grain")

    def factory(epoch: int) -> Any:
        rows = grain.MapDataset.range(8).seed(epoch).shuffle().map(lambda i: (np.full(2, 1.0), i))
        return rows.batch(4).to_iter_dataset()

    data = stream(factory, 2)
    seen = [b["labels"].tolist() for b in loader(data).epoch(1)]
    assert sorted(sum(seen, [])) == list(range(8))  # noqa: RUF017
    assert seen == [b["labels"].tolist() for b in loader(data).epoch(1)]


def test_what_needs_random_access_refuses_it() -> None:
    with pytest.raises(ValueError, match="data must be a Dataset, of random access, got Stream"):
        cj.data.Loader(stream(numbered, 3), 4)  # type: ignore[arg-type]


def test_nothing_is_drawn_to_show_it() -> None:
    def factory(epoch: int) -> Any:
        raise AssertionError("drawn")

    data = stream(factory, 3)
    splits = cj.data.as_splits(data)
    assert repr(data) == "Stream('stream', 3 batches an epoch)"
    assert repr(splits) == "Splits(train 3 batches an epoch; a stream)"
    assert "3 batches an epoch" in splits._repr_html_()


IMAGES, CLASSES = np.zeros((4, 2, 2, 1)), np.array([0, 1, 0, 1])


@pytest.mark.parametrize(
    ("batches", "message"),
    [
        ([], "epoch 0 of stream is empty"),
        (3, "the factory of stream must return an iterator of batches, got int"),
        ([IMAGES], "batch 0 of epoch 0 of stream: must be (inputs, labels), (inputs, labels, wei"),
        ([{"inputs": 1, "label": 2}], "or a dict of these, got dict of 'inputs', 'label'"),
        ([(IMAGES, CLASSES)], "epoch 0 of stream ended after 1 of 2 steps: give a smaller steps_"),
        ([(IMAGES, CLASSES[:3])], "must hold as many inputs as labels, one at least, got inputs "),
        ([(IMAGES * np.nan, CLASSES)], "batch 0 of epoch 0 of stream: its inputs hold NaN or inf"),
        ([(np.zeros((4, 3, 9, 9)), CLASSES)], "stream: inputs of shape [4, 3, 9, 9] have their c"),
        ([(IMAGES, CLASSES - 1)], "batch 0 of epoch 0 of stream: labels must be >= 0, got -1"),
        ([(IMAGES, CLASSES, [-1] * 4)], "stream: weights must be finite and >= 0, weights[0] is"),
        (
            [(IMAGES, CLASSES), (np.zeros((4, 3, 2, 1)), CLASSES)],
            "batch 1 of epoch 0 of stream has inputs float32 of shape [4, 3, 2, 1], and the first",
        ),
        (
            [(IMAGES, CLASSES), (IMAGES.astype(np.uint8), CLASSES)],
            "batch 1 of epoch 0 of stream has inputs uint8 of shape [4, 2, 2, 1], and the first",
        ),
        (
            [(IMAGES[:2], CLASSES[:2]), (IMAGES, CLASSES)],
            "batch 1 of epoch 0 of stream has inputs float32 of shape [4, 2, 2, 1], and the first",
        ),
        (
            [(IMAGES, CLASSES), (IMAGES, CLASSES, np.ones(4))],
            "batch 1 of epoch 0 of stream holds inputs, labels, weights, the first inputs, labels",
        ),
    ],
)
def test_what_is_no_batch_is_one_sentence(batches: Any, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        list(loader(stream(lambda epoch: batches, 2)).epoch(0))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("factory", "steps", "message"),
    [
        (iter([]), 3, "factory must be a function of the epoch that returns an iterator of batch"),
        (numbered, 0, "steps_per_epoch must be a whole number >= 1, got 0"),
    ],
)
def test_what_makes_no_stream_is_refused(factory: Any, steps: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        stream(factory, steps)


@pytest.mark.parametrize(
    "change",
    [
        lambda s: s.with_validation(0.5),
        lambda s: s.with_last_for_validation(0.5),
        lambda s: s.with_test(0.5),
        lambda s: s.with_train_examples(1),
        lambda s: s.k_fold(2),
    ],
    ids=["validation", "last", "test", "examples", "fold"],
)
def test_nothing_can_be_set_aside(change: Any) -> None:
    with pytest.raises(ValueError, match="stream is a stream, of which nothing can be set aside"):
        change(cj.data.as_splits(stream(numbered, 3)))


@pytest.mark.parametrize("whole", [True, False], ids=["stream", "part"])
@pytest.mark.parametrize("what", ["describe", "contact_sheet", "export_folders", "features"])
def test_what_looks_examples_up_says_that_a_stream_has_none(
    what: str, whole: bool, tmp_path: Any
) -> None:
    data = stream(numbered, 3, label_names="abc", name="numbers")
    splits = cj.data.Splits(data, data.sample)
    uses: dict[str, Any] = {
        "describe": lambda: cj.data.describe(data if whole else splits),
        "contact_sheet": lambda: cj.plot.contact_sheet(data),
        "export_folders": lambda: cj.data.export_folders(splits, tmp_path / "new"),
        "features": lambda: cj.transfer.extract_features(
            cj.create_model("mlp", input_shape=(2, 2, 1)), splits, tmp_path, layer="flatten"
        ),
    }
    with pytest.raises(ValueError, match="needs all examples at hand, and numbers is a stream: "):
        uses[what]()


def test_an_experiment_on_streams_is_trained_and_reported(tmp_path: Any) -> None:
    data = stream(numbered, 1, name="numbers")
    augment = cj.augment.Augment(horizontal_flip=True)
    config = cj.TrainingConfig(epochs=1, batch_size=4, augment=augment)
    experiment = cj.recipes.Experiment("numbers", "three classes", "mlp", config)
    splits = cj.data.Splits(data, test=data)
    model = cj.create_model("mlp", input_shape=(2, 2, 1), num_classes=3, units=())
    cj.recipes.run_experiment(experiment, tmp_path, splits=splits, model=model, verbose=False)
    assert (tmp_path / "report.html").exists()
    with pytest.raises(ValueError, match="a model made for the data needs all examples at hand"):
        cj.recipes.run_experiment(experiment, tmp_path / "new", splits=splits, verbose=False)
