"""The losses of a batch as a function of a model's parameters: what this room differentiates."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from cnnjax import metrics
from cnnjax.core import trees
from cnnjax.models import Model, ModelSpec
from cnnjax.models.modules import Static, Variables, forward
from cnnjax.training.batches import Batch, check_batch, masked
from cnnjax.training.objective import per_example


@dataclass(frozen=True)
class Losses:
    """A model in evaluation and a loss, as functions of the parameters; a static argument of jit.

    Args:
        static, spec: of the model.
        loss: (outputs, labels) -> [N].
    """

    static: Static
    spec: ModelSpec
    loss: metrics.Loss

    @classmethod
    def of(cls, model: Model, loss: metrics.Loss | None) -> Losses:
        """Of a model, and None for its task's loss."""
        return cls(model.static, model.spec, loss or model.spec.task.loss)

    def outputs(self, params: Variables, state: Variables, batch: Batch) -> Any:
        """What the model makes of a batch that is `ready`."""
        return forward(self.static, {"params": params, **state}, batch["inputs"])

    def of_outputs(self, outputs: Any, batch: Batch) -> Array:
        """[N], weighted; zero where an example is masked."""
        losses, share = self.loss(outputs, batch["labels"]), batch["share"]
        return per_example(losses, share, "loss must return") * share

    def each(self, params: Variables, state: Variables, batch: Batch) -> Array:
        """[N], weighted; zero where an example is masked."""
        return self.of_outputs(self.outputs(params, state, batch), batch)

    def mean(self, params: Variables, state: Variables, batch: Batch) -> Array:
        """Over the unmasked examples."""
        return self.each(params, state, batch).sum() / batch["count"]


def ready(model: Model, batch: Batch, loss: metrics.Loss | None) -> dict[str, Any]:
    """A batch as `Losses` takes it, once it is checked.

    Args:
        model: that is to see it.
        batch: "inputs" and "labels" as a data set has them; optionally "mask" and "weights" [N].
        loss: of one's own, which may want any labels; or None.

    Returns:
        {"inputs": preprocessed, "labels": ..., "share": mask times weights [N], "count": a number}.

    Raises:
        ValueError: for a batch that the model, or its task, cannot take.
    """
    spec = model.spec
    check_batch(batch, spec)
    labels = jax.tree.map(jnp.asarray, batch["labels"])
    if loss is None and not any(isinstance(x, jax.core.Tracer) for x in jax.tree.leaves(labels)):
        spec.task.check_labels(jax.tree.map(np.asarray, labels), spec.output_shape, spec.name)
    mask = masked({**batch, "labels": labels})
    weights = batch.get("weights")
    share = mask if weights is None else mask * jnp.asarray(weights, jnp.float32)
    return {
        "inputs": spec.preprocess(batch["inputs"]),
        "labels": labels,
        "share": share,
        "count": jnp.maximum(mask.sum(), 1),
    }


def example(batch: Batch) -> dict[str, Any]:
    """Of a batch that is `ready`, under `vmap`, one example as a batch of its own."""
    alone = {name: batch[name] for name in ("inputs", "labels", "share")}
    return {**jax.tree.map(lambda a: a[None], alone), "count": 1}


def examples(batch: Batch) -> dict[str, Any]:
    """What `vmap` and `example` take, of a batch that is `ready`."""
    return {name: batch[name] for name in ("inputs", "labels", "share")}


def check_vector(model: Model, vector: Any) -> None:
    """Refuse a vector that is not in the space of the parameters.

    Raises:
        ValueError: naming the first leaf that differs.
    """
    expected, given = (
        {path: list(np.shape(leaf)) for path, leaf in trees.leaves(tree).items()}
        for tree in (model.params, vector if isinstance(vector, Mapping) else {})
    )
    if different := trees.differences(expected, given):
        raise ValueError(
            f"vector must be a tree like model.params, and differs from it ({different[0]})"
        )
