"""Data sets of arrays: what is accepted, what is refused, how they are split."""

import hashlib
import json
import re
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cnnjax.data import Dataset, Splits, from_arrays

IMAGES = np.arange(4 * 5 * 6, dtype=np.uint8).reshape(4, 5, 6, 1)


def test_arrays_are_kept_as_they_are():
    data = from_arrays(IMAGES, [0, 2, 1, 2], ("a", "b", "c"), "mine")
    assert (len(data), data.input_shape, data.name) == (4, (5, 6, 1), "mine")
    assert data.label_names == ("a", "b", "c")
    assert data.inputs.dtype == np.uint8
    assert data.inputs.tolist() == IMAGES.tolist()
    assert (data.labels.dtype, data.labels.tolist()) == (np.int32, [0, 2, 1, 2])


def test_grey_images_get_a_channel():
    assert from_arrays(IMAGES[..., 0], [0, 1, 2, 3]).inputs.tolist() == IMAGES.tolist()


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_floating_images_become_float32(dtype):
    data = from_arrays(IMAGES.astype(dtype), [0, 1, 2, 3])
    assert data.inputs.dtype == np.float32
    assert data.inputs.tolist() == IMAGES.tolist()


@pytest.mark.parametrize(
    "labels",
    [
        [3, 0, 1, 1],
        np.array([[3], [0], [1], [1]]),
        np.float64([3, 0, 1, 1]),
        np.uint8([3, 0, 1, 1]),
        np.eye(4)[[3, 0, 1, 1]],
        np.eye(4, dtype=bool)[[3, 0, 1, 1]],
    ],
    ids=["list", "column", "floats", "uint8", "one-hot", "one-hot bool"],
)
def test_labels_become_int32(labels):
    data = from_arrays(IMAGES, labels)
    assert (data.labels.dtype, data.labels.tolist()) == (np.int32, [3, 0, 1, 1])


def test_boolean_labels_are_two_classes():
    assert from_arrays(IMAGES, [True, False, True, True]).labels.tolist() == [1, 0, 1, 1]


def test_label_names_may_be_an_array():
    data = from_arrays(IMAGES, [0, 1, 0, 1], np.array(["cat", "dog"]))
    assert data.label_names == ("cat", "dog")


NAN, INFINITE = IMAGES.astype(np.float32), IMAGES.astype(np.float64)
NAN[2, 0, 0, 0], INFINITE[3, 1, 1, 0] = np.nan, np.inf


@pytest.mark.parametrize(
    ("images", "labels", "names", "message"),
    [
        (IMAGES[0, ..., 0], [0], (), r"mine: images must be \[N, H, W, C\], got shape \[5, 6\]"),
        (IMAGES[None], [0], (), r"images must be \[N, H, W, C\], got shape \[1, 4, 5, 6, 1\]"),
        (
            IMAGES.astype(np.int64),
            [0] * 4,
            (),
            "images must be uint8, uint16, int16 or floating, got int64",
        ),
        (
            IMAGES.astype("U3"),
            [0] * 4,
            (),
            "images must be uint8, uint16, int16 or floating, got <U3",
        ),
        (NAN, [0] * 4, (), r"mine: images\[2\] holds NaN or infinity"),
        (INFINITE, [0] * 4, (), r"mine: images\[3\] holds NaN or infinity"),
        (IMAGES, [0, 1, 2], (), "mine: 4 images but 3 labels"),
        (IMAGES[:0], [], (), "mine: the data set is empty"),
        ([], [], (), "mine: the data set is empty"),
        (IMAGES[:0].astype(np.float32), [], (), "mine: the data set is empty"),
        (IMAGES, [0, 1, -1, 2], (), "mine: labels must be >= 0, got -1"),
        (IMAGES, [0, np.nan, 1, 2], (), "mine: labels must be whole numbers, got float64"),
        (IMAGES, [0, 2**31, 1, 2], (), "mine: labels must be below 2"),
        (IMAGES, [0, np.inf, 1, 2], (), "mine: labels must be whole numbers"),
        (IMAGES, ["a", "b", "a", "c"], (), "mine: labels must be whole numbers, got <U1"),
        (IMAGES, np.ones((4, 3)), (), "mine: two-dimensional labels must be one-hot rows"),
        (IMAGES, np.eye(4) * 2, (), "two-dimensional labels must be one-hot rows of 0 and 1"),
        (IMAGES, np.zeros((4, 1, 1)), (), r"labels must be \[N\] or one-hot .*got \[4, 1, 1\]"),
        (IMAGES, [0, 1, 2, 1], ("a", "b"), "mine: label 2 has no name, there are 2 label_names"),
    ],
)
def test_bad_arrays_are_named(images, labels, names, message):
    with pytest.raises(ValueError, match=message):
        from_arrays(images, labels, names, "mine")


def test_the_fingerprint_is_a_hash_of_images_and_labels():
    digest = hashlib.sha256()
    for array in (IMAGES, np.int32([0, 1, 2, 3])):
        digest.update(f"{array.dtype.str}{array.shape}".encode() + array.tobytes())
    data = from_arrays(IMAGES, [0, 1, 2, 3])
    assert data.fingerprint == digest.hexdigest()[:16]


def test_the_fingerprint_sees_one_pixel_and_one_label_but_not_the_name():
    base = from_arrays(IMAGES, [0, 1, 2, 3], name="a").fingerprint
    assert from_arrays(IMAGES, [0, 1, 2, 3], name="b").fingerprint == base
    assert from_arrays(IMAGES, [0, 1, 2, 2]).fingerprint != base
    changed = IMAGES.copy()
    changed[3, 4, 5, 0] ^= 1
    assert from_arrays(changed, [0, 1, 2, 3]).fingerprint != base
    assert from_arrays(IMAGES.astype(np.float32), [0, 1, 2, 3]).fingerprint != base


def test_the_fingerprint_covers_data_of_several_chunks():
    images = np.zeros((9000, 1, 1, 1), np.uint8)
    fingerprints = set()
    for position in (0, 4095, 4096, 8999):
        changed = images.copy()
        changed[position] = 1
        fingerprints.add(from_arrays(changed, np.zeros(9000, int)).fingerprint)
    assert len(fingerprints) == 4


def numbered(count):
    """Examples that know their position."""
    return Dataset(np.arange(count).reshape(-1, 1, 1, 1), np.arange(count, dtype=np.int32))


@settings(deadline=None, max_examples=60, derandomize=True)
@given(st.integers(2, 200), st.floats(0.01, 0.99), st.integers(0, 2**32 - 1))
def test_a_split_parts_the_examples(count, fraction, seed):
    data = numbered(count)
    size = round(count * fraction)
    if not 0 < size < count:
        with pytest.raises(ValueError, match=rf"a fraction of .* of {count} examples leaves one"):
            data.split(fraction, seed)
        return
    rest, aside = data.split(fraction, seed)
    assert len(aside) == size
    assert sorted([*rest.labels, *aside.labels]) == list(range(count))
    for part in (rest, aside):
        assert part.labels.tolist() == sorted(part.labels)
        assert part.inputs.reshape(-1).tolist() == part.labels.tolist()
    assert data.split(fraction, seed)[1].labels.tolist() == aside.labels.tolist()


def test_another_seed_splits_otherwise():
    parts = [tuple(numbered(100).split(0.5, seed)[1].labels) for seed in range(5)]
    assert len(set(parts)) == 5


def test_every_example_is_as_likely_to_be_set_aside():
    counts = np.zeros(10)
    for seed in range(500):
        counts[numbered(10).split(0.3, seed)[1].labels] += 1
    # Binomial(500, .3): mean 150, standard deviation 10.2.
    assert np.abs(counts - 150).max() < 4 * 10.2


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.5, 1.5, 0.01])
def test_a_split_that_leaves_a_part_empty_is_refused(fraction):
    with pytest.raises(ValueError, match=f"a fraction of {fraction} of 4 examples leaves one part"):
        numbered(4).split(fraction)


@pytest.mark.parametrize(
    ("count", "fraction", "would_do"),
    [(3, 0.15, 0.33), (3, 0.9, 0.666667), (1438, 1e-4, 0.0007), (7, 0.999, 0.857143)],
)
def test_of_too_few_examples_the_fraction_that_would_do_is_named(count, fraction, would_do):
    message = f"a fraction of {fraction} of {count} examples leaves one part empty: {count} are too"
    with pytest.raises(ValueError, match=f"{message} few for it, {would_do} or (more|less) would"):
        numbered(count).split(fraction)
    parts = numbered(count).split(would_do)
    assert sorted(map(len, parts)) == [1, count - 1]


def test_a_single_example_cannot_be_split():
    with pytest.raises(ValueError, match="1 examples leaves one part empty: two are needed"):
        numbered(1).split(0.5)


@pytest.mark.parametrize("fraction", ["0.1", True, None, np.nan])
def test_a_fraction_that_is_no_number_is_refused(fraction):
    with pytest.raises(
        ValueError, match=f"fraction must be a number between 0 and 1, got {fraction!r}"
    ):
        numbered(4).split(fraction)


def classes(*labels, names=("cat", "dog", "emu", "fox")):
    images = np.zeros((len(labels), 2, 2, 1), np.uint8)
    return Splits(from_arrays(images, labels, names, "pets"))


def test_no_class_loses_all_its_examples_to_another_part():
    message = (
        "pets: a random part of 0.3 set aside leaves no example to train on of the class 'emu' "
        r"\(it has 1\): add examples of it, or leave it out"
    )
    whole = classes(*[0] * 12, *[1] * 12, 2)  # and no fox, from the start
    lost = [seed for seed in range(20) if 2 in whole.train.split(0.3, seed)[1].labels]
    assert 0 < len(lost) < 20
    for seed in range(20):
        for part in (whole.with_test, whole.with_validation):
            if seed in lost:
                with pytest.raises(ValueError, match=message):
                    part(0.3, seed)
            else:
                assert 2 in part(0.3, seed).train.labels
    # Classes without names may be anything, numbers of examples even.
    unnamed = classes(*range(20), names=()).with_test(0.3)
    assert len(unnamed.train) == 14


def test_of_many_lost_classes_some_are_named():
    with pytest.raises(
        ValueError, match=r"^pets: .* of the class ('\d+' \(it has 1\), ){4}.* and more:"
    ):
        classes(*range(40), names=list(map(str, range(40)))).with_test(0.5)


def test_numbers_of_numpy_are_numbers():
    splits = classes(0, 0, 1, 1)
    few = replace(splits, source={"data": "x"}).with_train_examples(np.int64(3))
    assert len(few.train) == 3
    assert json.dumps(few.source["steps"]) == '[["with_train_examples", 3, 0]]'
    for wrong in (True, 2.0, "2", np.int64(5)):
        with pytest.raises(ValueError, match=r"train_examples must be .* between 1 and 4, .* got "):
            splits.with_train_examples(wrong)


def test_splits_set_validation_aside_from_training():
    test = numbered(3)
    splits = Splits(numbered(20), test=test).with_validation(0.25, seed=1)
    assert (len(splits.train), len(splits.validation)) == (15, 5)
    assert splits.test is test


@pytest.mark.parametrize("count", [5, 10, 59, 1000])
@pytest.mark.parametrize("fraction", [0.1, 0.2, 0.3, 0.7])
def test_the_last_part_for_validation_is_that_of_keras(count, fraction):
    from keras.src.trainers.data_adapters.array_slicing import train_validation_split

    (theirs,), (aside,) = train_validation_split((np.arange(count),), fraction)
    splits = Splits(numbered(count), source={"data": "x"}).with_last_for_validation(fraction)
    assert splits.train.labels.tolist() == theirs.tolist()
    assert splits.validation.labels.tolist() == aside.tolist()
    assert splits.source["steps"] == [["with_last_for_validation", fraction]]


def test_a_last_part_that_cannot_be_is_refused():
    by_class = classes(*[0] * 8, *[1] * 2)
    message = (
        "pets: the last part of 0.2 set aside leaves no example to train on of the class 'dog'"
    )
    with pytest.raises(ValueError, match=message):
        by_class.with_last_for_validation(0.2)
    with pytest.raises(ValueError, match=r"a fraction of 1\.5 of 10 examples leaves one"):
        by_class.with_last_for_validation(1.5)
    with pytest.raises(ValueError, match=r"fraction must be a number between 0 and 1, got '0\.2'"):
        by_class.with_last_for_validation("0.2")
    with pytest.raises(ValueError, match="there is a validation part already, of 3 examples"):
        Splits(numbered(20), validation=numbered(3)).with_last_for_validation(0.2)


@pytest.mark.parametrize("count", [2, 3, 4, 5, 10, 59, 1000])
@pytest.mark.parametrize("split", ["split", "split_last"])
def test_the_fraction_that_an_error_offers_would_do(count, split):
    for fraction in (1e-9, 1 - 1e-9):
        try:
            getattr(numbered(count), split)(fraction)
        except ValueError as error:
            offered = re.search(r"too few for it, (\S+) or (?:more|less) would do$", str(error))
            getattr(numbered(count), split)(float(offered[1]))


def test_splits_set_a_test_part_aside_once():
    data = from_arrays(np.arange(40, dtype=np.uint8).reshape(10, 2, 2, 1), np.arange(10) % 2)
    splits = Splits(data, source={"data": "x"}).with_test(0.3, seed=4)
    assert (len(splits.train), len(splits.test)) == (7, 3)
    assert splits.source["steps"] == [["with_test", 0.3, 4]]
    with pytest.raises(ValueError, match="there is a test part already, of 3 examples"):
        splits.with_test(0.3)


def test_a_subset_keeps_names_and_order():
    data = from_arrays(IMAGES, [0, 1, 0, 1], ("a", "b"), "mine").subset(np.array([3, 0]), "two")
    assert (data.labels.tolist(), data.label_names, data.name) == ([1, 0], ("a", "b"), "two")
    assert data.inputs.tolist() == IMAGES[[3, 0]].tolist()
