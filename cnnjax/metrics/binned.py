"""Metrics of probabilities, by the counts of bins: area under the ROC curve, calibration error."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from cnnjax.core.checks import whole_number
from cnnjax.metrics.answers import answers
from cnnjax.metrics.metric import Metric, With, zeros
from cnnjax.metrics.shipped import check_average, shipped


@shipped
def auroc(average: str | None = "macro", bins: int = 1000) -> Metric:
    """The area under the ROC curve: how often a positive example outscores a negative one.

    `sum_b P_b (sum_{a < b} N_a + N_b / 2) / (P N)` over bins of the score, each class against the
    rest. Within a bin examples count as equal, which changes the area by at most half the share of
    pairs that lie in one bin. The score is the logarithm of the odds, s, binned by s / (1 + |s|),
    so that the bins are as narrow as 2 / bins at even odds and tell probabilities near 0 and 1
    apart. (Fawcett 2006, An introduction to ROC analysis.)

    Args:
        average: "macro", the mean over the classes that have examples of both kinds; None, an array
            [K], NaN where one kind is missing. Of one logit it is that of class 1.
        bins: >= 2.

    >>> import jax.numpy as jnp
    >>> batch = {"labels": jnp.array([0, 0, 1, 1]), "mask": jnp.ones(4)}
    >>> sums = auroc().update(jnp.array([[-2.0], [0.5], [0.1], [3.0]]), batch)
    >>> auroc().compute(sums)
    0.75
    """
    check_average(average, "macro", None)
    bins = whole_number("bins", bins, least=2)
    return Metric(
        zeros("positive", "negative"),
        With(_scores, (("bins", bins),)),
        With(_areas, (("average", average),)),
    )


@shipped
def calibration_error(bins: int = 15) -> Metric:
    """The expected calibration error: how far confidence is from accuracy, over bins of confidence.

    `sum_b |right_b - confidence_b| / N`, of the sums in equal bins of (0, 1] of the probability of
    what was answered (Guo et al. 2017, On calibration of modern neural networks, eq. 3). Of yes and
    no the confidence is the larger of p and 1 - p.

    Args:
        bins: >= 1.

    >>> import jax.numpy as jnp
    >>> batch = {"labels": jnp.array([1, 0]), "mask": jnp.ones(2)}
    >>> sums = calibration_error().update(jnp.array([[0.0, 40.0], [0.0, 40.0]]), batch)
    >>> calibration_error().compute(sums)
    0.5
    """
    bins = whole_number("bins", bins)
    return Metric(
        zeros("right", "confidence", "count"),
        With(_confidences, (("bins", bins),)),
        _expected_error,
        mode="min",
    )


def _scores(outputs: Array, batch: Mapping[str, Any], bins: int) -> dict[str, Array]:
    rows = answers(outputs, batch)
    score, truth, weights = rows.logits, rows.labels, rows.weights
    if rows.of_classes:
        # log p_k - log (1 - p_k), of the others' logits alone: 1 - p_k would be rounded to 0.
        own = jnp.eye(score.shape[1], dtype=bool)
        rest = jnp.where(own[None], -jnp.inf, score[:, None, :])
        score = score - jax.nn.logsumexp(rest, axis=-1)
        truth = jax.nn.one_hot(truth, score.shape[1])
        weights = weights[:, None] * jnp.ones_like(truth)
    place = (score / (1 + jnp.abs(score)) + 1) / 2 * bins
    place = jnp.clip(place.astype(jnp.int32), 0, bins - 1)
    classes = jnp.broadcast_to(jnp.arange(score.shape[1]), place.shape)
    none = jnp.zeros((score.shape[1], bins))
    positive = truth > 0.5
    return {
        "positive": none.at[classes, place].add(weights * positive),
        "negative": none.at[classes, place].add(weights * ~positive),
    }


def _areas(sums: Mapping[str, Any], average: str | None) -> Any:
    positive, negative = (np.atleast_2d(sums[name]) for name in ("positive", "negative"))
    below = np.cumsum(negative, axis=1) - negative
    pairs = positive.sum(axis=1) * negative.sum(axis=1)
    won = (positive * (below + negative / 2)).sum(axis=1)
    areas = np.divide(won, pairs, out=np.full(len(pairs), np.nan), where=pairs > 0)
    if average is None and len(areas) > 1:
        return areas
    known = areas[~np.isnan(areas)]
    return float(known.mean()) if len(known) else float("nan")


def _confidences(outputs: Array, batch: Mapping[str, Any], bins: int) -> dict[str, Array]:
    rows = answers(outputs, batch)
    if rows.of_classes:
        confidence = jax.nn.softmax(rows.logits).max(axis=-1)
        right = rows.chosen() == rows.labels
    else:
        confidence = jax.nn.sigmoid(jnp.abs(rows.logits))
        right = rows.chosen() == (rows.labels > 0.5)
    place = jnp.clip(jnp.ceil(confidence * bins).astype(jnp.int32) - 1, 0, bins - 1)
    none = jnp.zeros(bins)
    return {
        "right": none.at[place].add(rows.weights * right),
        "confidence": none.at[place].add(rows.weights * confidence),
        "count": none.at[place].add(rows.weights),
    }


def _expected_error(sums: Mapping[str, Any]) -> float:
    count = np.sum(sums["count"])
    gap = np.abs(np.asarray(sums["right"]) - np.asarray(sums["confidence"])).sum()
    return float(gap / count) if count else float("nan")
