"""An NNX module as a pure function of the values of its variables."""

from __future__ import annotations

import copy
import inspect
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from flax.errors import InvalidRngError
from jax import Array

from cnnjax.core import rng, trees
from cnnjax.models.nnx_layers import let_through, names_of

Path = tuple[Any, ...]
Maker = Callable[[nnx.Rngs], nnx.Module]

# The argument of `__call__` from which a net of NNX draws random numbers.
RNGS = "rngs"


class Graph:
    """What an NNX module is beside the values of its variables.

    Args:
        net: the module, in evaluation mode.
        make: makes another one with random values; None where only the module was given.

    Raises:
        ValueError: for a variable that is no array.
    """

    def __init__(self, net: nnx.Module, make: Maker | None = None):
        self.definition, state = nnx.split(net)
        self.kind, self.make = type(net), make
        self.variables: dict[Path, tuple[str, ...]] = {}  # path -> (collection, name, ...)
        self.streams: dict[Path, type] = {}
        self.shapes: dict[Path, jax.ShapeDtypeStruct] = {}
        for path, variable in nnx.to_flat_state(state):
            value = value_of(variable)
            if not hasattr(value, "shape") or not hasattr(value, "dtype"):
                raise ValueError(
                    f"{self.kind.__name__}: {trees.join(names_of(path))} holds no array but "
                    f"{type(value).__name__}, and the variables of a model are arrays"
                )
            self.shapes[path] = jax.ShapeDtypeStruct(value.shape, value.dtype)
            if isinstance(variable, nnx.RngState):
                self.streams[path] = type(variable)
            else:
                self.variables[path] = (_collection(variable), *names_of(path))

    def made_by(self, make: Maker) -> Graph:
        """The same with a function that makes the module."""
        other = copy.copy(self)
        other.make = make
        return other

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Graph)
            and self.definition == other.definition
            and self.shapes == other.shapes
        )

    def __hash__(self) -> int:
        return hash((self.kind, len(self.shapes)))

    def merged(self, values: Mapping[Path, Any], key: Array) -> nnx.Module:
        """A module of its own with these values.

        Args:
            values: of the variables.
            key: of the random streams, each of which gets one by its path.
        """
        flat = [(path, values[path]) for path in self.variables]
        for path, kind in self.streams.items():
            shape = self.shapes[path].shape
            if issubclass(kind, nnx.RngKey):
                own = rng.named(key, trees.join(names_of(path)))
                flat.append((path, jax.random.split(own, shape) if shape else own))
            else:
                flat.append((path, jnp.zeros(shape, jnp.uint32)))
        return nnx.merge(self.definition, nnx.from_flat_state(flat))

    def run(
        self,
        values: Mapping[Path, Any],
        inputs: Array,
        key: Array | None,
        kwargs: Mapping[str, Any],
        train: bool,
    ) -> tuple[Any, dict[Path, tuple[tuple[str, ...], Any]]]:
        """Call the module.

        Args:
            values: of the variables.
            inputs: [N, ...].
            key: of the random streams; None where nothing may be drawn.
            kwargs: more arguments of `__call__`.
            train: whether the module is in training mode.

        Returns:
            (outputs, {path: ((collection, name, ...), value)}): with all variables after the call.
        """
        net = self.merged(values, jax.random.key(0) if key is None else key)
        if train:
            net.train()
        if key is None:
            _refuse_draws(net)
        let_through(net)
        with warnings.catch_warnings():
            # What is sown here is taken from the variables, as NNX did before it had `capture`.
            warnings.filterwarnings("ignore", ".*nnx.capture", DeprecationWarning)
            outputs = net(inputs, **kwargs, **self._rngs(key))
        after = {}
        for path, variable in nnx.to_flat_state(nnx.state(net)):
            if not isinstance(variable, nnx.RngState):
                names = self.variables.get(path) or (_collection(variable), *names_of(path))
                after[path] = (names, value_of(variable))
        return outputs, after

    def _rngs(self, key: Array | None) -> dict[str, Any]:
        """The argument from which the module draws, where its `__call__` has one."""
        argument = inspect.signature(self.kind.__call__).parameters.get(RNGS)
        if argument is None or (key is None and argument.default is not argument.empty):
            return {}
        rngs = nnx.Rngs(jax.random.key(0) if key is None else rng.named(key, RNGS))
        if key is None:
            _refuse_draws(rngs)
        return {RNGS: rngs}


class _NoDraws(nnx.RngStream):
    """A random stream in evaluation."""

    def __call__(self) -> Array:
        raise InvalidRngError(f"it draws from the stream {self.tag!r}")


def _refuse_draws(net: Any) -> None:
    for _, part in list(nnx.iter_graph(net)):
        if type(part) is nnx.RngStream:
            object.__setattr__(part, "__class__", _NoDraws)


def _collection(variable: Any) -> str:
    """The collection in which a variable is kept; that of an array alone is "arrays"."""
    if not isinstance(variable, nnx.Variable):
        return "arrays"
    kind: type[nnx.Variable] = type(variable)
    return nnx.variable_name_from_type(kind, allow_register=True)


def value_of(variable: Any) -> Any:
    """What a variable holds; of an array alone, itself."""
    return variable.get_value() if isinstance(variable, nnx.Variable) else variable
