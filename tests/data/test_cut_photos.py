"""cats_vs_dogs_small is cut by number from an archive of either layout."""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections import Counter
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import raw_files

import cnnjax as cj
from cnnjax.cli import main
from cnnjax.core.download_job import DownloadError
from cnnjax.data.prepare import RECIPES, RawFile, building, photos, prepare, raw
from cnnjax.recipes import load_data
from cnnjax.recipes.shipped import cats_vs_dogs

NAME = "cats_vs_dogs_small"
ARCHIVE = "kagglecatsanddogs_5340.zip"
FEW = {"train": 3, "validation": 2, "test": 1}


@pytest.fixture(autouse=True)
def _few(monkeypatch):
    """Three, two and one photo of each class."""
    read = partial(photos.cats_vs_dogs_small, parts=FEW)
    monkeypatch.setitem(RECIPES, NAME, replace(RECIPES[NAME], read=read, examples=12))


@pytest.fixture
def offer(server, monkeypatch):
    """Let the server have an archive and `prepare` ask it for that."""

    def install(content):
        digest = hashlib.sha256(content).hexdigest()
        file = RawFile(f"{server.base}/{ARCHIVE}", ARCHIVE, len(content), digest)
        monkeypatch.setattr(building, "raw_files", lambda name: [file])
        server.answer = lambda handler: handler.serve(content)

    return install


def by_hand(root: Path, members) -> Path:
    """Kaggle's archive where a user would put it."""
    file = root / "downloads" / "cats_vs_dogs" / "train.zip"
    file.parent.mkdir(parents=True)
    file.write_bytes(members if isinstance(members, bytes) else raw_files.archive(members))
    return file


def held(folder: Path) -> dict[str, bytes]:
    return {f.relative_to(folder).as_posix(): f.read_bytes() for f in folder.rglob("*.jpg")}


@pytest.mark.parametrize("layout", ["kaggle", "microsoft"])
def test_the_next_numbers_stand_in_for_those_of_no_use(offer, tmp_path, layout):
    members = raw_files.numbered_photos(layout)
    offer(raw_files.archive(members))
    said = []
    where = prepare(NAME, data_dir=tmp_path, progress=said.append)
    assert where == tmp_path / NAME
    numbers = {
        "train": {"cat": (0, 3, 4), "dog": (1, 2, 5)},
        "validation": {"cat": (5, 6), "dog": (6, 7)},
        "test": {"cat": (7,), "dog": (8,)},
    }
    assert held(where) == {
        f"{part}/{label}s/{label}.{i}.jpg": members[raw_files.photo_name(layout, label, i)]
        for part, of in numbers.items()
        for label, chosen in of.items()
        for i in chosen
    }
    assert said[-2] == (
        "4 numbers were passed over for the next ones: cat.1 (not readable), cat.2 (a GIF file), "
        "dog.0 (empty), dog.3 to dog.4 (missing)"
    )
    assert said[-1] == f"{NAME} is prepared, in {where}"
    assert sorted(p.name for p in tmp_path.iterdir()) == [NAME, "downloads"]
    assert (tmp_path / "downloads" / "cats_vs_dogs" / ARCHIVE).is_file()  # shared with the large
    assert prepare(NAME, data_dir=tmp_path, progress=said.append) == where
    assert said[-1] == f"{NAME} is prepared already, in {where}"


def test_the_parts_are_those_of_the_textbook(monkeypatch, tmp_path):
    names = [f"train/{label}.{i}.jpg" for label in ("cat", "dog") for i in range(2001)]
    file = tmp_path / "train.zip"
    file.write_bytes(raw_files.archive(dict.fromkeys(names, b"photo")))
    monkeypatch.setattr(photos, "_fault", lambda content: None)
    found = photos.cats_vs_dogs_small({file.name: file})
    cut = [name for name, _ in found.files]
    assert found.remarks == []
    assert Counter(name.rpartition("/")[0] for name in cut) == {
        f"{part}/{label}s": count
        for part, count in (("train", 1000), ("validation", 500), ("test", 500))
        for label in ("cat", "dog")
    }
    edges = {"train": (0, 999), "validation": (1000, 1499), "test": (1500, 1999)}
    for part, (first, last) in edges.items():
        assert {f"{part}/dogs/dog.{first}.jpg", f"{part}/dogs/dog.{last}.jpg"} <= set(cut)


def test_the_experiment_needs_no_option_and_a_record_finds_the_data_again(
    monkeypatch, tmp_path, capsys
):
    by_hand(tmp_path, raw_files.numbered_photos("kaggle"))
    main(["data", "prepare", NAME, "--data-dir", str(tmp_path)])
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    main(["data", "list"])
    here, _, absent = capsys.readouterr().out.partition("To be had by")
    assert f"  {NAME}  2,000, 1,000 and 1,000 of these photos" in here
    assert NAME not in absent
    task = cats_vs_dogs.experiment(cats_vs_dogs.CatsOptions())
    splits = load_data(task, lambda text: None)
    assert [len(part) for part in splits.parts.values()] == [6, 4, 2]
    assert splits.train.label_names == ("cats", "dogs")
    assert splits.train.input_shape == (150, 150, 3)
    assert splits.source["data"] == NAME
    again = cj.data.reload(splits.source, data_dir=tmp_path)
    assert again.train.fingerprint == splits.train.fingerprint
    main(["data", "info", NAME])
    assert str(tmp_path / NAME) in capsys.readouterr().out
    with pytest.raises(FileNotFoundError, match=r"test has no \.txt file of the class cats"):
        cj.data.load_texts(NAME)


def test_where_it_is_not_the_command_that_gets_it_is_named(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match=f"cnnjax data prepare {NAME}"):
        cj.data.load(NAME, data_dir=tmp_path, image_size=(8, 8))
    (tmp_path / NAME).mkdir()  # a folder of one's own of that name, here
    with pytest.raises(FileNotFoundError, match="class folder"):
        cj.data.load(NAME, data_dir=tmp_path / "other", image_size=(8, 8))


def test_an_archive_put_by_hand_is_used_and_the_error_without_network_says_where(
    offer, server, nowhere, monkeypatch, tmp_path
):
    file = RawFile(nowhere, ARCHIVE, 9, "0" * 64)
    monkeypatch.setattr(building, "raw_files", lambda name: [file])
    with pytest.raises(DownloadError) as caught:
        prepare(NAME, data_dir=tmp_path)
    folder = tmp_path / "downloads" / "cats_vs_dogs"
    assert f"put the file by hand at {folder / ARCHIVE}, or Kaggle's train.zip beside it" in str(
        caught.value
    )
    assert "\n" not in str(caught.value)
    (folder / "train.zip").write_bytes(raw_files.archive(raw_files.numbered_photos("kaggle")))
    assert len(held(prepare(NAME, data_dir=tmp_path))) == 12


def test_too_few_photos(tmp_path):
    members = raw_files.numbered_photos("kaggle")
    file = by_hand(tmp_path, {n: c for n, c in members.items() if n != "train/dog.8.jpg"} | {
        "train/dog.9.jpg": b""
    })  # fmt: skip
    with pytest.raises(ValueError, match="holds 5 good photos of dogs, 6 are needed") as caught:
        prepare(NAME, data_dir=tmp_path)
    assert str(file) in str(caught.value)
    assert [p.name for p in tmp_path.iterdir()] == ["downloads"]  # and nothing half written


def damaged_zip() -> bytes:
    """One whose first photo has other bytes than its checksum says."""
    content = bytearray(raw_files.archive(raw_files.numbered_photos("kaggle")))
    start = content.index(b"train/cat.0.jpg") + len("train/cat.0.jpg")
    content[start + 50] ^= 0xFF
    return bytes(content)


def damaged_lzma() -> bytes:
    """Of another compression, with its properties overwritten."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_LZMA) as opened:
        opened.writestr("train/cat.0.jpg", bytes(500))
    content = bytearray(file.getvalue())
    start = content.index(b"train/cat.0.jpg") + len("train/cat.0.jpg")
    content[start + 4 : start + 30] = b"\xff" * 26
    return bytes(content)


def packed() -> bytes:
    """A photo of two megabytes of zeros, which the archive holds in two kilobytes."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as opened:
        opened.writestr("train/cat.0.jpg", bytes(2 << 20))
    return file.getvalue()


@pytest.mark.parametrize(
    ("members", "words"),
    [
        (damaged_zip, "is damaged: Bad CRC-32 for file 'train/cat.0.jpg'"),
        (damaged_lzma, "is damaged: "),
        (lambda: b"no archive", "is damaged: File is not a zip file"),
        (lambda: {"train/cat.0.jpg": b"", "PetImages/Cat/0.jpg": b""}, "holds cat 0 twice, as"),
        (lambda: {"../cat.0.jpg": b""}, "which leads out of its folder"),
        (packed, "has 2,097,152 bytes, at most 1,048,576 are due"),
        (lambda: {"train/cat.x.jpg": b""}, "holds 0 good photos of cats"),
    ],
    ids=["checksum", "lzma", "no_zip", "twice", "leads_out", "bomb", "no_numbers"],
)
def test_archives_that_are_not_what_they_should_be(tmp_path, monkeypatch, members, words):
    monkeypatch.setattr(raw, "_LARGEST_MEMBER", 1 << 20)
    by_hand(tmp_path, members())
    with pytest.raises(ValueError, match=words):
        prepare(NAME, data_dir=tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["downloads"]


def test_what_is_in_the_way_is_left_alone(tmp_path):
    mine = tmp_path / NAME / "cats" / "mine.jpg"
    mine.parent.mkdir(parents=True)
    mine.write_bytes(b"mine")
    with pytest.raises(ValueError, match=r"another one than would be prepared, without \w+/"):
        prepare(NAME, data_dir=tmp_path)
    assert mine.read_bytes() == b"mine"
