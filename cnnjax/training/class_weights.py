"""How much the examples of each class count in training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from cnnjax.models import ModelSpec
from cnnjax.task import JointTask
from cnnjax.training.objective import per_example


def balanced(labels: np.ndarray, classes: int) -> tuple[float, ...]:
    """Weights by which every class counts as much as any other.

    `w_k = N / (K n_k)` of the K classes that there are, as scikit-learn's "balanced" has it; 1 for
    a class without an example.

    Args:
        labels: int [N].
        classes: number of classes, >= every label.

    >>> balanced(np.array([0, 0, 0, 1]), 2)
    (0.6666666666666666, 2.0)
    """
    counts = np.bincount(labels, minlength=classes)
    there = int((counts > 0).sum())
    return tuple(float(len(labels) / (there * n)) if n else 1.0 for n in counts)


def resolved(
    weights: tuple[float, ...] | str | None, spec: ModelSpec, labels: Any
) -> tuple[float, ...] | None:
    """The numbers that `TrainingConfig.class_weights` stands for.

    Args:
        weights: of the configuration.
        spec: of the model.
        labels: of the training data, int [N]; None of a stream, which does not know them.

    Raises:
        ValueError: for a model whose labels are no classes, and for "balanced" on a stream.
    """
    if not isinstance(weights, str):
        return weights
    _check_task(weights, spec)
    if labels is None:
        raise ValueError(
            f"class_weights={weights!r} counts the labels of all training examples, which a stream "
            f"does not know: give {max(spec.num_classes, 2)} numbers"
        )
    return balanced(np.asarray(labels), max(spec.num_classes, 2))


def checked_class_weights(
    weights: Sequence[float] | str | None, spec: ModelSpec
) -> tuple[float, ...] | None:
    """The weights, of which there is one for each class.

    Raises:
        ValueError: if not, or for a model whose labels are no classes.
    """
    if weights is None:
        return None
    _check_task(weights, spec)
    classes = max(spec.num_classes, 2)
    if isinstance(weights, str):
        raise ValueError(
            f"class_weights={weights!r} is for fit, which knows the labels: give make_train_step "
            f"{classes} numbers"
        )
    if len(weights) != classes:
        raise ValueError(
            f"class_weights must be {classes} numbers, one for each class of {spec.name}, got "
            f"{len(weights)}"
        )
    return tuple(weights)


def weighted(batch: Mapping[str, Any], weights: tuple[float, ...] | None) -> Mapping[str, Any]:
    """A batch whose "weights" [N] are those of its examples times those of their classes.

    Args:
        batch: with "labels" int [N], and maybe "weights" [N].
        weights: of the classes; None leaves the batch as it is.
    """
    if weights is None:
        return batch
    of_class = jnp.take(jnp.asarray(weights, jnp.float32), batch["labels"])
    if "weights" in batch:
        of_class = of_class * per_example(batch["weights"], of_class, "batch['weights'] must be")
    return {**batch, "weights": of_class}


def _check_task(weights: Any, spec: ModelSpec) -> None:
    task = spec.task
    one_class = task.labels == ("N",) and task.label_kind == "integer"
    if not one_class or isinstance(task, JointTask):
        raise ValueError(
            f"class_weights={weights!r} is for labels that are one class an example, and "
            f"{spec.name} predicts {task.name}: give a weight per example with the data"
        )
