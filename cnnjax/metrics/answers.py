"""Outputs and labels as rows of answers: one of an example, or one at each position or pixel."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from cnnjax.metrics.metric import check_one_output


class Answers(NamedTuple):
    """What was answered, a row for each answer.

    Args:
        logits: float32 [M, K].
        labels: int32 [M], a class each; or float32 [M, K], 0 or 1, for answers of yes and no.
        weights: float32 of the labels' shape: 1 for what counts. A label that is no class, or is
            negative, counts nowhere: so an unlabelled pixel may be 255 or -1.
    """

    logits: Array
    labels: Array
    weights: Array

    @property
    def of_classes(self) -> bool:
        """Whether there is one class of several in every row."""
        return self.labels.ndim == 1

    def chosen(self, threshold: float = 0.5) -> Array:
        """The class of the largest logit [M], or [M, K] whether a probability is above a threshold.

        Args:
            threshold: of answers of yes and no, in (0, 1).
        """
        if self.of_classes:
            return jnp.argmax(self.logits, axis=-1)
        return jax.nn.sigmoid(self.logits) > threshold

    def two_classes(self) -> Answers:
        """Answers of one yes or no as those of two classes, of logits 0 and z; others as they are.

        Raises:
            ValueError: for several of yes and no in a row, of which none is the answer.
        """
        if self.of_classes:
            return self
        if (count := self.logits.shape[1]) > 1:
            raise ValueError(
                "this metric asks for one class of several, and labels of the shape of the outputs "
                f"are {count} answers of yes and no: measure f1, precision, recall or auroc of them"
            )
        logits = jnp.concatenate([jnp.zeros_like(self.logits), self.logits], axis=1)
        return Answers(logits, (self.labels[:, 0] > 0.5).astype(jnp.int32), self.weights[:, 0])


def answers(outputs: Array, batch: Mapping[str, Any]) -> Answers:
    """The rows of a batch.

    Args:
        outputs: logits [N, ..., K]; of one logit also [N, ...].
        batch: "labels", classes [N, ...] where K > 1, else 0 or 1; of the shape of the outputs they
            are answers of yes and no; and "mask" [N].

    Raises:
        ValueError: if outputs and labels are neither.
    """
    check_one_output(outputs)
    labels = jnp.asarray(batch["labels"])
    logits = jnp.asarray(outputs, jnp.float32)
    if logits.ndim == 1 or (logits.shape == labels.shape[: logits.ndim] and labels.ndim == 1):
        logits = logits[..., None]
    if logits.shape[-1] == 1 and labels.shape == logits.shape[:-1]:
        labels = labels[..., None]
    classes = logits.shape[-1]
    mask = jnp.broadcast_to(
        jnp.expand_dims(batch["mask"], range(1, logits.ndim)), (*logits.shape[:-1], 1)
    )
    rows, mask = logits.reshape(-1, classes), mask.reshape(-1, 1)
    if labels.shape == logits.shape:
        truth = labels.reshape(rows.shape).astype(jnp.float32)
        return Answers(rows, truth, mask * (truth >= 0))
    if labels.shape != logits.shape[:-1] or not jnp.issubdtype(labels.dtype, jnp.integer):
        raise ValueError(
            f"outputs {list(jnp.shape(outputs))} and labels {list(labels.shape)} of "
            f"{labels.dtype} are neither one class of several, int [N, ...], nor answers of yes "
            "and no, of the shape of the outputs"
        )
    truth = labels.reshape(-1).astype(jnp.int32)
    return Answers(rows, truth, mask[:, 0] * ((truth >= 0) & (truth < classes)))
