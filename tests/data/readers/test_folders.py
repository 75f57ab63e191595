"""Class folders: what is found, what is set aside, and in which order."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cnnjax.data import DataNotFound, Splits, load, load_texts, reload, scan_folder

SHARED = Path(__file__).resolve().parents[4] / "shared"
RNG = np.random.default_rng(0)


def one_image(path: Path, size=(9, 7), seed: int | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = RNG if seed is None else np.random.default_rng(seed)
    Image.fromarray(rng.integers(0, 256, (*size, 3), dtype=np.uint8)).save(path)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "pets"
    for name, count in (("dog", 3), ("cat", 4)):
        for i in range(count):
            one_image(root / name / f"{name}{i}.png")
    return root


def test_classes_are_the_sorted_folders_and_files_come_in_alphabetical_order(folder):
    scan = scan_folder(folder)
    assert scan.class_names == ("cat", "dog")
    assert list(scan.parts) == ["train"]
    part = scan.parts["train"]
    assert part.files == tuple(f"cat/cat{i}.png" for i in range(4)) + tuple(
        f"dog/dog{i}.png" for i in range(3)
    )
    assert part.labels.tolist() == [0, 0, 0, 0, 1, 1, 1]
    assert scan.set_aside == ()
    assert scan.remarks() == []


def test_given_class_names_decide_the_labels_and_leave_other_folders_out(folder):
    one_image(folder / "bird" / "a.png")
    scan = scan_folder(folder, class_names=["dog", "cat"])
    assert scan.class_names == ("dog", "cat")
    assert scan.parts["train"].labels.tolist() == [0] * 3 + [1] * 4


def test_what_is_no_good_is_listed_with_its_reason(folder):
    whole = (folder / "cat" / "cat0.png").read_bytes()
    (folder / "cat" / "cut_off.png").write_bytes(whole[: len(whole) // 2])
    (folder / "cat" / "empty.jpg").touch()
    (folder / "cat" / "notes.txt").write_text("not an image")
    (folder / "cat" / "page.jpg").write_text("<html></html>")
    (folder / "cat" / "z_again.png").write_bytes(whole)
    (folder / "dog" / "z_other_class.png").write_bytes(whole)
    (folder / "cat" / ".DS_Store").write_bytes(b"hidden files say nothing")
    (folder / "dog" / "nowhere.png").symlink_to(folder / "absent.png")
    scan = scan_folder(folder)
    reasons = dict(scan.set_aside)
    assert set(reasons) == {
        *("cat/cut_off.png", "cat/empty.jpg", "cat/notes.txt", "cat/page.jpg"),
        *("cat/z_again.png", "dog/z_other_class.png", "dog/nowhere.png"),
    }
    assert reasons["cat/empty.jpg"] == "empty"
    assert reasons["cat/notes.txt"] == "no image, by its name"
    assert reasons["cat/z_again.png"] == "the same content as cat/cat0.png"
    assert reasons["dog/z_other_class.png"] == (
        "the same content as cat/cat0.png, which has another class (cat)"
    )
    assert "not a readable image" in reasons["cat/cut_off.png"]
    assert reasons["cat/page.jpg"].startswith("not a readable image (cannot identify image file")
    assert "0x" not in reasons["cat/page.jpg"]  # no address of an object
    assert "cannot be read" in reasons["dog/nowhere.png"]
    assert len(scan.parts["train"].files) == 7
    assert "set aside: 7 files" in str(scan)
    assert scan.remarks()[0].endswith("7 files were set aside")


def test_long_lists_are_cut_in_the_remarks_but_not_in_the_table(folder):
    for i in range(14):
        (folder / "cat" / f"{i}.txt").touch()
    scan = scan_folder(folder)
    assert len(scan.remarks()) == 12
    assert str(scan).count("no image") == 14


def test_parts_are_found_by_their_names(folder, tmp_path):
    root = tmp_path / "parts"
    for part, names in (("train", "abc"), ("val", "de"), ("test", "f")):
        for name in names:
            for label in ("x", "y"):
                one_image(root / part / label / f"{name}.png")
    scan = scan_folder(root)
    assert list(scan.parts) == ["train", "validation", "test"]
    assert [len(p.files) for p in scan.parts.values()] == [6, 4, 2]
    assert scan.parts["validation"].files[0] == "val/x/d.png"


def test_of_two_copies_the_one_in_the_test_part_stays(tmp_path):
    for part in ("train", "test"):
        for label in ("x", "y"):
            one_image(tmp_path / part / label / "own.png")
        one_image(tmp_path / part / "x" / "twice.png", seed=1)
    scan = scan_folder(tmp_path)
    assert dict(scan.set_aside) == {"train/x/twice.png": "the same content as test/x/twice.png"}


def test_folders_within_a_class_folder_belong_to_it(folder):
    one_image(folder / "cat" / "more" / "deep" / "a.png")
    one_image(folder / "cat" / ".hidden" / "a.png")
    assert "cat/more/deep/a.png" in scan_folder(folder).parts["train"].files
    assert len(scan_folder(folder).parts["train"].files) == 8


def test_a_scan_is_remembered_until_a_file_changes(folder):
    told: list[str] = []
    scan_folder(folder, progress=told.append)
    scan_folder(folder, progress=told.append)
    assert len(told) == 1
    assert told[0].startswith(f"reading 7 files in {folder}")
    (folder / "cat" / "cat0.png").write_bytes(b"")
    assert dict(scan_folder(folder, progress=told.append).set_aside) == {"cat/cat0.png": "empty"}
    assert len(told) == 2


@pytest.mark.parametrize("content", ["", "[]", '{"a": 1}', "[[1", str([*range(7)]), "[[1]]"])
def test_a_damaged_memory_is_not_believed(folder, content):
    first = scan_folder(folder)
    for file in Path(os.environ["CNNJAX_CACHE_DIR"]).glob("scans/*.json"):
        file.write_text(content)
    assert scan_folder(folder).parts["train"].hashes == first.parts["train"].hashes


def test_errors(folder, tmp_path):
    with pytest.raises(DataNotFound, match="absent does not exist"):
        scan_folder(tmp_path / "absent")
    (tmp_path / "none").mkdir()
    with pytest.raises(DataNotFound, match="holds no class folders: expected a folder of files"):
        scan_folder(tmp_path / "none")
    with pytest.raises(ValueError, match=r"class 'cta' has no folder in .* Did you mean 'cat'"):
        scan_folder(folder, ["cta", "dog"])
    with pytest.raises(ValueError, match="class_names holds a name twice: cat, cat"):
        scan_folder(folder, ["cat", "cat"])
    (folder / "empty").mkdir()
    with pytest.raises(ValueError, match="train has no image of the class empty"):
        scan_folder(folder)
    for name in ("x", "y"):
        (tmp_path / "all_empty" / name).mkdir(parents=True)
    with pytest.raises(DataNotFound, match="no image was found in the split 'train'"):
        scan_folder(tmp_path / "all_empty")


def test_a_single_class_is_refused(folder):
    with pytest.raises(ValueError, match="all files have the class 'cat', two classes are needed"):
        scan_folder(folder, ["cat"])


def test_parts_are_found_in_any_case(folder, tmp_path):
    for name in ("Train", "TEST", "Val"):
        for label in ("x", "y"):
            one_image(tmp_path / "parts" / name / label / f"{name}.png")
    assert list(scan_folder(tmp_path / "parts").parts) == ["train", "validation", "test"]
    one_image(folder / "train" / "a.png")  # a class of that name
    assert scan_folder(folder).class_names == ("cat", "dog", "train")


@pytest.mark.parametrize(
    ("folders", "message"),
    [
        (["train", "test"], "has folders train and test, but train/ holds no folder per class"),
        (["Train", "val/x"], "has folders Train and val, but Train/ holds no folder per class"),
        (["test/x", "val/x"], "has folders val and test, but none of them is train/"),
        (["train/x", "val/x", "valid/x"], "has folders val and valid, both for validation: keep"),
        (["train/x", "training/x"], "has folders train and training, both for train: keep one"),
    ],
)
def test_parts_that_are_ambiguous_are_named(tmp_path, folders, message):
    for name in folders:
        one_image(tmp_path / name / "a.png")
    for read in (scan_folder, load_texts):
        with pytest.raises(ValueError, match=message):
            read(tmp_path)


def test_what_is_in_no_class_folder_is_listed(folder, tmp_path):
    one_image(folder / "loose.png")
    (folder / "notes.txt").touch()
    assert scan_folder(folder).set_aside == (("loose.png", "in no class folder"),)
    folder.rename(tmp_path / "train")
    one_image(tmp_path / "test" / "1.jpg")  # as Kaggle's: without labels
    one_image(tmp_path / "extra" / "more" / "1.png")
    (tmp_path / "void").mkdir()
    scan = scan_folder(tmp_path)
    assert list(scan.parts) == ["train"]
    assert scan.set_aside == (
        ("train/loose.png", "in no class folder"),
        ("extra/", "no split (1 file)"),
        ("test/", "no folder per class (1 file)"),
    )


def test_a_link_to_a_folder_is_named(folder, tmp_path):
    one_image(tmp_path / "elsewhere" / "a.png")
    one_image(tmp_path / "birds" / "a.png")
    (folder / "cat" / "more").symlink_to(tmp_path / "elsewhere")
    (folder / "dog" / "round").symlink_to(folder)
    (folder / "dog" / ".hidden").symlink_to(folder)
    (folder / "bird").symlink_to(tmp_path / "birds")  # of a class: read as ever
    scan = scan_folder(folder)
    assert scan.class_names == ("bird", "cat", "dog")
    assert len(scan.parts["train"].files) == 8
    assert scan.set_aside == (
        ("cat/more/", "a link to a folder is not followed"),
        ("dog/round/", "a link to a folder is not followed"),
    )
    divided = tmp_path / "divided"
    divided.mkdir()
    folder.rename(divided / "train")
    assert ("train/cat/more/", scan.set_aside[0][1]) in scan_folder(divided).set_aside


@pytest.mark.parametrize("name", ["test", "Validation", "val"])
def test_a_part_beside_class_folders_is_no_class(folder, name):
    for label in ("cat", "dog"):
        one_image(folder / name / label / "a.png")
    with pytest.raises(ValueError, match=rf"has {name}/ with folders in it \(cat/\) beside class"):
        scan_folder(folder)
    with pytest.raises(
        ValueError, match=rf"put these into train/, beside {name}/; or, if '{name}'"
    ):
        load_texts(folder)
    assert scan_folder(folder, ["cat", "dog"]).class_names == ("cat", "dog")
    assert scan_folder(folder, ["cat", "dog", name]).class_names == ("cat", "dog", name)


def test_names_that_are_not_utf8_are_printed_with_escapes(folder, tmp_path):
    root = os.fsencode(tmp_path / "p") + b"\xff"
    os.rename(folder, root)
    Path(os.fsdecode(root), "cat", os.fsdecode(b"b\xff.png")).touch()
    scan = scan_folder(os.fsdecode(root))
    for text in (str(scan), "\n".join(scan.remarks())):
        assert r"p\udcff: " in text
        assert r"  cat/b\udcff.png: empty" in text
        text.encode()


def test_class_names_are_a_list(folder):
    for wrong in ("cat", [0, 1]):
        with pytest.raises(ValueError, match=r"class_names must be a list of names, got "):
            load(folder, image_size=(6, 5), class_names=wrong)


def test_a_class_of_one_image_stays_for_training_or_is_refused(folder):
    one_image(folder / "emu" / "only.png")
    splits = load(folder, image_size=(6, 5))
    seed = next(s for s in range(20) if 7 in splits.train.split(0.4, s)[1].inputs.rows)
    with pytest.raises(ValueError, match=r"train on of the class 'emu' \(it has 1\)"):
        splits.with_test(0.4, seed)


def test_a_folder_that_cannot_be_read_is_named(folder, monkeypatch):
    one_image(folder / "cat" / "locked" / "a.png")
    scandir = os.scandir

    def refuse(path):
        if Path(path).name == "locked":
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(PermissionError, match=r"Permission denied: '.*/cat/locked'"):
        scan_folder(folder)


def test_parts_must_have_the_same_classes(tmp_path):
    one_image(tmp_path / "train" / "x" / "a.png")
    one_image(tmp_path / "test" / "x" / "b.png")
    one_image(tmp_path / "test" / "y" / "c.png")
    with pytest.raises(ValueError, match=r"test has classes that .*train lacks: y"):
        scan_folder(tmp_path)
    one_image(tmp_path / "train" / "z" / "d.png")
    with pytest.raises(ValueError, match=r"class 'z' has no folder in .*test"):
        scan_folder(tmp_path)


def test_loading_needs_a_size(folder):
    with pytest.raises(ValueError, match=r"folder of images, .* image_size=\(height, width\)"):
        load(folder)


def test_a_loaded_folder_is_a_data_set_with_its_source(folder):
    (folder / "cat" / "empty.png").touch()
    told: list[str] = []
    splits = load(folder, image_size=(6, 5), progress=told.append)
    assert splits.train.inputs.shape == (7, 6, 5, 3)
    assert splits.train.label_names == ("cat", "dog")
    assert splits.source == {
        "data": str(folder),
        "folder": {
            **{"image_size": [6, 5], "channels": 3, "resize": "stretch"},
            **{"interpolation": "bilinear", "decoder": "pillow"},
            **{"class_names": ["cat", "dog"], "files_set_aside": 1},
        },
    }
    assert any("1 file was set aside" in line for line in told)


def test_grey_images(folder):
    splits = load(folder, image_size=(6, 5), channels=1)
    assert splits.train.inputs[:2].shape == (2, 6, 5, 1)


def test_a_record_makes_the_same_parts_again(folder):
    splits = (
        load(folder, image_size=(6, 5), interpolation="nearest", class_names=["dog", "cat"])
        .with_test(0.3, seed=1)
        .with_validation(0.4, seed=2)
    )
    again = reload(splits.source)
    assert isinstance(again, Splits)
    for name, part in splits.parts.items():
        assert again.parts[name].fingerprint == part.fingerprint
        assert again.parts[name].labels.tolist() == part.labels.tolist()
        np.testing.assert_array_equal(again.parts[name].inputs[:], part.inputs[:])


def test_the_order_is_that_of_keras(folder):
    from keras.src.legacy.preprocessing.image import ImageDataGenerator

    flow = ImageDataGenerator().flow_from_directory(
        str(folder), target_size=(6, 5), batch_size=7, shuffle=False, class_mode="sparse"
    )
    images, labels = next(flow)
    splits = load(folder, image_size=(6, 5), interpolation="nearest")
    assert flow.class_indices == {name: i for i, name in enumerate(splits.train.label_names)}
    assert labels.tolist() == splits.train.labels.tolist()
    np.testing.assert_array_equal(images.astype(np.uint8), splits.train.inputs[:])


def test_bilinear_pixels_are_those_of_keras_load_img(folder):
    from keras.utils import img_to_array, load_img

    file = folder / "cat" / "cat0.png"
    wanted = img_to_array(load_img(file, target_size=(4, 5), interpolation="bilinear"))
    found = load(folder, image_size=(4, 5)).train.inputs[0]
    np.testing.assert_array_equal(found, wanted.astype(np.uint8))


@pytest.mark.thorough
def test_real_photos():
    root = SHARED / "data" / "cats_vs_dogs_small"
    if not root.is_dir():
        pytest.skip(f"needs real data: no {root}")
    scan = scan_folder(root)
    assert {k: len(v.files) for k, v in scan.parts.items()} == {
        **{"train": 2000, "validation": 1000, "test": 1000}
    }
    assert all(np.bincount(part.labels).tolist()[0] * 2 == len(part.files)
               for part in scan.parts.values())  # fmt: skip
