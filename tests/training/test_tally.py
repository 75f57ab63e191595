"""`Tally`: sums of steps, fetched together, and the step at which one is not finite."""

from __future__ import annotations

import jax.numpy as jnp
import pytest

from cnnjax.training.stopping import NotFinite
from cnnjax.training.tally import Tally


def test_totals_are_the_sums_over_single_steps_and_chunks() -> None:
    tally = Tally()
    tally.add(1, {"loss": jnp.float32(2.0), "count": jnp.float32(8.0)})
    tally.add(4, {"loss": jnp.arange(3.0), "count": jnp.full(3, 8.0)})
    assert tally.fetch({"loss": 10.0, "count": 80.0}) == {"loss": 15.0, "count": 112.0}
    assert tally.fetch({}) == {}


def test_the_last_dispatches_may_be_left_on_the_device() -> None:
    tally = Tally()
    for step in range(1, 7):
        tally.add(step, {"loss": jnp.float32(step)})
    assert tally.fetch({}, leave=4) == {"loss": 1 + 2}
    assert len(tally) == 4
    assert tally.fetch({"loss": 3.0}) == {"loss": 21}
    assert len(tally) == 0


@pytest.mark.parametrize("value", [jnp.nan, jnp.inf])
def test_the_first_step_whose_loss_is_not_finite_is_named(value: float) -> None:
    tally = Tally()
    tally.add(4, {"loss": jnp.zeros(4)})
    tally.add(8, {"loss": jnp.array([0.0, 0.0, value, jnp.nan])})
    with pytest.raises(NotFinite, match=f"loss became {float(value)}") as caught:
        tally.fetch({})
    assert caught.value.step == 7
