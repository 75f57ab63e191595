"""`cnnjax data show --export`: examples as files that can be read again, whatever classes hold."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import cnnjax as cj
from cnnjax.plot import export_examples

Output = tuple[str, str]


@pytest.fixture
def show(
    cnnjax: Callable[..., Output], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Callable[..., Output]:
    monkeypatch.chdir(tmp_path)
    return partial(cnnjax, "data", "show")


def test_digits_become_files_of_their_classes(show: Callable[..., Output], tmp_path: Path) -> None:
    out, err = show("digits", "--split", "test", "--per-class", "2", "--export", "there")
    assert (out, err) == ("there: 20 images of 10 classes\n", "")
    assert not (tmp_path / "figures").exists()
    test = cj.data.load("digits").test
    assert test is not None
    files = sorted((tmp_path / "there").rglob("*.png"))
    assert len(files) == 20
    for file in files:  # Pillow reads what the data set holds, at the position of the name
        assert test.labels[int(file.stem)] == int(file.parent.name)
        np.testing.assert_array_equal(Image.open(file), test.inputs[int(file.stem), ..., 0])


def test_a_folder_of_photos_is_exported_as_it_is_read(
    show: Callable[..., Output], tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    for name in ("ant", "a/b".replace("/", "\u2215"), "caf\u00e9"):
        (tmp_path / "mine" / name).mkdir(parents=True)
        for i in range(2):
            pixels = rng.integers(0, 256, (12, 10 + i, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "mine" / name / f"{i}.png")
    show("mine", "--image-size", "12", "10", "--export", "out", "--classes", "ant", "caf\u00e9")
    before = cj.data.load("./mine", image_size=(12, 10), class_names=["ant", "caf\u00e9"]).train
    again = cj.data.load("./out", image_size=(12, 10)).train
    assert again.label_names == ("ant", "caf\u00e9")
    np.testing.assert_array_equal(again.inputs[:], before.inputs[:])


def test_an_example_s_place_is_in_no_other_class(tmp_path: Path) -> None:
    images = np.arange(4, dtype=np.uint8).reshape(4, 1, 1, 1).repeat(8, 1).repeat(8, 2)
    names = ["../up", "Ant", "ant", "/"]
    written = export_examples(cj.data.from_arrays(images, [0, 1, 2, 3], names), tmp_path / "x")
    assert len({str(file.parent).lower() for file in written}) == 4
    for number, file in enumerate(written):
        assert file.parent.parent == tmp_path / "x"
        assert file.name == f"{number}.png"
        assert np.asarray(Image.open(file)).max() == number


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (("--export", "full"), "full is not empty: choose another folder to export to"),
        (("--export", "a.txt"), "[Errno 20] Not a directory: 'a.txt/0'"),
        (("--export", "x", "--out", "y.png"), "--out is a sheet of examples and --export a file"),
        (("--export", "x", "--classes", "ten"), "there is no class 'ten'. Known classes: 0, 1, 2"),
        (("--export", "x", "--per-class", "0"), "per_class must be a whole number >= 1, got 0"),
    ],
)
def test_what_cannot_be_exported_is_a_line(
    show: Callable[..., Output], tmp_path: Path, arguments: tuple[str, ...], error: str
) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "a.txt").write_text("mine")
    (tmp_path / "a.txt").write_text("mine")
    _, err = show("digits", *arguments, status=1)
    assert err.startswith(f"error: {error}")
    assert len(err.splitlines()) == 1
    assert not (tmp_path / "x").exists()
    assert (tmp_path / "full" / "a.txt").read_text() == "mine"


def test_texts_and_series_are_no_images(show: Callable[..., Output], tmp_path: Path) -> None:
    (tmp_path / "reviews.csv").write_text("text,label\n" + "a film,0\na play,1\n" * 3)
    _, err = show("reviews.csv", "--export", "x", status=1)
    assert err == "error: --export is for images, and reviews.csv holds texts: leave it out\n"
    rows = "".join(f"{k},{k * k}\n" for k in range(9))
    (tmp_path / "series.csv").write_text(f"a,b\n{rows}")
    _, err = show("series.csv", "--export", "x", status=1)
    assert err.startswith("error: ")
    assert len(err.splitlines()) == 1
    tokens = np.zeros((3, 8), np.int32)
    texts = cj.data.Dataset(tokens, np.zeros(3, np.int32), ("a",), "numbers of words")
    with pytest.raises(ValueError, match="only images with one class each are exported, not num"):
        export_examples(texts, tmp_path / "x")
    two = cj.data.Dataset(np.zeros((3, 4, 4, 2), np.uint8), np.zeros(3, np.int32), ("a",), "two")
    with pytest.raises(ValueError, match="has 1, 3 or 4 channels, and images of two have 2"):
        export_examples(two, tmp_path / "x")


def test_an_export_into_the_data_itself_is_refused(
    show: Callable[..., Output], tmp_path: Path
) -> None:
    for name in ("a", "b"):
        (tmp_path / "mine" / name).mkdir(parents=True)
        Image.fromarray(np.zeros((9, 9, 3), np.uint8)).save(tmp_path / "mine" / name / "0.png")
    _, err = show("mine", "--export", "mine/out", status=1)
    assert "lies in the folder of the data set, which it would change" in err
    assert err.endswith("give another place with --export\n")
