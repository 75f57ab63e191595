"""Data of other libraries, with the real packages: what is read, what is refused, what resumes."""

from __future__ import annotations

import re
import signal
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import after_every_dispatch, python
from conftest import SHARED
from PIL import Image

import cnnjax as cj
from cnnjax.data import Loader, from_source
from cnnjax.training import Interrupted

PIXELS = np.random.default_rng(0).integers(0, 256, (20, 8, 9, 3), np.uint8)
LABELS = np.arange(20, dtype=np.int32) % 3
NAMES = ("ant", "bee", "cow")


@dataclass
class Rows:
    """A source of one's own, which counts what is read."""

    rows: list
    read: int = 0

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Any:
        self.read += 1
        return self.rows[index]


def pairs() -> Rows:
    return Rows(list(zip(PIXELS, LABELS, strict=True)))


def hugging_face() -> Any:
    datasets = pytest.importorskip("datasets")
    features = datasets.Features(
        {"image": datasets.Image(), "label": datasets.ClassLabel(names=list(NAMES))}
    )
    rows = {"image": [Image.fromarray(p) for p in PIXELS], "label": LABELS.tolist()}
    return datasets.Dataset.from_dict(rows, features=features)


def of_grain() -> Any:
    grain = pytest.importorskip("grain")
    rows = zip(PIXELS, LABELS, strict=True)
    return grain.MapDataset.source([{"image": image, "label": label} for image, label in rows])


def of_torch() -> Any:
    torch = pytest.importorskip("torch")
    channels_first = torch.from_numpy(np.moveaxis(PIXELS, -1, 1).copy())
    return torch.utils.data.TensorDataset(channels_first, torch.from_numpy(LABELS))


def taken(source: Any, **more: Any) -> cj.data.Dataset:
    torch = type(source).__module__.startswith("torch")
    return from_source(source, **({"channels_first": True} if torch else {}), **more)


SOURCES = pytest.mark.parametrize("make", [pairs, hugging_face, of_grain, of_torch])
BUDGETS = pytest.mark.parametrize("budget", [2**30, 0], ids=["memory", "lazy"])


@SOURCES
@BUDGETS
def test_it_holds_what_the_source_holds(make: Any, budget: int) -> None:
    data = taken(make(), memory_budget=budget)
    assert (data.inputs.shape, data.inputs.dtype) == (PIXELS.shape, np.uint8)
    assert np.array_equal(data.inputs[:], PIXELS)
    assert np.array_equal(data.inputs[[3, 1]], PIXELS[[3, 1]])
    assert np.array_equal(data.inputs[-2], PIXELS[-2])
    assert np.array_equal(data.subset([5, 2, 9]).subset([2, 0]).inputs[:], PIXELS[[9, 5]])
    assert (data.labels.dtype, data.labels.tolist()) == (np.int32, LABELS.tolist())
    assert data.label_names == (NAMES if make is hugging_face else ())
    assert Loader(data, 4).decodes == (budget == 0)


@pytest.mark.sample(2)
@SOURCES
@BUDGETS
def test_trained_killed_and_resumed_it_ends_where_arrays_do(
    make: Any, budget: int, tmp_path: Path
) -> None:
    fit = partial(
        cj.fit,
        cj.create_model("mlp", input_shape=(8, 9, 3), num_classes=3, units=(4,)),
        verbose=False,
    )
    config = partial(cj.TrainingConfig, epochs=2, batch_size=8)
    splits = cj.data.Splits(taken(make(), memory_budget=budget)).with_validation(0.2, stratify=True)
    arrays = cj.data.Splits(cj.data.from_arrays(PIXELS, LABELS)).with_validation(0.2, stratify=True)
    undo = after_every_dispatch(lambda step: signal.raise_signal(signal.SIGINT))
    try:
        with pytest.raises(Interrupted):
            fit(splits, config(), directory=tmp_path / "run")
    finally:
        undo()
    again = cj.data.Splits(taken(make(), memory_budget=budget)).with_validation(0.2, stratify=True)
    run = fit(again, config(resume=True), directory=tmp_path / "run")
    assert run.parameter_hash == fit(arrays, config()).parameter_hash
    assert cj.reproduce(tmp_path / "run", again, verbose=False).same


@pytest.mark.thorough
@pytest.mark.parametrize("split", ["test"])
def test_tfds_without_tensorflow(split: str) -> None:
    tfds = pytest.importorskip("tensorflow_datasets")
    place = SHARED / "data" / "tfds"
    if not (place / "mnist").is_dir():
        pytest.skip("needs MNIST as TFDS prepares it")
    source = tfds.data_source("mnist", split=f"{split}[:40]", data_dir=place)
    data = from_source(source, memory_budget=0)
    ours = getattr(cj.data.load("mnist", data_dir=place), split)
    assert np.array_equal(data.inputs[:], ours.inputs[:40])
    assert data.labels.tolist() == ours.labels[:40].tolist()
    assert data.label_names == ours.label_names


TORCH = """
import torch, cnnjax as cj
source = torch.utils.data.TensorDataset(torch.rand(16, 1, 8, 8) * 255, torch.arange(16) % 2)
data = cj.data.from_source(source, channels_first=True)
model = cj.create_model("mlp", input_shape=(8, 8, 1), num_classes=2, units=(3,))
run = cj.fit(model, data, cj.TrainingConfig(epochs=1, batch_size=8), verbose=False)
"""
HUGGING_FACE = """
import datasets, numpy as np, cnnjax as cj
rows = {"pixels": np.zeros((16, 8, 8), np.uint8), "kind": np.arange(16) % 2}
source = datasets.Dataset.from_dict(rows).with_format("numpy")
data = cj.data.from_source(source, inputs=lambda e: e["pixels"].astype("u1"), labels="kind")
run = cj.fit(cj.create_model("mlp", input_shape=(8, 8, 1), num_classes=2, units=(3,)), data,
             cj.TrainingConfig(epochs=1, batch_size=8), verbose=False)
"""
GRAIN = """
import grain, numpy as np, cnnjax as cj
source = grain.MapDataset.range(16).map(lambda i: (np.full((8, 8), i, np.uint8), i % 2))
data = cj.data.from_source(source)
model = cj.create_model("mlp", input_shape=(8, 8, 1), num_classes=2, units=(3,))
run = cj.fit(model, data, cj.TrainingConfig(epochs=1, batch_size=8), verbose=False)
"""


@pytest.mark.parametrize(
    ("package", "text"), [("torch", TORCH), ("datasets", HUGGING_FACE), ("grain", GRAIN)]
)
def test_five_lines_train_on_it(package: str, text: str) -> None:
    pytest.importorskip(package)
    names: dict[str, Any] = {}
    exec(text, names)
    assert np.isfinite(names["run"].history["loss"]).all()


def test_nothing_is_read_for_labels_that_are_there_already() -> None:
    source = pairs()
    data = from_source(source, labels=LABELS, memory_budget=0)
    assert source.read <= 17  # the first for its keys, and eight examples twice
    assert data.labels.tolist() == LABELS.tolist()


@pytest.mark.parametrize(
    ("example", "expected"),
    [
        (np.full((4, 5), 7, np.uint8), np.full((4, 5, 1), 7, np.uint8)),
        (np.full((4, 5), 7.0), np.full((4, 5), 7, np.float32)),
        ([1, 2, 300], np.int32([1, 2, 300])),
        ([[[1, 255]]], np.uint8([[[1, 255]]])),
        (np.full((2, 2, 1), 999, np.uint16), np.full((2, 2, 1), 999, np.uint16)),
        (Image.new("L", (3, 2), 9), np.full((2, 3, 1), 9, np.uint8)),
        (Image.new("1", (3, 2), 1), np.full((2, 3, 1), 255, np.uint8)),
        (Image.new("RGBA", (3, 2), (9, 8, 7, 255)), np.full((2, 3, 3), (9, 8, 7), np.uint8)),
        (Image.new("P", (3, 2), 0).convert("RGB").convert("P"), np.zeros((2, 3, 3), np.uint8)),
    ],
    ids=["grey", "series", "tokens", "lists", "uint16", "L", "1", "RGBA", "P"],
)
@BUDGETS
def test_what_examples_become(example: Any, expected: np.ndarray, budget: int) -> None:
    data = from_source([(example, 0), (example, 1)], memory_budget=budget)
    assert data.inputs.dtype == expected.dtype
    assert np.array_equal(data.inputs[:], [expected, expected])


@pytest.mark.parametrize(
    ("labels", "task", "expected"),
    [
        ([0.5, 1.5], None, np.float32([[0.5], [1.5]])),
        ([[1, 1], [0, 1]], "multilabel", np.int32([[1, 1], [0, 1]])),
        ([[0.0, 1.0], [1.0, 0.0]], None, np.int32([1, 0])),
        (
            [np.zeros((2, 2), int), np.ones((2, 2), int)],
            None,
            np.int32([[[0] * 2] * 2, [[1] * 2] * 2]),
        ),
    ],
    ids=["values", "multilabel", "one-hot", "dense"],
)
def test_what_labels_become(labels: Any, task: str | None, expected: np.ndarray) -> None:
    rows = [(np.zeros((2, 2, 1), np.uint8), label) for label in labels]
    data = from_source(rows, task=task)
    assert np.array_equal(data.labels, expected)


def test_floating_images_are_not_all_read_before_a_training() -> None:
    source = Rows([(np.full((2, 2, 1), 200.0), i % 2) for i in range(600)])
    data = from_source(source, memory_budget=0)
    source.read = 0
    model = cj.create_model("mlp", input_shape=(2, 2, 1), num_classes=2, units=(2,))
    cj.training.data_checks.check_data(model, data)
    assert source.read == 256


def test_parts_are_named_by_key_index_or_function() -> None:
    rows = [{"pic": p, "extra": {"kind": k}} for p, k in zip(PIXELS, LABELS, strict=True)]
    data = from_source(rows, inputs="pic", labels=lambda e: e["extra"]["kind"], name="mine")
    assert (data.name, data.labels.tolist()) == ("mine", LABELS.tolist())
    triples = [(k, None, p) for p, k in zip(PIXELS, LABELS, strict=True)]
    assert np.array_equal(from_source(triples, 2, 0).inputs, PIXELS)


def test_the_fingerprint_knows_contents_and_order() -> None:
    changed = PIXELS.copy()
    changed[0] += 1
    lazy = from_source(pairs(), memory_budget=0)
    marks = [
        lazy.fingerprint,
        from_source(list(zip(changed, LABELS, strict=True)), memory_budget=0).fingerprint,
        from_source(pairs(), labels=(LABELS + 1) % 3, memory_budget=0).fingerprint,
        lazy.subset([0, 1]).fingerprint,
        lazy.subset([1, 0]).fingerprint,
    ]
    assert len(set(marks)) == len(marks)
    assert from_source(pairs(), memory_budget=0).fingerprint == lazy.fingerprint
    assert from_source(pairs()).fingerprint == cj.data.from_arrays(PIXELS, LABELS).fingerprint


@pytest.mark.thorough
def test_hugging_faces_fingerprint_is_the_same_in_another_process() -> None:
    pytest.importorskip("datasets")
    text = (
        "import datasets, numpy as np, cnnjax as cj\n"
        "rows = {'image': np.arange(64).reshape(4, 4, 4).tolist(), 'label': [0, 1, 0, 1]}\n"
        "source = datasets.Dataset.from_dict(rows)\n"
        "source = source.map(lambda e: {'image': [[255 - v for v in r] for r in e['image']]})\n"
        "print(cj.data.from_source(source, memory_budget=0).fingerprint)"
    )
    marks = [python("-c", text).stdout.split()[-1] for _ in range(2)]
    assert marks[0] == marks[1]


class Flipping(Rows):
    """A source that augments, as torchvision's often do."""

    def __getitem__(self, index: int) -> Any:
        image, label = super().__getitem__(index)
        return (image[:, ::-1] if self.read % 3 else image), label


class Broken(Rows):
    """A source with a file missing."""

    def __getitem__(self, index: int) -> Any:
        if index == 17:
            raise OSError("no such file")
        return super().__getitem__(index)


class NoLength:
    def __getitem__(self, index: int) -> Any:
        return PIXELS[index], 0


def odd(at: int, image: Any, label: Any = 0) -> list:
    return [(image if i == at else p, label if i == at else 0) for i, p in enumerate(PIXELS)]


@pytest.mark.parametrize(
    ("source", "arguments", "message"),
    [
        (
            Flipping(pairs().rows),
            {},
            "] is another one each time it is read, as by random augmen",
        ),
        (Broken(pairs().rows), {}, "Broken[17] is not readable: OSError: no such file"),
        (odd(7, PIXELS[0, :5]), {}, "list[7] is uint8 of shape [5, 9, 3], and the first example u"),
        (odd(7, PIXELS[0] / 2), {}, "list[7] is float32 of shape [8, 9, 3], and the first example"),
        (odd(7, None), {}, "list[7]: NoneType holds no numbers (dtype object)"),
        (odd(7, PIXELS[0], [1, 0]), {}, "list[7] has a label of shape [2], and the first example"),
        (odd(7, PIXELS[0], "cat"), {}, "list[7]: str holds no numbers (dtype <U3)"),
        (odd(7, PIXELS[0], -1), {}, "list: labels must be >= 0, got -1"),
        (odd(0, np.full((8, 9, 3), np.nan)), {}, "list[0]: its inputs hold NaN or infinity"),
        (odd(0, [[[256]]]), {}, "list[0]: its inputs are int64 in [0, 256], and pixels are uint8"),
        (odd(0, 3), {}, "list[0]: its inputs are a single number, which has no axis"),
        (odd(0, np.zeros((3, 32, 32))), {}, "list[0]: its inputs of shape [3, 32, 32] have their"),
        (odd(0, [1, 2]), {"channels_first": True}, "channels_first=True is for images [C, H, W]"),
        ([{"pic": 1, "label": 0}], {}, "list[0] holds 'pic', 'label': say by inputs= which part"),
        ([{"pic": 1, "label": 0}], {"inputs": "pics"}, "list[0]: it has no 'pics' for inputs"),
        ([(1, 2, 3)], {}, "list[0] is a tuple: say by inputs= which part its inputs are"),
        ([(1, 2, 3)], {"inputs": 3, "labels": 0}, "it has 3 parts, and none for inputs=3"),
        ([np.zeros(3)], {"inputs": "a", "labels": 0}, "an example is a ndarray, which inputs='a'"),
        ([], {}, "list: the data set is empty"),
        (NoLength(), {}, "source must have a length and random access, and NoLength has not: giv"),
        (iter([]), {}, "and list_iterator has not: give what it reads from, or its batches by cj."),
        ({"train": [], "test": []}, {}, "source is a mapping of 'train', 'test': give one of its"),
        (cj.data.from_arrays(PIXELS, LABELS), {}, "arrays is a Dataset already: give it to cj.fit"),
        (pairs(), {"labels": LABELS[:3]}, "Rows: 20 examples but 3 labels"),
        (pairs(), {"label_names": ("a",)}, "Rows: label 2 has no name, there are 1 label_names"),
        (pairs(), {"weights": [1]}, "Rows: weights must be 20 numbers, one for each example"),
    ],
)
def test_what_cannot_be_is_one_sentence(source: Any, arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        from_source(source, **arguments)
    assert "\n" not in str(caught.value)


def test_an_example_of_another_shape_is_named_when_it_is_read() -> None:
    data = from_source(odd(7, PIXELS[0, :5]), labels=LABELS, memory_budget=0)
    with pytest.raises(ValueError, match=re.escape("list[7] is uint8 of shape [5, 9, 3]")):
        list(Loader(data.subset(np.arange(5, 20)), 5).epoch(0))


def test_no_random_access_is_refused_with_the_way_to_go() -> None:
    grain, datasets = pytest.importorskip("grain"), pytest.importorskip("datasets")
    endless = grain.MapDataset.range(3).map(lambda i: (PIXELS[i], 0)).repeat()
    with pytest.raises(ValueError, match=r"MapDataset has .* as if repeated without end"):
        from_source(endless)
    filtered = grain.MapDataset.range(9).filter(lambda i: i != 2).map(lambda i: (PIXELS[i], i))
    with pytest.raises(ValueError, match=r"MapDataset\[2\]: "):
        from_source(filtered)
    for stream in (
        grain.MapDataset.range(3).to_iter_dataset(),
        datasets.Dataset.from_dict({"image": [0]}).to_iterable_dataset(),
    ):
        with pytest.raises(ValueError, match=r"random access, and \w+ has not"):
            from_source(stream)


def test_grey_images_in_lists_of_whole_numbers_get_a_channel() -> None:
    pairs = [([[0, 255], [7, 8]], 0), ([[1, 2], [3, 4]], 1)]
    data = cj.data.from_source(pairs)
    assert data.inputs[:2].tolist() == [[[[v] for v in row] for row in rows] for rows, _ in pairs]
    assert data.inputs.dtype == np.uint8
