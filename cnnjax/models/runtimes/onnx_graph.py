"""An ONNX graph that grows operation by operation, and the arrays in it."""

from __future__ import annotations

import ast
import functools
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from onnx import NodeProto, TensorProto, helper, numpy_helper

Shape = tuple[Any, ...]  # whole numbers, and symbols for what may be any


def is_known(size: Any) -> bool:
    """Whether a size is a number, of Python or NumPy, and no symbol."""
    return isinstance(size, int | np.integer)


class NotInOnnx(ValueError):
    """An operation that this package cannot write as ONNX operators."""


@dataclass(frozen=True)
class Value:
    """An array of a program: a constant, or a tensor of the graph.

    Args:
        shape: of the array.
        own: that of the constant or tensor, of the same rank or of a lower one: what has a size of
            1 there stands for as many as in `shape`, as operators broadcast it.
        data: of a constant.
        tensor: name in the graph, of what is no constant.
        dtype: of the numbers.
        label: path of a constant that is a model's variable; "" of others.
    """

    shape: Shape
    own: Shape
    dtype: np.dtype
    data: np.ndarray | None = None
    tensor: str = ""
    label: str = ""

    @classmethod
    def constant(cls, data: Any, shape: Shape | None = None, label: str = "") -> Value:
        """A constant; `shape` where it stands for a larger array."""
        array = np.asarray(data)
        return cls(array.shape if shape is None else shape, array.shape, array.dtype, array, "",
                   label)  # fmt: skip


@dataclass
class Graph:
    """Nodes and constants of an ONNX graph, or of the body of a loop in one.

    Args:
        sizes: {symbol: (name of an input, axis)}.
        scope: path of the layer whose operations are added, for names and messages.
        nodes: in their order.
        constants: {name: tensor}, shared with the bodies of loops.
        outer: graph whose loop this is the body of.
    """

    sizes: dict[str, tuple[str, int]]
    scope: str = ""
    nodes: list[NodeProto] = field(default_factory=list)
    constants: dict[str, TensorProto] = field(default_factory=dict)
    outer: Graph | None = None

    def body(self) -> Graph:
        """An empty graph for the body of a loop."""
        return Graph(self.sizes, self.scope, [], self.constants, self)

    def node(self, operator: str, inputs: Sequence[str], outputs: int = 1, **settings: Any) -> Any:
        """Add an operator.

        Args:
            operator: its name in ONNX.
            inputs: names of tensors; "" for one that is left out.
            outputs: how many.
            settings: attributes; an empty list is left out.

        Returns:
            The name of its output, or several.
        """
        name = self.unused(f"{self.scope}/{operator}" if self.scope else operator)
        names = [name] if outputs == 1 else [f"{name}:{i}" for i in range(outputs)]
        written = {key: value for key, value in settings.items() if not _is_empty(value)}
        self.nodes.append(helper.make_node(operator, list(inputs), names, name, **written))
        return name if outputs == 1 else names

    def unused(self, name: str) -> str:
        """A name that nothing has, like this one."""
        whole = self
        while whole.outer is not None:
            whole = whole.outer
        names = whole._names
        number = names[name] = names.get(name, 0) + 1
        return name if number == 1 else f"{name}_{number}"

    @functools.cached_property
    def _names(self) -> dict[str, int]:
        return {}

    def initializer(self, array: np.ndarray, label: str = "") -> str:
        """The name of a constant, which is written once however often it is asked for."""
        array = np.ascontiguousarray(array).reshape(array.shape)
        small = array.size <= 16
        key = f"{array.dtype}{list(array.shape)}{array.tobytes().hex()}" if small else ""
        if key and key in self._small:
            return self._small[key]
        name = self.unused(label or (f"{self.scope}/constant" if not small else "constant"))
        self.constants[name] = numpy_helper.from_array(array, name)
        if key:
            self._small[key] = name
        return name

    @functools.cached_property
    def _small(self) -> dict[str, str]:
        return {} if self.outer is None else self.outer._small

    def name(self, value: Value) -> str:
        """The tensor of a value as operators that broadcast take it."""
        if value.data is None:
            return value.tensor
        return self.initializer(value.data, value.label)

    def whole(self, value: Value) -> str:
        """The tensor of a value, of its full shape."""
        if value.own == value.shape:
            return self.name(value)
        return self.node("Expand", [self.name(value), self.sizes_of(value.shape)])

    def sizes_of(self, shape: Shape, one_unknown: bool = False) -> str:
        """A shape as a tensor int64.

        Args:
            shape: sizes, some of which may be symbols.
            one_unknown: write -1 for a single symbol, as Reshape takes it.
        """
        known = [is_known(size) for size in shape]
        if all(known) or (one_unknown and known.count(False) == 1):
            return self.initializer(
                np.array([size if is_known(size) else -1 for size in shape], np.int64)
            )
        return self.node("Concat", [self.size(n) for n in shape], axis=0)

    def size(self, size: Any) -> str:
        """A size as a tensor int64 [1]: JAX writes those that follow from symbols as formulas."""
        if is_known(size):
            return self.initializer(np.array([size], np.int64))
        return self._formula(ast.parse(str(size), mode="eval").body)

    def _formula(self, formula: ast.AST) -> str:
        match formula:
            case ast.Constant(int(number)):
                return self.size(number)
            case ast.Name(symbol):
                tensor, axis = self.sizes[symbol]
                shape = self.node("Shape", [tensor], start=axis, end=axis + 1)
                return str(shape)
            case ast.UnaryOp(ast.USub(), inner):
                return str(self.node("Neg", [self._formula(inner)]))
            case ast.BinOp(left, ast.BitXor(), right):
                return str(self.node("Pow", [self._formula(left), self._formula(right)]))
            case ast.BinOp(left, operator, right) if type(operator) in _ARITHMETIC:
                name = _ARITHMETIC[type(operator)]
                return str(self.node(name, [self._formula(left), self._formula(right)]))
            case ast.Call(ast.Name("floordiv"), [left, right]):
                # Div rounds towards zero, and Mod has the sign of what it divides by.
                whole, part = self._formula(left), self._formula(right)
                rest = self.node("Mod", [whole, part])
                return str(self.node("Div", [self.node("Sub", [whole, rest]), part]))
            case ast.Call(ast.Name("mod" | "max" | "min" as name), [left, right]):
                operands = [self._formula(left), self._formula(right)]
                return str(self.node(name.capitalize(), operands))
        raise NotInOnnx(f"{self.scope}: the size {ast.unparse(formula)} cannot be written in ONNX")


def _is_empty(value: Any) -> bool:
    return isinstance(value, Sequence) and not value


_ARITHMETIC = {ast.Add: "Add", ast.Sub: "Sub", ast.Mult: "Mul"}
