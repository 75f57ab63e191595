"""What a training minimises: the usual objective, and what holds of one of the caller's own."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from cnnjax import metrics
from cnnjax.core import trees
from cnnjax.core.text import suggest
from cnnjax.metrics.metric import LOOP_NAMES, PARTS
from cnnjax.models import Functions
from cnnjax.models.modules import LOSSES
from cnnjax.training.batches import Batch
from cnnjax.training.freezing import Tree


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=["outputs", "state", "metrics"],
    meta_fields=[],
)
@dataclass(frozen=True)
class Aux:
    """What an objective returns beside the losses.

    Args:
        outputs: of the model, [N, ...], or {name: these} of several, which the metrics are measured
            on in training; None measures none.
        state: the model's collections beside its parameters after the step, as
            `functions.apply_train` returns them; or as the objective got them.
        metrics: further values per example, {name: [N]}, whose means stand in the epoch's record.
    """

    outputs: Any
    state: Tree
    metrics: Mapping[str, Array] = field(default_factory=dict)


Objective = Callable[[Functions, Tree, Tree, Batch, Array], tuple[Array, Aux]]


def supervised(loss: metrics.Loss, label_smoothing: float = 0.0, num_classes: int = 0) -> Objective:
    """The usual objective: the loss of what the model makes of the inputs, in training mode.

    Of inputs that were mixed, the batch's "partner_labels" and "share" of mixup and CutMix, it is
    `share * loss(z, y) + (1 - share) * loss(z, partner's y)`.

    Args:
        loss: (outputs, labels) -> [N].
        label_smoothing: share of the target spread over all classes, in [0, 1).
        num_classes: of which label smoothing needs to know.

    Returns:
        An objective, which one of your own may call and add to.

    Raises:
        ValueError: in its first step, if the loss does not return [N].

    >>> import cnnjax as cj
    >>> usual = supervised(cj.metrics.cross_entropy)
    >>> def with_decay(functions, params, state, batch, key):
    ...     losses, aux = usual(functions, params, state, batch, key)
    ...     return losses + 1e-4 * sum((leaf**2).sum() for leaf in jax.tree.leaves(params)), aux
    """

    def objective(
        functions: Functions, params: Tree, state: Tree, batch: Batch, key: Array
    ) -> tuple[Array, Aux]:
        outputs, new_state = functions.apply_train(params, state, batch["inputs"], key)

        def losses_for(labels: Array) -> Array:
            targets = labels
            if label_smoothing:
                targets = metrics.smooth_labels(labels, num_classes, label_smoothing)
            return per_example(loss(outputs, targets), batch["mask"], "loss must return")

        losses = losses_for(batch["labels"])
        if "share" in batch:
            share = batch["share"]
            losses = share * losses + (1.0 - share) * losses_for(batch["partner_labels"])
        return losses, Aux(outputs, new_state)

    return objective


def of_batch(
    objective: Objective, functions: Functions, params: Tree, state: Tree, batch: Batch, key: Array
) -> tuple[Array, Aux]:
    """The losses that a step minimises, and the rest, once it is checked what an objective made.

    The losses are weighted by the batch's "weights"; what modules sow into the collection "losses"
    is added after that, as Keras' `add_loss` is. `Aux.state` comes back without it.

    Args:
        objective: the usual one, or one of the caller's.
        functions, params, state, batch, key: what it is given.

    Raises:
        ValueError: for anything but losses [N] and an `Aux` that fits them.
    """
    made = objective(functions, params, state, batch, key)
    if not (isinstance(made, tuple) and len(made) == 2 and isinstance(made[1], Aux)):
        raise ValueError(
            "objective must return (losses [N], cj.training.Aux(outputs, state)), got "
            f"{_kinds(made)}"
        )
    losses, aux = made
    mask = batch["mask"]
    losses = per_example(losses, mask, "objective must return losses")
    for name, values in aux.metrics.items():
        per_example(values, mask, f"Aux.metrics[{name!r}] must be")
    if "weights" in batch:
        weights = per_example(batch["weights"], mask, "batch['weights'] must be")
        losses = losses * weights
    if not isinstance(aux.state, Mapping):
        raise ValueError(
            "Aux.state must be the state that the objective got, or that functions.apply_train "
            f"returned, got {_kinds(aux.state)}"
        )
    for path, value in _sown_leaves(aux.state.get(LOSSES, {})).items():
        losses = losses + _sown_loss(path, value, mask)
    rest = {name: tree for name, tree in aux.state.items() if name != LOSSES}
    return losses, Aux(aux.outputs, rest, aux.metrics)


def check_measures(names: Mapping[str, Any], measured: Mapping[str, Any]) -> None:
    """Refuse measures with the name of something else in the record of an epoch.

    Args:
        names: of the measures.
        measured: metrics of the training, by name.

    Raises:
        ValueError: for the first such name.
    """
    for name in names:
        if name in (*LOOP_NAMES, *measured) or name.startswith(PARTS):
            raise ValueError(
                f"a measure of your own cannot be called {name!r}, which the record of an epoch "
                "has already: choose another name"
            )


def check_state(new: Tree, old: Tree) -> None:
    """Whether an objective hands on all of the model's collections.

    Raises:
        ValueError: naming the first variable that is missing or of another shape.
    """
    there = trees.leaves(new)
    for path, leaf in trees.leaves(old).items():
        if path not in there:
            raise ValueError(
                f"Aux.state lacks {path}: give the state that functions.apply_train returned, or "
                f"the one that the objective got. {suggest(path, there, 'variables')}"
            )
        if jnp.shape(there[path]) != jnp.shape(leaf):
            raise ValueError(
                f"Aux.state has {path} of shape {list(jnp.shape(there[path]))}, which is "
                f"{list(jnp.shape(leaf))} in the model"
            )


def check_own(objective: Any, label_smoothing: float, mixes: bool) -> None:
    """Refuse settings that only the usual objective honours.

    Args:
        objective: of the caller's.
        label_smoothing: as in `TrainingConfig`.
        mixes: whether the augmentation mixes examples and their labels.

    Raises:
        ValueError: for the first such setting, and for what is no function.
    """
    if not callable(objective):
        raise ValueError(
            "objective must be a function (functions, params, state, batch, key) -> (losses [N], "
            f"cj.training.Aux), got {objective!r}"
        )
    if label_smoothing:
        raise ValueError(
            f"label_smoothing={label_smoothing} is for the usual objective: smooth the labels in "
            "yours by cj.metrics.smooth_labels"
        )
    if mixes:
        raise ValueError(
            "augment with mixup or cutmix mixes the labels as well, which the usual objective "
            "alone takes into account: leave them out, or mix batch['examples'] in yours"
        )


def per_example(values: Any, mask: Array, what: str) -> Array:
    """Values, which are one per example.

    Args:
        values: [N].
        mask: [N].
        what: the beginning of the error, before the shape that is right.

    Raises:
        ValueError: for another shape.
    """
    if jnp.shape(values) != mask.shape:
        raise ValueError(
            f"{what} {list(mask.shape)}, got {list(jnp.shape(values))}: one value per example"
        )
    return values


def _sown_leaves(tree: Any) -> dict[str, Any]:
    """What was sown, {path: value}, one by one: Flax makes a tuple of several under one name."""
    found: dict[str, Any] = {}
    for path, leaf in trees.leaves(tree).items():
        several = leaf if isinstance(leaf, tuple) else (leaf,)
        found |= {f"{path} {i}" if i else path: value for i, value in enumerate(several)}
    return found


def _sown_loss(path: str, value: Array, mask: Array) -> Array:
    if jnp.shape(value) not in ((), mask.shape):
        raise ValueError(
            f"{LOSSES}/{path} must be a scalar or {list(mask.shape)}, one value per example, to be "
            f"added to the loss, got {list(jnp.shape(value))}: sow its sum or mean"
        )
    return value.astype(jnp.float32)


def _kinds(made: Any) -> str:
    if isinstance(made, tuple):
        return f"({', '.join(type(part).__name__ for part in made)})"
    return f"a {type(made).__name__}"
