"""A data set written as class folders is the same data set."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

import cnnjax as cj

NAMES = ("cat", "dog", "great tit")


def splits(channels: int = 3) -> cj.data.Splits:
    rng = np.random.default_rng(0)
    parts = []
    for count in (12, 6):
        images = rng.integers(0, 256, (count, 8, 9, channels), dtype=np.uint8)
        labels = (np.arange(count) % 3).astype(np.int32)
        parts.append(cj.data.from_arrays(images, labels, NAMES))
    return cj.data.Splits(parts[0], test=parts[1])


@pytest.mark.parametrize("channels", [1, 3])
def test_what_is_read_again_is_what_was_written(tmp_path, channels):
    written = splits(channels)
    where = cj.data.export_folders(written, tmp_path / "new" / "pets")
    assert where == tmp_path / "new" / "pets"
    assert [p.name for p in where.parent.iterdir()] == ["pets"]
    read = cj.data.load(where, image_size=(8, 9), channels=channels)
    assert read.train.label_names == NAMES
    assert read.validation is None
    for part, data in written.parts.items():
        order = np.argsort(data.labels, kind="stable")  # folders go class by class
        np.testing.assert_array_equal(read.parts[part].labels, data.labels[order])
        pixels = np.stack([read.parts[part].inputs[i] for i in range(len(data))])
        np.testing.assert_array_equal(pixels, data.inputs[order])


def test_some_images_of_some_classes(tmp_path, cnnjax):
    written = splits()
    np.savez(
        tmp_path / "mine.npz",
        x_train=written.train.inputs, y_train=written.train.labels,
        x_test=written.test.inputs, y_test=written.test.labels,
    )  # fmt: skip
    where = tmp_path / "out"
    out, _ = cnnjax(
        "data", "export", tmp_path / "mine.npz", where, "--classes", "2", "0", "--per-class", "1"
    )
    assert out == f"{where}\n"
    files = sorted(f.relative_to(where) for f in where.rglob("*.png"))
    assert [f.parent.as_posix() for f in files] == ["test/0", "test/2", "train/0", "train/2"]
    for file in files:
        data = written.parts[file.parts[0]]
        i = int(file.stem)
        np.testing.assert_array_equal(np.asarray(Image.open(where / file)), data.inputs[i])
        assert data.labels[i] == int(file.parts[1])


def test_images_of_any_size_are_written_at_one(tmp_path, cnnjax):
    where = cj.data.export_folders(splits(), tmp_path / "pets")
    out, _ = cnnjax("data", "export", where, tmp_path / "small", "--image-size", "4", "5")
    assert out == f"{tmp_path / 'small'}\n"
    small = cj.data.load(where, image_size=(4, 5)).train
    for file in (tmp_path / "small" / "train").rglob("*.png"):
        with Image.open(file) as image:
            np.testing.assert_array_equal(np.asarray(image), small.inputs[int(file.stem)])
    _, err = cnnjax("data", "export", where, where / "x", "--image-size", "4", "5", status=1)
    assert err.endswith("pets/x lies in the folder of the data set, which it would change: give "
                        "another place\n")  # fmt: skip


def test_what_cannot_be_written_is_named(tmp_path):
    written = splits()
    (tmp_path / "there").mkdir()
    with pytest.raises(FileExistsError, match="there exists: give the name of a new folder"):
        cj.data.export_folders(written, tmp_path / "there")
    with pytest.raises(ValueError, match="there is no class 'cart'"):
        cj.data.export_folders(written, tmp_path / "new", classes=["cart", "dog"])
    with pytest.raises(ValueError, match="classes must be two at least, got dog"):
        cj.data.export_folders(written, tmp_path / "new", classes=["dog"])
    images, labels = written.train.inputs, written.train.labels
    for name in ("a/b", "..", "", "CON", "con.txt", "tit.", "Dog", "__MACOSX", "a" * 300, "a\nb"):
        strange = cj.data.Splits(cj.data.from_arrays(images, labels, ("cat", "dog", name)))
        with pytest.raises(ValueError, match="cannot be the name of a folder"):
            cj.data.export_folders(strange, tmp_path / "new")
    with pytest.raises(ValueError, match="classes must be a list of names, got 'catdog'"):
        cj.data.export_folders(written, tmp_path / "new", classes="catdog")
    with pytest.raises(ValueError, match=r"classes must be a list of names, got \[0, 1\]"):
        cj.data.export_folders(written, tmp_path / "new", classes=[0, 1])
    with pytest.raises(ValueError, match="of 1 or 3 channels, and those of arrays have 4"):
        cj.data.export_folders(splits(4), tmp_path / "new")
    floats = cj.data.Splits(cj.data.from_arrays(images.astype(np.float32), labels, NAMES))
    with pytest.raises(ValueError, match="has no images of whole numbers"):
        cj.data.export_folders(floats, tmp_path / "new")
    assert [p.name for p in tmp_path.iterdir()] == ["there"]  # and nothing half written


@pytest.mark.parametrize(
    ("inputs", "labels", "message"),
    [
        pytest.param({"a": np.zeros((2, 8, 8, 1))}, [0, 1], "no images of whole", id="inputs"),
        pytest.param(np.zeros((2, 8, 8, 1)), {"a": [0, 1]}, "no classes that could", id="labels"),
    ],
)
def test_what_is_there_by_name_is_no_folder(tmp_path, inputs, labels, message):
    data = cj.data.Splits(cj.data.from_arrays(inputs, labels))
    with pytest.raises(ValueError, match=message):
        cj.data.export_folders(data, tmp_path / "new")
