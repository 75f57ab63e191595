"""NNX modules as Linen ones: pure functions of variables under the module's own path names."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Mapping
from dataclasses import field
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen, nnx
from jax import Array

from cnnjax.core import rng, trees
from cnnjax.core.text import first_sentence
from cnnjax.models.modules import Variables
from cnnjax.models.nnx_graph import RNGS, Graph, Maker, Path, value_of
from cnnjax.models.nnx_layers import names_of

_BY_NAME = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


class Net(linen.Module):
    """An NNX module as a Linen one.

    Args:
        graph: the module without its values.
        settings: layer or attribute -> its class or value, by which the module is recognised.
    """

    graph: Graph
    settings: Any = field(default=None, compare=False, hash=False)

    # What sets the mode of all layers, for a message.
    switched_by = "module.train() and module.eval()"

    def drawn(self, seed: int) -> Variables:
        """Random variables from the seed, as the module's own code draws them.

        Raises:
            ValueError: where there is no function that makes the module.
        """
        if self.graph.make is None:
            name = self.graph.kind.__name__
            raise ValueError(
                f"{name} was given with its values, so that no others can be drawn: give its "
                f"class, or a function that makes it, cj.Model.from_nnx(lambda rngs: {name}(..., "
                "rngs=rngs), input_shape)"
            )
        made = self.graph.make(nnx.Rngs(rng.stream(seed, "parameters")))
        if Graph(_in_evaluation(made)) != self.graph:
            raise ValueError(
                f"the function that makes {self.graph.kind.__name__} makes another module each time"
            )
        return values_of(made)

    def forward(self, inputs: Array, train: bool, kwargs: Mapping[str, Any]) -> Any:
        """The outputs; the variables that may change are kept."""
        key = self.make_rng("dropout") if train or self.is_initializing() else None
        outputs, after = self.graph.run(self._values(), inputs, key, kwargs, train)
        for names, value in after.values():
            collection, name, *inner = names
            if self.is_mutable_collection(collection):
                nested = trees.unflatten({trees.join((name, *inner)): value})
                self.put_variable(collection, name, nested[name])
        return outputs

    def own_switches(self, kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """Those of the switches that the NNX module's own `__call__` has."""
        known = inspect.signature(self.graph.kind.__call__).parameters
        return {k: v for k, v in kwargs.items() if k != "train" or k in known}

    def _values(self) -> dict[Path, Any]:
        if self.is_initializing():
            return {p: jnp.zeros(s.shape, s.dtype) for p, s in self.graph.shapes.items()}
        return _by_path(self.graph, self.variables)


def as_linen(module: nnx.Module | Maker) -> Net:
    """An NNX module, or what a class or a function of rngs makes, as a Linen module.

    Raises:
        ValueError: for what is no NNX module, or has a part that is Linen's.
    """
    if isinstance(module, linen.Module):
        raise ValueError(
            f"{type(module).__name__} is a Linen module: cj.Model.from_module takes it"
        )
    make = None
    if not isinstance(module, nnx.Module):
        make = _checked_maker(module)
        module = make(nnx.Rngs(0))
    net = _in_evaluation(module)
    kind = type(net)
    for path, part in nnx.iter_modules(net):
        if isinstance(part, nnx.bridge.ToNNX):
            where = f"its part {trees.join(names_of(path))}" if path else "it"
            raise ValueError(
                f"{kind.__name__}: {where} is a Linen module in nnx.bridge.ToNNX, whose layers and "
                "mode NNX does not know: give the Linen module to cj.Model.from_module"
            )
    return _net_class(kind)(Graph(net, make), _settings(net))


def starting_as(net: Net, module: Any) -> Net:
    """A net for which the values of the module given are drawn, where it is no function."""
    if net.graph.make is not None:
        return net
    started: Net = net.clone(graph=net.graph.made_by(lambda rngs: module))
    return started


def values_of(module: nnx.Module) -> Variables:
    """The values of a module's variables, {"params": {layer: {weight}}, ...}."""
    net = _in_evaluation(module)
    names, flat = Graph(net).variables, {}
    for path, variable in nnx.to_flat_state(nnx.state(net)):
        if path not in names:
            continue
        name, value = trees.join(names[path]), value_of(variable)
        if isinstance(value, jax.ShapeDtypeStruct):
            raise ValueError(
                f"{type(net).__name__}: {name} has a shape and no value, as nnx.eval_shape leaves "
                "it: give a function that makes the module"
            )
        flat[name] = jnp.asarray(value)
    return trees.unflatten(flat)


def to_nnx(module: linen.Module, variables: Variables) -> nnx.Module:
    """The NNX module of a model with its variables, in evaluation mode.

    Raises:
        ValueError: for a model of another module.
    """
    if not isinstance(module, Net):
        raise ValueError(
            f"{type(module).__name__} is no NNX module: to_nnx is for models of cj.Model.from_nnx"
        )
    values = _by_path(module.graph, variables)
    return module.graph.merged(values, rng.stream(0, "parameters"))


def _checked_maker(function: Any) -> Maker:
    if not callable(function):
        raise ValueError(
            "module must be an NNX module, or its class or a function that makes one of nnx.Rngs, "
            f"got {function!r}"
        )
    name = getattr(function, "__name__", type(function).__name__)
    kind = isinstance(function, type)  # whose own signature is that of its metaclass
    signature = inspect.signature(functools.partial(function.__init__, None) if kind else function)
    by_name = RNGS in signature.parameters
    try:
        signature.bind(**{RNGS: None}) if by_name else signature.bind(None)
    except TypeError as error:
        raise ValueError(
            f"{name} cannot be called with nnx.Rngs alone ({first_sentence(error)}): give a "
            f"function of them, e.g. lambda rngs: {name}(..., rngs=rngs)"
        ) from None

    def make(rngs: nnx.Rngs) -> nnx.Module:
        made = function(**{RNGS: rngs}) if by_name else function(rngs)
        if not isinstance(made, nnx.Module):
            raise ValueError(
                f"{name}, given as module, must make an NNX module of nnx.Rngs, it returns "
                f"{type(made).__name__}"
            )
        return made

    return make


def _in_evaluation(module: nnx.Module) -> nnx.Module:
    """A copy that shares the arrays, in evaluation mode, without what calls have sown."""
    net = nnx.merge(*nnx.split(module))
    nnx.pop(net, lambda _, variable: isinstance(value_of(variable), tuple))
    net.eval()
    return net


def _settings(net: nnx.Module) -> dict[str, Any]:
    """Classes and settings of all layers by their paths."""
    settings: dict[str, Any] = {}
    for path, part in nnx.iter_graph(net):
        if not isinstance(part, nnx.Pytree):
            continue
        names = names_of(path)
        settings[trees.join(names)] = type(part)
        for name, value in vars(part).items():
            if not name.startswith("_") and not nnx.has_data(value):
                settings[trees.join((*names, name))] = value
    return settings


@functools.cache
def _net_class(kind: type[nnx.Module]) -> type[Net]:
    """A class of the module's name, whose `__call__` has the module's arguments and `train`."""

    def __call__(self: Net, inputs: Array, *, train: bool, **kwargs: Any) -> Any:
        return self.forward(inputs, train, self.own_switches({"train": train, **kwargs}))

    first, *others = list(inspect.signature(__call__).parameters.values())[:3]
    own = list(inspect.signature(kind.__call__).parameters.values())[2:]
    own = [p for p in own if p.name not in ("train", RNGS)]
    __call__.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [first, *others, *(p.replace(kind=p.KEYWORD_ONLY) for p in own if p.kind in _BY_NAME)]
    )
    return type(kind.__name__, (Net,), {"__call__": __call__, "__module__": __name__})


def _by_path(graph: Graph, variables: Mapping[str, Any]) -> dict[Path, Any]:
    return {p: functools.reduce(_member, names, variables) for p, names in graph.variables.items()}


def _member(tree: Mapping[str, Any], name: str) -> Any:
    if name not in tree:
        raise ValueError(f"the variables of an NNX module are all needed, and {name!r} is missing")
    return tree[name]
