"""Batches: a pure function of (seed, epoch, step, process)."""

import pickle
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cnnjax.core import rng
from cnnjax.data import Dataset, Loader, orders, prefetch


def numbered(count):
    """Examples that know their position."""
    images = np.arange(count * 4, dtype=np.float32).reshape(count, 2, 2, 1)
    return Dataset(images, np.arange(count, dtype=np.int32) % 7)


def plain(batch):
    return {key: np.asarray(value).tolist() for key, value in batch.items()}


def epoch_of(loader, epoch, start=0):
    return [plain(batch) for batch in loader.epoch(epoch, start)]


@st.composite
def loaders(draw):
    count = draw(st.integers(1, 60))
    processes = draw(st.sampled_from([1, 2, 3]))
    shuffle = draw(st.booleans())
    most = count if shuffle else 2 * count + processes
    if most < processes:
        shuffle, most = False, 2 * count + processes
    size = draw(st.integers(1, most // processes)) * processes
    return Loader(numbered(count), size, shuffle, draw(st.integers(0, 2**32 - 1))), processes


@settings(deadline=None, max_examples=40, derandomize=True)
@given(loaders(), st.integers(0, 50))
def test_every_example_comes_exactly_once_an_epoch(case, epoch):
    loader, _ = case
    batches = list(loader.epoch(epoch))
    assert len(batches) == loader.steps == int(np.ceil(len(loader.data) / loader.batch_size))
    seen = np.concatenate([batch["index"][batch["mask"]] for batch in batches])
    assert sorted(seen) == list(range(len(loader.data)))
    if not loader.shuffle:
        assert seen.tolist() == list(range(len(loader.data)))
    for batch in batches:
        assert batch["inputs"].shape == (loader.batch_size, 2, 2, 1)
        assert batch["inputs"].tolist() == loader.data.inputs[batch["index"]].tolist()
        assert batch["labels"].tolist() == loader.data.labels[batch["index"]].tolist()
        assert int(batch["epoch"]) == epoch
    # Only the end of the last batch is padding.
    masks = np.concatenate([batch["mask"] for batch in batches])
    assert masks.sum() == len(loader.data)
    assert masks[: len(loader.data)].all()


@settings(deadline=None, max_examples=30, derandomize=True)
@given(loaders(), st.integers(0, 5))
def test_the_parts_of_all_processes_joined_are_the_batch_of_one(case, epoch):
    loader, processes = case
    parts = [
        Loader(loader.data, loader.batch_size, loader.shuffle, loader.seed, i, processes)
        for i in range(processes)
    ]
    for whole, *shares in zip(loader.epoch(epoch), *(p.epoch(epoch) for p in parts), strict=True):
        for key in ("inputs", "labels", "mask", "index"):
            joined = np.concatenate([share[key] for share in shares])
            assert joined.tolist() == whole[key].tolist()
        assert {int(share["epoch"]) for share in shares} == {epoch}


@settings(deadline=None, max_examples=20, derandomize=True)
@given(loaders(), st.integers(0, 5), st.data())
def test_an_epoch_may_start_at_any_step(case, epoch, data):
    loader, _ = case
    start = data.draw(st.integers(0, loader.steps))
    whole = epoch_of(loader, epoch)
    assert epoch_of(loader, epoch, start) == whole[start:]
    if start < loader.steps:
        assert plain(loader.batch(epoch, start)) == whole[start]


def test_batches_are_a_function_of_seed_and_epoch():
    first = [epoch_of(Loader(numbered(40), 7, True, seed=3), epoch) for epoch in (0, 1)]
    loader = Loader(numbered(40), 7, True, seed=3)
    # In another order, and after other epochs.
    assert [epoch_of(loader, 1), epoch_of(loader, 0)] == first[::-1]


def test_another_epoch_and_another_seed_come_in_another_order():
    orders = {
        tuple(Loader(numbered(40), 8, True, seed).order(epoch)[0].reshape(-1))
        for seed in (0, 1, 2)
        for epoch in range(4)
    }
    assert len(orders) == 12


def test_the_batch_size_does_not_change_the_order_of_examples():
    indices = [Loader(numbered(40), size, True).order(2)[0].reshape(-1) for size in (4, 10, 40)]
    assert indices[0].tolist() == indices[1].tolist() == indices[2].tolist()


def test_the_last_batch_is_filled_up_from_the_beginning_of_the_epoch():
    loader = Loader(numbered(10), 4, True)
    indices, mask = loader.order(0)
    assert mask.tolist() == [[True] * 4, [True] * 4, [True, True, False, False]]
    assert indices[2, 2:].tolist() == indices[0, :2].tolist()


def test_batches_are_fresh_arrays():
    loader = Loader(numbered(8), 4)
    for batch in loader.epoch(0):
        for key in ("inputs", "labels", "mask", "index"):
            batch[key][:] = 0
    again = list(loader.epoch(0))
    assert [batch["index"].tolist() for batch in again] == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert all(batch["mask"].all() for batch in again)
    assert again[1]["inputs"].tolist() == numbered(8).inputs[4:].tolist()


def test_types_are_those_of_the_step():
    batch = Loader(numbered(8), 4).batch(3, 0)
    types = {key: str(value.dtype) for key, value in batch.items()}
    assert types == {
        "inputs": "float32",
        "labels": "int32",
        "mask": "bool",
        "index": "int32",
        "epoch": "int32",
    }


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"batch_size": 5, "process_count": 2}, "batch_size=5 does not divide among 2 processes"),
        ({"batch_size": 4, "process_count": 2, "process_index": 2}, r"process_index=2 must lie in"),
        ({"batch_size": 11, "shuffle": True}, "batch_size=11 is larger than the 10 .*at most 10"),
        ({"batch_size": 4, "data": numbered(0)}, "arrays: the data set is empty"),
        ({"batch_size": 0}, "batch_size"),
        ({"batch_size": -2}, "batch_size"),
    ],
)
def test_what_cannot_be_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        Loader(**{"data": numbered(10), **arguments})


@pytest.mark.parametrize("ahead", [1, 2, 9])
def test_prefetching_keeps_the_batches(ahead):
    loader = Loader(numbered(10), 3, True)
    fetched = list(prefetch(loader.epoch(1), ahead))
    assert [plain(batch) for batch in fetched] == epoch_of(loader, 1)
    assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(fetched))


def test_prefetching_runs_ahead_by_as_much_as_asked():
    taken = []

    def batches():
        for i in range(6):
            taken.append(i)
            yield {"index": np.int32([i])}

    fetched = prefetch(batches(), ahead=2)
    assert plain(next(fetched)) == {"index": [0]}
    assert taken == [0, 1, 2]
    assert plain(next(fetched)) == {"index": [1]}
    assert taken == [0, 1, 2, 3]
    assert [plain(batch)["index"] for batch in fetched] == [[2], [3], [4], [5]]


def test_orders_that_are_made_ahead_are_those_made_when_asked_for(monkeypatch):
    made = []

    def permutation(*arguments):
        made.append(arguments[-1])
        return rng.permutation(*arguments)

    monkeypatch.setattr(orders, "_WORTH_A_THREAD", 1)
    monkeypatch.setattr(orders, "rng", SimpleNamespace(permutation=permutation))
    loader = Loader(numbered(40), 8, shuffle=True, seed=5)
    for epoch in (0, 1, 1, 2, 7, 0, 1):
        expected = rng.permutation(40, 5, "order", epoch)
        np.testing.assert_array_equal(loader.order(epoch)[0].ravel(), expected)
        loader._orders._next[1].result()
    assert made == [0, 1, 2, 3, 7, 8, 0, 1, 2]


def test_the_order_of_few_examples_is_not_made_ahead():
    loader = Loader(numbered(40), 8, shuffle=True)
    loader.order(0)
    assert loader._orders._next is None
    again = pickle.loads(pickle.dumps(loader))
    np.testing.assert_array_equal(again.order(3)[0], loader.order(3)[0])
