"""The mean of an objective over a batch, as a function of what is trained."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from cnnjax.core import rng, trees
from cnnjax.metrics import Measure, batch_sums
from cnnjax.models import Functions
from cnnjax.training.accumulation import over_parts
from cnnjax.training.batches import Batch
from cnnjax.training.freezing import Tree, whole
from cnnjax.training.objective import Aux, Objective, check_measures, check_state, of_batch
from cnnjax.training.state import TrainState


@dataclass(frozen=True)
class Minimised:
    """The mean of an objective's losses over a batch, as a function of what is trained.

    Args:
        objective: of one batch, or one part of it.
        functions: of the model.
        frozen: patterns of layers whose collections stay as they are.
        measures: all metrics by name.
        parts: of a batch, whose gradients are added up.
        generator: of random numbers, as in `TrainingConfig`.
    """

    objective: Objective
    functions: Functions
    frozen: tuple[str, ...]
    measures: Mapping[str, Measure]
    parts: int
    generator: str

    def value(self, trained: Tree, state: TrainState, batch: Batch) -> Array:
        """The mean alone."""
        count = _count(batch)

        def visit(collections: Tree, part: Batch, number: Any) -> tuple[Tree, Array]:
            value, (_, aux) = self._mean(trained, state, collections, part, number, count)
            return aux.state, value

        return over_parts(visit, state.state, batch, self.parts)[1]

    def gradient(
        self, trained: Tree, state: TrainState, batch: Batch
    ) -> tuple[Array, Tree, dict[str, Any], Tree]:
        """(mean, its gradient, the batch's sums, the model's collections after it)."""
        count, gradient = _count(batch), jax.value_and_grad(self._mean, has_aux=True)

        def visit(collections: Tree, part: Batch, number: Any) -> tuple[Tree, Any]:
            (value, (losses, aux)), gradients = gradient(
                trained, state, collections, part, number, count
            )
            return aux.state, (value, gradients, self._sums(losses, aux, part))

        new_state, found = over_parts(visit, state.state, batch, self.parts)
        return (*found, new_state)

    def _mean(
        self,
        trained: Tree,
        state: TrainState,
        collections: Tree,
        batch: Batch,
        number: Any,
        count: Array,
    ) -> tuple[Array, tuple[Array, Aux]]:
        """A part's share in the mean over `count` examples, its losses and the rest."""
        params = whole(trained, jax.lax.stop_gradient(state.params))
        key = rng.at(rng.named(jax.random.wrap_key_data(state.key), "dropout"), state.step)
        if number is not None:
            key = rng.at(key, number)
        if self.generator == "rbg":
            key = rng.of_device(key)
        losses, aux = of_batch(self.objective, self.functions, params, collections, batch, key)
        check_measures(aux.metrics, self.measures)
        check_state(aux.state, collections)
        kept = _keep_frozen(collections, aux.state, self.frozen)
        aux = dataclasses.replace(aux, state=kept)
        return jnp.sum(losses * batch["mask"]) / count, (losses, aux)

    def _sums(self, losses: Array, aux: Aux, batch: Batch) -> dict[str, Any]:
        mask, measured = batch["mask"], {} if aux.outputs is None else self.measures
        sums = batch_sums(losses, aux.outputs, batch, measured)
        return {**sums, **{name: jnp.sum(each * mask) for name, each in aux.metrics.items()}}


def _count(batch: Batch) -> Array:
    return jnp.maximum(jnp.sum(batch["mask"]), 1.0)


def _keep_frozen(old: Tree, new: Tree, frozen: tuple[str, ...]) -> Tree:
    """New collections, but a frozen layer's statistics as they were; dtypes as they were."""
    result = {}
    for collection, tree in old.items():
        fresh = trees.leaves(new[collection])

        def pick(path: str, leaf: Array, fresh: Mapping[str, Array] = fresh) -> Array:
            held = any(trees.matches(path, pattern) for pattern in frozen)
            return leaf if held else fresh[path].astype(leaf.dtype)

        result[collection] = trees.map_flat(pick, tree)
    return result
