"""A step of the caller's own over any pytree, in place of objective and optimiser."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from cnnjax.augment.config import AugmentConfig
from cnnjax.core import rng, trees
from cnnjax.metrics import Measure, Metric
from cnnjax.models import Model
from cnnjax.training.batches import Batch, check_augment, check_batch, mixes, prepared
from cnnjax.training.freezing import Tree
from cnnjax.training.objective import check_measures, per_example
from cnnjax.training.state import TrainState


@dataclass(frozen=True)
class Step:
    """A training step of the caller's own, of pure functions, for `fit(step=...)`.

    Args:
        init: (model, key) -> value: what the training starts from, any pytree of arrays, typed
            random keys included.
        update: (value, batch, key) -> (value, measures): one step. The batch is that of an
            objective: "inputs" as the model takes them, "examples" as the data have them, "labels",
            "mask" float32 [N], and what else there is. Measures are {name: values [N] or a scalar},
            whose means over the examples stand in the epoch's record, "loss" among them. The key is
            one of the seed and the step.
        variables: value -> the variables of the model, {"params": {layer: {weight: array}}, ...},
            all those of `model.variables`, which are evaluated, monitored, saved and returned.

    Raises:
        ValueError: for what is no function.

    >>> import cnnjax as cj
    >>> functions, rate = cj.create_model("mlp", units=()).functions(), 0.1
    >>> def init(model, key):
    ...     return model.variables
    >>> def update(variables, batch, key):
    ...     def mean(params):
    ...         losses = cj.metrics.cross_entropy(functions.apply(params, {}, batch["inputs"]),
    ...                                           batch["labels"])
    ...         return (losses * batch["mask"]).sum() / batch["mask"].sum(), losses
    ...     gradients, losses = jax.grad(mean, has_aux=True)(variables["params"])
    ...     params = jax.tree.map(lambda p, g: p - rate * g, variables["params"], gradients)
    ...     return {"params": params}, {"loss": losses}
    >>> run = cj.fit(cj.create_model("mlp", units=()), cj.data.load("digits"),
    ...              cj.TrainingConfig(epochs=1), verbose=False,
    ...              step=cj.training.Step(init, update, lambda variables: variables))
    >>> run.history["loss"].shape
    (1,)
    """

    init: Callable[[Model, Array], Any]
    update: Callable[[Any, Batch, Array], tuple[Any, Mapping[str, Any]]]
    variables: Callable[[Any], Tree]

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            if not callable(function := getattr(self, field.name)):
                raise ValueError(f"{field.name} of a Step must be a function, got {function!r}")


@functools.partial(
    jax.tree_util.register_dataclass, data_fields=["step", "value", "key"], meta_fields=["own"]
)
@dataclass(frozen=True)
class OwnState:
    """The state of a training by a step of the caller's, in the place of a `TrainState`.

    Args:
        step: int32 scalar, steps done.
        value: the caller's.
        key: uint32 data of the random key from which every stream of the run is drawn.
        own: the caller's step.
    """

    step: Array
    value: Any
    key: Array
    own: Step

    @classmethod
    def create(cls, own: Step, model: Model, seed: int) -> OwnState:
        """The state before the first step; its arrays are copies, so that steps may donate it.

        Args:
            own: the caller's step.
            model: to start from.
            seed: of all that is random.

        Raises:
            ValueError: if `init` makes something else than arrays, or `variables` takes others
                from it than the model's.
        """
        key = jax.random.key(seed)
        value = own.init(model, rng.named(key, "init"))
        for path, leaf in jax.tree_util.tree_leaves_with_path(value):
            if not isinstance(leaf, bool | int | float) and not hasattr(leaf, "dtype"):
                raise ValueError(
                    f"init of the step must return a pytree of arrays, and value{_text(path)} is "
                    f"of {type(leaf).__name__}"
                )
        value = jax.tree.map(jnp.array, value)
        _check_variables(own.variables(value), model)
        return cls(jnp.zeros((), jnp.int32), value, jax.random.key_data(key), own)

    @property
    def trained(self) -> Tree:
        """The parameters of the model."""
        return self.variables().get("params", {})

    @property
    def opt_state(self) -> None:
        """None: an optimiser is an affair of the step's."""
        return None

    def variables(self) -> Tree:
        """The variables to evaluate."""
        return self.own.variables(self.value)


# What goes through the steps of a training.
State = TrainState | OwnState


def make_own_step(
    own: Step,
    model: Model,
    measures: Mapping[str, Measure],
    augment: AugmentConfig | Callable | None = None,
) -> Callable[[OwnState, Batch], tuple[OwnState, dict[str, Any]]]:
    """A pure training step around the caller's; (state, batch) -> (state, sums).

    Args:
        own: the caller's step.
        model: whose inputs it gets.
        measures: metrics of the training, by name.
        augment: as in `TrainingConfig`.

    Raises:
        ValueError: for an augmentation that mixes labels.
    """
    check_augment(augment, model)
    if mixes(augment):
        raise ValueError(
            "augment with mixup or cutmix mixes the labels as well, which the usual objective "
            "alone takes into account: leave them out, or mix batch['examples'] in your step"
        )
    computed = {name for name, measure in measures.items() if isinstance(measure, Metric)}

    def train_step(state: OwnState, batch: Batch) -> tuple[OwnState, dict[str, Any]]:
        check_batch(batch, model.spec)
        batch = prepared(augment, model, state.key, batch)
        key = rng.at(rng.named(jax.random.wrap_key_data(state.key), "step"), state.step)
        # On accelerators matrix products would otherwise run in TF32 or bfloat16 unasked.
        with jax.default_matmul_precision("float32"):
            made = own.update(state.value, batch, key)
        if not (isinstance(made, tuple) and len(made) == 2 and isinstance(made[1], Mapping)):
            raise ValueError(
                "update of the step must return (value, {'loss': values, ...}), got "
                f"{type(made).__name__}"
            )
        value, measured = made
        _check_same_form(state.value, value)
        sums = _sums(measured, batch["mask"])
        check_measures({k: v for k, v in measured.items() if k != "loss"}, dict.fromkeys(computed))
        return dataclasses.replace(state, step=state.step + 1, value=value), sums

    return train_step


def _sums(measured: Mapping[str, Any], mask: Array) -> dict[str, Array]:
    """Sums over the unmasked examples; a scalar is that of each of them."""
    if "loss" not in measured:
        names = ", ".join(map(repr, measured)) or "nothing"
        raise ValueError(f"update of the step must measure a 'loss', and measures {names}")
    count = jnp.sum(mask)
    sums = {}
    for name, values in measured.items():
        if jnp.ndim(values):
            per_example(values, mask, f"update of the step: {name!r} must be a scalar or")
            sums[name] = jnp.sum(jnp.asarray(values, jnp.float32) * mask)
        else:
            sums[name] = jnp.asarray(values, jnp.float32) * count
    return {**sums, "count": count}


def _check_same_form(before: Any, after: Any) -> None:
    """Whether a step returns a value of the form that it got, as loops and checkpoints need it."""
    old, new = (jax.tree_util.tree_leaves_with_path(tree) for tree in (before, after))
    structure: Any = jax.tree.structure(before)
    if structure != jax.tree.structure(after):
        paths = {_text(path) for path, _ in old} ^ {_text(path) for path, _ in new}
        where = f", which differ in value{min(paths)}" if paths else ""
        raise ValueError(
            f"update of the step must return a value of the structure that it got{where}"
        )
    for (path, a), (_, b) in zip(old, new, strict=True):
        if (jnp.shape(a), jnp.result_type(a)) != (jnp.shape(b), jnp.result_type(b)):
            raise ValueError(
                f"update of the step must return value{_text(path)} as it got it, "
                f"{jnp.result_type(a)}{list(jnp.shape(a))}, and returns "
                f"{jnp.result_type(b)}{list(jnp.shape(b))}"
            )


def _check_variables(variables: Any, model: Model) -> None:
    if not isinstance(variables, Mapping):
        raise ValueError(
            "variables of the step must return the model's variables, {'params': ...}, got "
            f"{type(variables).__name__}"
        )
    expected, there = (
        {path: list(jnp.shape(leaf)) for path, leaf in trees.leaves(tree).items()}
        for tree in (model.variables, variables)
    )
    if different := trees.differences(expected, there):
        raise ValueError(
            f"variables of the step must return those of {model.spec.name}, and they differ "
            f"({different[0]})"
        )


def _text(path: Any) -> str:
    return jax.tree_util.keystr(path)
