"""Which training examples a prediction rests on: influence functions."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.flatten_util import ravel_pytree
from jax.scipy.sparse.linalg import cg

from cnnjax import metrics
from cnnjax.core.checks import is_number
from cnnjax.models import Model
from cnnjax.models.modules import Variables
from cnnjax.research.curvature import gauss_newton_product
from cnnjax.research.losses import Losses, example, examples, ready
from cnnjax.training.batches import Batch

# Of the right side, what may be left over of a solved equation, and what is refused.
_TOLERANCE, _REFUSED = 1e-4, 1e-2


def influence(
    model: Model,
    train: Batch,
    test: Batch,
    *,
    damping: float = 1e-3,
    iterations: int = 100,
    average: bool = False,
    loss: metrics.Loss | None = None,
) -> Array:
    """By how much the loss of test examples would grow without each of the training examples.

    Influence functions (Koh & Liang 2017): without example n of N a minimum of the mean training
    loss with the penalty `damping / 2 |theta|^2` moves, to first order, such that the loss of the
    test example m grows by

        I[m, n] = 1 / N  (grad loss_m)' (G + damping)^-1 grad loss_n

    with G the Gauss-Newton matrix of the training loss, which unlike the Hessian has no negative
    eigenvalues. Positive: n helps with m. The equation is solved for each m by conjugate gradients,
    and one forward-mode pass then serves all n. In nets, which are not convex nor at a minimum, it
    tells well how the linearised net would change, not how a net that is trained anew would (Bae et
    al. 2022).

    Args:
        model: trained on `train`.
        train, test: batches of N and M examples, as in `per_example_gradients`.
        damping: the penalty of the training; where there was none a small number, > 0.
        iterations: of conjugate gradients, at most, >= 1.
        average: of the mean loss of the test examples, which is one equation in place of M.
        loss: as there.

    Returns:
        float32 [M, N]; [N] of the average.

    Raises:
        ValueError: for damping or iterations out of range, and where the iterations do not suffice.

    >>> import cnnjax as cj, numpy as np
    >>> model = cj.create_model("mlp", units=(8,))
    >>> batch = {"inputs": np.full((3, 28, 28, 1), 255, np.uint8), "labels": np.array([0, 1, 1])}
    >>> scores = cj.research.influence(model, batch, batch, damping=0.1)
    >>> bool(scores[0, 0] > 0), bool(scores[1, 2] > 0)
    (True, True)
    """
    if not (is_number(damping) and damping > 0):
        raise ValueError(f"damping must be a number > 0, got {damping!r}")
    if not (isinstance(iterations, int) and iterations >= 1):
        raise ValueError(f"iterations must be a whole number >= 1, got {iterations!r}")
    of_train, of_test = ready(model, train, loss), ready(model, test, loss)
    losses = Losses.of(model, loss)
    arrays = (model.params, model.state, of_train, of_test, damping)
    scores, residuals = _influence(losses, iterations, average, *arrays)
    worst = float(np.max(residuals))
    if not worst <= _REFUSED:
        raise ValueError(
            f"{iterations} iterations of conjugate gradients left {worst:.1%} of the equation "
            f"unsolved with damping={damping}: give more iterations, or a larger damping"
        )
    return scores


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _influence(
    losses: Losses,
    iterations: int,
    average: bool,
    params: Variables,
    state: Variables,
    train: Batch,
    test: Batch,
    damping: Array,
) -> tuple[Array, Array]:
    """Scores, and of each of the equations the share that is left unsolved."""
    _, unravel = ravel_pytree(params)

    def damped(vector: Array) -> Array:
        product = gauss_newton_product(losses, params, state, train, unravel(vector))
        return ravel_pytree(product)[0] + damping * vector

    def of_batch(batch: Batch) -> tuple[Array, Array]:
        gradient = ravel_pytree(jax.grad(losses.mean)(params, state, batch))[0]
        solution, _ = cg(damped, gradient, tol=_TOLERANCE, maxiter=iterations)
        left = jnp.linalg.norm(damped(solution) - gradient)
        moved = jax.jvp(
            lambda params: losses.each(params, state, train), (params,), (unravel(solution),)
        )[1]
        size = jnp.linalg.norm(gradient)
        return moved / train["count"], left / jnp.where(size > 0, size, 1)

    with jax.default_matmul_precision("float32"):
        if average:
            return of_batch(test)
        scores: tuple[Array, Array] = lax.map(lambda one: of_batch(example(one)), examples(test))
    return scores
