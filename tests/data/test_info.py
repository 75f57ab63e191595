"""What is said of a data set, against NumPy, counts by hand and published figures."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from cnnjax.data import (
    Dataset,
    Splits,
    describe,
    describe_texts,
    from_arrays,
    holds_texts,
    load,
    load_texts,
    read_image,
    scan_folder,
)
from cnnjax.data import info as module
from cnnjax.data.examples import choose_examples
from cnnjax.data.info import set_aside_by_reason

RNG = np.random.default_rng(0)


def one_colour(*colours: tuple[int, int, int]) -> np.ndarray:
    """Images 2x3 of one colour each."""
    return np.stack([np.full((2, 3, 3), colour, np.uint8) for colour in colours])


RED, BLUE, GREY, WHITE = (255, 0, 0), (0, 0, 255), (51, 51, 51), (255, 255, 255)


# Images


def squeezed(description: object) -> list[str]:
    """Its lines, with single spaces between words."""
    return [" ".join(line.split()) for line in str(description).splitlines()]


def test_digits_as_numpy_finds_them() -> None:
    splits = load("digits")
    found = describe(splits)
    assert list(found.parts) == ["train", "test"]
    for name, data in splits.parts.items():
        part, pixels = found.parts[name], np.asarray(data.inputs) / 255
        assert (part.examples, part.shape, part.dtype) == (len(data), (28, 28, 1), "uint8")
        np.testing.assert_array_equal(part.counts, [(data.labels == k).sum() for k in range(10)])
        np.testing.assert_allclose(part.mean, pixels.mean(axis=(0, 1, 2)), rtol=1e-12)
        np.testing.assert_allclose(part.deviation, pixels.std(axis=(0, 1, 2)), rtol=1e-12)
        assert (part.low, part.high) == (data.inputs.min(), data.inputs.max())
        assert part.fingerprint == data.fingerprint
        assert (part.repeated, part.cache, part.formats) == (0, None, {})
    assert found.shared == {("train", "test"): 0}
    assert found.class_names == tuple("0123456789")


def test_colours_repeated_and_shared_images_by_hand() -> None:
    train = from_arrays(one_colour(RED, BLUE, RED, GREY), [0, 1, 0, 1], ["warm", "cold"], "mine")
    test = from_arrays(one_colour(WHITE, BLUE, BLUE), [0, 1, 1], ["warm", "cold"], "mine test")
    found = describe(Splits(train, test=test))
    part = found.parts["train"]
    np.testing.assert_allclose(part.mean, [0.55, 0.05, 0.3], rtol=1e-12)
    wanted = [np.std([1, 0, 1, 0.2]), np.std([0, 0, 0, 0.2]), np.std([0, 1, 0, 0.2])]
    np.testing.assert_allclose(part.deviation, wanted, rtol=1e-12)
    assert part.repeated == 1
    assert found.parts["test"].repeated == 1
    assert found.shared == {("train", "test"): 2}
    lines = squeezed(found)
    assert "images 4, uint8 2x3x3" in lines
    assert "mean 0.5500 0.0500 0.3000 (of values / 255)" in lines
    assert "duplicates between train and test: 2" in lines
    assert lines[-4:-1] == [
        "class train test",
        "warm 2 50.0% 1 33.3%",
        "cold 2 50.0% 2 66.7%",
    ]


def test_three_parts_are_compared_by_two() -> None:
    parts = [from_arrays(one_colour(RED, colour), [0, 1]) for colour in (BLUE, GREY, BLUE)]
    shared = describe(Splits(*parts)).shared
    assert shared == {
        ("train", "validation"): 1, ("train", "test"): 2, ("validation", "test"): 1,
    }  # fmt: skip


def test_floating_pixels_keep_their_range() -> None:
    images = RNG.uniform(10.25, 20.5, (7, 4, 4, 2)).astype(np.float32)
    part = describe(from_arrays(images, range(7))).parts["all"]
    assert (part.low, part.high, part.dtype) == (images.min(), images.max(), "float32")
    exact = images.astype(np.float64) / 255
    np.testing.assert_allclose(part.mean, exact.mean(axis=(0, 1, 2)), rtol=1e-12)
    np.testing.assert_allclose(part.deviation, exact.std(axis=(0, 1, 2)), rtol=1e-9)


def test_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    splits, ticks = load("digits"), []
    whole = str(describe(splits))
    monkeypatch.setattr(module, "_VALUES_AT_ONCE", 100 * 784)
    assert str(describe(splits, lambda done, total: ticks.append((done, total)))) == whole
    total = len(splits.train) + len(splits.test)
    assert [total for _, total in ticks] == [total] * 19
    done = [done for done, _ in ticks]
    assert done == sorted(set(done))
    assert done[-1] == total


def test_a_large_data_set_is_never_in_memory_as_floats() -> None:
    images = np.zeros((20_000, 32, 32, 3), np.uint8)
    data = from_arrays(images, np.arange(20_000) % 10)
    tracemalloc.start()
    found = describe(data)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found.parts["all"].repeated == 19_999
    assert peak < images.nbytes * 0.75  # as float64 it would be eight times that


def test_of_many_classes_the_extremes_are_shown() -> None:
    counts = np.full(100, 5)
    counts[[7, 8]] = 2, 9
    labels = np.repeat(np.arange(100), counts)
    data = from_arrays(np.zeros((len(labels), 1, 1, 1), np.uint8), labels)
    text = str(describe(data))
    assert "all: 100 classes of 2 to 9 examples, median 5" in text
    assert [line.split()[:2] for line in text.splitlines()[-6:]][::5] == [["7", "2"], ["8", "9"]]


def test_many_classes_of_one_size_take_a_line() -> None:
    data = from_arrays(np.zeros((42, 1, 1, 1), np.uint8), np.arange(42) % 21)
    assert "\nall: 21 classes of 2 examples each" in str(describe(data))


def test_labels_that_are_no_classes_have_no_balance() -> None:
    data = Dataset(np.zeros((3, 4, 4, 1), np.uint8), np.zeros((3, 2), np.int32), name="captchas")
    found = describe(data)
    assert found.parts["all"].counts is None
    assert found.class_names == ()
    assert "classes" not in str(found)


def test_only_images_are_described() -> None:
    with pytest.raises(ValueError, match=r"templates train holds texts: cj\.data\.describe_texts"):
        describe(load_texts("templates", length=8))
    series = Dataset(np.zeros((3, 4, 1), np.float32), np.zeros((3, 1), np.float32), name="waves")
    with pytest.raises(ValueError, match=r"describe is for images .* waves has \[3, 4, 1\]"):
        describe(series)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Six images of three sizes, one of them turned by its EXIF data, and five bad files."""
    root = tmp_path / "pets"
    for name, size in (("cat", (10, 20)), ("dog", (12, 30))):
        (root / name).mkdir(parents=True)
        for i in range(2):
            pixels = RNG.integers(0, 256, (*size, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / name / f"{i}.png")
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn
    turned = Image.fromarray(RNG.integers(0, 256, (40, 50, 3), dtype=np.uint8))
    turned.save(root / "cat" / "turned.JPG", exif=exif)
    for i in range(2):
        (root / "cat" / f"again{i}.png").write_bytes((root / "cat" / "0.png").read_bytes())
        (root / "dog" / f"empty{i}.png").touch()
    (root / "dog" / "page.jpg").write_text("<html></html>")
    return root


def test_files_of_a_folder_and_their_sizes(folder: Path) -> None:
    splits = load(folder, image_size=(6, 5), memory_budget=0)
    part = describe(splits).parts["train"]
    assert part.shape == (6, 5, 3)
    assert part.formats == {".png": 4, ".jpg": 1}
    assert part.heights == (10, 12, 50)
    assert part.widths == (20, 30, 40)
    pixels = splits.train.inputs[:] / 255
    np.testing.assert_allclose(part.mean, pixels.mean(axis=(0, 1, 2)), rtol=1e-12)
    lines = squeezed(describe(splits))
    assert "files 4 .png, 1 .jpg" in lines
    assert "sizes of files height 10 to 50, median 12; width 20 to 40, median 30" in lines


def test_the_cache_of_a_folder_is_named_before_and_after_it_is_there(folder: Path) -> None:
    def state(budget: int) -> tuple[Path | None, int, str]:
        found = describe(load(folder, image_size=(6, 5), memory_budget=budget))
        part = found.parts["train"]
        return part.cache, part.cache_bytes, str(found)

    place, size, text = state(0)
    assert place is not None
    assert size == 0
    assert not place.exists()
    assert f"not yet (will be {place})" in text
    again, size, text = state(10**6)
    assert again == place
    assert size == (place / "images.npy").stat().st_size > 5 * 6 * 5 * 3
    assert f"{place} (0.0 MiB)" in text
    fewer = load(folder, image_size=(6, 5), train_examples=3)
    assert describe(fewer).parts["train"].cache == place  # a part of the same file


def test_files_set_aside_are_counted_by_reason(folder: Path) -> None:
    assert set_aside_by_reason(scan_folder(folder)) == {
        "the same content as another": 2,
        "empty": 2,
        "not a readable image": 1,
    }


@pytest.mark.slow
def test_mnist_and_cifar10_have_the_published_statistics(tfds_dir: Path) -> None:
    """Mean and deviation as torchvision's examples normalise with, counts as LeCun's page has."""
    mnist = describe(load("mnist", data_dir=tfds_dir))
    train = mnist.parts["train"]
    assert train.counts is not None
    assert train.counts.tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert train.mean == pytest.approx([0.1307], abs=5e-5)
    assert train.deviation == pytest.approx([0.3081], abs=5e-5)
    assert train.cache is not None
    assert train.cache_bytes > 60_000 * 784
    assert mnist.shared == {("train", "test"): 0}
    # Its images were stored as JPEG, which moves the statistics a little.
    cifar10 = describe(load("cifar10", data_dir=tfds_dir)).parts["train"]
    assert cifar10.mean == pytest.approx([0.4914, 0.4822, 0.4465], abs=1e-3)
    assert cifar10.deviation == pytest.approx([0.2470, 0.2435, 0.2616], abs=2e-3)


# Texts


def test_made_up_reviews_as_the_vocabulary_counts_them() -> None:
    found = describe_texts("templates")
    splits = load_texts("templates", length=500)
    assert splits.train.vocabulary is not None
    for name, data in splits.parts.items():
        part = found.parts[name]
        lengths = (data.inputs > 1).sum(axis=1)
        assert part.examples == len(data)
        assert part.lengths == tuple(np.percentile(lengths, (0, 50, 95, 100)))
        np.testing.assert_array_equal(part.counts, np.bincount(data.labels))
        assert part.cache is None
    assert found.parts["train"].words == len(splits.train.vocabulary.words)
    assert found.class_names == ("neg", "pos")


def texts_in(root: Path, **parts: dict[str, list[str]]) -> Path:
    for part, classes in parts.items():
        for name, texts in classes.items():
            (root / part / name).mkdir(parents=True)
            for i, text in enumerate(texts):
                (root / part / name / f"{i}.txt").write_text(text)
    return root


def test_texts_in_files_by_hand(tmp_path: Path) -> None:
    root = texts_in(
        tmp_path / "reviews",
        train={"bad": ["dull", "so dull, so long"], "good": ["a film", "a film"]},
        test={"bad": ["dull"], "good": ["a lovely film"]},
    )
    found = describe_texts(root)
    train, test = found.parts["train"], found.parts["test"]
    assert train.lengths[::3] == (1, 4)
    assert train.lengths[1] == 2
    assert (train.words, test.words) == (5, 4)
    assert (train.repeated, test.repeated) == (1, 0)
    assert found.shared == {("train", "test"): 1}
    assert "vocabulary 5 different words" in squeezed(found)
    assert "duplicates between train and test: 1" in str(found)
    assert train.cache == ()
    assert "cache not yet" in squeezed(found)
    load_texts(root, length=4)
    load_texts(root, length=5)
    kept = describe_texts(root).parts["train"]
    assert kept.cache is not None
    assert len(kept.cache) == 2
    assert kept.cache_bytes > 0
    assert kept.fingerprint == train.fingerprint
    (root / "train" / "bad" / "0.txt").write_text("grey")
    changed = describe_texts(root).parts["train"]
    assert changed.fingerprint != train.fingerprint


@pytest.mark.slow
def test_imdb_has_its_known_duplicates(tfds_dir: Path) -> None:
    """96 and 199 reviews come again within the parts; 123 of the test part are trained on."""
    if not (tfds_dir / "imdb_reviews").is_dir():
        pytest.skip("needs real data: no imdb_reviews")
    found = describe_texts("imdb_reviews", data_dir=tfds_dir)
    assert [part.repeated for part in found.parts.values()] == [96, 199]
    assert found.shared == {("train", "test"): 123}


def test_texts_and_images_are_told_apart(folder: Path, tmp_path: Path) -> None:
    def table(name: str, header: str) -> Path:
        (tmp_path / name).write_text(f"{header}\n")
        return tmp_path / name

    reviews = texts_in(tmp_path / "reviews", train={"bad": ["dull"], "good": ["a film"]})
    assert holds_texts("templates")
    assert holds_texts(reviews)
    assert holds_texts(table("reviews.csv", "text,label"))
    assert not holds_texts("digits")
    assert not holds_texts("nothing of that name", tmp_path)
    assert not holds_texts(folder)
    assert not holds_texts(table("images.csv", "Path,label"))
    assert not holds_texts(tmp_path / "absent.csv")


def test_texts_of_tfds_are_told_apart(tfds_dir: Path) -> None:
    assert not holds_texts("mnist", tfds_dir)
    if (tfds_dir / "imdb_reviews").is_dir():
        assert holds_texts("imdb_reviews", tfds_dir)


# Examples


@settings(max_examples=20, deadline=None, derandomize=True)
@given(
    labels=st.lists(st.integers(0, 3), max_size=40),
    per_class=st.integers(1, 6),
    seed=st.integers(0, 2**32 - 1),
)
def test_examples_are_of_their_class_and_fewer_are_the_first_of_more(
    labels: list[int], per_class: int, seed: int
) -> None:
    numbers, names = np.array(labels, np.int32), "abcd"
    chosen = choose_examples(numbers, names, per_class, seed)
    more = choose_examples(numbers, names, per_class + 1, seed)
    assert list(chosen) == list(names)
    for k, name in enumerate(names):
        assert len(set(chosen[name])) == len(chosen[name]) == min(per_class, labels.count(k))
        assert (numbers[chosen[name]] == k).all()
        assert more[name][:per_class].tolist() == chosen[name].tolist()


def test_examples_depend_on_the_seed_and_not_on_the_other_classes() -> None:
    labels = np.repeat([0, 1], 50)
    first = choose_examples(labels, ("a", "b"), 5, seed=0)
    assert first["a"].tolist() != choose_examples(labels, ("a", "b"), 5, seed=1)["a"].tolist()
    alone = choose_examples(labels, ("a", "b"), 5, seed=0, classes=["b"])
    assert list(alone) == ["b"]
    assert alone["b"].tolist() == first["b"].tolist()


def test_examples_that_cannot_be() -> None:
    labels = np.array([0, 1])
    for number in (0, -1, 1.5, True):
        with pytest.raises(ValueError, match="per_class must be a whole number >= 1, got "):
            choose_examples(labels, ("cat", "dog"), number)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"no class 'dgo'\. Did you mean 'dog'\?"):
        choose_examples(labels, ("cat", "dog"), 1, classes=["dgo"])
    with pytest.raises(ValueError, match="a class is named twice: cat, cat"):
        choose_examples(labels, ("cat", "dog"), 1, classes=["cat", "cat"])


def test_a_image_with_illegible_exif_has_a_size(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        file = tmp_path / name / "a.jpg"
        grey = 90 if name == "cat" else 160
        Image.fromarray(np.full((12, 20, 3), grey, np.uint8)).save(file, exif=exif)
        file.write_bytes(file.read_bytes().replace(b"Exif\0\0MM\0*", b"Exif\0\0MMMM"))
    part = describe(load(tmp_path, image_size=(8, 8), memory_budget=0)).parts["train"]
    assert (part.heights, part.widths) == ((12, 12, 12), (20, 20, 20))


@pytest.mark.parametrize("orientation", [1, 3, 5, 6, 7, 8])
def test_the_sizes_of_rotated_tiffs_are_those_they_are_read_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, orientation: int
) -> None:
    monkeypatch.setenv("CNNJAX_CACHE_DIR", str(tmp_path / "cache"))
    for name in ("a/0.tif", "a/1.tif", "b/0.tif", "b/1.tif"):
        file = tmp_path / "data" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        pixels = RNG.integers(0, 256, (30, 70, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(file, tiffinfo={274: orientation})
    part = describe(load(tmp_path / "data", image_size=(8, 8))).parts["train"]
    sides = (70, 30) if orientation >= 5 else (30, 70)
    assert (part.heights, part.widths) == ((sides[0],) * 3, (sides[1],) * 3)
    assert read_image(tmp_path / "data/a/0.tif").shape[:2] == sides


def test_inputs_by_name_are_described_one_by_one():
    images, ages = np.zeros((2, 3, 3, 1), np.uint8), np.zeros((2, 1), np.float32)
    data = from_arrays({"photo": images, "age": ages}, [0, 1])
    with pytest.raises(ValueError, match=r"has several inputs by name \(photo, age\): .parts"):
        describe(data)
    assert describe(data.parts["photo"]).parts["all"].examples == 2


def test_images_with_labels_by_name_are_described_without_classes():
    data = from_arrays(np.zeros((2, 3, 3, 1)), {"kind": [0, 1], "size": [0.5, 1.5]})
    assert describe(data).parts["all"].counts is None
