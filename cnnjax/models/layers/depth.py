"""How deep in a net each of its variables stands, by the flow of the data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import jax
from jax.extend.core import Jaxpr, Literal

from cnnjax.core import trees
from cnnjax.models.graph import Net
from cnnjax.models.inner_values import programs_of
from cnnjax.models.modules import Variables, forward, training_keys

# What is added to the data, or put beside or in the place of a part of it, is of the layer that
# made these, as a bias is.
_JOINING = frozenset(
    {"add", "add_any", "sub", "concatenate", "select_n", "dynamic_update_slice", "scatter", "pad"}
)


def depths(model: Net) -> dict[str, int]:
    """In the how manieth layer with weights each variable stands, along the longest way to it.

    Branches beside each other begin at one depth, and the layer behind them follows the deepest of
    them. The variables of a layer share its depth; a layer that is called twice counts once, where
    it is called first. Those of the module itself, or of another one that calls layers, stand for
    themselves: what is added or concatenated (position embeddings, class tokens) in the layer whose
    output it joins, what multiplies is a layer of its own.

    Args:
        model: any; nothing is computed but shapes.

    Returns:
        {path with its collection, e.g. "params/conv1/kernel": depth >= 1}; 1 for what the output
        does not depend on, neither in evaluation nor in training.

    >>> from cnnjax.models import create_model
    >>> found = depths(create_model("mnist_convnet"))
    >>> found["params/conv1/bias"], found["params/conv2/kernel"], found["params/logits/kernel"]
    (1, 2, 5)
    """
    flat = trees.leaves(model.variables)
    groups = _groups(flat)
    shapes = [jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for leaf in flat.values()]
    inputs = model.spec.sample(2)

    def rebuilt(leaves: Sequence[Any]) -> Variables:
        return trees.unflatten(dict(zip(flat, leaves, strict=True)))

    def evaluate(leaves: Sequence[Any], x: Any) -> Any:
        return forward(model.static, rebuilt(leaves), x)

    def train(leaves: Sequence[Any], x: Any) -> Any:
        variables = rebuilt(leaves)
        params = variables.pop("params", {})
        keys = training_keys(jax.random.key(0))
        return model.static.train({"params": params, **variables}, x, keys, list(variables))[0]

    found: dict[str, int] = {}
    for function in (evaluate, train):  # auxiliary layers take part in training alone
        if set(groups.values()) <= set(found):
            break
        closed = jax.make_jaxpr(function)(shapes, inputs)
        values = [_Value(groups=frozenset([group])) for group in groups.values()]
        tracer = _Tracer(frozenset(_alone(flat)))
        tracer.run(closed.jaxpr, [*values, _Value(depth=0)])
        found = {**tracer.depth, **found}
    return {path: found.get(group, 1) for path, group in groups.items()}


@dataclass(frozen=True)
class _Value:
    """What is known of an array in the computation.

    Args:
        depth: number of layers with weights on the longest way from the input; None where the
            array does not depend on the input.
        groups: the variables that it is made of, where it is made of variables alone.
    """

    depth: int | None = None
    groups: frozenset[str] = frozenset()


def _groups(flat: Variables) -> dict[str, str]:
    """Of each variable what it shares its depth with: its layer, or only itself."""
    alone = _alone(flat)
    return {path: path if path in alone else f"{_layer(path)}/" for path in flat}


def _alone(flat: Variables) -> set[str]:
    """The variables of the module itself and of those that call layers with weights."""
    layers = {_layer(path) for path in flat}
    callers = {""}
    for layer in layers:
        names = layer.split("/")
        callers |= {"/".join(names[:i]) for i in range(1, len(names))}
    return {path for path in flat if _layer(path) in callers}


def _layer(path: str) -> str:
    """Of "params/block/conv/kernel": "block/conv"."""
    return path.partition("/")[2].rpartition("/")[0]


@dataclass
class _Tracer:
    """Follows the data through a program.

    Args:
        alone: groups that are single variables.
        depth: of the groups that were met so far.
    """

    alone: frozenset[str]
    depth: dict[str, int] = field(default_factory=dict)

    def run(self, jaxpr: Jaxpr, inputs: Sequence[_Value]) -> list[_Value]:
        """What is known of the outputs of a program, by what is known of its inputs."""
        known: dict[Any, _Value] = dict(zip(jaxpr.invars, inputs, strict=True))

        def read(atom: Any) -> _Value:
            return _Value() if isinstance(atom, Literal) else known.get(atom, _Value())

        for equation in jaxpr.eqns:
            values = [read(atom) for atom in equation.invars]
            known.update(zip(equation.outvars, self._outputs(equation, values), strict=True))
        return [read(atom) for atom in jaxpr.outvars]

    def _outputs(self, equation: Any, values: list[_Value]) -> list[_Value]:
        name, inner = equation.primitive.name, [p.jaxpr for p in programs_of(equation)]
        if name == "scan":  # a recurrent layer's first state is a constant, but stands for data
            first = equation.params["num_consts"]
            last = first + equation.params["num_carry"]
            start = _Value(_deepest(values))
            values = [
                start if first <= i < last and v == _Value() else v for i, v in enumerate(values)
            ]
        if name == "cond":
            branches = [self.run(branch, values[1:]) for branch in inner]
            return [_joined(outputs) for outputs in zip(*branches, strict=True)]
        if name == "while":
            body = equation.params["body_jaxpr"].jaxpr
            return self.run(body, values[equation.params["cond_nconsts"] :])
        if len(inner) == 1 and len(inner[0].invars) == len(values):
            return self.run(inner[0], values)
        return [self._after(name, values)] * len(equation.outvars)

    def _after(self, primitive: str, values: Sequence[_Value]) -> _Value:
        """What an operation makes; variables that meet the data for the first time get a depth."""
        depth = _deepest(values)
        if depth is None:
            return _joined(values)
        met = frozenset().union(*(v.groups for v in values))
        joins = primitive in _JOINING and met <= self.alone
        for group in met:
            self.depth.setdefault(group, max(depth, 1) if joins else depth + 1)
        return _Value(depth if joins else max([depth, *(self.depth[group] for group in met)]))


def _deepest(values: Sequence[_Value]) -> int | None:
    return max((v.depth for v in values if v.depth is not None), default=None)


def _joined(values: Sequence[_Value]) -> _Value:
    """Of several values, as of those from several branches."""
    depth = _deepest(values)
    if depth is not None:
        return _Value(depth)
    return _Value(groups=frozenset().union(*(v.groups for v in values)))
