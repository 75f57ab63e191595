"""The operations of a JAX program as ONNX operators: the table, and how a program is read.

A rule is a function (graph, operands, parameters, result) -> value or values; `rule` notes it under
the names of JAX's primitives that it is for. What has constant operands alone is computed at once
and becomes a constant.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from jax.extend.core import ClosedJaxpr, Literal

from cnnjax.models.runtimes.onnx_graph import Graph, NotInOnnx, Value, is_known

Rule = Callable[[Graph, list[Value], dict[str, Any], list[Any]], list[Value]]

RULES: dict[str, Rule] = {}

# What is a program of its own, written in place; which parameter holds it.
_INNER = ("jaxpr", "call_jaxpr", "fun_jaxpr")
_CALLS = (
    "jit", "pjit", "closed_call", "core_call", "remat", "remat2", "checkpoint", "custom_jvp_call",
    "custom_vjp_call", "custom_vjp_call_jaxpr", "custom_lin",
)  # fmt: skip

# Constants of more numbers are left to the runtime.
_LARGEST_FOLDED = 1 << 24


def rule(*names: str) -> Callable[[Rule], Rule]:
    """Note a rule for primitives of these names."""

    def note(function: Rule) -> Rule:
        RULES.update(dict.fromkeys(names, function))
        return function

    return note


def write_program(graph: Graph, jaxpr: Any, arguments: Sequence[Value]) -> list[Value]:
    """Add the operations of a program to a graph.

    Args:
        graph: to add to.
        jaxpr: of `jax.make_jaxpr`.
        arguments: what it is called with.

    Returns:
        Its results.

    Raises:
        NotInOnnx: for an operation without a rule, naming it and the layer.
    """
    known: dict[Any, Value] = {}

    def read(atom: Any) -> Value:
        if isinstance(atom, Literal):
            return Value.constant(np.asarray(atom.val, getattr(atom.aval, "dtype", None)))
        return known[atom]

    constants = [Value.constant(np.asarray(one)) for one in jaxpr.consts]
    known.update(zip(jaxpr.jaxpr.constvars, constants, strict=True))
    known.update(zip(jaxpr.jaxpr.invars, arguments, strict=True))
    outer = graph.scope
    for equation in _needed(jaxpr.jaxpr):
        stack = str(equation.source_info.name_stack)
        graph.scope = "/".join(part for part in (outer, stack) if part)
        results = _write(graph, equation, [read(atom) for atom in equation.invars])
        known.update(zip(equation.outvars, results, strict=True))
    graph.scope = outer
    return [read(atom) for atom in jaxpr.jaxpr.outvars]


def _needed(jaxpr: Any) -> list[Any]:
    """The operations that the results follow from."""
    needed = {atom for atom in jaxpr.outvars if not isinstance(atom, Literal)}
    equations = []
    for equation in reversed(jaxpr.eqns):
        if not needed.isdisjoint(equation.outvars):
            equations.append(equation)
            needed.update(atom for atom in equation.invars if not isinstance(atom, Literal))
    return equations[::-1]


def _write(graph: Graph, equation: Any, operands: list[Value]) -> list[Value]:
    name, parameters = equation.primitive.name, equation.params
    if name in _CALLS:
        inner = next(parameters[key] for key in _INNER if key in parameters)
        closed = inner if hasattr(inner, "consts") else ClosedJaxpr(inner, ())
        return write_program(graph, closed, operands)
    results = [variable.aval for variable in equation.outvars]
    if (computed := _computed(equation, operands, results)) is not None:
        return computed
    if name not in RULES:
        raise NotInOnnx(
            f"{graph.scope or 'the model'}: JAX's operation {name!r} is none that can be written "
            "as ONNX here: export to .stablehlo, which takes all of JAX's operations"
        )
    return RULES[name](graph, operands, parameters, results)


def _computed(equation: Any, operands: list[Value], results: list[Any]) -> list[Value] | None:
    """The results of an operation on constants alone; None where they are not to be computed."""
    if equation.primitive.name == "dim_as_value" or any(one.data is None for one in operands):
        return None
    known = all(is_known(n) for one in (*operands, *results) for n in one.shape)
    if not known or sum(int(np.prod(one.shape)) for one in results) > _LARGEST_FOLDED:
        return None
    arrays = [np.broadcast_to(one.data, one.shape) for one in operands]  # type: ignore[arg-type]
    made = equation.primitive.bind(*arrays, **equation.params)
    every = made if equation.primitive.multiple_results else [made]
    same = operands[0].label if len(operands) == 1 and equation.primitive.name in _RELAID else ""
    return [Value.constant(np.asarray(one), label=same) for one in every]


_RELAID = ("reshape", "transpose", "squeeze", "broadcast_in_dim", "copy", "stop_gradient")


def refuse(graph: Graph, what: str) -> NotInOnnx:
    """The error of an operation that has a rule and is used in a way that the rule has not."""
    return NotInOnnx(
        f"{graph.scope or 'the model'}: {what} cannot be written as ONNX here: export to "
        ".stablehlo, which takes all of JAX's operations"
    )


def made(tensor: str, result: Any) -> list[Value]:
    """A tensor as the only result of an operation."""
    return [Value(result.shape, result.shape, np.dtype(result.dtype), tensor=tensor)]
