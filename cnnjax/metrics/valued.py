"""Metrics of values: mean absolute and squared error, and the share of explained variance."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array

from cnnjax.core.checks import number
from cnnjax.metrics.metric import Metric, With, check_one_output, zeros
from cnnjax.metrics.shipped import check_average, shipped


@shipped
def mae() -> Metric:
    """The mean absolute error, `mean |z - y|` over all values of all examples.

    Outputs and labels are of one shape, [N, ...]; of one value a row also [N, 1] and [N].

    >>> import jax.numpy as jnp
    >>> batch = {"labels": jnp.array([1.0, 5.0]), "mask": jnp.ones(2)}
    >>> mae().compute(mae().update(jnp.array([[2.0], [2.0]]), batch))
    2.0
    """
    return Metric(zeros("error", "count"), With(_errors, (("of", jnp.abs),)), _mean, mode="min")


@shipped
def mse() -> Metric:
    """The mean squared error, `mean (z - y)^2` over all values of all examples, as `mae`.

    >>> mse().mode
    'min'
    """
    return Metric(zeros("error", "count"), With(_errors, (("of", jnp.square),)), _mean, mode="min")


@shipped
def r2(average: str | None = "macro", center: float = 0.0) -> Metric:
    """The coefficient of determination, `1 - sum (z - y)^2 / sum (y - mean y)^2`.

    1 is perfect, 0 as good as the mean of the labels. Where the labels are all the same it is 1 for
    answers without error and else 0, as scikit-learn has it.

    Args:
        average: "macro", the mean over the K values of an example; None, an array [K].
        center: near the mean of the labels, where that is some hundred times their deviation or
            more: labels are squared in float32, of which then little would be left.

    >>> import jax.numpy as jnp
    >>> batch = {"labels": jnp.array([1.0, 2.0, 3.0]), "mask": jnp.ones(3)}
    >>> float(r2().compute(r2().update(jnp.array([[1.0], [2.0], [4.0]]), batch)))
    0.5
    """
    check_average(average, "macro", None)
    center = float(number("center", center))
    return Metric(
        zeros("residual", "labels", "squares", "count"),
        With(_moments, (("center", center),)),
        With(_determination, (("average", average),)),
    )


def _pair(outputs: Array, batch: Mapping[str, Any]) -> tuple[Array, Array, Array]:
    """Outputs and labels [N, K], and the mask [N, 1]."""
    check_one_output(outputs)
    labels = jnp.asarray(batch["labels"], jnp.float32)
    outputs = jnp.asarray(outputs, jnp.float32)
    rows = len(labels)
    if outputs.size != labels.size or len(outputs) != rows:
        raise ValueError(
            f"outputs {list(outputs.shape)} and labels {list(labels.shape)} must be of one shape"
        )
    return outputs.reshape(rows, -1), labels.reshape(rows, -1), batch["mask"][:, None]


def _errors(
    outputs: Array, batch: Mapping[str, Any], of: Callable[[Array], Array]
) -> dict[str, Array]:
    z, y, mask = _pair(outputs, batch)
    # Where there is no example there may be anything, also NaN.
    errors = jnp.where(mask > 0, of(z - y), 0)
    return {"error": jnp.sum(errors), "count": jnp.sum(mask) * y.shape[1]}


def _mean(sums: Mapping[str, Any]) -> float:
    return float(sums["error"] / sums["count"]) if sums["count"] else float("nan")


def _moments(outputs: Array, batch: Mapping[str, Any], center: float) -> dict[str, Array]:
    z, y, mask = _pair(outputs, batch)
    moved = y - center
    return {
        "residual": jnp.sum(mask * (z - y) ** 2, axis=0),
        "labels": jnp.sum(mask * moved, axis=0),
        "squares": jnp.sum(mask * moved**2, axis=0),
        "count": jnp.sum(mask),
    }


def _determination(sums: Mapping[str, Any], average: str | None) -> Any:
    residual = np.atleast_1d(np.asarray(sums["residual"], np.float64))
    labels, squares = (np.asarray(sums[name], np.float64) for name in ("labels", "squares"))
    spread = np.atleast_1d(squares - labels**2 / max(float(sums["count"]), 1.0))
    constant = spread <= 0
    share = 1 - residual / np.where(constant, 1, spread)
    scores = np.where(constant, np.where(residual > 0, 0.0, 1.0), share)
    return scores if average is None and len(scores) > 1 else float(scores.mean())
