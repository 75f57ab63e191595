"""Rules for what is done to each number by itself."""

from __future__ import annotations

from typing import Any

import numpy as np
from jax import lax
from onnx import helper

from cnnjax.models.runtimes.onnx_graph import Graph, Value
from cnnjax.models.runtimes.onnx_operations import RULES, Rule, refuse, rule

_OPERATORS = {
    "neg": "Neg", "exp": "Exp", "log": "Log", "tanh": "Tanh", "logistic": "Sigmoid",
    "sqrt": "Sqrt", "abs": "Abs", "sign": "Sign", "floor": "Floor", "ceil": "Ceil", "erf": "Erf",
    "sin": "Sin", "cos": "Cos", "tan": "Tan", "asin": "Asin", "acos": "Acos", "atan": "Atan",
    "sinh": "Sinh", "cosh": "Cosh", "add": "Add", "add_any": "Add", "sub": "Sub", "mul": "Mul",
    "div": "Div", "pow": "Pow", "eq": "Equal", "lt": "Less", "le": "LessOrEqual",
    "gt": "Greater", "ge": "GreaterOrEqual",
}  # fmt: skip

# Of booleans, and of whole numbers.
_LOGIC = {
    "and": ("And", "BitwiseAnd"),
    "or": ("Or", "BitwiseOr"),
    "xor": ("Xor", "BitwiseXor"),
    "not": ("Not", "BitwiseNot"),
}


def elementwise(graph: Graph, operator: str, operands: list[Value], result: Any) -> list[Value]:
    """One operator of operands that it broadcasts itself."""
    tensor = graph.node(operator, [graph.name(one) for one in operands])
    return _like(tensor, operands, result)


def _like(tensor: str, operands: list[Value], result: Any) -> list[Value]:
    """A result that is as small as its operands are."""
    rank = len(result.shape)
    padded = [(1,) * (rank - len(one.own)) + tuple(one.own) for one in operands]
    own = tuple(next((n for n in sizes if n != 1), 1) for sizes in zip(*padded, strict=True))
    return [Value(result.shape, own, np.dtype(result.dtype), tensor=tensor)]


def _direct(operator: str) -> Rule:
    return lambda graph, operands, _, results: elementwise(graph, operator, operands, results[0])


RULES.update({name: _direct(operator) for name, operator in _OPERATORS.items()})


def _logical(name: str) -> Rule:
    of_booleans, of_numbers = _LOGIC[name]

    def write(graph: Graph, operands: list[Value], _: Any, results: list[Any]) -> list[Value]:
        operator = of_booleans if operands[0].dtype == np.bool_ else of_numbers
        return elementwise(graph, operator, operands, results[0])

    return write


RULES.update({name: _logical(name) for name in _LOGIC})


@rule("copy", "copy_p", "stop_gradient", "optimization_barrier", "reduce_precision", "device_put")
def _same(_: Graph, operands: list[Value], parameters: Any, results: list[Any]) -> list[Value]:
    return operands


@rule("max")
def _max(graph: Graph, operands: list[Value], _: Any, results: list[Any]) -> list[Value]:
    # Runtimes join Relu and Clip with the convolution before them, and Max not.
    number, other = _with_number(operands)
    if number is not None and np.issubdtype(other.dtype, np.floating):
        if number == 0:
            return elementwise(graph, "Relu", [other], results[0])
        if number == -np.inf:
            return [other]
    return elementwise(graph, "Max", operands, results[0])


@rule("min")
def _min(graph: Graph, operands: list[Value], _: Any, results: list[Any]) -> list[Value]:
    number, other = _with_number(operands)
    if number is not None and np.issubdtype(other.dtype, np.floating):
        limit = graph.initializer(np.array(number, other.dtype))
        return _like(graph.node("Clip", [graph.name(other), "", limit]), [other], results[0])
    return elementwise(graph, "Min", operands, results[0])


def _with_number(operands: list[Value]) -> tuple[float | None, Value]:
    """The one number that one of two operands is, and the other; None where neither is."""
    for one, other in (operands, operands[::-1]):
        if one.data is not None and one.data.size == 1:
            return float(one.data.reshape(())), other
    return None, operands[0]


@rule("clamp")
def _clamp(graph: Graph, operands: list[Value], _: Any, results: list[Any]) -> list[Value]:
    low, values, high = operands
    raised = elementwise(graph, "Max", [values, low], results[0])
    return elementwise(graph, "Min", [*raised, high], results[0])


@rule("ne")
def _not_equal(graph: Graph, operands: list[Value], _: Any, results: list[Any]) -> list[Value]:
    if operands[0].dtype == np.bool_:
        return elementwise(graph, "Xor", operands, results[0])
    return elementwise(graph, "Not", elementwise(graph, "Equal", operands, results[0]), results[0])


@rule("is_finite")
def _is_finite(graph: Graph, operands: list[Value], _: Any, results: list[Any]) -> list[Value]:
    infinite = elementwise(graph, "IsInf", operands, results[0])
    nan = elementwise(graph, "IsNaN", operands, results[0])
    either = elementwise(graph, "Or", [*infinite, *nan], results[0])
    return elementwise(graph, "Not", either, results[0])


@rule("rsqrt")
def _rsqrt(graph: Graph, operands: list[Value], _: Any, results: list[Any]) -> list[Value]:
    root = elementwise(graph, "Sqrt", operands, results[0])
    return elementwise(graph, "Reciprocal", root, results[0])


@rule("square")
def _square(graph: Graph, operands: list[Value], _: Any, results: list[Any]) -> list[Value]:
    return elementwise(graph, "Mul", operands * 2, results[0])


@rule("integer_pow")
def _power(graph: Graph, operands: list[Value], settings: Any, results: list[Any]) -> list[Value]:
    exponent = Value.constant(np.array(settings["y"], operands[0].dtype))
    if settings["y"] == 2:
        return elementwise(graph, "Mul", operands * 2, results[0])
    if settings["y"] == -1:
        return elementwise(graph, "Reciprocal", operands, results[0])
    return elementwise(graph, "Pow", [operands[0], exponent], results[0])


@rule("exp2")
def _exp2(graph: Graph, operands: list[Value], _: Any, results: list[Any]) -> list[Value]:
    return elementwise(graph, "Pow", [_number(2, operands[0]), *operands], results[0])


@rule("log1p")
def _log1p(graph: Graph, operands: list[Value], _: Any, results: list[Any]) -> list[Value]:
    more = elementwise(graph, "Add", [*operands, _number(1, operands[0])], results[0])
    return elementwise(graph, "Log", more, results[0])


@rule("expm1")
def _expm1(graph: Graph, operands: list[Value], _: Any, results: list[Any]) -> list[Value]:
    power = elementwise(graph, "Exp", operands, results[0])
    return elementwise(graph, "Sub", [*power, _number(1, operands[0])], results[0])


@rule("erfc")
def _erfc(graph: Graph, operands: list[Value], _: Any, results: list[Any]) -> list[Value]:
    inside = elementwise(graph, "Erf", operands, results[0])
    return elementwise(graph, "Sub", [_number(1, operands[0]), *inside], results[0])


def _number(number: float, like: Value) -> Value:
    return Value.constant(np.array(number, like.dtype))


@rule("round")
def _round(graph: Graph, operands: list[Value], settings: Any, results: list[Any]) -> list[Value]:
    if settings["rounding_method"] != lax.RoundingMethod.TO_NEAREST_EVEN:
        raise refuse(graph, "rounding halves away from zero")
    return elementwise(graph, "Round", operands, results[0])


@rule("rem")
def _rem(graph: Graph, operands: list[Value], _: Any, results: list[Any]) -> list[Value]:
    tensor = graph.node("Mod", [graph.name(one) for one in operands], fmod=1)
    return _like(tensor, operands, results[0])


@rule("select_n")
def _select(graph: Graph, operands: list[Value], _: Any, results: list[Any]) -> list[Value]:
    which, *cases = operands
    if which.dtype != np.bool_:
        raise refuse(graph, "a selection of more than two")
    return elementwise(graph, "Where", [which, *cases[::-1]], results[0])


@rule("convert_element_type")
def _cast(graph: Graph, operands: list[Value], _: Any, results: list[Any]) -> list[Value]:
    if operands[0].dtype == results[0].dtype:
        return operands
    return cast(graph, operands[0], results[0])


def cast(graph: Graph, value: Value, result: Any) -> list[Value]:
    """A value as numbers of another kind."""
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(result.dtype))
    return _like(graph.node("Cast", [graph.name(value)], to=kind), [value], result)
