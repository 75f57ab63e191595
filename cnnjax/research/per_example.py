"""The gradient of every example of a batch on its own."""

from __future__ import annotations

import functools

import jax

from cnnjax import metrics
from cnnjax.models import Model
from cnnjax.models.modules import Variables
from cnnjax.research.losses import Losses, example, examples, ready
from cnnjax.training.batches import Batch


def per_example_gradients(
    model: Model, batch: Batch, loss: metrics.Loss | None = None
) -> Variables:
    """`g_n = d loss(f(x_n; theta), y_n) / d theta` for every example n, by `vmap` of `grad`.

    For noise scales, clipping (differential privacy), or finding examples that pull apart. The
    model runs as in evaluation, in which examples do not see each other, and the loss is without
    what modules sow in training; the mean of the g_n is the gradient of the mean loss.

    Args:
        model: any.
        batch: "inputs" and "labels" as a data set has them; optionally "mask" [N], whose gradients
            of 0 are zero, and "weights" [N], which multiply the losses.
        loss: (outputs, labels) -> [N]; None takes that of the model's task.

    Returns:
        A tree like `model.params`, each leaf with N in front of its shape.

    Raises:
        ValueError: for a batch that the model, or its task, cannot take.

    >>> import cnnjax as cj, numpy as np
    >>> batch = {"inputs": np.zeros((5, 28, 28, 1), np.uint8), "labels": np.arange(5)}
    >>> gradients = cj.research.per_example_gradients(cj.create_model("mlp", units=(8,)), batch)
    >>> gradients["dense1"]["kernel"].shape
    (5, 784, 8)
    """
    prepared = ready(model, batch, loss)
    return gradients_of(Losses.of(model, loss), model.params, model.state, prepared)


@functools.partial(jax.jit, static_argnums=0)
def gradients_of(losses: Losses, params: Variables, state: Variables, batch: Batch) -> Variables:
    """`per_example_gradients` of a batch that is `ready`."""

    def gradient(one: Batch) -> Variables:
        return jax.grad(losses.mean)(params, state, example(one))

    return jax.vmap(gradient)(examples(batch))
