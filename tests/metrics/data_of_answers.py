"""Random answers, and metrics over them in batches of any size with a masked, ragged last one."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from cnnjax import metrics
from cnnjax.metrics import Metric

RNG = np.random.default_rng(0)
COUNT = 203


def of_classes(classes: int = 5) -> tuple[np.ndarray, np.ndarray]:
    """Logits [N, K] that are often right, and labels [N]."""
    labels = RNG.integers(0, classes, COUNT).astype(np.int32)
    logits = RNG.standard_normal((COUNT, classes)) + 1.5 * np.eye(classes)[labels]
    return logits.astype(np.float32), labels


def of_one_logit() -> tuple[np.ndarray, np.ndarray]:
    """Logits [N, 1], and labels [N] of 0 and 1."""
    labels = (RNG.random(COUNT) < 0.3).astype(np.int32)
    return (RNG.standard_normal((COUNT, 1)) + labels[:, None]).astype(np.float32), labels


def multilabel(labels: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """Logits [N, K], and labels [N, K] of 0 and 1."""
    truth = (RNG.random((COUNT, labels)) < 0.4).astype(np.float32)
    return (RNG.standard_normal(truth.shape) + truth).astype(np.float32), truth


def measured(metric: Metric, outputs: np.ndarray, labels: np.ndarray, size: int = 64) -> Any:
    """What a metric computes, with rubbish where the mask is 0 in the last batch."""
    update, totals = jax.jit(metric.update), {}
    for start in range(0, len(outputs), size):
        z, y = outputs[start : start + size], labels[start : start + size]
        fill = size - len(z)
        batch = {
            "labels": jnp.asarray(np.concatenate([y, y[:1].repeat(fill, 0)])),
            "mask": jnp.asarray(np.arange(size) < len(y), jnp.float32),
        }
        filled = np.concatenate([z, 9 - z[:1].repeat(fill, 0)])
        totals = metrics.add(totals, {"it": jax.device_get(update(jnp.asarray(filled), batch))})
    return metric.values("it", totals["it"])["it"]
