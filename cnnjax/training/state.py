"""TrainState: everything that a training step changes, as one pytree."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import Array

from cnnjax import paths
from cnnjax.models import Model

Tree = dict[str, Any]


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=["step", "params", "frozen", "state", "opt_state", "average", "key"],
    meta_fields=[],
)
@dataclass(frozen=True)
class TrainState:
    """The state of a training.

    Args:
        step: int32 scalar, steps done.
        params: the trainable parameters, nested by layer.
        frozen: the other parameters; no gradient is computed for them.
        state: collections beside the parameters, e.g. {"batch_stats": ...}.
        opt_state: of the optimiser, for `params` only.
        average: moving average of `params`, or {} without averaging.
        key: uint32 data of the random key from which every stream of the run is drawn.
    """

    step: Array
    params: Tree
    frozen: Tree
    state: Tree
    opt_state: Any
    average: Tree
    key: Array

    @classmethod
    def create(
        cls,
        model: Model,
        optimizer: optax.GradientTransformation,
        *,
        frozen: Sequence[str] = (),
        seed: int = 0,
        average: bool = False,
    ) -> TrainState:
        """The state before the first step; its arrays are copies, so that steps may donate it.

        Args:
            model: whose variables to start from.
            optimizer: any optax transformation.
            frozen: patterns of layers that stay as they are.
            seed: of dropout and augmentation.
            average: keep a moving average of the parameters.

        Raises:
            ValueError: if a pattern names nothing, or nothing is left to train.
        """
        flat, held = paths.flatten(model.params), frozen_parameters(model, frozen)
        if held == set(paths.leaves(model.params)):
            raise ValueError(f"frozen={tuple(frozen)!r} leaves no parameter to train")
        copies = jax.tree.map(jnp.array, flat)
        params = paths.unflatten({k: v for k, v in copies.items() if k not in held})
        return cls(
            step=jnp.zeros((), jnp.int32),
            params=params,
            frozen=paths.unflatten({k: v for k, v in copies.items() if k in held}),
            state=jax.tree.map(jnp.array, model.state),
            # Copies here too: an optimiser may use one array of zeros for two moments.
            opt_state=jax.tree.map(jnp.array, optimizer.init(params)),
            average=jax.tree.map(jnp.array, params) if average else {},
            key=jax.random.key_data(jax.random.key(seed)),
        )

    def variables(self) -> Tree:
        """The variables to evaluate: the averaged parameters if there are any."""
        return {"params": merge(self.average or self.params, self.frozen), **self.state}


def frozen_parameters(model: Model, frozen: Sequence[str]) -> set[str]:
    """Paths of the parameters that patterns freeze.

    Raises:
        ValueError: if a pattern names neither parameters nor statistics.
    """
    flat = paths.leaves(model.params)
    # A normalisation without scale and offset has statistics only.
    others = (path for tree in model.state.values() for path in paths.leaves(tree))
    return paths.select({**flat, **dict.fromkeys(others)}, frozen, "frozen") & set(flat)


def merge(first: Tree, second: Tree) -> Tree:
    """Two nested dictionaries without a common leaf, as one."""
    return paths.unflatten({**paths.flatten(first), **paths.flatten(second)})
