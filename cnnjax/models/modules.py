"""How a module is called in training and in evaluation."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen
from flax.core import unfreeze
from jax import Array

from cnnjax.core import rng, trees
from cnnjax.models.adapters import Adapters
from cnnjax.models.spec import ModelSpec

# How the modules people write call the switch between training and evaluation, and its value in
# training.
TRAIN_ARGUMENTS = {"train": True, "training": True, "is_training": True, "deterministic": False}

# Before a switch whose meaning is the opposite: True in evaluation.
NOT = "not "

# The collection of what a module sows to be added to the loss, as Flax's own examples call it.
LOSSES = "losses"

# Collections that belong to one call, and not to the model.
_OF_ONE_CALL = ("perturbations", LOSSES)

# What may combine statistics over the devices of a `pmap`.
_OVER_DEVICES = (
    linen.BatchNorm,
    linen.LayerNorm,
    linen.RMSNorm,
    linen.GroupNorm,
    linen.InstanceNorm,
)


def switches(module: linen.Module, names: Sequence[str] = ()) -> dict[str, bool]:
    """The arguments of a module's `__call__` that switch it to training, with their values there.

    Args:
        module: the module.
        names: of the arguments, with "not " before one that is True in evaluation; () takes those
            that have a usual name.

    >>> class Net(linen.Module):
    ...     def __call__(self, x, deterministic, inference=True): ...
    >>> switches(Net())
    {'deterministic': False}
    >>> switches(Net(), ("not inference",))
    {'inference': False}
    """
    if names:
        return {name.removeprefix(NOT): not name.startswith(NOT) for name in names}
    known = inspect.signature(type(module).__call__).parameters
    return {name: on for name, on in TRAIN_ARGUMENTS.items() if name in known}


def train_kwargs(module: linen.Module, names: Sequence[str] = (), *, train: bool) -> dict[str, Any]:
    """The switches of a module, set to training or to evaluation; arguments as in `switches`."""
    return {name: on if train else not on for name, on in switches(module, names).items()}


def without_axis_names(next_function: Callable, args: Any, kwargs: Any, context: Any) -> Any:
    """Interceptor: normalisation does without the axis of a `pmap`.

    A program here sees the whole batch, on however many devices it lies, so that the statistics are
    those of the whole batch already. Axes that the module itself makes by `vmap` remain.

    Raises:
        ValueError: for groups of devices, whose statistics would differ.
    """
    module = context.module
    if not isinstance(module, _OVER_DEVICES) or module.axis_name is None:
        return next_function(*args, **kwargs)
    name = module.axis_name
    names = name if isinstance(name, tuple | list) else (name,)
    bound = tuple(filter(_is_bound, names))
    if len(bound) == len(names):
        return next_function(*args, **kwargs)
    if module.axis_index_groups is not None:
        raise ValueError(
            f"{trees.join(module.path) or type(module).__name__} has axis_index_groups, and here "
            "statistics are those of the whole batch, not of groups of devices: leave it out"
        )
    object.__setattr__(module, "axis_name", bound or None)
    try:
        return next_function(*args, **kwargs)
    finally:
        object.__setattr__(module, "axis_name", name)


def _is_bound(axis_name: str) -> bool:
    """Whether what is traced lies within a `vmap` or `pmap` over this axis."""
    try:
        jax.lax.axis_size(axis_name)
    except NameError:
        return False
    return True


class Static:
    """A module as a static argument of jit; hashable also if its attributes are not.

    Args:
        module: the module.
        names: of its switches, as in `switches`.
        adapters: of some of its kernels; None where it has none.
    """

    def __init__(
        self,
        module: linen.Module,
        names: tuple[str, ...] = (),
        adapters: Adapters | None = None,
    ):
        self.module, self.names, self.adapters = module, names, adapters

    @classmethod
    def of(cls, module: linen.Module, spec: ModelSpec) -> Static:
        """A module as its spec says that it is called."""
        return cls(module, spec.train_arguments, spec.adapters)

    def __hash__(self) -> int:
        return hash((type(self.module).__qualname__, self.names, self.adapters))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Static):
            return False
        if self.names != other.names or self.adapters != other.adapters:
            return False
        try:
            return self.module is other.module or bool(self.module == other.module)
        except (ValueError, TypeError):  # an attribute that is an array has no single answer
            return False

    def initial(self, sample: Any, key: Array) -> dict[str, Any]:
        """What the module's `init` makes, without what belongs to one call and not to the model."""
        inputs = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), sample)
        kwargs = train_kwargs(self.module, self.names, train=False)
        with linen.intercept_methods(without_axis_names):
            made = unfreeze(self.module.init({"params": key, "dropout": key}, inputs, **kwargs))
        made = linen.unbox(made)  # without the axes' names of `with_partitioning`
        if self.adapters is not None:
            made["params"] = self.adapters.initial(made["params"], key)
        return {
            name: tree
            for name, tree in made.items()
            if name not in _OF_ONE_CALL and not any(map(sown, trees.flatten(tree).values()))
        }

    def evaluate(self, variables: dict[str, Any], inputs: Array) -> Any:
        """The outputs in evaluation."""
        kwargs = train_kwargs(self.module, self.names, train=False)
        with linen.intercept_methods(without_axis_names):
            return self.module.apply(self._merged(variables), inputs, **kwargs)

    def train(
        self, variables: dict[str, Any], inputs: Array, keys: dict[str, Array], mutable: Any
    ) -> tuple[Any, dict[str, Any]]:
        """The outputs in training, and the collections that may change."""
        kwargs = train_kwargs(self.module, self.names, train=True)
        with linen.intercept_methods(without_axis_names):
            outputs, changed = self.module.apply(
                self._merged(variables), inputs, mutable=mutable, rngs=keys, **kwargs
            )
        return outputs, dict(changed)

    def _merged(self, variables: dict[str, Any]) -> dict[str, Any]:
        """Variables as the module itself has them."""
        if self.adapters is None:
            return variables
        return {**variables, "params": self.adapters.merged(variables["params"])}


def abstract_variables(static: Static, spec: ModelSpec) -> Variables:
    """The shapes of a module's variables; nothing is computed."""
    return jax.eval_shape(functools.partial(static.initial, spec.sample()), jax.random.key(0))


def training_keys(key: Array) -> dict[str, Array]:
    """The keys of a module's random streams in training."""
    # Flax draws from "params" for every stream that has no key of its own.
    return {"dropout": key, "params": rng.named(key, "other streams")}


def sown(leaf: Any) -> bool:
    """Whether a leaf of a collection is what a module noted by `sow`."""
    return isinstance(leaf, tuple)


Variables = dict[str, Any]


def forward(static: Static, variables: Variables, inputs: Array) -> Any:
    """What a module makes of inputs outside of training, in float32.

    Args:
        static: the module and its switches.
        variables: collection -> tree.
        inputs: [N, ...], preprocessed.
    """
    # Accelerators would otherwise multiply in TF32 or bfloat16 unasked.
    with jax.default_matmul_precision("float32"):
        return static.evaluate(variables, inputs)
