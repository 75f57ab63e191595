"""Named random streams."""

import hashlib

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from cnnjax.core import rng


def bits(key):
    return jax.random.key_data(key).tolist()


def test_a_stream_is_a_function_of_seed_and_name():
    assert bits(rng.stream(3, "dropout")) == bits(rng.stream(3, "dropout"))
    different = [rng.stream(s, n) for s in (0, 1, 2**32 - 1) for n in ("dropout", "augment", "")]
    assert len({tuple(bits(key)) for key in different}) == len(different)


def test_the_name_is_folded_in_as_the_first_four_bytes_of_its_sha256():
    number = int.from_bytes(hashlib.sha256(b"dropout").digest()[:4], "little")
    expected = jax.random.fold_in(jax.random.key(7), number)
    assert bits(rng.stream(7, "dropout")) == bits(expected)
    assert bits(rng.named(jax.random.key(7), "dropout")) == bits(expected)


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_a_seed_out_of_range_is_refused(seed):
    with pytest.raises(ValueError, match=rf"seed must lie in \[0, 2\^32\), got {seed}"):
        rng.stream(seed, "dropout")


def test_at_folds_the_indices_in_one_after_the_other():
    key = rng.stream(0, "augment")
    assert bits(rng.at(key, 2, 5)) == bits(jax.random.fold_in(jax.random.fold_in(key, 2), 5))
    assert bits(rng.at(key, 2, 5)) != bits(rng.at(key, 5, 2))
    assert bits(rng.at(key)) == bits(key)


def test_at_takes_traced_indices():
    key = rng.stream(0, "augment")
    traced = jax.jit(lambda epoch, example: rng.at(key, epoch, example))(3, 4)
    assert bits(traced) == bits(rng.at(key, 3, 4))


@settings(deadline=None, max_examples=40, derandomize=True)
@given(
    length=st.integers(0, 300),
    seed=st.integers(0, 2**32 - 1),
    indices=st.lists(st.integers(0, 2**40), max_size=3),
)
def test_a_permutation_holds_every_number_once(length, seed, indices):
    order = rng.permutation(length, seed, "order", *indices)
    assert order.dtype == np.int64
    assert sorted(order.tolist()) == list(range(length))
    assert order.tolist() == rng.permutation(length, seed, "order", *indices).tolist()


@pytest.mark.parametrize("other", [(1, "order", 0), (0, "split", 0), (0, "order", 1)])
def test_another_seed_name_or_epoch_gives_another_permutation(other):
    assert rng.permutation(50, *other).tolist() != rng.permutation(50, 0, "order", 0).tolist()


def test_the_order_never_changes():
    # Golden values: runs recorded by older versions rest on them. Never update them.
    assert rng.permutation(10, 0, "order", 0).tolist() == [7, 8, 4, 3, 1, 0, 6, 2, 5, 9]
    assert rng.permutation(10, 1, "split").tolist() == [1, 3, 8, 2, 4, 5, 0, 7, 6, 9]


def test_all_orders_are_equally_likely():
    seen = [tuple(rng.permutation(4, 0, "order", epoch).tolist()) for epoch in range(2400)]
    counts = [seen.count(order) for order in set(seen)]
    assert len(counts) == 24
    assert stats.chisquare(counts).pvalue > 1e-3
