"""Augmentation of several inputs by name."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnjax.augment import Augment, Chain, Jitter, Named, for_batch
from cnnjax.core import rng

EXAMPLE = {
    "photo": jnp.arange(48.0).reshape(4, 4, 3),
    "pulse": jnp.ones((5, 1)),
    "age": jnp.ones(1),
}


def test_each_part_has_a_key_of_its_own_and_the_others_stay() -> None:
    turn, noise, key = Augment(rotation=30), Jitter(0.1), jax.random.key(1)
    changed = Named({"photo": turn, "pulse": noise})(key, EXAMPLE)
    np.testing.assert_array_equal(changed["photo"], turn(rng.at(key, 0), EXAMPLE["photo"]))
    np.testing.assert_array_equal(changed["pulse"], noise(rng.at(key, 1), EXAMPLE["pulse"]))
    assert changed["age"] is EXAMPLE["age"]


def test_a_batch_is_changed_example_by_example() -> None:
    named, key = Named({"photo": Augment(rotation=30, brightness=(0.5, 1.5))}), jax.random.key(2)
    batch = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), EXAMPLE)
    index, epoch = jnp.array([7, 3]), jnp.array(2)
    found = for_batch(named, key, epoch, index, batch)
    for i, example in enumerate(index):
        wanted = named(rng.at(key, epoch, example), EXAMPLE)
        np.testing.assert_allclose(found["photo"][i], wanted["photo"], rtol=1e-5, atol=1e-4)
    np.testing.assert_array_equal(found["pulse"], batch["pulse"])


def test_equal_ones_are_one() -> None:
    one, other = (Named({"photo": Augment(rotation=3)}) for _ in range(2))
    assert (one, hash(one)) == (other, hash(other))
    assert one != Named({"image": Augment(rotation=3)})


@pytest.mark.parametrize("parts", [{}, {"photo": 3}, None], ids=["none", "number", "nothing"])
def test_what_names_no_function_is_refused(parts: object) -> None:
    with pytest.raises(
        ValueError, match=r"^parts must be functions \(key, input\) -> input by the"
    ):
        Named(parts)


@pytest.mark.parametrize("several", [Chain, lambda parts: Named({"photo": parts[0]})])
def test_a_part_that_mixes_examples_is_refused(several: type) -> None:
    with pytest.raises(
        ValueError,
        match=r"^a part of (Chain|Named) sees one example, which mixup=0.2 and cutmix=0 would mix "
        r"with another: leave them out of it, or give the Augment alone$",
    ):
        several((Augment(mixup=0.2),))
