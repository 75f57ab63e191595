"""Products with the loss's curvature, and the diagonal of the Fisher information."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

from cnnjax import metrics
from cnnjax.models import Model
from cnnjax.models.modules import Variables
from cnnjax.research.losses import Losses, check_vector, ready
from cnnjax.research.per_example import gradients_of
from cnnjax.task import probabilities
from cnnjax.training.batches import Batch

# What is -log p of a label: over K logits, and over one.
_LOG_LIKELIHOODS = (metrics.cross_entropy, metrics.sigmoid_cross_entropy)


def hvp(
    model: Model, batch: Batch, vector: Variables, loss: metrics.Loss | None = None
) -> Variables:
    """`H v`, with H the Hessian of the mean loss by the parameters (Pearlmutter 1994).

    `H v = d/dr grad L(theta + r v)` at r = 0: forward over reverse mode, in the time of some four
    gradients, without H.

    Args:
        model, batch, loss: as in `per_example_gradients`.
        vector: v, a tree like `model.params`.

    Returns:
        A tree like `model.params`.

    Raises:
        ValueError: as there, and for a vector of another form.

    >>> import cnnjax as cj, numpy as np
    >>> model = cj.create_model("mlp", units=(8,))
    >>> batch = {"inputs": np.zeros((5, 28, 28, 1), np.uint8), "labels": np.arange(5)}
    >>> product = cj.research.hvp(model, batch, model.params)
    >>> float(product["dense1"]["kernel"].max())
    0.0
    """
    check_vector(model, vector)
    prepared = ready(model, batch, loss)
    return hessian_product(Losses.of(model, loss), model.params, model.state, prepared, vector)


@functools.partial(jax.jit, static_argnums=0)
def hessian_product(
    losses: Losses, params: Variables, state: Variables, batch: Batch, vector: Variables
) -> Variables:
    """`hvp` of a batch that is `ready`."""
    gradient = jax.grad(lambda params: losses.mean(params, state, batch))
    product: Variables = jax.jvp(gradient, (params,), (vector,))[1]
    return product


def ggn_vector_product(
    model: Model, batch: Batch, vector: Variables, loss: metrics.Loss | None = None
) -> Variables:
    """`G v`, with G the generalised Gauss-Newton matrix of the mean loss (Schraudolph 2002).

    `G = J' (d^2 loss / d z^2) J`, with z the outputs and J their derivative by the parameters. With
    a loss that is convex in z it has no negative eigenvalue; with softmax cross-entropy, or half
    the squared error, it is the Fisher information (Martens 2020).

    Arguments, result and errors as in `hvp`.

    >>> import cnnjax as cj, numpy as np
    >>> model = cj.create_model("mlp", units=(8,))
    >>> batch = {"inputs": np.zeros((5, 28, 28, 1), np.uint8), "labels": np.arange(5)}
    >>> product = cj.research.ggn_vector_product(model, batch, model.params)
    >>> product["logits"]["bias"].shape
    (10,)
    """
    check_vector(model, vector)
    prepared = ready(model, batch, loss)
    return gauss_newton_product(Losses.of(model, loss), model.params, model.state, prepared, vector)


@functools.partial(jax.jit, static_argnums=0)
def gauss_newton_product(
    losses: Losses, params: Variables, state: Variables, batch: Batch, vector: Variables
) -> Variables:
    """`ggn_vector_product` of a batch that is `ready`."""

    def mean(outputs: Any) -> Array:
        return losses.of_outputs(outputs, batch).sum() / batch["count"]

    outputs, push = jax.linearize(lambda params: losses.outputs(params, state, batch), params)
    bent = jax.jvp(jax.grad(mean), (outputs,), (push(vector),))[1]
    product: Variables = jax.linear_transpose(push, params)(bent)[0]
    return product


def fisher_diagonal(model: Model, batch: Batch, *, empirical: bool = False) -> Variables:
    """The diagonal of the Fisher information of a classifier (Kirkpatrick et al. 2017, EWC).

    `F_ii = mean_n sum_k p(k | x_n) (d log p(k | x_n) / d theta_i)^2`, with the sum over all classes
    taken as it stands, without sampling. The empirical one takes the label that an example has in
    place of the mean over classes, which is another quantity (Kunstner et al. 2019).

    Args:
        model: whose task's loss is cross-entropy of classes; with empirical=True any, whose loss
            then stands for `-log p`.
        batch: as in `per_example_gradients`; weights multiply the terms of the mean.
        empirical: take the labels of the batch.

    Returns:
        A tree like `model.params`, none of it negative.

    Raises:
        ValueError: for another loss; and as in `per_example_gradients`.

    >>> import cnnjax as cj, numpy as np
    >>> model = cj.create_model("mlp", units=(8,))
    >>> batch = {"inputs": np.full((5, 28, 28, 1), 255, np.uint8), "labels": np.arange(5)}
    >>> float(cj.research.fisher_diagonal(model, batch)["dense1"]["kernel"].min()) >= 0
    True
    """
    task = model.spec.task
    if not empirical and task.loss not in _LOG_LIKELIHOODS:
        raise ValueError(
            f"fisher_diagonal sums over the classes of a cross-entropy, and the task {task.name!r} "
            f"of {model.spec.name} has another loss: give empirical=True, which takes the labels"
        )
    prepared = ready(model, batch, None)
    losses = Losses.of(model, None)
    return _fisher(losses, empirical, model.params, model.state, prepared)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _fisher(
    losses: Losses, empirical: bool, params: Variables, state: Variables, batch: Batch
) -> Variables:
    count, share = batch["count"], batch["share"]
    alike = {**batch, "share": jnp.ones_like(share)}  # weights multiply squares, not gradients

    def mean_square(labels: Any, parts: Array) -> Variables:
        gradients = gradients_of(losses, params, state, {**alike, "labels": labels})
        return jax.tree.map(lambda g: jnp.tensordot(parts * share, g**2, axes=1) / count, gradients)

    if empirical:
        return mean_square(batch["labels"], jnp.ones_like(share))
    probs = probabilities(losses.outputs(params, state, batch))
    if probs.shape[-1] == 1:
        probs = jnp.concatenate([1 - probs, probs], axis=-1)

    def add(total: Variables, one: tuple[Array, Array]) -> tuple[Variables, None]:
        label, parts = one
        labels = jnp.full(share.shape, label)
        return jax.tree.map(jnp.add, total, mean_square(labels, parts)), None

    zeros = jax.tree.map(jnp.zeros_like, params)
    return lax.scan(add, zeros, (jnp.arange(probs.shape[-1]), probs.T))[0]
