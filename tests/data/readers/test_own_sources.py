"""Data of one's own: idx files, .npz files, tables of images; the same data by every route."""

import csv
import dataclasses
import gzip
import importlib
import json
import pkgutil
import re
import struct
import typing
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image

import experiments
from cnnjax.data import (
    DataNotFound,
    Loader,
    Splits,
    from_arrays,
    load,
    load_texts,
    read_idx,
    reload,
    scan_table,
)
from cnnjax.data.readers import tfds_images
from cnnjax.recipes import (
    Experiment,
    ImageData,
    RecipeOptions,
    build_model,
    images_for,
    load_data,
)
from cnnjax.recipes.shipped import mnist_convnet

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (9, 7, 6), dtype=np.uint8)
LABELS = np.arange(9, dtype=np.uint8) % 3


def idx(array: np.ndarray) -> bytes:
    """The idx format, as the page of MNIST describes it."""
    head = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return head + array.tobytes()


def write_idx(path: Path, array: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    content = idx(array)
    path.write_bytes(gzip.compress(content, mtime=0) if path.suffix == ".gz" else content)
    return path


def same(found: Splits, wanted: Splits) -> bool:
    return {k: v.fingerprint for k, v in found.parts.items()} == {
        k: v.fingerprint for k, v in wanted.parts.items()
    }


def again(splits: Splits) -> Splits:
    """By the record, as a run keeps it."""
    return reload(json.loads(json.dumps(splits.source)))


# idx files.

BYTES = arrays.arrays(np.uint8, arrays.array_shapes(min_dims=1, max_dims=4, min_side=0, max_side=5))


@settings(max_examples=50, deadline=None)
@given(array=BYTES, compressed=st.booleans())
def test_any_array_of_bytes_comes_back(tmp_path_factory, array, compressed):
    file = tmp_path_factory.mktemp("idx") / f"a{'.gz' * compressed}"
    found = read_idx(write_idx(file, array))
    assert (found.dtype, found.shape) == (np.uint8, array.shape)
    assert found.tobytes() == array.tobytes()


@settings(max_examples=20, deadline=None)
@given(array=BYTES, compressed=st.booleans(), data=st.data())
def test_a_file_that_is_cut_off_anywhere_is_refused(tmp_path_factory, array, compressed, data):
    file = write_idx(tmp_path_factory.mktemp("idx") / f"a{'.gz' * compressed}", array)
    content = file.read_bytes()
    for length in {*range(min(len(content), 24)), data.draw(st.integers(0, len(content) - 1))}:
        file.write_bytes(content[:length])
        with pytest.raises(ValueError, match=r"cut off|holds only|no idx file"):
            read_idx(file)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (idx(LABELS) + b"\0", r"announces \[9\], 9 bytes, and holds more"),
        (gzip.compress(idx(LABELS) + b"\0", mtime=0), r"announces \[9\], 9 bytes, and holds more"),
        (gzip.compress(idx(LABELS), mtime=0) + b"no gzip", "is damaged or cut off"),
        (b"\0\0\x0d\1\0\0\0\1\0\0\0\0", r"holds the idx type 0x0d; expected bytes \(0x08\)"),
        (b"\0\0\x08\5" + bytes(30), "is no idx file: it begins with 00 00 08 05"),
        (b"images", "is no idx file: it begins with 69 6d 61 67"),
        (b"", "is no idx file: it begins with nothing"),
        # More than any machine's memory: refused for what is there, not tried.
        (b"\0\0\x08\4" + b"\xff" * 16 + b"\0", "announces .* bytes, and holds only 1"),
    ],
)
def test_what_is_no_idx_file_is_named(tmp_path, content, message):
    (tmp_path / "a").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_idx(tmp_path / "a")


@pytest.fixture(params=["", ".gz"])
def mine(tmp_path, request) -> Path:
    """A folder of idx files: six examples to train on, three to test on."""
    folder, end = tmp_path / "mine", request.param
    write_idx(folder / f"train-images-idx3-ubyte{end}", IMAGES[:6])
    write_idx(folder / f"train-labels-idx1-ubyte{end}", LABELS[:6])
    write_idx(folder / f"t10k-images-idx3-ubyte{end}", IMAGES[6:])
    write_idx(folder / f"t10k-labels-idx1-ubyte{end}", LABELS[6:])
    return folder


def test_idx_files_by_their_folder_and_by_any_of_them(mine):
    splits = load(mine)
    assert {k: v.inputs[..., 0].tolist() for k, v in splits.parts.items()} == {
        **{"train": IMAGES[:6].tolist(), "test": IMAGES[6:].tolist()}
    }
    assert splits.train.labels.tolist() == LABELS[:6].tolist()
    assert splits.test.labels.tolist() == LABELS[6:].tolist()
    assert splits.train.labels.dtype == np.int32
    assert splits.test.name == "mine test"
    assert splits.source == {"data": str(mine)}
    assert same(again(splits), splits)
    for file in mine.iterdir():
        by_file = load(file)
        assert same(by_file, splits)
        assert same(again(by_file), splits)


@pytest.mark.parametrize("pattern", ["emnist-letters-{}-{}-idx{}-ubyte", "{}-{}.idx{}-ubyte"])
def test_other_names_of_idx_files(tmp_path, pattern):
    for part, rows in (("train", slice(6)), ("test", slice(6, 9))):
        write_idx(tmp_path / pattern.format(part, "images", 3), IMAGES[rows])
        write_idx(tmp_path / pattern.format(part, "labels", 1), LABELS[rows])
    splits = load(tmp_path)
    assert splits.train.labels.tolist() == LABELS[:6].tolist()
    assert len(splits.test) == 3
    if pattern.startswith("emnist"):
        assert splits.train.name == "emnist-letters train"
        write_idx(tmp_path / "emnist-digits-train-images-idx3-ubyte", IMAGES)
        with pytest.raises(ValueError, match=r"several data sets \('emnist-digits-', 'emnist-let"):
            load(tmp_path)
        assert same(load(tmp_path / pattern.format("train", "images", 3)), splits)


def test_of_a_plain_and_a_compressed_file_the_plain_one_is_read(tmp_path):
    write_idx(tmp_path / "train-images-idx3-ubyte", IMAGES)
    write_idx(tmp_path / "train-labels-idx1-ubyte", LABELS)
    (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(b"cut off")
    assert load(tmp_path).train.inputs[..., 0].tolist() == IMAGES.tolist()


def test_idx_files_in_folders_of_their_names(tmp_path):
    """As the archives of Kaggle unpack."""
    for name, array in (("train-images-idx3-ubyte", IMAGES), ("train-labels-idx1-ubyte", LABELS)):
        write_idx(tmp_path / "all" / name / name, array)
    (tmp_path / "all" / "t10k-images-idx3-ubyte").mkdir()  # holds none
    splits = load(tmp_path / "all")
    assert (list(splits.parts), splits.train.labels.tolist()) == (["train"], LABELS.tolist())
    one_image(tmp_path / "classes" / "train-images-idx3-ubyte" / "a.png", IMAGES[0])
    one_image(tmp_path / "classes" / "b" / "b.png", IMAGES[1])
    assert len(load(tmp_path / "classes", image_size=(7, 6)).train) == 2


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"train-images-idx3-ubyte": idx(IMAGES)[:200]}, "announces .* and holds only 184"),
        ({"train-labels-idx1-ubyte": None}, "holds train-images-idx3-ubyte but not its labels"),
        ({"t10k-labels-idx1-ubyte": idx(LABELS)}, "holds t10k-labels-idx1-ubyte but not its imag"),
        ({"train-labels-idx1-ubyte": idx(LABELS[:8])}, "holds 9 images, .*ubyte 8 labels"),
        ({"train-labels-idx1-ubyte": idx(IMAGES)}, r"of shape \[9, 7, 6\]; labels are \[N\]"),
        ({"train-images-idx3-ubyte": idx(LABELS)}, r"of shape \[9\]; images are \[N, H, W\]"),
        (
            {"train-labels-idx1-ubyte": None, "train-images-idx3-ubyte": None,
             "t10k-images-idx3-ubyte": idx(IMAGES), "t10k-labels-idx1-ubyte": idx(LABELS)},
            "holds no images to train on: expected train-images-idx3-ubyte",
        ),
    ],
)  # fmt: skip
def test_idx_files_that_do_not_fit_are_named(tmp_path, files, message):
    whole = {"train-images-idx3-ubyte": idx(IMAGES), "train-labels-idx1-ubyte": idx(LABELS)}
    for name, content in {**whole, **files}.items():
        if content is not None:
            (tmp_path / name).write_bytes(content)
    with pytest.raises((ValueError, DataNotFound), match=message) as caught:
        load(tmp_path)
    assert "\n" not in str(caught.value)


# .npz files; more of them in test_sources.


@pytest.mark.parametrize(
    "names",
    [
        ("x_train", "y_train", "x_valid", "y_valid"),
        ("x_train", "y_train", "x_val", "y_val"),
        ("train_images", "train_labels", "val_images", "val_labels"),  # MedMNIST's
    ],
)
def test_npz_files_with_a_part_for_validation(tmp_path, names):
    parts = (IMAGES[:6], LABELS[:6, None], IMAGES[6:], LABELS[6:, None])
    np.savez(tmp_path / "a.npz", **dict(zip(names, parts, strict=True)))
    splits = load(tmp_path / "a.npz")
    assert list(splits.parts) == ["train", "validation"]
    assert splits.validation.labels.tolist() == LABELS[6:].tolist()
    assert splits.validation.name == "a.npz validation"
    assert same(again(splits), splits)


def test_arrays_that_are_not_read_are_named(tmp_path):
    file = tmp_path / "a.npz"
    np.savez(file, x_train=IMAGES, y_train=LABELS, x_dev=IMAGES, y_dev=LABELS, X_test=IMAGES)
    told: list[str] = []
    load(file, progress=told.append)
    assert told == [f"{file} holds X_test, x_dev, y_dev, which are not read"]


def test_nobody_is_told_how_to_load_pickles(tmp_path):
    np.savez(tmp_path / "objects.npz", x=IMAGES, y=LABELS.astype(object))
    (tmp_path / "junk.npz").write_bytes(b"junk" * 50)
    for name, message in (
        ("objects", r"arrays: 'y' holds Python objects, which are pickles: not loaded$"),
        (
            "junk",
            r"junk\.npz is not a readable \.npz file of plain arrays: File is not a zip file$",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            load(tmp_path / f"{name}.npz")


def test_the_number_of_classes_does_not_depend_on_who_is_set_aside(tmp_path):
    labels = LABELS.copy()
    labels[7] = 5  # the only one, with a gap before it
    np.savez(tmp_path / "rare.npz", x=IMAGES, y=labels)
    write_idx(tmp_path / "train-images-idx3-ubyte", IMAGES)
    write_idx(tmp_path / "train-labels-idx1-ubyte", labels)
    for source in (tmp_path / "rare.npz", tmp_path):
        found = [load(source, train_examples=3, seed=seed) for seed in range(9)]
        assert min(splits.train.labels.max() for splits in found) < 5
        assert {splits.train.label_names for splits in found} == {tuple("012345")}
        with pytest.raises(ValueError, match=r"to train on of the class '5' \(it has 1\)"):
            load(source, validation=0.3, seed=5)
    np.savez(tmp_path / "one.npz", x=IMAGES, y=LABELS * 0)
    assert load(tmp_path / "one.npz").train.label_names == ("0", "1")
    np.savez(tmp_path / "numbers.npz", x=IMAGES, y=LABELS + np.int64(2**30))
    with pytest.raises(ValueError, match=r"numbers\.npz train: the largest label is 1,073,741,82"):
        load(tmp_path / "numbers.npz")


def test_the_classes_are_those_of_all_parts(tmp_path):
    np.savez(tmp_path / "a.npz", x_train=IMAGES, y_train=LABELS, x_test=IMAGES, y_test=LABELS + 2)
    assert load(tmp_path / "a.npz").train.label_names == tuple("01234")
    images = np.zeros((9, 28, 28), np.uint8)
    arrays = Splits(from_arrays(images, LABELS), test=from_arrays(images, LABELS + 2))
    model = build_model(mnist_convnet.experiment(RecipeOptions()), arrays)
    assert (model.spec.num_classes, model.spec.label_names) == (5, tuple("01234"))


# Tables of images.


def one_image(path: Path, pixels: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def table(path: Path, rows: list[tuple], encoding: str = "utf-8") -> Path:
    with open(path, "w", encoding=encoding, newline="") as file:
        csv.writer(file).writerows(rows)
    return path


@pytest.fixture
def image_list(tmp_path) -> Path:
    """A folder with nine grey images 0.png to 8.png."""
    for i, image in enumerate(IMAGES):
        one_image(tmp_path / "images" / f"{i}.png", image)
    return tmp_path / "images"


def names(*numbers: int) -> list[tuple[str, str]]:
    return [(f"{i}.png", "abc"[i % 3]) for i in numbers]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize("header", [("path", "label"), ("File", "Class"), ("image", "label")])
def test_images_come_in_the_order_of_the_rows(image_list, header, encoding):
    order = (4, 0, 8, 2, 1, 5)
    file = table(image_list / "all.csv", [header, *names(*order)], encoding)
    splits = load(file, image_size=(7, 6), channels=1)
    assert list(splits.parts) == ["train"]
    assert splits.train.inputs[:][..., 0].tolist() == IMAGES[list(order)].tolist()
    assert splits.train.labels.tolist() == LABELS[list(order)].tolist()
    assert splits.train.label_names == ("a", "b", "c")
    assert splits.train.name == "all.csv train"


def test_a_table_is_found_again_by_its_record(image_list):
    rows = [("where", "what"), *names(*range(9)), ("0.png", "a")]
    splits = load(
        table(image_list / "all.CSV", rows), image_size=(5, 5), interpolation="nearest",
        class_names=["c", "a"], path_column="where", label_column="what",
    )  # fmt: skip
    assert splits.train.label_names == ("c", "a")
    # Rows of b are passed over, the one that repeats an image is not.
    assert splits.train.labels.tolist() == [1, 0, 1, 0, 1, 0, 1]
    assert splits.source == {
        "data": str(image_list / "all.CSV"),
        "images": {
            **{"image_size": [5, 5], "channels": 3, "resize": "stretch"},
            **{"interpolation": "nearest", "decoder": "pillow", "class_names": ["c", "a"]},
            **{"path_column": "where", "label_column": "what", "files_set_aside": 0},
        },
    }
    splits = splits.with_test(0.3, 1).with_validation(0.3, 4)
    assert same(again(splits), splits)
    np.testing.assert_array_equal(again(splits).train.inputs[:], splits.train.inputs[:])


def test_paths_may_be_absolute_and_lie_elsewhere(image_list, tmp_path):
    one_image(tmp_path / "a.png", IMAGES[0] // 2)
    rows = [("path", "label"), ("../a.png", "x"), (str(image_list / "1.png"), "y"), ("2.png", "x"),
            ("sub/../3.png", "y")]  # fmt: skip
    (image_list / "sub").mkdir()
    train = load(table(image_list / "a.csv", rows), image_size=(7, 6), channels=1).train
    wanted = [IMAGES[0] // 2, *IMAGES[1:4]]
    np.testing.assert_array_equal(train.inputs[:][..., 0], wanted)


def test_a_column_divides_the_table(image_list):
    split = ["train", "Training", "test", "val", "train", "valid", "TEST", "validation", "train"]
    rows = [(*row, part) for row, part in zip(names(*range(9)), split, strict=True)]
    splits = load(
        table(image_list / "a.csv", [("path", "label", "split"), *rows]), image_size=(7, 6)
    )
    assert {k: v.labels.tolist() for k, v in splits.parts.items()} == {
        **{"train": [0, 1, 1, 2], "validation": [0, 2, 1], "test": [2, 0]}
    }


def test_numbers_as_labels_are_sorted_by_their_size(image_list):
    rows = [(f"{i}.png", label) for i, label in enumerate([10, 2, 10, 2, 10, 2])]
    train = load(table(image_list / "a.csv", [("path", "label"), *rows]), image_size=(7, 6)).train
    assert train.label_names == ("2", "10")
    assert train.labels.tolist() == [1, 0, 1, 0, 1, 0]


def test_files_that_are_no_good_are_set_aside_with_a_remark(image_list):
    (image_list / "broken.png").write_bytes((image_list / "0.png").read_bytes()[:60])
    (image_list / "notes.txt").write_text("no image")
    rows = [*names(*range(6)), ("broken.png", "a"), ("notes.txt", "a"), ("0.png", "b")]
    file = table(image_list / "a.csv", [("path", "label"), *rows])
    told: list[str] = []
    splits = load(file, image_size=(7, 6), progress=told.append)
    assert len(splits.train) == 6
    assert f"{file}: 3 files were set aside" in told
    assert "  notes.txt: no image, by its name" in told
    assert "  0.png: the same content as 0.png, which has another class (a)" in told
    assert any(line.startswith("  broken.png: not a readable image") for line in told)
    assert splits.source["images"]["files_set_aside"] == 3
    scan = scan_table(file)
    assert (str(scan).splitlines()[0], len(scan.set_aside)) == (f"{file}: 3 classes", 3)


def test_of_two_copies_the_one_to_test_on_stays(image_list):
    rows = [(*row, "train") for row in names(*range(6))] + [("0.png", "a", "test")]
    file = table(image_list / "a.csv", [("path", "label", "split"), *rows])
    assert scan_table(file).set_aside == (("0.png", "the same content as 0.png"),)
    assert scan_table(file).parts["test"].files == ("0.png",)


HEAD = ("path", "label")


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], r"no column that is called path or file or .*: it is empty; give path_column"),
        ([HEAD], "holds no rows below its header"),
        ([("name", "label")], r"or image: it has 'name', 'label'; give path_column"),
        ([("path", "kind")], r"called label or class: it has 'path', 'kind'; give label_column"),
        ([("text", "label"), ("a film", "pos")], r"'text', 'label'; cj\.data\.load_texts reads"),
        ([HEAD, *names(0, 1), ("2.png",)], "line 4 has 1 values, the header has 2$"),
        ([HEAD, *names(0, 1), ("2.png", "c", " ", "d")], "line 4 has 4 values, .* has 2: put text"),
        ([(*HEAD, "label"), ("0.png", "a", "b")], "has 2 columns 'label': one is needed"),
        ([HEAD, *names(0, 1), ("none.png", "a")], r"line 4: .*/none\.png does not exist \(1 of 3"),
        ([HEAD, *names(0, 1), (" ", "a")], r"line 4: .* does not exist"),
        ([HEAD, *names(0, 1), ("2.png", "")], "column 'label', line 4: the label is empty"),
        ([HEAD, *names(0, 3)], "all rows have the label 'a', two classes are needed"),
        ([HEAD, *names(0, 1, 2)], r"3 rows: these are no classes \(.*: class_names="),
        (
            [(*HEAD, "split"), ("0.png", "a", "half"), ("1.png", "b", "half")],
            "line 2: 'half' is no split; expected train",
        ),
        (
            [(*HEAD, "split"), ("0.png", "a", "test"), ("1.png", "b", "test")],
            "train has no row of the class a, b",
        ),
        (
            [(*HEAD, "part"), *((*r, "train") for r in names(0, 3)), ("1.png", "b", "test")],
            "train has no row of the class b",
        ),
    ],
)
def test_tables_that_do_not_fit_are_named(image_list, rows, message):
    rows = [(*row, "train") if "split" in rows[0] and len(row) == 2 else row for row in rows]
    file = table(image_list / "a.csv", rows)
    with pytest.raises((ValueError, DataNotFound), match=message) as caught:
        load(file, image_size=(7, 6))
    assert str(file) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("mark", [";", "\t"])
def test_other_marks_than_commas_are_named(image_list, mark):
    (image_list / "a.csv").write_text(f"path{mark}label\n0.png{mark}a\n1.png{mark}b\n")
    message = f"a.csv is separated by {mark!r}? Commas are needed"
    with pytest.raises(ValueError, match=re.escape(message)):
        load(image_list / "a.csv", image_size=(7, 6))


def test_empty_cells_at_the_end_say_nothing(image_list):
    for rows in (
        [(*HEAD, ""), ("0.png", "a"), ("1.png", "b", " "), ("", "", "")],
        [HEAD, ("0.png", "a", ""), ("1.png", "b", " "), ("", "", "")],  # a comma ends all rows
    ):
        train = load(table(image_list / "a.csv", rows), image_size=(7, 6)).train
        assert train.labels.tolist() == [0, 1]


def test_repeated_rows_stay_but_no_image_in_two_parts_or_classes(image_list):
    rows = [(*row, "train") for row in names(0, 0, 1, 2, 1)]
    rows += [("2.png", "c", "test"), ("2.png", "c", "test"), ("0.png", "b", "train")]
    rows += [(*row, "train") for row in names(0, 5)]
    scan = scan_table(table(image_list / "a.csv", [(*HEAD, "split"), *rows]))
    assert scan.parts["train"].files == tuple(f"{i}.png" for i in (0, 0, 1, 1, 0, 5))
    assert scan.parts["test"].files == ("2.png", "2.png")
    assert scan.set_aside == (
        ("2.png", "the same content as 2.png"),
        ("0.png", "the same content as 0.png, which has another class (a)"),
    )


def test_columns_and_classes_that_are_not_there(image_list):
    file = table(image_list / "a.csv", [HEAD, *names(*range(6))])
    with pytest.raises(ValueError, match=r"has no column 'paht'\. Did you mean 'path'"):
        load(file, path_column="paht", image_size=(7, 6))
    with pytest.raises(ValueError, match=r"no row has the label 'd'\. Known names: a, b, c"):
        load(file, class_names=["a", "d"], image_size=(7, 6))
    with pytest.raises(ValueError, match="class_names holds a name twice: a, a"):
        load(file, class_names=["a", "a"], image_size=(7, 6))
    with pytest.raises(ValueError, match=r"class_names=\['a'\], two classes are needed"):
        load(file, class_names=["a"], image_size=(7, 6))
    with pytest.raises(ValueError, match=r"a\.csv names images, .* give image_size=\(height"):
        load(file)
    with pytest.raises(DataNotFound, match=r"data file .*/none\.csv does not exist \(looked in"):
        load(image_list / "none.csv", image_size=(7, 6))
    (image_list / "b.csv").write_bytes(b"path,label\n\xff.png,a\n")
    with pytest.raises(ValueError, match=r"b\.csv is not UTF-8 text \(byte 0xff"):
        load(image_list / "b.csv", image_size=(7, 6))


@pytest.mark.parametrize("wrong", ["cat", [0, 1]])
def test_class_names_of_a_table_are_a_list(image_list, wrong):
    with pytest.raises(ValueError, match=r"class_names must be a list of names, got "):
        scan_table(table(image_list / "t.csv", [HEAD, *names(0, 1)]), wrong)


def test_a_table_of_images_is_none_of_texts(image_list):
    file = table(image_list / "a.csv", [HEAD, *names(*range(6))])
    message = r"has no column 'text', and its column 'path' seems to name images: cj\.data\.load "
    with pytest.raises(ValueError, match=message):
        load_texts(file)


# What is neither.


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("mnsit", r"data set 'mnsit' was not found: looked in .*Did you mean 'mnist'\?.*NAME\.npz"),
        ("no/folder", r"Nor is there a folder or file .*/no/folder$"),
        ("notes.txt", r"notes\.txt is a file of no kind that is known: expected a folder with a"),
        ("mnist", r"Nor is there a folder or file .*/mnist$"),
        ("", "data set '' was not found"),
    ],
)
def test_what_is_nothing_known_is_named(tmp_path, monkeypatch, name, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "notes.txt").touch()
    with pytest.raises(DataNotFound, match=message) as caught:
        load(name, data_dir=tmp_path / "tfds")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("read", [load, load_texts, scan_table, read_idx])
@pytest.mark.parametrize("name", ["~nobody.here/a.csv", "a\0.csv"])
def test_paths_that_cannot_be_are_named(read, name):
    with pytest.raises((ValueError, DataNotFound), match=r"no home directory here|has a null byte"):
        read(name)


# Experiments.


def test_images_are_brought_to_the_size_and_colours_of_the_model(image_list):
    for i in range(9):
        (image_list / "abc"[i % 3]).mkdir(exist_ok=True)
        (image_list / f"{i}.png").rename(image_list / "abc"[i % 3] / f"{i}.png")
    options = RecipeOptions(data=str(image_list))
    splits = load_data(mnist_convnet.experiment(options), lambda _: None)
    assert splits.train.inputs.shape == (8, 28, 28, 1)
    assert splits.test.inputs.shape == (
        1,
        28,
        28,
        1,
    )  # set aside: the folder has none
    assert splits.source["folder"]["channels"] == 1
    assert images_for("cifar_deep") == {"image_size": (32, 32), "channels": 3}
    assert images_for("imdb_conv1d") == images_for("no_model") == {}
    assert isinstance(mnist_convnet.experiment(options), Experiment)


def test_every_experiment_with_images_takes_the_same_data():
    """Those without images, or with a position for them, say themselves what they take."""
    others = {
        "imdb_conv1d",
        "captcha",
        "conv_or_recurrent",
        "few_examples",
        "time_series",
        "own_images",
        "segmentation",
    }
    seen = set()
    for module in pkgutil.iter_modules(experiments.__path__):
        if module.name.startswith("_") or module.ispkg or module.name in others:
            continue
        found = vars(importlib.import_module(f"experiments.{module.name}"))
        for kind in found.values():
            if not (isinstance(kind, type) and dataclasses.is_dataclass(kind)):
                continue
            hints = typing.get_type_hints(kind, include_extras=True)
            if {"data", "data_dir"} <= hints.keys() and kind is not Experiment:
                assert hints["data"] == ImageData, module.name
                seen.add(module.name)
    assert {"mnist_convnet", "cats_vs_dogs", "sweep", "im2col_convnet", "cifar10"} <= seen


# The same data by every route.


@pytest.fixture(scope="module")
def mnist(tfds_dir) -> Splits:
    """Five hundred of MNIST's test images, in the order of the TFDS directory.

    By what `load` calls for each split: all of MNIST would take half a minute to decode.
    """
    image_list = tfds_images.tfds_split(tfds_dir, "mnist", "test")
    return Splits(image_list.subset(slice(400)), test=image_list.subset(slice(400, 500)))


def by_class(splits: Splits) -> Splits:
    """Class by class, otherwise in their order: as files lie in class folders."""
    order = {k: np.argsort(v.labels, kind="stable") for k, v in splits.parts.items()}
    return Splits(splits.train.subset(order["train"]), test=splits.test.subset(order["test"]))


def as_idx(folder: Path, data: Splits) -> Path:
    for part, name in (("train", "train"), ("test", "t10k")):
        rows = data.parts[part]
        write_idx(folder / f"{name}-images-idx3-ubyte.gz", rows.inputs[..., 0])
        write_idx(folder / f"{name}-labels-idx1-ubyte.gz", rows.labels.astype(np.uint8))
    return folder


def as_npz(folder: Path, data: Splits) -> Path:
    np.savez_compressed(
        folder / "mnist.npz", x_train=data.train.inputs, y_train=data.train.labels,
        x_test=data.test.inputs, y_test=data.test.labels,
    )  # fmt: skip
    return folder / "mnist.npz"


def as_folders(folder: Path, data: Splits) -> Path:
    for part, rows in data.parts.items():
        for i, (image, label) in enumerate(zip(rows.inputs, rows.labels, strict=True)):
            one_image(folder / "pngs" / part / str(label) / f"{i:05}.png", image[..., 0])
    return folder / "pngs"


def as_table(folder: Path, data: Splits) -> Path:
    root = as_folders(folder, data)
    rows = [
        (root / part / str(label) / f"{i:05}.png", label, part)
        for part, of_part in data.parts.items()
        for i, label in enumerate(of_part.labels)
    ]
    return table(folder / "mnist.csv", [("path", "label", "split"), *rows])


@pytest.mark.sample(2)
@pytest.mark.parametrize("write", [as_idx, as_npz, as_folders, as_table])
def test_mnist_by_every_route_gives_the_same_batches(mnist, tmp_path, write):
    """Bit for bit, shuffled and not, in every array of every batch.

    A batch is a function of the order of the examples. idx, .npz and .csv files keep the order in
    which they were written, here that of the TFDS directory; class folders have one of their own,
    class by class, so they are compared with the TFDS examples sorted likewise. (MNIST's own idx
    files hold the examples in yet another order than the TFDS directory, which shuffles them.)
    """
    found = load(write(tmp_path, mnist), image_size=(28, 28), channels=1)
    wanted = by_class(mnist) if write is as_folders else mnist
    for part in ("train", "test"):
        for shuffle in (True, False):
            ours, theirs = (
                Loader(data.parts[part], 64, shuffle=shuffle, seed=3) for data in (found, wanted)
            )
            assert ours.steps == theirs.steps
            for epoch in (0, 1):
                for a, b in zip(ours.epoch(epoch), theirs.epoch(epoch), strict=True):
                    assert a.keys() == b.keys()
                    for key in a:
                        assert a[key].dtype == b[key].dtype
                        assert a[key].tobytes() == b[key].tobytes()
    assert same(again(found), found)


@pytest.mark.parametrize("shape", [(0, 2**32 - 1, 2**32 - 1), (2**32 - 1, 2**31 + 1, 0)])
def test_an_idx_file_of_nothing_is_named(tmp_path: Path, shape: tuple[int, ...]) -> None:
    file = tmp_path / "train-images-idx3-ubyte"
    file.write_bytes(b"\0\0\x08\3" + b"".join(n.to_bytes(4, "big") for n in shape))
    with pytest.raises(ValueError, match=r"ubyte announces .*: it holds nothing"):
        read_idx(file)
