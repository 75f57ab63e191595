"""Metrics of right and wrong answers: accuracy, precision, recall, F1, IoU, confusion matrix.

All take logits [N, ..., K] with classes int [N, ...], at each position or pixel where there are
several; one logit [N, 1] or [N] with labels 0 and 1; or logits and labels [N, K] of yes and no
(multilabel), of which each label is then what elsewhere is a class.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array

from cnnjax.core.checks import whole_number, within
from cnnjax.metrics.answers import answers
from cnnjax.metrics.metric import Metric, With, zeros
from cnnjax.metrics.shipped import check_average, shipped

_AVERAGES = ("macro", "micro", None)


@shipped
def accuracy() -> Metric:
    """The share of right answers, `sum_i [argmax z_i = y_i] / N`; of yes and no, at 0.5.

    Positions, pixels and labels count one by one; a task of positions has an accuracy of its own,
    of those examples that are right at all of them.

    >>> import cnnjax as cj
    >>> accuracy().mode
    'max'
    """
    return Metric(zeros("right", "all"), _right, _share)


@shipped
def top_k(k: int = 5) -> Metric:
    """The share of answers whose class is among the k largest logits.

    `sum_i [#{j: z_ij > z_i,y_i} < k] / N`, so that equal logits count for it.

    Args:
        k: >= 1, and at most the number of classes.

    >>> import jax.numpy as jnp
    >>> batch = {"labels": jnp.array([0, 1]), "mask": jnp.ones(2)}
    >>> sums = top_k(2).update(jnp.array([[1.0, 2.0, 3.0], [1.0, 2.0, 3.0]]), batch)
    >>> float(sums["right"])
    1.0
    """
    k = whole_number("k", k)
    return Metric(zeros("right", "all"), With(_among, (("k", k),)), _share)


@shipped
def precision(average: str | None = "macro", threshold: float = 0.5) -> Metric:
    """The share of right answers among those that name a class, `TP / (TP + FP)`.

    Args:
        average: "macro", the mean over the classes that occur in labels or answers; "micro", of all
            answers together; None, an array [K] of every class, 0 where there is no answer. Of one
            logit it is that of class 1 whatever the average.
        threshold: of the probability, for yes; of one logit and of multilabel outputs. In (0, 1).

    >>> import jax.numpy as jnp
    >>> metric = precision(average=None)
    >>> batch = {"labels": jnp.array([0, 1, 1]), "mask": jnp.ones(3)}
    >>> sums = metric.update(jnp.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]]), batch)
    >>> metric.compute(sums).tolist()
    [0.5, 1.0]
    """
    return _score(_precision, average, threshold)


@shipped
def recall(average: str | None = "macro", threshold: float = 0.5) -> Metric:
    """The share of a class that was found, `TP / (TP + FN)`; arguments as in `precision`.

    >>> recall("micro").mode
    'max'
    """
    return _score(_recall, average, threshold)


@shipped
def f1(average: str | None = "macro", threshold: float = 0.5) -> Metric:
    """The harmonic mean of precision and recall, `2 TP / (2 TP + FP + FN)`.

    Args:
        average, threshold: as in `precision`.

    >>> import cnnjax as cj
    >>> data = cj.data.load("digits")
    >>> run = cj.fit(cj.create_model("mlp", units=(16,)), data, cj.TrainingConfig(epochs=1),
    ...              metrics={"f1": cj.metrics.f1(), "each": cj.metrics.f1(average=None)},
    ...              verbose=False)
    >>> bool(0 < run.metrics["test_f1"] < 1), run.history["each"].shape
    (True, (1, 10))
    """
    return _score(_f1, average, threshold)


@shipped
def mean_iou(average: str | None = "macro") -> Metric:
    """Intersection over union of answers and labels, `TP / (TP + FP + FN)`, the Jaccard index.

    Args:
        average: "macro", the mean over the classes that occur in labels or answers; "micro"; None,
            an array [K]. Of one logit it is that of class 1.

    >>> import jax.numpy as jnp
    >>> batch = {"labels": jnp.array([[[0, 1]]]), "mask": jnp.ones(1)}  # one row of two pixels
    >>> sums = mean_iou().update(jnp.array([[[[1.0, 0.0], [1.0, 0.0]]]]), batch)
    >>> mean_iou().compute(sums)
    0.25
    """
    return _score(_iou, average, 0.5)


@shipped
def confusion_matrix() -> Metric:
    """How often each class was taken for which: counts [K, K], rows true, columns answered.

    Of one logit [2, 2].

    >>> import jax.numpy as jnp
    >>> batch = {"labels": jnp.array([0, 1, 1]), "mask": jnp.ones(3)}
    >>> confusion_matrix().update(jnp.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]]), batch).tolist()
    [[1.0, 0.0], [1.0, 1.0]]
    """
    return Metric(_zero, _pairs, np.asarray, mode=None)


def _zero() -> float:
    return 0.0


def _score(
    of_counts: Callable[[Any, Any, Any], tuple[Any, Any]], average: str | None, threshold: float
) -> Metric:
    check_average(average, *_AVERAGES)
    threshold = within("(0, 1)")("threshold", threshold)
    return Metric(
        zeros("hits", "answered", "true"),
        With(_counts, (("threshold", threshold),)),
        With(_averaged, (("of_counts", of_counts), ("average", average))),
    )


def _counts(outputs: Array, batch: Mapping[str, Any], threshold: float) -> dict[str, Array]:
    """Of each class the right answers, all answers that name it, and all labels that do."""
    rows = answers(outputs, batch)
    chosen, weights = rows.chosen(threshold), rows.weights
    if not rows.of_classes:
        truth, yes = rows.labels > 0.5, chosen
        parts = (truth & yes, yes, truth)
        hits, answered, true = (jnp.sum(part * weights, axis=0) for part in parts)
    else:
        none = jnp.zeros(rows.logits.shape[1])
        hits = none.at[chosen].add(weights * (chosen == rows.labels))
        answered, true = none.at[chosen].add(weights), none.at[rows.labels].add(weights)
    return {"hits": hits, "answered": answered, "true": true}


def _precision(hits: Any, answered: Any, true: Any) -> tuple[Any, Any]:
    del true
    return hits, answered


def _recall(hits: Any, answered: Any, true: Any) -> tuple[Any, Any]:
    del answered
    return hits, true


def _f1(hits: Any, answered: Any, true: Any) -> tuple[Any, Any]:
    return 2 * hits, answered + true


def _iou(hits: Any, answered: Any, true: Any) -> tuple[Any, Any]:
    return hits, answered + true - hits


def _averaged(
    sums: Mapping[str, Any],
    of_counts: Callable[[Any, Any, Any], tuple[Any, Any]],
    average: str | None,
) -> Any:
    counts = {name: np.atleast_1d(np.asarray(value)) for name, value in sums.items()}
    if average == "micro":
        counts = {name: value.sum(keepdims=True) for name, value in counts.items()}
    above, below = of_counts(counts["hits"], counts["answered"], counts["true"])
    scores = np.divide(above, below, out=np.zeros_like(above, np.float64), where=below > 0)
    if average is None and len(scores) > 1:
        return scores
    occur = counts["answered"] + counts["true"] > 0
    return float(scores[occur].mean()) if occur.any() else 0.0


def _right(outputs: Array, batch: Mapping[str, Any]) -> dict[str, Array]:
    rows = answers(outputs, batch)
    truth = rows.labels if rows.of_classes else rows.labels > 0.5
    right = (rows.chosen() == truth) * rows.weights
    return {"right": jnp.sum(right), "all": jnp.sum(rows.weights)}


def _among(outputs: Array, batch: Mapping[str, Any], k: int) -> dict[str, Array]:
    rows = answers(outputs, batch).two_classes()
    if k > (classes := rows.logits.shape[1]):
        raise ValueError(f"k of top_k must be at most the number of classes, {classes}, got {k}")
    own = jnp.take_along_axis(rows.logits, rows.labels[:, None], axis=1)
    right = ((rows.logits > own).sum(axis=1) < k) * rows.weights
    return {"right": jnp.sum(right), "all": jnp.sum(rows.weights)}


def _share(sums: Mapping[str, Any]) -> float:
    return float(sums["right"] / sums["all"]) if sums["all"] else float("nan")


def _pairs(outputs: Array, batch: Mapping[str, Any]) -> Array:
    rows = answers(outputs, batch).two_classes()
    table = jnp.zeros((rows.logits.shape[1],) * 2)
    return table.at[rows.labels, rows.chosen()].add(rows.weights)
