"""Schedule-free optimisers, which evaluate other parameters than those that they train."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import optax
from optax import contrib

Tree = dict[str, Any]


def evaluated(params: Tree, opt_state: Any) -> Tree:
    """The parameters to evaluate: of a schedule-free optimiser the average x, else those given.

    It trains `y = (1 - b1) z + b1 x`, of which z is in its state, so that
    `x = (y - (1 - b1) z) / b1` (Defazio et al. 2024, The Road Less Scheduled).

    Args:
        params: that are trained, and frozen ones, which stay as they are.
        opt_state: of the optimiser, of which parts may be schedule-free.
    """
    for state in _states(opt_state):
        params = _average(state, params)
    return params


def is_schedule_free(opt_state: Any) -> bool:
    """Whether an optimiser's state is one of a schedule-free one, at least in parts."""
    return bool(_states(opt_state))


def check_schedule_free(average: float, opt_state: Any) -> None:
    """Refuse what a schedule-free optimiser cannot honour.

    Args:
        average: the setting.
        opt_state: as in `fit`.

    Raises:
        ValueError: for an average of the average, or a start from a result, which is one.
    """
    if average:
        raise ValueError(
            f"average={average} averages the parameters, which the optimizer does already, since "
            "it is schedule-free: leave it out"
        )
    if opt_state is not None:
        raise ValueError(
            "opt_state does not fit the model: the optimizer is schedule-free, and the parameters "
            "of a result are not those that it trains: begin with opt_state=None"
        )


def _average(state: contrib.ScheduleFreeState, params: Tree) -> Tree:
    """The parameters, with the average in place of those that a part of an optimiser trains."""
    b1 = jnp.asarray(state.b1)

    def is_other(node: Any) -> bool:
        return isinstance(node, optax.MaskedNode)

    def average(z: Any, y: Any) -> Any:
        # By JAX also for a copy in NumPy's arrays, which would round otherwise.
        return y if is_other(z) else (jnp.asarray(y) - (1.0 - b1) * jnp.asarray(z)) / b1

    return jax.tree.map(average, state.z, params, is_leaf=is_other)


def _states(opt_state: Any) -> list[contrib.ScheduleFreeState]:
    def known(node: Any) -> bool:
        return isinstance(node, contrib.ScheduleFreeState)

    return [node for node in jax.tree.leaves(opt_state, is_leaf=known) if known(node)]
