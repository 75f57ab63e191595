"""Sums over batches: masked, added in double precision, of any structure, to JSON and back."""

from __future__ import annotations

import json
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnjax import metrics
from cnnjax.metrics import Metric

RNG = np.random.default_rng(0)
LOGITS = (RNG.standard_normal((9, 5)) * 4).astype(np.float32)
LABELS = RNG.integers(0, 5, 9).astype(np.int32)
ACCURACY = {"accuracy": metrics.correct}


def table_of(outputs: Any, batch: Any) -> Any:
    rows = jax.nn.one_hot(batch["labels"], 5) * batch["mask"][:, None]
    return {"rows": rows.sum(axis=0), "pair": (batch["mask"].sum(), outputs.sum(axis=0))}


TABLE = Metric(
    lambda: {"rows": 0, "pair": (0, 0)},
    table_of,
    lambda sums: {"rows": sums["rows"], "share": sums["rows"][0] / sums["pair"][0]},
    mode=None,
)


def summed(parts: Any, measures: Any) -> dict[str, Any]:
    """Totals over slices of the data."""
    totals: dict[str, Any] = {}
    for part in parts:
        y, z = jnp.asarray(LABELS[part]), jnp.asarray(LOGITS[part])
        batch = {"labels": y, "mask": jnp.ones(len(y))}
        sums = metrics.batch_sums(jnp.ones(len(y)), z, batch, measures)
        totals = metrics.add(totals, jax.device_get(sums))
    return totals


def test_sums_leave_masked_examples_out() -> None:
    mask = np.arange(9) < 6
    loss = np.arange(9, dtype=np.float32)
    batch = {"labels": jnp.asarray(LABELS), "mask": jnp.asarray(mask)}
    sums = metrics.batch_sums(jnp.asarray(loss), jnp.asarray(LOGITS), batch, ACCURACY)
    right = (LOGITS.argmax(axis=1) == LABELS)[:6].sum()
    assert {k: float(v) for k, v in sums.items()} == {"loss": 15, "accuracy": right, "count": 6}


def test_means_over_uneven_batches_equal_the_mean_over_all() -> None:
    totals: dict[str, Any] = {}
    for part in (slice(0, 4), slice(4, 5), slice(5, 9)):
        z, y = jnp.asarray(LOGITS[part]), jnp.asarray(LABELS[part])
        loss = metrics.softmax_cross_entropy(z, y)
        batch = {"labels": y, "mask": jnp.ones(len(y))}
        totals = metrics.add(totals, metrics.batch_sums(loss, z, batch, ACCURACY))
    z = LOGITS.astype(np.float64)
    exact = np.log(np.exp(z).sum(axis=1)) - z[np.arange(9), LABELS]
    means = metrics.divide(totals)
    assert means["loss"] == pytest.approx(exact.mean(), rel=1e-5)
    assert means["accuracy"] == pytest.approx((z.argmax(axis=1) == LABELS).mean())
    assert set(means) == {"loss", "accuracy"}


def test_totals_are_added_in_double_precision() -> None:
    # In float32, 2^24 + 1 is 2^24.
    totals = metrics.add({"loss": 2.0**24}, {"loss": np.float32(1)})
    assert totals == {"loss": 2.0**24 + 1}


def test_a_metric_of_many_arrays_is_the_same_for_any_batches() -> None:
    whole = metrics.divide(summed([slice(0, 9)], {"t": TABLE}), {"t": TABLE})
    parts = [slice(i, min(i + 4, 9)) for i in range(0, 9, 4)]
    assert summed(parts, {"t": TABLE})["t"]["rows"].dtype == np.float64
    by_parts = metrics.divide(summed(parts, {"t": TABLE}), {"t": TABLE})
    assert list(whole) == list(by_parts) == ["loss", "t_rows", "t_share"]
    assert whole["t_rows"].tolist() == by_parts["t_rows"].tolist() == np.bincount(LABELS).tolist()
    assert by_parts["t_share"] == pytest.approx((LABELS == 0).mean())


def test_totals_go_through_json_and_on_from_there() -> None:
    measures = {"t": TABLE, **ACCURACY}
    first, rest = [slice(0, 4)], [slice(4, 9)]
    stored = json.loads(json.dumps(metrics.packed(summed(first, measures))))
    restored = metrics.unpacked(stored)
    before = metrics.divide(summed(first, measures), measures)
    np.testing.assert_equal(metrics.divide(restored, measures), before)
    gone_on = metrics.add(restored, summed(rest, measures))
    np.testing.assert_equal(gone_on, summed([*first, *rest], measures))


def test_what_is_not_finite_is_none_in_a_record() -> None:
    record = json.loads(json.dumps(metrics.recorded(np.array([0.5, np.nan, np.inf]))))
    assert record == [0.5, None, None]
    assert np.isnan(metrics.values(record)).tolist() == [False, True, True]


@pytest.mark.parametrize(
    ("measure", "message"),
    [
        (lambda z, y: z, r"metric 'mine' must return \[9\], got \[9, 5\]: one value per example"),
        (
            Metric(lambda: {"a": 0}, lambda z, batch: z.sum(), float),
            "metric 'mine': update must return sums like those of init",
        ),
    ],
)
def test_a_measure_of_another_form_is_refused(measure: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        summed([slice(0, 9)], {"mine": measure})
