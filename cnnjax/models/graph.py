"""A model's layers as a graph, from one abstract forward pass."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import jax
from flax import linen

from cnnjax.core import trees
from cnnjax.models import taps
from cnnjax.models.modules import Static, Variables, abstract_variables
from cnnjax.models.spec import ModelSpec
from cnnjax.nn import Activation, Conv1D, Conv2D, Dense, DepthwiseConv2D, SeparableConv2D

# The model's own input, as the source of a layer's input.
INPUT = -1

# Their activation is a part of them.
_WITH_ACTIVATION = (Conv1D, Conv2D, Dense, DepthwiseConv2D, SeparableConv2D)


class Net(Protocol):
    """What is needed of a model to follow its layers; `Model` is one."""

    @property
    def static(self) -> Static:
        """The module and its switches."""

    @property
    def spec(self) -> ModelSpec:
        """Sizes and names."""

    @property
    def variables(self) -> Variables:
        """Arrays, or their shapes."""


class _Abstract(NamedTuple):
    """A net of which only shapes are known."""

    static: Static
    spec: ModelSpec
    variables: Variables


@dataclass(frozen=True)
class Call:
    """One call of a layer.

    Args:
        name: path of the layer, e.g. "conv1" or "block1/conv".
        module: the layer, to read its attributes.
        leaf: whether no other layer was called inside it.
        sources: for every input the number of the call that made it, `INPUT` for the model's
            input, None where an operation that is no layer made it.
        input_shapes: of every input, with a batch of 1.
        output_shape: likewise.
    """

    name: str
    module: linen.Module
    leaf: bool
    sources: tuple[int | None, ...]
    input_shapes: tuple[tuple[int, ...], ...]
    output_shape: tuple[int, ...]

    @property
    def kind(self) -> str:
        """Class of the layer."""
        return type(self.module).__name__


def trace(model: Net) -> list[Call]:
    """Every call of a layer, in the order in which the calls return; only shapes are computed.

    A layer is a module that owns variables or calls no other module. Containers are left out,
    activations inside a layer belong to it.
    """
    calls: list[Call] = []
    source: dict[int, int] = {}
    alive: list[Any] = []  # traced arrays are known by identity, so they must not be freed
    active: list[bool] = []  # for each open call: whether a submodule was called inside it
    owners = _owners(model)

    def noted(visit: taps.Visit) -> Any:
        if active:
            active[-1] = True
        module, name = visit.module, visit.path
        active.append(False)
        try:
            output = visit.proceed()
        finally:  # also where an exception is the way out of a net that is cut off
            has_children = active.pop()
        given = jax.tree.leaves((visit.args, visit.kwargs))
        inputs = [a for a in given if hasattr(a, "ndim") and a.ndim > 1]
        arrays = [a for a in jax.tree.leaves(output) if hasattr(a, "shape")]
        alive.extend((inputs, arrays))
        inside = isinstance(module, Activation) and isinstance(module.parent, _WITH_ACTIVATION)
        if not inside and (name in owners or not has_children) and len(arrays) == 1:
            leaf = not has_children or isinstance(module, _WITH_ACTIVATION)
            sources = tuple(source.get(id(a)) for a in inputs)
            if leaf:
                source[id(arrays[0])] = len(calls)
            shapes = tuple(tuple(a.shape) for a in inputs)
            calls.append(Call(name, module, leaf, sources, shapes, tuple(arrays[0].shape)))
        return output

    def note(variables: Any, inputs: Any) -> Any:
        source.update((id(leaf), INPUT) for leaf in jax.tree.leaves(inputs))
        alive.append(inputs)
        root = model.spec.name
        return taps.run(model.static, variables, inputs, root=root, edit=noted).outputs

    jax.eval_shape(note, model.variables, model.spec.sample())
    return calls


@functools.lru_cache(maxsize=64)
def layer_names(static: Static, spec: ModelSpec) -> tuple[str, ...]:
    """Names of the layers in Keras' order, each once; kept, since tracing takes a while."""
    calls = in_keras_order(trace(_Abstract(static, spec, abstract_variables(static, spec))))
    return tuple(dict.fromkeys(call.name for call in calls))


def weighted_layers(model: Net) -> tuple[str, ...]:
    """Names of the layers that own variables, parameters or statistics, in Keras' order.

    Raises:
        ValueError: if the place of one cannot be told.

    >>> from cnnjax.models import create_model
    >>> weighted_layers(create_model("mnist_convnet"))
    ('conv1', 'conv2', 'conv3', 'dense1', 'logits')
    """
    owners, names = _owners(model), layer_names(model.static, model.spec)
    if hidden := sorted(owners - set(names)):
        raise ValueError(
            f"{model.spec.name}: the place of {', '.join(hidden)} among the layers cannot be told, "
            "because a layer of theirs is not called as a module, or does not return one array"
        )
    return tuple(name for name in names if name in owners)


def _owners(model: Net) -> set[str]:
    """Names of all modules that own variables."""
    return {
        path.rpartition("/")[0] or model.spec.name
        for collection in model.variables.values()
        for path in trees.leaves(collection)
    }


def is_complete(calls: Sequence[Call]) -> bool:
    """Whether nothing but layers, each called once, leads from the input to the output."""
    names = {call.name for call in calls}
    return len(names) == len(calls) and all(c.leaf and None not in c.sources for c in calls)


def in_keras_order(calls: Sequence[Call]) -> list[Call]:
    """The calls in the order of `keras.Model.layers`, which weight files follow.

    That order goes by the largest distance from the output, and where this is equal by the first
    visit of a depth-first search from the output. Where an operation that is no layer, or a layer
    called twice, leaves the graph incomplete, it is the order of the calls.
    """
    if not is_complete(calls):
        return list(calls)
    visited: dict[int, int] = {}
    finished: list[int] = []  # every call after all of its sources
    stack: list[tuple[int, list[int]]] = []

    def open_call(number: int) -> None:
        visited[number] = len(visited)
        stack.append((number, [s for s in calls[number].sources if s is not None and s != INPUT]))

    open_call(len(calls) - 1)
    while stack:  # not by recursion: a deep net would exceed Python's limit
        number, waiting = stack[-1]
        if waiting:
            following = waiting.pop(0)
            if following not in visited:
                open_call(following)
        else:
            finished.append(number)
            stack.pop()
    if len(finished) < len(calls):
        return list(calls)
    distance = dict.fromkeys(finished, 0)
    for number in reversed(finished):
        for s in calls[number].sources:
            if s is not None and s != INPUT:
                distance[s] = max(distance[s], distance[number] + 1)
    order = sorted(finished, key=lambda number: (-distance[number], visited[number]))
    return [calls[number] for number in order]
