"""Stratified splits and folds: every example once, and every class with its share."""

import json
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cnnjax.data import Splits, from_arrays, load, reload

SEEDS = st.integers(0, 2**32 - 1)


def labelled(labels, names=()):
    """Examples that know their position."""
    images = np.arange(len(labels), dtype=np.float32).reshape(-1, 1, 1, 1)
    return Splits(from_arrays(images, labels, names))


def positions(data):
    return data.inputs.ravel().astype(int).tolist()


@st.composite
def unequal(draw):
    """Labels of a few classes of very unequal sizes, in any order."""
    counts = draw(st.lists(st.integers(1, 40), min_size=1, max_size=6))
    labels = np.repeat(np.arange(len(counts)), counts)
    return labels[np.argsort(np.random.default_rng(draw(SEEDS)).random(len(labels)))]


def deviations(part, labels):
    """How far each class of a part is from its share."""
    share = np.bincount(labels) * len(part) / len(labels)
    return np.abs(np.bincount(part.labels, minlength=len(share)) - share)


@settings(deadline=None, max_examples=60, derandomize=True)
@given(unequal(), SEEDS, st.floats(0.1, 0.9))
def test_each_class_keeps_its_share_to_within_one(labels, seed, fraction):
    if not 0 < round(len(labels) * fraction) < len(labels):
        return
    splits = labelled(labels).with_validation(fraction, seed, stratify=True)
    assert len(splits.validation) == round(len(labels) * fraction)
    for part in (splits.train, splits.validation):
        assert deviations(part, labels).max() < 1 + 1e-9
        assert positions(part) == sorted(positions(part))
    assert sorted(positions(splits.train) + positions(splits.validation)) == list(
        range(len(labels))
    )


@settings(deadline=None, max_examples=30, derandomize=True)
@given(unequal(), SEEDS)
def test_smaller_parts_lie_within_larger_ones(labels, seed):
    before = set()
    for count in range(1, len(labels) + 1):
        part = labelled(labels).with_train_examples(count, seed, stratify=True).train
        assert deviations(part, labels).max() < 1 + 1e-9
        assert before < set(positions(part))
        before = set(positions(part))


@settings(deadline=None, max_examples=40, derandomize=True)
@given(unequal(), SEEDS, st.integers(2, 7), st.booleans())
def test_each_example_is_once_in_the_validation_data_of_a_fold(labels, seed, folds, stratify):
    if folds > len(labels):
        return
    parts = labelled(labels).k_fold(folds, seed, stratify)
    tested = [positions(part.validation) for part in parts]
    assert sorted(np.concatenate(tested)) == list(range(len(labels)))
    assert max(map(len, tested)) - min(map(len, tested)) <= 1
    for part, aside in zip(parts, tested, strict=True):
        assert sorted(positions(part.train) + aside) == list(range(len(labels)))
    if stratify:
        counts = [np.bincount(part.validation.labels, minlength=labels.max() + 1) for part in parts]
        assert np.ptp(counts, axis=0).max() <= 1


def test_folds_have_the_class_sizes_of_scikit_learn():
    from sklearn.model_selection import StratifiedKFold

    labels = np.random.default_rng(0).integers(0, 3, 40)
    theirs = [
        np.bincount(labels[test], minlength=3)
        for _, test in StratifiedKFold(4).split(labels, labels)
    ]
    ours = [
        np.bincount(part.validation.labels, minlength=3)
        for part in labelled(labels).k_fold(4, stratify=True)
    ]
    assert np.sort(ours, axis=0).tolist() == np.sort(theirs, axis=0).tolist()


def test_another_seed_makes_another_choice_and_the_same_one_the_same():
    splits = labelled(np.arange(60) % 3)
    chosen = [positions(splits.with_test(0.2, seed, stratify=True).test) for seed in (0, 0, 1)]
    assert chosen[0] == chosen[1] != chosen[2]
    assert positions(splits.with_test(0.2, 0).test) not in chosen


@pytest.mark.parametrize(
    "change",
    [
        lambda s: s.with_validation(0.2, 3, stratify=True),
        lambda s: s.with_train_examples(100, 1, stratify=True),
        lambda s: s.with_validation(0.2, 3),
        lambda s: s.without_validation().k_fold(3, 5, stratify=True)[2],
        lambda s: s.k_fold(4)[0],
    ],
    ids=["parts", "examples", "plain", "stratified fold", "fold"],
)
def test_a_record_makes_them_again(change):
    splits = change(load("digits"))
    again = reload(json.loads(json.dumps(splits.source)))
    assert again.source == json.loads(json.dumps(splits.source))
    for name, part in splits.parts.items():
        assert part.fingerprint == again.parts[name].fingerprint


def test_a_record_of_a_plain_split_is_as_it_always_was():
    assert load("digits").with_validation(0.5, 1).source["steps"] == [["with_validation", 0.5, 1]]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda s: s.k_fold(1), "folds must be a whole number >= 2, got 1"),
        (lambda s: s.k_fold(9), "folds=9 of 6 examples of arrays leaves one empty: choose at most"),
        (lambda s: s.fold(3, 3), "number must be at most 2, got 3"),
        (lambda s: s.with_validation(0.5).k_fold(2), "there is a validation part already, of 3"),
        (lambda s: s.with_test(0.5, stratify="yes"), "stratify must be True or False, got 'yes'"),
        (lambda s: s.k_fold(2, stratify=1), "stratify must be True or False, got 1"),
    ],
)
def test_what_cannot_be_is_refused(make, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        make(labelled([0, 1, 2, 0, 1, 2]))


def test_a_class_that_would_not_be_trained_is_named():
    with pytest.raises(ValueError, match=r"fold \d of 2 set aside leaves no example .* 'owl'"):
        labelled([0, 0, 0, 1], ("cat", "owl")).k_fold(2)


def test_values_have_no_shares():
    from cnnjax.data import Dataset

    values = Dataset(np.zeros((4, 2, 1), np.float32), np.zeros((4, 2), np.float32), name="rain")
    for make in (
        lambda: Splits(values).with_validation(0.5, stratify=True),
        lambda: Splits(values).k_fold(2, stratify=True),
    ):
        with pytest.raises(ValueError, match=r"stratify=True needs one class .* and rain has"):
            make()


@pytest.mark.parametrize("stratified", ["split", "with_test", "k_fold"])
def test_labels_by_name_have_no_share_to_keep(stratified):
    data = from_arrays(np.zeros((4, 1, 1, 1)), {"kind": np.arange(4) % 2, "size": np.arange(4.0)})
    ways = {
        "split": lambda: data.split(0.5, stratify=True),
        "with_test": lambda: Splits(data).with_test(0.5, stratify=True),
        "k_fold": lambda: list(Splits(data).k_fold(2, stratify=True)),
    }
    with pytest.raises(ValueError, match=r"has labels by name \(kind, size\): leave it out$"):
        ways[stratified]()
