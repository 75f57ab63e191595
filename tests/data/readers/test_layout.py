"""Folders as they come from elsewhere: parts under other names, clutter, two forms of Unicode."""

import itertools
import os
import socket
import unicodedata
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cnnjax.data import DataNotFound, load, load_texts, scan_folder
from cnnjax.data.readers.split_names import split_named

RNG = np.random.default_rng(0)
SUFFIX = {"images": ".png", "texts": ".txt"}


def image(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(RNG.integers(0, 256, (5, 4, 3), dtype=np.uint8)).save(path)
    return path


def tree(root: Path, *folders: str) -> Path:
    """An image and a text in each of some folders."""
    for i, folder in enumerate(folders):
        image(root / folder / f"{i}.png")
        (root / folder / f"{i}.txt").write_text(f"word number{'abcdefghijklmnop'[i]}")
    return root


def parts_of(root: Path) -> dict[str, list[str]]:
    """{part: its files} of the scan of a folder."""
    return {name: list(part.files) for name, part in scan_folder(root).parts.items()}


# Parts


@pytest.mark.parametrize(
    "names",
    [
        ("training", "testing"),
        ("Train", "TEST"),
        ("train_set", "test_set"),
        ("TrainImages", "TestImages"),
        ("Training Set", "Test Set"),
        ("train2017", "test2017"),
        ("seg_train", "seg_test"),
        ("birds-train-224", "birds-test-224"),
        ("1_training", "2_testing"),
    ],
)
def test_parts_under_other_names_are_found(tmp_path, names):
    train, test = names
    tree(tmp_path, f"{train}/a", f"{train}/b", f"{test}/a", f"{test}/b")
    found = parts_of(tmp_path)
    assert found == {
        "train": [f"{train}/a/0.png", f"{train}/b/1.png"],
        "test": [f"{test}/a/2.png", f"{test}/b/3.png"],
    }
    assert load_texts(tmp_path, length=3).train.label_names == ("a", "b")


@pytest.mark.parametrize("name", ["valid", "Val", "dev", "validation_set", "seg_val"])
def test_a_part_to_select_by_has_many_names(tmp_path, name):
    train = "seg_train" if name.startswith("seg") else "train"
    tree(tmp_path, *(f"{part}/{label}" for part in (train, name) for label in "ab"))
    assert list(parts_of(tmp_path)) == ["train", "validation"]


@pytest.mark.parametrize(
    "folders",
    [
        ("data/data/train", "data/data/test"),  # an archive in a folder of its name
        ("archive/seg_train/seg_train", "archive/seg_test/seg_test"),
        ("train/train", "test/test"),
        ("pets/Train", "pets/Test"),
    ],
)
def test_parts_that_lie_deeper_are_found(tmp_path, folders):
    train, test = folders
    tree(tmp_path, f"{train}/a", f"{train}/b", f"{test}/a", f"{test}/b", "__MACOSX/data")
    scan = scan_folder(tmp_path)
    assert (scan.class_names, list(scan.parts)) == (("a", "b"), ["train", "test"])
    assert scan.parts["train"].files == (f"{train}/a/0.png", f"{train}/b/1.png")
    assert any("__MACOSX" in place for place, _ in scan.set_aside)


def test_a_part_without_labels_is_no_class(tmp_path):
    """As Kaggle gives the images to submit an answer for."""
    tree(tmp_path, "seg_train/a", "seg_train/b", "seg_test")
    scan = scan_folder(tmp_path)
    assert (scan.class_names, list(scan.parts)) == (("a", "b"), ["train"])
    assert ("seg_test/", "no folder per class (2 files)") in scan.set_aside
    tree(tmp_path, "seg_pred")
    with pytest.raises(ValueError, match=r"has seg_train/ with folders in it \(a/\) beside cl"):
        scan_folder(tmp_path)


def test_a_folder_within_one_of_its_name_is_gone_into(tmp_path):
    tree(tmp_path / "flowers", "flowers/rose", "flowers/tulip")
    assert scan_folder(tmp_path / "flowers").class_names == ("rose", "tulip")
    message = r"all files have the class 'flowers', two .*; or give .*/flowers, which holds rose/, "
    (tmp_path / "flowers").rename(tmp_path / "other")
    with pytest.raises(ValueError, match=message):
        scan_folder(tmp_path / "other")


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("fold1", "fold2", "fold3"), r"fold1/, fold2/, fold3/ hold the same folders \(a/, b/\)"),
        (
            ("part_a", "part_b"),
            r"part_a/, part_b/ hold the same folders \(a/, b/\), as splits",
        ),
        (
            ("Tr", "Te"),
            r"Te/, Tr/ hold the same folders .*: call them train/, validation/ and test/",
        ),
        (("seg_train", "seg_extra"), r"seg_extra/, seg_train/ hold the same folders"),
        (("my_train", "old_train"), "my_train/, old_train/ hold the same folders"),
        (("a_train", "b_train", "a_test"), "has folders a_train and b_train, both for train: keep"),
        (("my_test", "my_val"), "my_test/, my_val/ hold the same folders"),
    ],
)
def test_folders_that_hold_the_same_folders_are_no_classes(tmp_path, names, message):
    tree(tmp_path, *(f"{name}/{label}" for name in names for label in "ab"))
    for read in (scan_folder, load_texts):
        with pytest.raises(ValueError, match=message):
            read(tmp_path)
    if "both for" not in message:
        assert scan_folder(tmp_path, sorted(names)).class_names == tuple(sorted(names))


@pytest.mark.parametrize(
    ("folders", "message"),
    [
        (("A_2011/images/1", "A_2011/images/2", "masks2/1", "masks2/2"), "hold the same folders"),
        (("amazon/images/a", "amazon/images/b", "dslr/images/a", "dslr/images/b"), "same folders"),
        (("x", "y", "all/x", "all/y"), r"all/, which holds the same folders as lie beside it \(x/"),
        (("images/a", "images/b", "meta"), r"no classes: give .*images; or"),
        (("images", "annotations/trimaps"), "no classes: put the images into a folder per class"),
        (("train/images", "train/labels", "test/images", "test/labels"), "no classes: put the"),
    ],
)  # fmt: skip
def test_folders_that_are_no_classes_are_not_trained_on(tmp_path, folders, message):
    tree(tmp_path, *folders)
    with pytest.raises(ValueError, match=message):
        scan_folder(tmp_path)


@pytest.mark.parametrize("inner", ["images", "my_test", "IMG"])
def test_a_test_part_without_classes_may_lie_one_folder_deeper(tmp_path, inner):
    tree(tmp_path, "train/a", "train/b", f"test/{inner}")
    scan = scan_folder(tmp_path)
    assert list(scan.parts) == ["train"]
    assert ("test/", "no folder per class (2 files)") in scan.set_aside


def test_several_of_the_folders_may_be_alike_and_not_to_the_last(tmp_path):
    tree(tmp_path, "one/a", "one/b", "one/c", "two/a", "two/b", "docs")
    with pytest.raises(ValueError, match=r"one/, two/ hold the same folders \(a/, b/\)"):
        scan_folder(tmp_path)


def test_parts_within_classes_are_named(tmp_path):
    tree(tmp_path, "cat/train", "cat/test", "dog/train", "dog/test")
    with pytest.raises(ValueError, match=r"cat/, dog/ each hold the splits test/, train/: put the"):
        scan_folder(tmp_path)


def test_classes_with_folders_of_their_own_stay_classes(tmp_path):
    tree(tmp_path, "cat/2019", "cat/2020", "dog/indoor", "dog/2020", "emu/images", "fox/images")
    assert scan_folder(tmp_path).class_names == ("cat", "dog", "emu", "fox")


@pytest.mark.parametrize(
    ("folders", "message"),
    [
        (("seg_train/a", "seg_train/b", "seg_train/c", "seg_test/a", "seg_test/b"),
         r"class 'c' has no folder in .*/seg_test\."),
        (("train/a", "train/b", "dev/a", "dev/b", "dev/z"), r"dev has classes that .*lacks: z"),
        (("train/Cats", "train/dogs", "test/cats", "test/dogs"),
         r"class 'Cats' is called 'cats' in .*/test: names that differ in case or blanks only"),
        (("train/cats", "train/dogs", "test/cats ", "test/dogs"),
         r"class 'cats' is called 'cats ' in .*/test: names that differ in case or blanks only"),
    ],
)  # fmt: skip
def test_parts_of_different_classes_are_named(tmp_path, folders, message):
    with pytest.raises(ValueError, match=message):
        scan_folder(tree(tmp_path, *folders))


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("train", "train"), ("TRAINING", "train"), ("trainset", "train"), ("Train-Data", "train"),
        ("testset", "test"), ("val2017", "validation"), ("dev", "validation"),
        ("cats", None), ("steam train", None), ("test1", None), ("train猫", None), ("set", None),
        ("", None), ("train test", None),
    ],
)  # fmt: skip
def test_names_of_parts(name, part):
    assert split_named(name) == part


# What systems leave


@pytest.mark.parametrize(
    "name",
    [
        *("__MACOSX", "@eaDir", "$RECYCLE.BIN", "System Volume Information", "lost+found", ".git"),
        *(".ipynb_checkpoints", "#recycle", ".Trash-1000", ".Spotlight-V100", ".fseventsd"),
        *("@Recycle", "@tmp", "#snapshot", "FOUND.000", "__pycache__", "RECYCLER"),
    ],
)
def test_folders_of_systems_are_no_classes_and_are_said(tmp_path, name):
    tree(tmp_path, "cat", "dog", name, f"cat/{name}")
    scan = scan_folder(tmp_path)
    assert scan.class_names == ("cat", "dog")
    assert len(scan.parts["train"].files) == 2
    assert (f"{name}/", "of a system or hidden by its name, no class (1 file)") in scan.set_aside
    told: list[str] = []
    assert len(load_texts(tmp_path, length=3, progress=told.append).train) == 2
    assert any(f"{name}/ is set aside: of a system" in line for line in told)


@pytest.mark.parametrize("name", ["Thumbs.db", "desktop.ini", ".DS_Store", "._0.png", "Icon\r"])
def test_files_of_systems_are_passed_over(tmp_path, name):
    tree(tmp_path, "cat", "dog")
    for place in (tmp_path, tmp_path / "cat"):
        (place / name).write_bytes(b"\0\5\x16\7")
    assert [why for _, why in scan_folder(tmp_path).set_aside if "name" not in why] == []


# Unicode


@pytest.mark.parametrize("name", ["café", "Ångström", "한글", "ёлка", "ñandú"])
def test_one_name_in_two_forms_is_one_class(tmp_path, name):
    composed, decomposed = (unicodedata.normalize(form, name) for form in ("NFC", "NFD"))
    assert composed != decomposed
    tree(tmp_path, f"train/{composed}", "train/b", f"test/{decomposed}", "test/b")
    scan = scan_folder(tmp_path)
    assert set(scan.class_names) == {composed, "b"}
    assert set(scan.parts) == {"train", "test"}
    assert set(scan_folder(tmp_path, [decomposed, "b"]).class_names) == {composed, "b"}
    assert load_texts(tmp_path, length=3).test is not None


@pytest.mark.parametrize(
    ("first", "second"), [("caf\u00e9", "cafe\u0301"), ("\u212b", "A\u030a"), ("cats", "cats ")]
)
def test_two_folders_of_one_name_in_a_part_are_shown_apart(tmp_path, first, second):
    tree(tmp_path, first, second, "z")
    with pytest.raises(ValueError, match="has two folders of one name") as caught:
        scan_folder(tmp_path)
    assert ascii(first) in str(caught.value)
    assert ascii(second) in str(caught.value)


# No regular files


def test_what_is_no_regular_file_is_set_aside(tmp_path):
    tree(tmp_path, "cat", "dog")
    os.mkfifo(tmp_path / "cat" / "pipe.png")
    os.mkfifo(tmp_path / "cat" / "pipe.txt")
    os.mkfifo(tmp_path / "loose.png")
    (tmp_path / "cat" / "zero.png").symlink_to("/dev/zero")
    (tmp_path / "cat" / "nowhere.png").symlink_to("absent")
    (tmp_path / "cat" / "nowhere.txt").symlink_to("absent")
    (tmp_path / "cat" / "loop.png").symlink_to("loop.png")
    (tmp_path / "emu").symlink_to("absent")
    (tmp_path / "self").symlink_to("self")
    (tmp_path / "up").symlink_to(".")
    server = socket.socket(socket.AF_UNIX)
    place = os.getcwd()
    os.chdir(tmp_path / "cat")  # names of sockets are short
    server.bind("socket.png")
    os.chdir(place)
    scan = scan_folder(tmp_path)
    server.close()
    assert scan.class_names == ("cat", "dog")
    assert len(scan.parts["train"].files) == 2
    reasons = dict(scan.set_aside)
    for name in ("pipe", "zero", "socket"):
        assert reasons[f"cat/{name}.png"] == "no regular file (a pipe, a socket or a device)"
    assert reasons["cat/nowhere.png"] == "cannot be read (No such file or directory)"
    assert reasons["cat/loop.png"] == "cannot be read (Too many levels of symbolic links)"
    assert reasons["emu"] == reasons["self"] == "a link that leads nowhere"
    assert reasons["up/"] == "a link to a folder that it lies in"
    assert reasons["loose.png"] == "in no class folder"
    told: list[str] = []
    assert len(load_texts(tmp_path, length=3, progress=told.append).train) == 2
    assert any("2 are links that lead nowhere, or no regular files" in line for line in told)


@pytest.mark.parametrize("name", ["a.csv", "a.npz", "train-images-idx3-ubyte", "words.txt"])
def test_a_pipe_is_no_data_file(tmp_path, name):
    os.mkfifo(tmp_path / name)
    with pytest.raises((ValueError, DataNotFound), match=r"is a pipe, not a regular|was not found"):
        load(tmp_path / name, image_size=(4, 4))


# Remarks of the decoder


def test_remarks_of_the_decoder_are_counted(tmp_path, monkeypatch):
    tree(tmp_path, "cat", "dog", "emu")

    numbers = itertools.count()

    def remarking(file, channels, name):
        warnings.warn(f"Corrupt EXIF data {next(numbers)}", stacklevel=1)
        return np.zeros((1, 1, channels), np.uint8)

    monkeypatch.setattr("cnnjax.data.readers.scan.decode_image", remarking)
    told: list[str] = []
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        scan_folder(tmp_path, progress=told.append)
    assert told[1].startswith(
        "3 different remarks of the decoder on files that it read, e.g. 'Corr"
    )
    image(tmp_path / "cat" / "more.png")
    with pytest.warns(
        UserWarning, match="4 different remarks of the decoder on files that it read, e.g. 'C"
    ):
        scan_folder(tmp_path)
