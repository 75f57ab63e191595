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
from cnnjax.config import without_address
from cnnjax.core.text import first_sentence, plain
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
            ValueError: if a pattern names nothing, nothing is left to train, or the optimizer does
                not take what is.
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
            opt_state=jax.tree.map(jnp.array, _started(optimizer, params, frozen)),
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


def _started(
    optimizer: optax.GradientTransformation, params: Tree, frozen: Sequence[str]
) -> optax.OptState:
    """The state of an optimiser, whose errors say what it was given."""
    check_transformation(optimizer)
    try:
        return optimizer.init(params)
    except Exception as error:  # the code is another's, and may raise anything
        raise ValueError(
            f"optimizer cannot begin with {trained_parameters(params, frozen)}: "
            f"{first_sentence(error)}"
        ) from error


def check_transformation(optimizer: Any) -> None:
    """Refuse what is no optax transformation.

    Raises:
        ValueError: for anything without `init` and `update`, as a function that makes one.
    """
    if not (hasattr(optimizer, "init") and hasattr(optimizer, "update")):
        raise ValueError(
            "optimizer must be an optax transformation, e.g. optax.adam(1e-3), got "
            f"{plain(without_address(str(optimizer)))}"
        )


def trained_parameters(params: Tree, frozen: Sequence[str]) -> str:
    """What an optimiser is given, for its errors."""
    layers = list(dict.fromkeys(path.rpartition("/")[0] for path in paths.flatten(params)))
    more = f" and {len(layers) - 3} more" if len(layers) > 3 else ""
    without = f", without those of frozen={tuple(frozen)!r}" if frozen else ""
    return (
        "the parameters that are trained, {layer: {weight: array}} of "
        f"{', '.join(layers[:3])}{more}{without} (labels or masks of them must have the same form, "
        "or be a function of this tree)"
    )


def merge(first: Tree, second: Tree) -> Tree:
    """Two nested dictionaries without a common leaf, as one."""
    return paths.unflatten({**paths.flatten(first), **paths.flatten(second)})
