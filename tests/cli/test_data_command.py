"""`cnnjax data`: info, show and scan, their errors in one line, and what a scan costs."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from commands import python
from PIL import Image

import cnnjax as cj
from cnnjax.core import progress
from cnnjax.data import from_arrays
from cnnjax.plot import contact_sheet

Output = tuple[str, str]


@pytest.fixture
def data(
    cnnjax: Callable[..., Output], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Callable[..., Output]:
    """Runs an action in this process, in an empty folder, and checks its exit status."""
    monkeypatch.chdir(tmp_path)
    return partial(cnnjax, "data")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three classes of images of several sizes, and a bad file."""
    rng = np.random.default_rng(0)
    root = tmp_path / "my.photos"
    for name, count in (("ant", 3), ("bee", 2), ("cicada", 4)):
        (root / name).mkdir(parents=True)
        for i in range(count):
            pixels = rng.integers(0, 256, (20 + i, 30, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / name / f"{i}.png")
    (root / "bee" / "empty.png").touch()
    return root


# info


def test_info_of_the_embedded_digits(data: Callable[..., Output]) -> None:
    out, err = data("info", "digits")
    assert err == ""
    splits = cj.data.load("digits")
    assert out == f"digits: needs no files\n{cj.data.describe(splits)}\n"
    assert splits.test is not None
    assert splits.test.fingerprint in out


def test_info_of_a_folder(data: Callable[..., Output], folder: Path) -> None:
    out, err = data("info", folder, "--image-size", "8", "9")
    assert out.startswith(f"{folder}\nmy.photos train\n")
    assert ["images", "9,", "uint8", "8x9x3"] in [line.split() for line in out.splitlines()]
    assert "\npixels, fingerprint and cache are those of 8x9 (--image-size H W)\n" in out
    assert out.endswith("\nfiles set aside: 1\n  1 empty\n")
    assert err == f"reading 10 files in {folder}: which are images?\n"
    out, err = data("info", folder)
    assert "uint8 96x96x3" in out
    assert err == ""  # the scan is remembered


def test_info_of_an_npz_file(data: Callable[..., Output], tmp_path: Path) -> None:
    np.savez(tmp_path / "mine.npz", images=np.zeros((4, 5, 5), np.uint8), labels=[0, 1, 1, 1])
    out, _ = data("info", "mine.npz")
    assert out.startswith(f"{tmp_path / 'mine.npz'}\nmine.npz train\n")
    assert "1      3  75.0%\n" in out
    assert re.search("  repeated +3 equal", out)


def test_info_and_scan_of_a_table_of_images(
    data: Callable[..., Output], folder: Path, tmp_path: Path
) -> None:
    rows = [f"{file},{file.parent.name}\n" for file in sorted(folder.rglob("*.png"))]
    (tmp_path / "mine.csv").write_text("path,label\n" + "".join(rows))
    out, err = data("info", "mine.csv", "--image-size", "8", "9")
    assert out.startswith(f"{tmp_path / 'mine.csv'}\nmine.csv train\n")
    assert ["cicada", "4", "44.4%"] in [line.split() for line in out.splitlines()]
    assert out.endswith("\nfiles set aside: 1\n  1 empty\n")
    assert len(err.splitlines()) == 1
    out, _ = data("scan", "mine.csv")
    assert "train: 9 images" in out


def test_info_of_texts(data: Callable[..., Output], tmp_path: Path) -> None:
    rows = "".join(f"a film{' so long' * k},{k % 2}\n" for k in range(10))
    (tmp_path / "reviews.csv").write_text(f"text,label\n{rows}")
    out, err = data("info", "reviews.csv")
    assert re.search("  texts +10\n", out)
    assert "2 to 20, median 11" in out
    assert re.search("  vocabulary +4 different words\n", out)
    assert err == "reading the texts of reviews.csv\n"


@pytest.mark.parametrize("action", ["info", "show"])
def test_an_unknown_name_is_a_line_with_the_nearest(
    data: Callable[..., Output], action: str, tmp_path: Path
) -> None:
    _, err = data(action, "mnsit", "--data-dir", tmp_path / "none", status=1)
    assert len(err.splitlines()) == 1
    assert err.startswith("error: ")
    assert "'mnsit'" in err
    assert "'mnist'" in err


def test_an_image_size_that_cannot_be(data: Callable[..., Output], folder: Path) -> None:
    _, err = data("info", folder, "--image-size", "0", "9", status=1)
    assert "image_size must be (height, width), each >= 1" in err


# show


def test_show_draws_the_same_sheet_for_the_same_seed(
    data: Callable[..., Output], tmp_path: Path
) -> None:
    out, err = data("show", "digits", "--split", "test", "--per-class", "3")
    assert (out, err) == ("figures/digits-test.png\n", "")
    first = np.asarray(Image.open(tmp_path / out.strip()))
    for seed in (0, 1):
        data("show", "digits", "--split", "test", "--per-class", "3", "--seed", str(seed),
             "--out", f"{seed}.png")  # fmt: skip
    assert np.array_equal(first, Image.open("0.png"))
    assert not np.array_equal(first, Image.open("1.png"))


def test_show_of_a_folder_decodes_nothing_into_a_cache(
    data: Callable[..., Output], folder: Path
) -> None:
    out, _ = data("show", folder, "--classes", "cicada", "ant", "--per-class", "2")
    assert out == "figures/my.photos-train.png\n"
    images = cj.data.load(folder, image_size=(96, 96), memory_budget=0).train.inputs
    assert isinstance(images, cj.data.FileImages)
    assert not images.cache_folder.exists()


def test_show_of_texts_prints_them(data: Callable[..., Output], tmp_path: Path) -> None:
    (tmp_path / "reviews").mkdir()
    for name, text in (("bad", "dull\n and long"), ("good", "so " * 200)):
        (tmp_path / "reviews" / name).mkdir()
        (tmp_path / "reviews" / name / "0.txt").write_text(text)
    out, _ = data("show", "reviews")
    lines = out.splitlines()
    assert lines[:3] == ["bad (1)", "  dull and long", "good (1)"]
    assert lines[3] == "  " + ("so " * 100) + " ..."
    _, err = data("show", "reviews", "--out", "x.png", status=1)
    assert err == "error: --out is for images, and reviews holds texts: leave it out\n"
    _, err = data("show", "templates", "--split", "validation", status=1)
    assert err == "error: --split validation: templates has no such part, only train, test\n"


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (("--split", "tset"), "--split tset: digits has no such part, only train, test"),
        (("--per-class", "0"), "per_class must be a whole number >= 1, got 0"),
        (("--classes", "ten"), "there is no class 'ten'. Known classes: 0, 1, 2"),
        (("--out", "sheet.jpg"), "--out must be a .png file, got sheet.jpg"),
        (("--seed", "-1"), "seed must lie in [0, 2^32), got -1"),
    ],
)
def test_what_cannot_be_shown_is_a_line(
    data: Callable[..., Output], arguments: tuple[str, ...], error: str
) -> None:
    _, err = data("show", "digits", *arguments, status=1)
    assert err.startswith(f"error: {error}")
    assert len(err.splitlines()) == 1


# The sheet


def pixels_of(figure: object) -> np.ndarray:
    """The pixels of the image on the sheet's only axes."""
    (axes,) = figure.axes  # type: ignore[attr-defined]
    return np.asarray(axes.images[0].get_array())


def test_a_sheet_has_a_row_for_each_class_with_its_name_and_number() -> None:
    colours = np.array([(255, 0, 0), (0, 0, 255)], np.uint8)
    labels = np.array([0, 1, 0, 0, 1, 0])
    images = np.broadcast_to(colours[labels, None, None], (6, 48, 60, 3))
    figure = contact_sheet(from_arrays(images, labels, ["red", "blue"], "colours"), per_class=3)
    names = [text.get_text() for text in figure.axes[0].get_yticklabels()]
    assert names == ["red (4)", "blue (2)"]
    sheet = pixels_of(figure)
    assert sheet.shape == (2 * 48 + 4, 3 * 60 + 2 * 4, 3)
    for column in range(3):
        left = column * 64
        assert (sheet[:48, left : left + 60] == colours[0]).all()
        wanted = colours[1] if column < 2 else 255  # there are only two
        assert (sheet[52:, left : left + 60] == wanted).all()


@pytest.mark.parametrize(
    ("shape", "shown"),
    [
        ((28, 28, 1), (56, 56)), ((8, 8, 3), (48, 48)), ((60, 90, 3), (60, 90)),
        ((300, 150, 3), (96, 48)), ((2000, 1, 3), (96, 1)), ((48, 97, 1), (48, 96)),
    ],
)  # fmt: skip
def test_small_images_are_magnified_and_large_ones_reduced(
    shape: tuple[int, ...], shown: tuple[int, int]
) -> None:
    images = np.random.default_rng(0).integers(0, 256, (1, *shape), dtype=np.uint8)
    sheet = pixels_of(contact_sheet(from_arrays(images, [0])))
    assert sheet.shape[:2] == shown
    if shown[0] > shape[0]:
        times = shown[0] // shape[0]
        magnified = np.kron(images[0], np.ones((times, times, 1), np.uint8))
        assert np.array_equal(sheet, magnified[..., 0] if shape[2] == 1 else magnified)


def test_a_sheet_of_many_classes_stops_at_twenty_and_says_so() -> None:
    data = from_arrays(np.zeros((50, 4, 4, 1), np.uint8), np.arange(50) % 25, name="many")
    figure = contact_sheet(data)
    assert len(figure.axes[0].get_yticklabels()) == 20
    assert figure.get_suptitle() == "many: the first 20 of 25 classes"
    chosen = contact_sheet(data, classes=["24", "3"])
    assert [t.get_text() for t in chosen.axes[0].get_yticklabels()] == ["24 (2)", "3 (2)"]


def test_a_sheet_of_something_else_is_refused() -> None:
    with pytest.raises(ValueError, match="of images with one class each, not of templates"):
        contact_sheet(cj.data.load_texts("templates", length=8).train)


# scan


def test_a_scan_prints_the_scan_and_moves_a_bar(
    data: Callable[..., Output], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    moves: list[tuple[int, int | None]] = []

    @contextlib.contextmanager
    def recorded(name: str) -> Iterator[Callable[[int, int | None], object]]:
        yield lambda done, total: moves.append((done, total))

    monkeypatch.setattr(progress, "progress_bar", recorded)
    out, err = data("scan", folder)
    assert out == f"{cj.data.scan_folder(folder)}\n"
    assert "bee/empty.png: empty" in out
    assert err == f"reading 10 files in {folder}: which are images?\n"
    assert moves == [(10, 10)]


def test_a_sheet_of_no_examples_or_of_too_many_is_refused() -> None:
    images, labels = np.zeros((3, 60, 60, 1), np.uint8), np.array([0, 0, 2])
    with pytest.raises(ValueError, match="arrays has no example of 1"):
        contact_sheet(from_arrays(images, labels), classes=["1"])
    many = from_arrays(np.zeros((20_000, 60, 60), np.uint8), np.zeros(20_000, int))
    with pytest.raises(ValueError, match="per_class=20000 makes a sheet of 1,200,000 x 60 pixels"):
        contact_sheet(many, per_class=20_000)


def test_names_are_shown_as_they_are(
    data: Callable[..., Output], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for number, name in enumerate((r"$\frac$", "\u732b")):  # no formula; not in the font
        folder = tmp_path / "odd" / name
        folder.mkdir(parents=True)
        pixels = np.full((20, 20), 40 * number, np.uint8)
        Image.fromarray(pixels).save(folder / "a.png")
    data("show", "odd")
    assert (tmp_path / "figures" / "odd-train.png").stat().st_size > 500


@pytest.mark.slow
def test_a_scan_of_many_files_takes_little_memory(tmp_path: Path) -> None:
    """Of 20,000 files no more than 2 kB each over what a scan of 100 takes."""
    rng = np.random.default_rng(0)

    def peak(count: int) -> int:
        root = tmp_path / str(count)
        for k in range(10):
            (root / f"class {k}").mkdir(parents=True)
        for i in range(count):
            pixels = rng.integers(0, 256, (8, 8), dtype=np.uint8)
            Image.fromarray(pixels).save(root / f"class {i % 10}" / f"{i:05}.png")
        code = (
            "import resource, sys; from cnnjax import cli; cli.main(['data', 'scan', sys.argv[1]]);"
            "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
        )
        out = python("-c", code, root, CNNJAX_CACHE_DIR=str(tmp_path / "cache")).stdout
        assert f"train: {count:,} images" in out
        return int(out.splitlines()[-1])

    assert (peak(20_000) - peak(100)) * 1024 < 20_000 * 2_000


def test_shard_writes_what_load_reads(
    data: Callable[..., Output], folder: Path, tmp_path: Path
) -> None:
    pytest.importorskip("array_record")
    out, _ = data("shard", str(folder), "--examples-per-shard", "4")
    shards = tmp_path / "my.photos-shards"
    assert out == f"{shards}\n"
    assert len(list(shards.glob("train-*-of-00003.array_record"))) == 3
    files, records = (cj.data.load(path, image_size=(4, 4)).train for path in (folder, shards))
    assert records.fingerprint == files.fingerprint
    _, err = data("shard", str(folder), "--out", str(folder / "a"), status=1)
    assert "lies in the folder of the data set" in err
