"""A training state as named trees of NumPy arrays, as checkpoints hold it, and back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from cnnjax.core import trees
from cnnjax.core.processes import is_key, on_host
from cnnjax.runs import CheckpointError
from cnnjax.training.freezing import Tree, frozen_by, trained_part
from cnnjax.training.own_step import OwnState, State
from cnnjax.training.schedule_free import is_schedule_free
from cnnjax.training.state import TrainState


def named_trees(state: State) -> dict[str, Tree]:
    """The variables to evaluate as "model", and as "training" the rest that a training needs.

    The arrays are copies: the next step donates the state's buffers. All processes have to call it
    where an array is divided among them.
    """
    return {name: jax.tree.map(_on_host, tree) for name, tree in _named(state).items()}


def state_of(items: dict[str, Tree], template: State, directory: Path) -> State:
    """The state of which `named_trees` made these trees.

    Args:
        items: the trees.
        template: a state of the same model and optimiser, or step of the caller's own.
        directory: of the checkpoints that they were read from, for the error.

    Raises:
        CheckpointError: if they are of another model or optimiser.
    """
    _check_like(template, items, directory / str(items["training"]["step"]))
    model, training = items["model"], items["training"]
    if isinstance(template, OwnState):
        value = _restored(template.value, training.get("value", {}))
        step, key = jnp.array(training["step"]), jnp.array(training["key"])
        return OwnState(step, value, key, template.own)
    evaluated, raw = trees.leaves(model["params"]), trees.leaves(training.get("params", {}))
    params = trees.map_flat(lambda path, _: evaluated[path], template.params)
    average = trained_part(params, frozen_by(template.opt_state)) if template.average else {}
    return TrainState(
        step=jnp.array(training["step"]),
        params=_on_device(trees.map_flat(raw.get, params)),
        state=_on_device({name: tree for name, tree in model.items() if name != "params"}),
        opt_state=_restored(template.opt_state, training.get("opt_state", {})),
        average=_on_device(average),
        key=jnp.array(training["key"]),
    )


def opt_state_hash(opt_state: Any) -> str:
    """SHA-256 over all leaves of an optimiser's state."""
    return trees.tree_hash(_indexed(jax.tree.map(_on_host, opt_state)))


def _named(state: State) -> dict[str, Tree]:
    training: Tree = {"step": state.step, "key": state.key}
    if isinstance(state, OwnState):
        training["value"] = _indexed(state.value)
        return {"model": state.variables(), "training": training}
    training["opt_state"] = _indexed(state.opt_state)
    if state.average or is_schedule_free(state.opt_state):
        training["params"] = _present(state.trained)
    return {"model": state.variables(), "training": training}


def _check_like(template: State, items: dict[str, Tree], where: Path) -> None:
    wanted, found = _shapes(named_trees(template)), _shapes(items)
    if wanted != found:
        lines = trees.differences(wanted, found)
        more = f" and {len(lines) - 5} more" if len(lines) > 5 else ""
        raise CheckpointError(
            f"checkpoint {where} is of another model, optimiser or step: "
            f"{'; '.join(lines[:5])}{more}"
        )


def _shapes(items: dict[str, Tree]) -> dict[str, Any]:
    arrays = {f"{item}/{k}": np.asarray(v) for item, t in items.items() for k, v in _flat(t)}
    return {path: (array.shape, array.dtype.str) for path, array in arrays.items()}


def _flat(tree: Tree) -> Any:
    return trees.leaves(tree).items()


def _present(trained: Tree) -> Tree:
    """A part of the parameters as a tree without the others, of which it has masked nodes."""
    return trees.unflatten(
        {path: leaf for path, leaf in _flat(trained) if not isinstance(leaf, optax.MaskedNode)}
    )


def _indexed(tree: Any) -> dict[str, Any]:
    """Leaves of any pytree by their number: optimiser states are named tuples of all kinds."""
    return {f"{i:04d}": leaf for i, leaf in enumerate(jax.tree.leaves(tree))}


def _restored(template: Any, indexed: Tree) -> Any:
    """The inverse of `_indexed`, with the structure of a template."""
    leaves = map(_like, jax.tree.leaves(template), (indexed[k] for k in sorted(indexed)))
    return jax.tree.unflatten(jax.tree.structure(template), leaves)


def _on_host(leaf: Any) -> np.ndarray:
    """A copy of an array; of a typed random key, its data."""
    return on_host(jax.random.key_data(leaf) if is_key(leaf) else leaf)


def _on_device(tree: Tree) -> Tree:
    return jax.tree.map(jnp.array, tree)


def _like(template: Any, leaf: Any) -> Any:
    """An array on the device; a random key where the template has one."""
    if jnp.issubdtype(template.dtype, jax.dtypes.prng_key):
        return jax.random.wrap_key_data(jnp.array(leaf), impl=jax.random.key_impl(template))
    return jnp.array(leaf)
