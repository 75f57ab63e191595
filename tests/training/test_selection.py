"""`Selection`: the best epoch, its state and patience, without a training."""

from __future__ import annotations

import jax
import numpy as np
import pytest

from cnnjax.training.selection import Selection, copied


def judged(selection: Selection, metric: str, values: list[float]) -> list[bool]:
    """What is said of epochs of ten steps each, whose state is the number of the epoch."""
    return [
        selection.update(epoch, 10 * epoch, {f"val_{metric}": value}, {"w": np.float32(epoch)})
        for epoch, value in enumerate(values, start=1)
    ]


@pytest.mark.parametrize(
    ("metric", "values", "best"),
    [
        pytest.param("loss", [3.0, 1.0, 2.0, 1.5], 2, id="the-smallest-loss"),
        pytest.param("accuracy", [0.1, 0.4, 0.9, 0.3], 3, id="the-highest-accuracy"),
        pytest.param("loss", [-1.0, 0.0], 1, id="a-negative-loss"),
    ],
)
def test_the_best_epoch_is_that_of_the_best_value(
    metric: str, values: list[float], best: int
) -> None:
    selection = Selection(metric)
    judged(selection, metric, values)
    assert (selection.best_epoch, selection.best_step) == (best, 10 * best)
    assert selection.best_state == {"w": best}
    assert selection.stale_epochs == len(values) - best


def test_of_equal_epochs_the_first_is_the_best() -> None:
    selection = Selection("accuracy")
    assert judged(selection, "accuracy", [0.5, 0.5, 0.5]) == [True, False, False]
    assert selection.best_epoch == 1


def test_without_a_monitor_the_latest_epoch_is_the_best_and_no_state_is_kept() -> None:
    selection = Selection(None)
    assert judged(selection, "loss", [1.0, 2.0, 3.0]) == [False, False, False]
    assert (selection.best_epoch, selection.best_step, selection.best_state) == (3, None, None)


def test_it_is_over_once_patience_is_at_its_end_and_a_better_epoch_renews_it() -> None:
    selection = Selection("loss", patience=2)
    over = []
    for epoch, loss in enumerate([3.0, 4.0, 2.0, 2.5, 2.5], start=1):
        selection.update(epoch, epoch, {"val_loss": loss}, {})
        over.append(selection.is_over)
    assert over == [False, False, False, False, True]


def test_without_patience_it_is_never_over() -> None:
    selection = Selection("loss")
    judged(selection, "loss", [1.0] + [2.0] * 100)
    assert not selection.is_over


def test_the_best_state_is_a_copy_that_a_donated_or_overwritten_buffer_leaves_alone() -> None:
    weights, key = np.ones(3, np.float32), jax.random.key(1)
    selection = Selection("loss")
    selection.update(1, 10, {"val_loss": 1.0}, {"w": weights, "key": key})
    weights[:] = 0
    assert selection.best_state["w"].tolist() == [1, 1, 1]
    assert selection.best_state["key"] is not key
    assert jax.random.bits(selection.best_state["key"]) == jax.random.bits(jax.random.key(1))


def test_a_copy_lies_on_the_host_with_the_same_type() -> None:
    tree = copied({"w": jax.numpy.ones((2, 3), jax.numpy.bfloat16)})
    assert isinstance(tree["w"], np.ndarray)
    assert (tree["w"].shape, tree["w"].dtype) == ((2, 3), jax.numpy.bfloat16)
