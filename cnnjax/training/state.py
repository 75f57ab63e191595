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

from cnnjax.core import trees
from cnnjax.core.text import first_sentence
from cnnjax.models import Model
from cnnjax.training.freezing import (
    Tree,
    check_transformation,
    frozen_by,
    frozen_parameters,
    partition,
    refreeze,
    trained_part,
    whole,
)
from cnnjax.training.schedule_free import evaluated


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=["step", "params", "state", "opt_state", "average", "key"],
    meta_fields=[],
)
@dataclass(frozen=True)
class TrainState:
    """The state of a training.

    Args:
        step: int32 scalar, steps done.
        params: all parameters, nested by layer.
        state: collections beside the parameters, e.g. {"batch_stats": ...}.
        opt_state: of the optimiser as `freeze` makes it, which has no array for what is frozen.
        average: moving average of what is trained, with `optax.MaskedNode()` for the rest; {}
            without averaging.
        key: uint32 data of the random key from which every stream of the run is drawn.
    """

    step: Array
    params: Tree
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
        opt_state: optax.OptState | None = None,
    ) -> TrainState:
        """The state before the first step; its arrays are copies, so that steps may donate it.

        Args:
            model: whose variables to start from.
            optimizer: any optax transformation, of what is trained.
            frozen: patterns of layers that stay as they are.
            seed: of dropout and augmentation.
            average: keep a moving average of the parameters.
            opt_state: of an earlier training, from which it goes on as `refreeze` says.

        Raises:
            ValueError: if a pattern names nothing, nothing is left to train, the optimizer does not
                take what is, or an earlier state is not one of its kind.
        """
        check_transformation(optimizer)
        held = frozen_parameters(model.params, model.state, frozen)
        params = jax.tree.map(jnp.array, model.params)
        started = _started(partition(optimizer, held, params), params, frozen, opt_state)
        return cls(
            step=jnp.zeros((), jnp.int32),
            params=params,
            state=jax.tree.map(jnp.array, model.state),
            # Copies here too: an optimiser may use one array of zeros for two moments.
            opt_state=jax.tree.map(jnp.array, started),
            average=trained_part(jax.tree.map(jnp.array, params), held) if average else {},
            key=jax.random.key_data(jax.random.key(seed)),
        )

    @property
    def trained(self) -> Tree:
        """The parameters, with `optax.MaskedNode()`, a node without leaves, for what is frozen."""
        return trained_part(self.params, frozen_by(self.opt_state))

    def variables(self) -> Tree:
        """The variables to evaluate: the averaged parameters if there are any."""
        if self.average:
            params = whole(self.average, self.params)
        else:
            params = evaluated(self.params, self.opt_state)
        return {"params": params, **self.state}


def _started(
    optimizer: optax.GradientTransformation,
    params: Tree,
    frozen: Sequence[str],
    opt_state: optax.OptState | None,
) -> optax.OptState:
    """The state of an optimiser, whose errors say what it was given."""
    try:
        fresh = optimizer.init(params)
    except Exception as error:  # the code is another's, and may raise anything
        raise ValueError(
            f"optimizer cannot begin with {given_parameters(params, frozen)}: "
            f"{first_sentence(error)}"
        ) from error
    return fresh if opt_state is None else refreeze(opt_state, optimizer, params)


def given_parameters(params: Tree, frozen: Sequence[str]) -> str:
    """What an optimiser is given, for its errors."""
    layers = list(dict.fromkeys(path.rpartition("/")[0] for path in trees.flatten(params)))
    more = f" and {len(layers) - 3} more" if len(layers) > 3 else ""
    without = f", with optax.MaskedNode() for those of frozen={tuple(frozen)!r}" if frozen else ""
    return (
        f"the parameters, {{layer: {{weight: array}}}} of {', '.join(layers[:3])}{more}{without} "
        "(labels or masks of them must have the same form, or be a function of this tree)"
    )
