"""Where data comes from: digits, .npz files, TFDS directories and the cache of decoded ones."""

import gzip
import io
import json
import os
import pickle
import re
import shutil
import struct
import subprocess
import sys
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from cnnjax.core.runtime import cache_directory
from cnnjax.data import (
    DataNotFound,
    how_to_get,
    load,
    prepared_names,
    read_idx,
    reload,
    tfds_directory,
)
from cnnjax.data.readers import digits, tfds, tfds_images

IMAGES = np.random.default_rng(0).integers(0, 256, (6, 8, 8), dtype=np.uint8)
LABELS = np.arange(6) % 3


# Digits, which come with the package.


def test_digits_are_scikit_learns():
    load_digits = pytest.importorskip("sklearn.datasets").load_digits
    original = load_digits()
    with np.load(Path(digits.__file__).with_name("digits.npz")) as ours:
        np.testing.assert_array_equal(ours["images"], original.images)
        np.testing.assert_array_equal(ours["labels"], original.target)
    splits = load("digits")
    assert (len(splits.train), len(splits.test), splits.validation) == (1438, 359, None)
    images = np.concatenate([splits.train.inputs, splits.test.inputs])[..., 0]
    labels = np.concatenate([splits.train.labels, splits.test.labels])
    assert (images.dtype, images.shape) == (np.uint8, (1797, 28, 28))
    # Every image lies nearest to an original of its own, as SciPy enlarges it, of its label.
    large = [ndimage.zoom(i, 3.5, order=1, grid_mode=True, mode="nearest") for i in original.images]
    a, b = images.reshape(1797, -1) / 255, np.stack(large).reshape(1797, -1) / 16
    distances = (a**2).sum(1)[:, None] + (b**2).sum(1)[None] - 2 * a @ b.T
    nearest = distances.argmin(axis=1)
    assert sorted(nearest) == list(range(1797))
    assert np.sqrt(distances.min(axis=1) / 784).max() < 0.06
    assert labels.tolist() == original.target[nearest].tolist()


def test_without_array_record_prepared_data_sets_are_refused(monkeypatch, tmp_path):
    (tmp_path / "mnist" / "3.0.1").mkdir(parents=True)
    (tmp_path / "mnist" / "3.0.1" / "dataset_info.json").write_text("{}")
    monkeypatch.setitem(sys.modules, "array_record.python", None)
    with pytest.raises(ValueError, match="TensorFlow Datasets need array_record, which is not ins"):
        load("mnist", data_dir=tmp_path)


def test_every_run_tests_on_the_same_digits():
    first, again = load("digits"), load("digits", validation=0.2, seed=5)
    assert again.test.fingerprint == first.test.fingerprint
    assert (len(again.train), len(again.validation)) == (1150, 288)
    other = load("digits", validation=0.2, seed=6)
    assert other.validation.fingerprint != again.validation.fingerprint


def test_a_validation_part_that_cannot_be_is_refused():
    with pytest.raises(ValueError, match=r"a fraction of 1\.5 of 1438 examples"):
        load("digits", validation=1.5)


@pytest.mark.parametrize("validation", ["0.1", True, np.nan])
def test_a_validation_part_that_is_no_number_is_refused(validation):
    with pytest.raises(ValueError, match=r"validation must be a number in \[0, 1\), got "):
        load("digits", validation=validation)


def test_a_part_of_the_training_data_leaves_the_others_as_they_are():
    whole = load("digits", validation=0.2, seed=5)
    few, more = (load("digits", validation=0.2, train_examples=n, seed=5) for n in (50, 200))
    assert (len(few.train), len(more.train)) == (50, 200)
    assert few.validation.fingerprint == whole.validation.fingerprint
    assert few.test.fingerprint == whole.test.fingerprint

    def image_list(data):
        return {image.tobytes() for image in data.inputs}

    assert image_list(few.train) < image_list(more.train) < image_list(whole.train)
    other = load("digits", train_examples=50, seed=6)
    assert other.train.fingerprint != load("digits", train_examples=50, seed=5).train.fingerprint
    assert few.train.name.endswith(", 50 of 1,150")


@pytest.mark.parametrize("count", [0, 1439])
def test_more_training_examples_than_there_are_is_refused(count):
    with pytest.raises(
        ValueError, match=rf"between 1 and 1438, as many as digits train has, got {count}"
    ):
        load("digits", train_examples=count)


def test_the_source_of_splits_makes_them_again(tmp_path):
    np.savez(tmp_path / "a.npz", images=IMAGES, labels=LABELS)
    ways = (
        load("digits"),
        load("digits", validation=0.2, train_examples=50, seed=5),
        load("digits").with_train_examples(100, 1).with_validation(0.1, 2),
        load(tmp_path / "a.npz", validation=0.5),
        load("digits").with_last_for_validation(0.2),
    )
    for splits in ways:
        again = reload(json.loads(json.dumps(splits.source)))
        assert {k: v.fingerprint for k, v in again.parts.items()} == {
            k: v.fingerprint for k, v in splits.parts.items()
        }
        assert again.source == json.loads(json.dumps(splits.source))
    with pytest.raises(ValueError, match=r"not one that cj\.data\.load leaves"):
        reload({"data": "digits", "steps": [["__init__", 1]]})


@pytest.mark.thorough
def test_images_stored_with_losses_are_called_so(tfds_dir):
    # The CIFAR-10 at hand was stored as JPEG by its source; MNIST is exact.
    if not (tfds_dir / "cifar10").is_dir():
        pytest.skip(f"needs real data: no {tfds_dir / 'cifar10'}")
    assert tfds_images.tfds_split(tfds_dir, "cifar10", "test").name == "cifar10 3.0.2 test, JPEG"
    assert tfds_images.tfds_split(tfds_dir, "mnist", "test").name == "mnist 3.0.1 test"


# Data that is not there.


@pytest.fixture
def no_tfds(monkeypatch):
    """TFDS would retry for minutes; it must not even be imported."""
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)


def test_data_sets_without_a_recipe_are_prepared_by_tensorflow():
    assert "cnnjax data prepare fashion_mnist" in how_to_get("fashion_mnist")
    assert "tfds.builder('svhn_cropped', file_format='array_record')" in how_to_get("svhn_cropped")


@pytest.mark.usefixtures("no_tfds")
def test_missing_data_fails_at_once_and_says_what_where_and_how(tmp_path):
    with pytest.raises(DataNotFound) as caught:
        load("mnist", data_dir=tmp_path)
    message = str(caught.value)
    assert f"data set 'mnist' was not found: looked in {tmp_path} (no data sets there)" in message
    assert "Prepare it once: cnnjax data prepare mnist" in message
    assert "--data-dir or TFDS_DATA_DIR" in message
    assert "--data digits" in message
    assert "\n" not in message


@pytest.mark.usefixtures("no_tfds")
def test_the_nearest_names_are_offered(tmp_path):
    with pytest.raises(DataNotFound, match=r"'mnits' was not found.*Did you mean 'mnist'"):
        load("mnits", data_dir=tmp_path)
    with pytest.raises(DataNotFound, match=r"Known data sets: digits, mnist, .*cifar10"):
        load("zzz", data_dir=tmp_path)


@pytest.mark.parametrize("name", ["", ".", "..", "pets/1.2.0", "photos/cats.zip"])
def test_what_is_neither_a_name_nor_a_file_is_refused(tiny, name):
    with pytest.raises(DataNotFound, match=re.escape(f"data set {name!r} ")):
        load(name, data_dir=tiny)


def test_a_record_file_that_is_cut_off_is_named(tiny, tmp_path, cache):
    shutil.copytree(tiny / "pets", tmp_path / "pets")
    (file,) = (tmp_path / "pets" / "1.2.0").glob("*train*record*")
    file.write_bytes(file.read_bytes()[:-5000])
    with pytest.raises(DataNotFound, match=r"1\.2\.0 is damaged \(.*\): delete it and prepare"):
        load("pets", data_dir=tmp_path)


def test_arrays_are_no_source():
    message = r"source must be a name or a path, got tuple: arrays go into cj\.fit .*from_arrays"
    with pytest.raises(ValueError, match=message):
        load((IMAGES, LABELS))


def test_what_is_there_is_offered(tiny):
    (tiny / "downloads").mkdir(exist_ok=True)
    assert prepared_names(tiny) == ["pets", "sizes", "texts", "transparent", "untrained"]
    assert prepared_names(tiny / "none") == []
    with pytest.raises(DataNotFound, match=r"which holds pets, sizes.*\. Did you mean 'pets'"):
        load("pest", data_dir=tiny)


def test_the_directory_is_the_argument_then_the_environment_then_home(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("TFDS_DATA_DIR", "/data/tfds")
    assert tfds_directory("~/here") == tmp_path / "here"
    assert tfds_directory() == Path("/data/tfds")
    monkeypatch.delenv("TFDS_DATA_DIR")
    assert tfds_directory() == tmp_path / "tensorflow_datasets"


# .npz files.


@pytest.mark.parametrize(
    ("train", "test"),
    [
        (("x_train", "y_train"), ("x_test", "y_test")),
        (("images", "labels"), ("test_images", "test_labels")),
        (("x", "y"), None),
    ],
)
@pytest.mark.parametrize("write", [np.savez, np.savez_compressed])
def test_npz_files(tmp_path, train, test, write):
    arrays = dict(zip(train, (IMAGES, LABELS), strict=True))
    if test:
        arrays |= dict(zip(test, (IMAGES[:2], LABELS[:2]), strict=True))
    write(tmp_path / "mine.npz", label_names=["a", "b", "c"], **arrays)
    splits = load(tmp_path / "mine.npz")
    assert splits.train.inputs[..., 0].tolist() == IMAGES.tolist()
    assert splits.train.labels.tolist() == LABELS.tolist()
    assert splits.train.label_names == ("a", "b", "c")
    assert splits.train.name == "mine.npz train"
    if test:
        assert splits.test.inputs[..., 0].tolist() == IMAGES[:2].tolist()
        assert splits.test.name == "mine.npz test"
    else:
        assert splits.test is None


def test_a_missing_npz_file_is_named(tmp_path):
    message = rf"data file {tmp_path}/none\.npz does not exist \(looked in {tmp_path}\)"
    with pytest.raises(DataNotFound, match=message):
        load(tmp_path / "none.npz")


def damaged(path):
    np.savez_compressed(path, x=IMAGES, y=LABELS)
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 0xFF
    path.write_bytes(content)


def cut_off(path):
    np.savez(path, x=IMAGES, y=LABELS)
    path.write_bytes(path.read_bytes()[:500])


def one_array(path):
    with path.open("wb") as file:
        np.save(file, IMAGES)


@pytest.mark.parametrize(
    "make",
    [
        lambda path: path.write_text("images, labels\n"),
        lambda path: path.write_bytes(b""),
        lambda path: np.savez(path, x=np.array([{"no": "pickles"}], object), y=[0]),
        damaged,
        cut_off,
        one_array,
    ],
    ids=["text", "empty", "pickles", "damaged", "cut off", "an .npy file"],
)
def test_what_is_no_npz_file_is_named(tmp_path, make):
    make(tmp_path / "bad.npz")
    with pytest.raises(ValueError, match=r"bad\.npz is not a readable \.npz file of plain arrays"):
        load(tmp_path / "bad.npz")


def test_a_flipped_byte_in_an_npz_file_is_an_error_or_harmless(tmp_path):
    path = tmp_path / "a.npz"
    np.savez_compressed(path, x=IMAGES, y=LABELS)
    content = path.read_bytes()

    def outcome():
        try:
            data = load(path).train
        except ValueError as error:
            return "a.npz" in str(error)
        return data.inputs[..., 0].tolist() == IMAGES.tolist() and list(data.labels) == list(LABELS)

    for position in range(0, len(content), 7):
        flipped = bytearray(content)
        flipped[position] ^= 0x55
        path.write_bytes(flipped)
        assert outcome(), position


def test_an_npz_file_of_other_arrays_is_told_what_it_holds(tmp_path):
    np.savez(tmp_path / "other.npz", photos=IMAGES, names=LABELS)
    message = r"other\.npz holds names, photos; expected x_train and y_train, or images and labels"
    with pytest.raises(ValueError, match=message):
        load(tmp_path / "other.npz")


def test_images_without_their_labels_are_named(tmp_path):
    np.savez(tmp_path / "half.npz", x_train=IMAGES, y_test=LABELS)
    with pytest.raises(ValueError, match=r"half\.npz .*y_train is missing beside x_train"):
        load(tmp_path / "half.npz")


def test_bad_arrays_of_an_npz_file_are_named_with_the_file(tmp_path):
    np.savez(tmp_path / "bad.npz", x=IMAGES, y=LABELS[:3])
    with pytest.raises(ValueError, match=r"bad\.npz train: 6 images but 3 labels"):
        load(tmp_path / "bad.npz")


def members(path, entries, method=zipfile.ZIP_DEFLATED):
    """A zip archive of members in their order, of which names may stand twice."""
    with warnings.catch_warnings(), zipfile.ZipFile(path, "w", method) as archive:
        warnings.simplefilter("ignore")
        for name, content in entries:
            archive.writestr(name, content)


def array_bytes(array):
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def announcing(header):
    return b"\x93NUMPY\1\0" + struct.pack("<H", len(header)) + header.encode() + b"abc"


HUGE = announcing("{'descr': '|u1', 'fortran_order': False, 'shape': (99999999999999,)}")
IMAGES_NPY, LABELS_NPY = array_bytes(IMAGES), array_bytes(LABELS)


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        (
            [("x.npy", IMAGES_NPY), ("y.npy", LABELS_NPY), ("x.npy", IMAGES_NPY)],
            "the array 'x' is there twice",
        ),
        (
            [("x.npy", IMAGES_NPY), ("y.npy", LABELS_NPY), ("y", LABELS_NPY)],
            "the array 'y' is there twice",
        ),
        (
            [("x.npy", IMAGES_NPY), ("y.npy", LABELS_NPY), *((f"{i}", b"") for i in range(1000))],
            "it has 1,002 members, more than 1,000",
        ),
        (
            [("x.npy", HUGE), ("y.npy", LABELS_NPY)],
            r"'x' announces \|u1 \[99999999999999\], and has",
        ),
        (
            [("x.npy", IMAGES_NPY), ("y.npy", LABELS_NPY), ("label_names.npy", LABELS_NPY[:-3])],
            "'label_names' announces",
        ),
        (
            [("x.npy", IMAGES_NPY), ("y.npy", LABELS_NPY), ("label_names.npy", array_bytes("ab"))],
            r"label_names must be \[K\], got \[\]",
        ),
        ([("x.npy", announcing("{(,}")), ("y.npy", LABELS_NPY)], "'x' has a damaged header"),
    ],
)
def test_npz_files_with_malformed_members_are_named(tmp_path, entries, message):
    members(tmp_path / "bad.npz", entries)
    with pytest.raises(ValueError, match=message) as caught:
        load(tmp_path / "bad.npz")
    assert "\n" not in str(caught.value)


def test_a_bomb_is_not_unpacked(tmp_path, monkeypatch):
    monkeypatch.setattr("cnnjax.data.readers.npz._LEAST_BOMB", 1 << 20)
    zeros = np.zeros((6, 1024, 1024), np.uint8)
    np.savez_compressed(tmp_path / "a.npz", x=zeros, y=LABELS)
    with pytest.raises(ValueError, match=r"bytes would unpack to 6,291,.*: it is no data"):
        load(tmp_path / "a.npz")
    head = b"\0\0\x08\3" + struct.pack(">3I", *zeros.shape)
    file = tmp_path / "train-images-idx3-ubyte.gz"
    file.write_bytes(gzip.compress(head + zeros.tobytes()))
    with pytest.raises(
        ValueError, match=r"announces \[6, 1024, 1024\]: its .* would unpack to 6,29"
    ):
        read_idx(file)
    file.write_bytes(gzip.compress(head[:4] + b"\xff" * 12 + zeros.tobytes()))
    with pytest.raises(ValueError, match=r"announces \[4294967295, .* and holds only"):
        read_idx(file)
    file.write_bytes(gzip.compress(head[:4] + struct.pack(">3I", 1, 2, 3) + zeros.tobytes()))
    with pytest.raises(ValueError, match=r"announces \[1, 2, 3\], 6 bytes, and holds more"):
        read_idx(file)


def test_class_names_of_bytes_are_texts_and_labels_are_whole_numbers(tmp_path):
    file = tmp_path / "a.npz"
    names = np.array([b"caf\xc3\xa9", b"b", b"c"])
    np.savez(file, x=IMAGES, y=LABELS.astype(np.float64), label_names=names)
    splits = load(file)
    assert splits.train.label_names == ("caf\u00e9", "b", "c")
    assert splits.train.labels.tolist() == LABELS.tolist()
    for labels, message in (
        (np.where(LABELS > 0, np.nan, 0.0), "labels must be whole numbers, got float64"),
        (LABELS - 1.0, r"labels must be >= 0, got -1\.0"),
        (LABELS.astype(str), "labels must be whole numbers, got <U"),
        (LABELS * 1j, "labels must be whole numbers, got complex"),
    ):
        np.savez(file, x=IMAGES, y=labels)
        with pytest.raises(ValueError, match=message):
            load(file)
    np.savez(file, x=IMAGES, y=LABELS + 0.5, label_names=names)
    with pytest.raises(ValueError, match=r"3 label_names do not fit labels \[N, 1\]"):
        load(file)


# TFDS directories, written by TFDS itself.


def encoded(pixels):
    file = io.BytesIO()
    (pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)).save(file, "PNG")
    return file.getvalue()


def prepare(folder, dataset, features, splits):
    """A TFDS directory: {split: [(image or text, label), ...]}."""
    import tensorflow_datasets as tfds_library

    class Builder(tfds_library.core.GeneratorBasedBuilder, skip_registration=True):
        name = dataset
        VERSION = tfds_library.core.Version("1.2.0")

        def _info(self):
            kinds = tfds_library.features.FeaturesDict(features(tfds_library.features))
            return tfds_library.core.DatasetInfo(builder=self, features=kinds)

        def _split_generators(self, manager):
            return {split: self._generate_examples(records) for split, records in splits.items()}

        def _generate_examples(self, records):
            yield from enumerate(records)

    builder = Builder(data_dir=str(folder), file_format="array_record")
    builder.download_and_prepare()
    return folder / dataset / "1.2.0"


def classes(features):
    return {"image": features.Image(), "label": features.ClassLabel(names=["cat", "dog"])}


def clear_classes(features):
    return {**classes(features), "image": features.Image(shape=(None, None, 4))}


COLOURS = np.random.default_rng(1).integers(0, 256, (9, 6, 5, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A TFDS directory with a data set of 9 colour images, and one of images of two sizes."""
    folder = tmp_path_factory.mktemp("tfds")
    records = [{"image": encoded(c), "label": i % 2} for i, c in enumerate(COLOURS)]
    prepare(folder, "pets", classes, {"train": records[:7], "test": records[7:]})
    sizes = [records[0], {"image": encoded(COLOURS[1, :4]), "label": 1}]
    prepare(folder, "sizes", classes, {"train": sizes})

    def text(features):
        return {"text": features.Text(), "label": features.ClassLabel(num_classes=2)}

    prepare(folder, "texts", text, {"train": [{"text": "a film", "label": 1}]})
    clear = Image.fromarray(COLOURS[0]).convert("RGBA")
    prepare(
        folder, "transparent", clear_classes, {"train": [{"image": encoded(clear), "label": 0}]}
    )
    prepare(folder, "untrained", classes, {"test": records[:2]})
    return folder


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("CNNJAX_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


def as_pairs(data):
    return sorted(
        (image.tobytes(), int(y)) for image, y in zip(data.inputs, data.labels, strict=True)
    )


PAIRS = sorted((c.tobytes(), i % 2) for i, c in enumerate(COLOURS[:7]))


@pytest.mark.usefixtures("cache")
def test_a_tfds_directory_is_read_without_tensorflow(tiny):
    told = []
    splits = load("pets", data_dir=tiny, progress=told.append)
    assert as_pairs(splits.train) == PAIRS
    assert (len(splits.test), splits.validation) == (2, None)
    assert splits.train.label_names == ("cat", "dog")
    assert splits.train.name == "pets 1.2.0 train"
    assert [line.split(",")[0] for line in told] == [
        "decoding pets train once",
        "decoding pets test once",
    ]
    assert "tensorflow" not in sys.modules


def test_the_second_opening_maps_the_cache(tiny, cache, monkeypatch):
    first = load("pets", data_dir=tiny)
    monkeypatch.setattr(tfds_images, "_decode", None)  # calling it would be an error
    told = []
    again = load("pets", data_dir=tiny, progress=told.append)
    assert isinstance(again.train.inputs, np.memmap)
    assert Path(again.train.inputs.filename).is_relative_to(cache)
    assert again.train.fingerprint == first.train.fingerprint
    assert not told


@pytest.mark.usefixtures("cache")
@pytest.mark.parametrize("options", [{}, {"image_size": (4, 7)}])
def test_beyond_the_budget_images_stay_in_their_records(tiny, cache, options):
    told = []
    lazy = load("pets", data_dir=tiny, memory_budget=100, progress=told.append, **options)
    assert [line.partition(" of ")[0] for line in told] == [
        "7 images", "reading the labels",
        "2 images", "reading the labels",
    ]  # fmt: skip
    assert not list(cache.rglob("images.npy"))
    again = load("pets", data_dir=tiny, memory_budget=0, progress=told.append, **options).train
    assert len(told) == 4  # the labels are kept
    kept = load("pets", data_dir=tiny, **options).train
    assert isinstance(kept.inputs, np.memmap)
    np.testing.assert_array_equal(lazy.train.inputs[:], kept.inputs)
    np.testing.assert_array_equal(lazy.train.labels, kept.labels)
    assert lazy.train.name == kept.name
    assert again.fingerprint == lazy.train.fingerprint != lazy.test.fingerprint
    part = pickle.loads(pickle.dumps(lazy.train.subset(np.array([5, 2])).subset(slice(1, 2))))
    np.testing.assert_array_equal(part.inputs[0], kept.inputs[2])


@pytest.mark.usefixtures("cache")
def test_beyond_the_budget_an_image_of_another_size_is_named(tiny):
    images = load("sizes", data_dir=tiny, memory_budget=0).train.inputs
    with pytest.raises(ValueError, match=r"train, image \d.* first image .* give image_size="):
        images[:]


@pytest.mark.usefixtures("cache")
def test_the_cache_cannot_be_written_through(tiny):
    images = load("pets", data_dir=tiny).train.inputs
    with pytest.raises(ValueError, match="read-only"):
        images[0] = 0


def truncated(folder):
    content = (folder / "images.npy").read_bytes()
    (folder / "images.npy").write_bytes(content[:-10])


def of_other_length(folder):
    np.save(folder / "labels.npy", np.zeros(3, np.int32))


def other_labels(folder):
    labels = np.load(folder / "labels.npy")
    np.save(folder / "labels.npy", labels[::-1])


@pytest.mark.parametrize(
    "damage",
    [
        truncated,
        of_other_length,
        lambda folder: (folder / "labels.npy").write_bytes(b""),
        lambda folder: (folder / "images.npy").write_bytes(b"no array at all"),
        lambda folder: (folder / "labels.npy").unlink(),
        other_labels,
        lambda folder: (folder / "encoding.txt").write_text("GIF"),
    ],
    ids=["truncated", "length", "empty", "garbage", "missing", "other labels", "other encoding"],
)
def test_a_damaged_cache_is_built_anew(tiny, cache, damage):
    load("pets", data_dir=tiny)
    (folder,) = (cache / "data" / "pets").glob("*-train-*")
    damage(folder)
    told = []
    splits = load("pets", data_dir=tiny, progress=told.append)
    assert as_pairs(splits.train) == PAIRS
    assert len(told) == 1
    assert told[0].startswith("decoding pets train anew, since the cache is damaged, into ")
    load("pets", data_dir=tiny, progress=told.append)
    assert len(told) == 1


@pytest.mark.usefixtures("cache")
def test_a_newer_version_is_taken_and_cached_apart(tmp_path):
    for version, image_list in (("1.9.0", COLOURS[:2]), ("1.10.0", COLOURS[2:5])):
        records = [{"image": encoded(c), "label": 0} for c in image_list]
        made = prepare(tmp_path / version, "pets", classes, {"train": records})
        target = tmp_path / "all" / "pets" / version
        target.parent.mkdir(parents=True, exist_ok=True)
        info = (made / "dataset_info.json").read_text()
        (made / "dataset_info.json").write_text(info.replace("1.2.0", version))
        made.rename(target)
        splits = load("pets", data_dir=tmp_path / "all")
        assert splits.train.name == f"pets {version} train"
        assert len(splits.train) == len(image_list)
        assert splits.test is None


BOTH_AT_ONCE = """
import sys, time
from pathlib import Path
import numpy as np
from cnnjax.data import load
from cnnjax.data.readers.tfds_images import _build_cache, _open_cache, _Images

meeting, me, tiny = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
images, labels = np.full((50, 8, 8, 1), 7, np.uint8), np.arange(50, dtype=np.int32)

def meet(round):
    (meeting / f"{round}-{me}").touch()
    while len(list(meeting.glob(f"{round}-*"))) < 2:
        time.sleep(0.001)

for round in range(20):
    meet(round)
    target = meeting / "built" / str(round)
    _build_cache(target, _Images(images.shape, "PNG", iter([(images, labels)])))
    found = _open_cache(target)
    assert found is not None and found[0].tobytes() == images.tobytes()
meet("load")
print(load("pets", data_dir=tiny).train.fingerprint)
"""


@pytest.mark.thorough
def test_two_processes_may_build_the_cache_at_once(tiny, cache, tmp_path):
    (tmp_path / "meeting").mkdir()
    arguments = [sys.executable, "-c", BOTH_AT_ONCE, str(tmp_path / "meeting")]
    processes = [
        subprocess.Popen(
            [*arguments, name, str(tiny)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for name in ("a", "b")
    ]
    outputs = [process.communicate(timeout=120) for process in processes]
    assert [p.returncode for p in processes] == [0, 0], outputs
    fingerprints = {out.split()[-1] for out, _ in outputs}
    assert fingerprints == {load("pets", data_dir=tiny).train.fingerprint}
    left = {p.name for p in (tmp_path / "meeting" / "built").iterdir()}
    assert left == {str(i) for i in range(20)}
    assert len(list((cache / "data" / "pets").iterdir())) == 2  # train and test, nothing half-built


@pytest.mark.usefixtures("cache")
@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        (
            "texts",
            ValueError,
            r"texts/1\.2\.0 holds no images for classification: a data set of 'ima",
        ),
        (
            "transparent",
            ValueError,
            "image 0 of 'train' has the mode RGBA, neither 8-bit grey nor RGB",
        ),
        (
            "sizes",
            ValueError,
            r"image 1 of 'train' has shape .* the first one has .*: give image_size=\(height, w",
        ),
        ("untrained", DataNotFound, "data set 'untrained' in .* has no split 'train'"),
    ],
)
def test_data_sets_that_do_not_fit_are_named(tiny, name, error, message):
    with pytest.raises(error, match=message):
        load(name, data_dir=tiny)


@pytest.mark.parametrize("settings", [{"channels": 1}, {"resize": "crop"}, {"decoder": "fast"}])
def test_images_of_several_sizes_are_read_as_those_of_folders_are(tiny, cache, tmp_path, settings):
    """Against PNG files of the same images, which `Decoding` reads."""
    if settings.get("decoder") == "fast":
        pytest.importorskip("simplejpeg")
    splits = load("sizes", data_dir=tiny, image_size=(4, 7), **settings)
    assert isinstance(splits.train.inputs, np.memmap)
    assert Path(splits.train.inputs.filename).is_relative_to(cache)
    for name, pixels in (("cat", COLOURS[0]), ("dog", COLOURS[1, :4])):
        (tmp_path / "own" / name).mkdir(parents=True)
        Image.fromarray(pixels).save(tmp_path / "own" / name / "a.png")
    files = load(tmp_path / "own", image_size=(4, 7), **settings).train
    pairs = sorted(
        (i.tobytes(), int(y)) for i, y in zip(files.inputs[:], files.labels, strict=True)
    )
    assert as_pairs(splits.train) == pairs
    again = reload(json.loads(json.dumps(splits.source)), data_dir=tiny)
    assert again.train.fingerprint == splits.train.fingerprint
    assert again.source == splits.source
    assert splits.source["images"]["image_size"] == [4, 7]
    other = load("sizes", data_dir=tiny, image_size=(4, 6), **settings)  # has a cache of its own
    assert other.train.input_shape[:2] == (4, 6)


@pytest.mark.usefixtures("cache")
def test_a_declared_size_stays_as_it_is(tmp_path):
    def declared(features):
        return {**classes(features), "image": features.Image(shape=(6, 5, 3))}

    records = [{"image": encoded(c), "label": i % 2} for i, c in enumerate(COLOURS)]
    parts = {"train": records[:4], "validation": records[4:7], "test": records[7:]}
    prepare(tmp_path, "sized", declared, parts)
    splits = load("sized", data_dir=tmp_path, image_size=(28, 28), channels=1)
    assert {k: v.inputs.shape for k, v in splits.parts.items()} == {
        **{"train": (4, 6, 5, 3), "validation": (3, 6, 5, 3), "test": (2, 6, 5, 3)}
    }
    assert splits.source == {"data": "sized"}


@pytest.mark.usefixtures("cache")
@pytest.mark.parametrize("size", [None, (4, 4)])
def test_a_broken_image_of_a_data_set_is_named(tmp_path, size):
    broken = {"image": encoded(COLOURS[1])[:60], "label": 0}
    records = [{"image": encoded(COLOURS[0]), "label": 0}, broken]
    prepare(tmp_path, "broken", classes, {"train": records})
    with pytest.raises(ValueError, match=r"image [01] of 'train'.* not .*readable"):
        load("broken", data_dir=tmp_path, image_size=size)


def test_an_unfinished_directory_is_named(tmp_path):
    (tmp_path / "mnist" / "3.0.1.incomplete").mkdir(parents=True)
    with pytest.raises(DataNotFound, match=r"'mnist' in .* is incomplete: no version with a datas"):
        load("mnist", data_dir=tmp_path)


def test_a_damaged_description_is_named(tmp_path):
    (tmp_path / "mnist" / "3.0.1").mkdir(parents=True)
    (tmp_path / "mnist" / "3.0.1" / "dataset_info.json").write_text("{")
    message = r"3\.0\.1 is damaged \(dataset_info\.json: .*\): delete it and prepare it again"
    with pytest.raises(DataNotFound, match=message):
        load("mnist", data_dir=tmp_path)


@pytest.mark.usefixtures("cache")
def test_of_several_configurations_one_must_be_chosen(tmp_path, tiny):
    for configuration in ("small", "large"):
        shutil.copytree(tiny / "pets", tmp_path / "animals" / configuration)
    message = "several configurations: choose one of animals/large, animals/small"
    with pytest.raises(DataNotFound, match=message):
        load("animals", data_dir=tmp_path)


def test_a_cache_that_cannot_be_written_is_done_without(tmp_path, tiny, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("CNNJAX_CACHE_DIR", str(tmp_path / "file" / "cache"))
    told = []
    assert as_pairs(load("pets", data_dir=tiny, progress=told.append).train) == PAIRS
    assert told[0] == "decoding pets train into memory: the cache is not writable"


def test_tfrecord_files_are_refused_with_the_remedy(tmp_path):
    folder = tmp_path / "mnist" / "3.0.1"
    folder.mkdir(parents=True)
    (folder / "dataset_info.json").write_text('{"splits": [{"name": "train"}]}')
    features = {"featuresDict": {"features": {"image": {}, "label": {}}}}
    (folder / "features.json").write_text(json.dumps(features))
    (folder / "mnist-train.tfrecord-00000-of-00001").touch()
    message = r"no array_record files for the split 'train' .*file_format='array_record'"
    with pytest.raises(DataNotFound, match=message):
        load("mnist", data_dir=tmp_path)


@pytest.mark.parametrize("text", ["cat\ndog\n", "cat\ndog"])
def test_label_names_are_read_with_and_without_a_last_newline(tmp_path, text):
    (tmp_path / "label.labels.txt").write_text(text)
    assert tfds.label_names(tmp_path) == ("cat", "dog")


# The real thing.


@pytest.mark.thorough
def test_mnist(tfds_dir):
    splits = load("mnist", data_dir=tfds_dir)
    train, test = splits.train, splits.test
    assert (train.inputs.shape, test.inputs.shape) == ((60_000, 28, 28, 1), (10_000, 28, 28, 1))
    assert train.inputs.dtype == np.uint8
    assert train.label_names == tuple("0123456789")
    # Known facts of MNIST.
    assert np.bincount(train.labels).tolist() == [
        5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949,
    ]  # fmt: skip
    assert np.bincount(test.labels).tolist() == [
        980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009,
    ]  # fmt: skip
    assert train.inputs.mean() / 255 == pytest.approx(0.1306604762738429, rel=1e-9)
    assert Path(train.inputs.filename).is_relative_to(cache_directory())


@pytest.mark.thorough
def test_mnist_is_decoded_once_only(tfds_dir, monkeypatch):
    load("mnist", data_dir=tfds_dir)
    monkeypatch.setattr(tfds_images, "_decode", None)
    monkeypatch.setenv("TFDS_DATA_DIR", os.fspath(tfds_dir))
    assert isinstance(load("mnist").train.inputs, np.memmap)
