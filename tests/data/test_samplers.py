"""Samplers: pure functions of (seed, epoch, data set), with the shares that they promise."""

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cnnjax.data import Dataset, Loader, balanced, from_arrays, weighted

SEEDS = st.integers(0, 2**32 - 1)
COUNTS = st.lists(st.integers(1, 30), min_size=1, max_size=5)


def of_classes(counts):
    labels = np.repeat(np.arange(len(counts)), counts)
    return from_arrays(np.arange(len(labels), dtype=np.float32).reshape(-1, 1, 1, 1), labels)


@settings(deadline=None, max_examples=50, derandomize=True)
@given(COUNTS, SEEDS, st.integers(0, 9))
def test_balanced_draws_classes_and_their_examples_equally_often(counts, seed, epoch):
    data = of_classes(counts)
    indices = balanced(seed, epoch, data)
    assert len(indices) == len(data)
    assert np.ptp(np.bincount(data.labels[indices], minlength=len(counts))) <= 1
    drawn = np.bincount(indices, minlength=len(data))
    for k in range(len(counts)):
        assert np.ptp(drawn[data.labels == k]) <= 1
    assert indices.tolist() == balanced(seed, epoch, data).tolist()


def test_balanced_takes_other_examples_of_a_large_class_in_other_epochs():
    data = of_classes([90, 10])
    chosen = [set(balanced(0, epoch, data)) for epoch in range(4)]
    assert len(set.union(*chosen)) > 90
    assert all(one >= set(range(90, 100)) for one in chosen)


def test_weighted_draws_by_the_weights():
    weights = np.array([0, 1, 2, 5])
    drawn = weighted(weights, draws=8000)(0, 0, of_classes([4]))
    share = np.bincount(drawn, minlength=4) / 8000
    np.testing.assert_allclose(share, weights / 8, atol=4 * np.sqrt(0.25 / 8000))
    assert drawn.tolist() == weighted(weights, 8000)(0, 0, of_classes([4])).tolist()
    assert drawn.tolist() != weighted(weights, 8000)(0, 1, of_classes([4])).tolist()
    assert drawn.tolist() != weighted(weights, 8000)(1, 0, of_classes([4])).tolist()


def test_weighted_is_named_by_its_weights():
    one, other = weighted([1, 2]), weighted([2, 1])
    assert repr(one) == repr(weighted(np.array([1.0, 2.0]))) != repr(other)


def test_a_loader_visits_what_its_sampler_chooses():
    def backwards(seed, epoch, data):
        return np.arange(len(data))[::-1][: 5 + 0 * epoch]

    loader = Loader(of_classes([8]), 2, sampler=backwards)
    batches = list(loader.epoch(3))
    assert loader.steps == len(batches) == 3
    assert [b["index"].tolist() for b in batches] == [[7, 6], [5, 4], [3, 7]]
    assert [b["mask"].tolist() for b in batches] == [[True, True], [True, True], [True, False]]
    assert [b["inputs"].ravel().tolist() for b in loader.epoch(3, 2)] == [[3, 7]]


def test_the_parts_of_processes_are_the_whole_batch():
    data = of_classes([5, 9])
    whole = Loader(data, 4, sampler="balanced", seed=3)
    parts = [
        Loader(data, 4, sampler=balanced, seed=3, process_index=i, process_count=2) for i in (0, 1)
    ]
    for batch, *halves in zip(whole.epoch(1), *(part.epoch(1) for part in parts), strict=True):
        joined = np.concatenate([half["index"] for half in halves])
        assert joined.tolist() == batch["index"].tolist()


@pytest.mark.parametrize(
    ("sampler", "message"),
    [
        (lambda *_: [0, 9], "a sampler must return positions in [0, 8), those of arrays, got 9"),
        (lambda *_: [-1, 0], "a sampler must return positions in [0, 8), those of arrays, got -1"),
        (lambda *_: [], "a sampler must return whole numbers [M], one at least, got float64 [0]"),
        (lambda *_: [0.5], "a sampler must return whole numbers [M], one at least, got float64"),
        (lambda *_: np.eye(2, dtype=int), "whole numbers [M], one at least, got int64 [2, 2]"),
        (lambda *_: [0], "batch_size=2 is larger than the 1 examples of an epoch that the sampler"),
        ("balancd", "sampler must be one of balanced, got 'balancd'; did you mean 'balanced'?"),
        (weighted([1, 2]), "the sampler of arrays: weights must be 8 numbers, one for each"),
    ],
)
def test_what_a_sampler_cannot_return_is_refused(sampler, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        Loader(of_classes([8]), 2, sampler=sampler)


def test_each_epoch_is_as_long_as_the_first():
    loader = Loader(of_classes([8]), 2, sampler=lambda seed, epoch, data: np.arange(4 + epoch))
    with pytest.raises(ValueError, match="as many indices in every epoch, got 4 in epoch 0 and 5"):
        loader.order(1)


def test_what_would_be_ignored_is_refused():
    with pytest.raises(ValueError, match="a sampler takes the place of shuffle=True"):
        Loader(of_classes([8]), 2, shuffle=True, sampler=balanced)


def test_balanced_needs_classes():
    values = Dataset(np.zeros((4, 2, 1), np.float32), np.zeros((4, 2), np.float32), name="rain")
    with pytest.raises(ValueError, match="the sampler 'balanced' needs one class for each example"):
        Loader(values, 2, sampler=balanced)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(([0, 0],), "weights are all zero"), (([1], 0), "draws must be a whole number >= 1, got 0")],
)
def test_weighted_refuses_what_cannot_be(arguments, message):
    with pytest.raises(ValueError, match=message):
        weighted(*arguments)


def test_labels_by_name_are_not_balanced():
    labels = {"kind": np.zeros(4, np.int32), "size": np.zeros((4, 1), np.float32)}
    data = Dataset(np.zeros((4, 2, 1), np.float32), labels, name="rain")
    with pytest.raises(ValueError, match="and rain has labels by name"):
        Loader(data, 2, sampler=balanced)
