"""Sums over the examples of batches: made on the device, added on the host, divided once."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from cnnjax.metrics.losses import Loss
from cnnjax.metrics.metric import LOOP_NAMES, PARTS, Measure, Metric

_NONE: Mapping[str, Measure] = MappingProxyType({})


def batch_sums(
    losses: Array, outputs: Any, batch: Mapping[str, Any], measures: Mapping[str, Measure]
) -> dict[str, Any]:
    """Sums over the unmasked examples of a batch.

    Args:
        losses: [N]. outputs: of the task.
        batch: its "labels", and its "mask" [N], 1 for real examples.
        measures: metrics by name.

    Returns:
        {"loss": sum of losses, "count": number of examples}, float32, and by the name of each
        measure its sum, or the sums of a `Metric`.

    Raises:
        ValueError: for a measure that returns something else than it should.
    """
    mask = batch["mask"].astype(jnp.float32)
    batch = {**batch, "mask": mask}
    return {
        "loss": jnp.sum(losses.astype(jnp.float32) * mask),
        **{name: _summed(name, measure, outputs, batch) for name, measure in measures.items()},
        "count": jnp.sum(mask),
    }


def add(totals: Mapping[str, Any], sums: Mapping[str, Any]) -> dict[str, Any]:
    """Add one batch's sums to running totals, in float64 on the host.

    Args:
        totals: so far; empty before the first batch. Where a checkpoint held them, the leaves of
            the sums of a metric stand there as a list.
        sums: of a batch, on the host: a number by name, or any pytree of arrays.
    """
    return {name: _plus(totals.get(name), value) for name, value in sums.items()}


def divide(totals: Mapping[str, Any], measures: Mapping[str, Measure] = _NONE) -> dict[str, Any]:
    """Means from totals, every sum over the count; of a `Metric`, what it computes.

    Args:
        totals: as `add` returns them.
        measures: metrics by name.

    Returns:
        Floats, and of metrics that compute them arrays in float64, by name.

    >>> divide({"loss": 6.0, "accuracy": 3.0, "count": 4.0})
    {'loss': 1.5, 'accuracy': 0.75}
    """
    count = totals["count"]
    means: dict[str, Any] = {}
    for name, total in totals.items():
        measure = measures.get(name)
        if isinstance(measure, Metric):
            means |= measure.values(name, total)
        elif name != "count":
            means[name] = total / count
    return means


def recorded(value: Any) -> Any:
    """A result as records hold it, in JSON: nested lists, and None for what is not finite.

    >>> recorded(np.array([[0.5, np.nan]])), recorded(1.0)
    ([[0.5, None]], 1.0)
    """
    if isinstance(value, np.ndarray | list):
        items = np.asarray(value).tolist()
        return items if np.isfinite(value).all() else [recorded(item) for item in items]
    return value if value is None or math.isfinite(value) else None


def values(record: Any) -> Any:
    """The inverse of `recorded`: a float, or an array in float64; NaN for None.

    >>> values([[0.5, None]]), values(None)
    (array([[0.5, nan]]), nan)
    """
    array = np.array(record, np.float64)
    return array if array.ndim else float(array)


def columns(epochs: Sequence[Mapping[str, Any]]) -> dict[str, np.ndarray]:
    """The records of epochs as arrays [epochs, ...] in float64 by name; NaN where one lacks it.

    Args:
        epochs: one at least; the last one has all the names.

    >>> columns([{"loss": 2.0}, {"loss": 1.0, "recall": [0.5, None]}])["recall"].tolist()
    [[nan, nan], [0.5, nan]]
    """
    blank = {name: np.full_like(values(value), np.nan) for name, value in epochs[-1].items()}
    return {
        name: np.array([values(r[name]) if name in r else lacking for r in epochs], np.float64)
        for name, lacking in blank.items()
    }


def packed(totals: Mapping[str, Any]) -> dict[str, Any]:
    """Totals as JSON, for `add` to go on with: of a metric the leaves of its sums, in a list."""
    return {
        name: total
        if isinstance(total, int | float)
        else [np.asarray(leaf).tolist() for leaf in jax.tree.leaves(total)]
        for name, total in totals.items()
    }


def unpacked(stored: Mapping[str, Any]) -> dict[str, Any]:
    """The inverse of `packed`, but for the structure of the sums, which `Metric.init` knows.

    >>> unpacked(packed({"loss": 1.5, "table": {"rows": np.eye(2)}}))["table"][0].tolist()
    [[1.0, 0.0], [0.0, 1.0]]
    """
    return {
        name: [np.asarray(leaf, np.float64) for leaf in total] if isinstance(total, list) else total
        for name, total in stored.items()
    }


def quality(record: Mapping[str, Any]) -> str:
    """The metric beside the loss that a record has: accuracy, or else its first number.

    Where an objective measures none of its outputs, it is the loss.

    >>> quality({"loss": 0.2, "absolute_error": 0.3})
    'absolute_error'
    """
    if "accuracy" in record:
        return "accuracy"
    return next(iter(scalars(record)), "loss")


def scalars(record: Mapping[str, Any]) -> list[str]:
    """The names of what is measured on the training data beside the loss, and is one number.

    Args:
        record: of an epoch, numbers and lists by name; or a history, arrays [epochs, ...] by name.

    >>> scalars({"epoch": 1, "loss": 0.5, "accuracy": 0.9, "recall": [0.8, 1.0], "val_loss": 0.6})
    ['accuracy']
    """
    return [
        name
        for name, value in record.items()
        if name not in LOOP_NAMES and not name.startswith(PARTS) and not _is_table(value)
    ]


def _is_table(value: Any) -> bool:
    return isinstance(value, list) or (isinstance(value, np.ndarray) and value.ndim > 1)


def _summed(name: str, measure: Measure, outputs: Any, batch: Mapping[str, Any]) -> Any:
    if isinstance(measure, Metric):
        sums = measure.update(outputs, batch)
        expected: Any = jax.tree.structure(measure.init())
        if expected != (got := jax.tree.structure(sums)):
            raise ValueError(
                f"metric {name!r}: update must return sums like those of init, {expected}, got "
                f"{got}"
            )
        return jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), sums)
    return jnp.sum(_per_example(name, measure, outputs, batch) * batch["mask"])


def _per_example(name: str, measure: Loss, outputs: Any, batch: Mapping[str, Any]) -> Array:
    values, shape = measure(outputs, batch["labels"]), batch["mask"].shape
    if jnp.shape(values) != shape:
        raise ValueError(
            f"metric {name!r} must return {list(shape)}, got {list(jnp.shape(values))}: one value "
            "per example, or else be a cj.metrics.Metric"
        )
    return values


def _plus(total: Any, value: Any) -> Any:
    if isinstance(value, float | np.generic | np.ndarray | Array) and np.ndim(value) == 0:
        return (0.0 if total is None else total) + float(value)
    leaves, structure = jax.tree.flatten(value)
    added = [np.asarray(leaf, np.float64) for leaf in leaves]
    if total is not None:
        before = jax.tree.leaves(total)
        added = [a + b for a, b in zip(before, added, strict=True)]
    return jax.tree.unflatten(structure, added)
