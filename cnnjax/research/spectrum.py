"""The top of the Hessian's spectrum: how sharp the loss is, and along what."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.flatten_util import ravel_pytree

from cnnjax import metrics
from cnnjax.core import rng
from cnnjax.models import Model
from cnnjax.models.modules import Variables
from cnnjax.research.curvature import hessian_product
from cnnjax.research.losses import Losses, ready
from cnnjax.training.batches import Batch

# Below this share of the largest element a further vector holds rounding alone.
_NOTHING_LEFT = 1e-5


class TopEigenvalues(NamedTuple):
    """The largest eigenvalues of a Hessian.

    Args:
        values: float64 [k], the largest first.
        vectors: a tree like `model.params`, each leaf with k in front; of length 1.
        residuals: float64 [k], `|H v - lambda v|`, measured with the vectors: an eigenvalue lies
            as near to each of the values. Where one is too large, take more steps.
    """

    values: np.ndarray
    vectors: Variables
    residuals: np.ndarray


def top_hessian_eigenvalues(
    model: Model,
    batch: Batch,
    k: int = 1,
    *,
    steps: int | None = None,
    seed: int = 0,
    loss: metrics.Loss | None = None,
) -> TopEigenvalues:
    """The k largest eigenvalues of the Hessian of the mean loss, by Lanczos' method.

    From a random vector, `steps` products `H q` build an orthonormal basis in which H is
    tridiagonal; that small matrix's eigenvalues approach those of H from the ends of the spectrum
    (Golub & Van Loan 2013, ch. 10; Ghorbani et al. 2019 for nets). Each vector is made orthogonal
    to all before it, twice: float32 would lose it. Of an eigenvalue that occurs several times one
    is found.

    Args:
        model, batch, loss: as in `per_example_gradients`.
        k: how many, >= 1.
        steps: products with the Hessian, >= k; None takes 20 + 5 k, at most as many as there are
            parameters. The basis takes so many times the memory of the parameters.
        seed: of the first vector.

    Returns:
        Values, vectors and residuals.

    Raises:
        ValueError: for k or steps out of range, or more than there are different eigenvalues.

    >>> import cnnjax as cj, numpy as np
    >>> model = cj.create_model("mlp", units=(8,))
    >>> batch = {"inputs": np.full((5, 28, 28, 1), 255, np.uint8), "labels": np.arange(5)}
    >>> top = cj.research.top_hessian_eigenvalues(model, batch, 2)
    >>> bool(top.values[0] >= top.values[1] > 0)
    True
    """
    size = sum(leaf.size for leaf in jax.tree.leaves(model.params))
    steps = min(20 + 5 * k, size) if steps is None else steps
    if not (isinstance(k, int) and isinstance(steps, int) and 1 <= k <= steps <= size):
        raise ValueError(
            f"k and steps must be whole numbers with 1 <= k <= steps <= {size}, the number of "
            f"parameters, got k={k} and steps={steps}"
        )
    key = rng.stream(seed, "lanczos")
    losses = Losses.of(model, loss)
    arrays = (model.params, model.state, ready(model, batch, loss))
    basis, diagonal, beside = _lanczos(losses, steps, *arrays, key)
    values, weights = _largest(np.asarray(diagonal), np.asarray(beside), k)
    weights = np.pad(weights, ((0, steps - len(weights)), (0, 0)))
    vectors, residuals = _measured(losses, *arrays, basis, weights, values)
    return TopEigenvalues(values, vectors, np.asarray(residuals, np.float64))


@functools.partial(jax.jit, static_argnums=(0, 1))
def _lanczos(
    losses: Losses, steps: int, params: Variables, state: Variables, batch: Batch, key: Array
) -> tuple[Array, Array, Array]:
    """The basis [steps, P], and the diagonal and what stands beside it of H in it, [steps] each."""
    flat, unravel = ravel_pytree(params)

    def product(vector: Array) -> Array:
        return ravel_pytree(hessian_product(losses, params, state, batch, unravel(vector)))[0]

    def step(i: Array, built: Any) -> Any:
        basis, diagonal, beside, vector = built
        basis = basis.at[i].set(vector)
        new = product(vector)
        along = jnp.vdot(new, vector)
        for _ in range(2):
            new = new - basis.T @ (basis @ new)
        length = jnp.linalg.norm(new)
        following = new / jnp.where(length > 0, length, 1)
        return basis, diagonal.at[i].set(along), beside.at[i].set(length), following

    start = jax.random.normal(key, flat.shape, flat.dtype)
    zeros = jnp.zeros(steps, flat.dtype)
    built = (jnp.zeros((steps, flat.size), flat.dtype), zeros, zeros)
    with jax.default_matmul_precision("float32"):
        built = lax.fori_loop(0, steps, step, (*built, start / jnp.linalg.norm(start)))
    return built[:3]


@functools.partial(jax.jit, static_argnums=0)
def _measured(
    losses: Losses,
    params: Variables,
    state: Variables,
    batch: Batch,
    basis: Array,
    weights: Array,
    values: Array,
) -> tuple[Variables, Array]:
    """Vectors that are sums of the basis, each a tree with k in front, and their residuals [k]."""
    _, unravel = ravel_pytree(params)

    def one(pair: tuple[Array, Array]) -> tuple[Variables, Array]:
        of_basis, value = pair
        vector = of_basis @ basis
        product = hessian_product(losses, params, state, batch, unravel(vector))
        residual = jnp.linalg.norm(ravel_pytree(product)[0] - value * vector)
        return unravel(vector), residual

    with jax.default_matmul_precision("float32"):
        measured: tuple[Variables, Array] = lax.map(
            one, (weights.T.astype(basis.dtype), values.astype(basis.dtype))
        )
    return measured


def _largest(diagonal: np.ndarray, beside: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The k largest eigenvalues of a tridiagonal matrix and their vectors [m, k]."""
    diagonal, beside = diagonal.astype(np.float64), beside.astype(np.float64)
    scale = max(np.abs(diagonal).max(), beside.max())
    ends = np.flatnonzero(beside <= _NOTHING_LEFT * scale)
    size = int(ends[0]) + 1 if len(ends) else len(diagonal)
    if k > size:
        raise ValueError(
            f"k={k} is more than the {size} different eigenvalues that Lanczos' method found: take "
            f"k={size} or less"
        )
    matrix = np.diag(diagonal[:size]) + sum(
        np.diag(beside[: size - 1], offset) for offset in (-1, 1)
    )
    values, vectors = np.linalg.eigh(matrix)
    return values[::-1][:k], vectors[:, ::-1][:, :k]
