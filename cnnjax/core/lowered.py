"""What a program that was lowered for a device consists of, read without having the device."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

# Operations that multiply; the precision of their factors can be asked for.
_PRODUCTS = ("stablehlo.dot_general", "stablehlo.convolution")

_TENSOR = re.compile(r"tensor<((?:[0-9?]+x)*)([a-z0-9A-Z]+)>")


@dataclass(frozen=True)
class Tensor:
    """An array of a program.

    Args:
        shape: its axes.
        dtype: as StableHLO writes it: "f32", "bf16", "ui8", ...
    """

    shape: tuple[int, ...]
    dtype: str

    @classmethod
    def of(cls, text: str) -> Tensor | None:
        """What StableHLO writes as `tensor<2x3xf32>`; None of what is no array."""
        match = _TENSOR.fullmatch(text)
        if match is None:
            return None
        return cls(tuple(int(n) for n in match[1].split("x")[:-1]), match[2])


@dataclass(frozen=True)
class Operation:
    """One operation of a program.

    Args:
        name: e.g. "stablehlo.gather".
        operands, results: its arrays.
        precision: of a product, of its factors: "DEFAULT", "HIGH" or "HIGHEST"; "" of others.
        target: of a custom call, what is called; "" of others.
    """

    name: str
    operands: tuple[Tensor, ...]
    results: tuple[Tensor, ...]
    precision: str = ""
    target: str = ""


@dataclass(frozen=True)
class Lowered:
    """A program as it was lowered.

    Args:
        operations: all of them, those within loops and functions too.
        aliased: how many arguments were donated and have their place taken by a result.
    """

    operations: tuple[Operation, ...]
    aliased: int

    @property
    def dtypes(self) -> frozenset[str]:
        """Of all arrays."""
        return frozenset(t.dtype for op in self.operations for t in (*op.operands, *op.results))

    @property
    def precisions(self) -> frozenset[str]:
        """Of all products."""
        return frozenset(op.precision for op in self.operations if op.precision)

    @property
    def calls(self) -> frozenset[str]:
        """What is called outside of the program, e.g. a callback on the host."""
        return frozenset(op.target for op in self.operations if op.target)

    def reading(self, shape: tuple[int, ...]) -> Iterator[Operation]:
        """The operations that have an array of a shape among their operands or results.

        Loops, functions and the returning from them are left out: they hand arrays on.

        Args:
            shape: e.g. that of a data set.
        """
        for op in self.operations:
            hands_on = op.name.startswith(("func.", "builtin.")) or op.name in _HANDING_ON
            if not hands_on and any(t.shape == shape for t in (*op.operands, *op.results)):
                yield op


_HANDING_ON = ("stablehlo.while", "stablehlo.return", "stablehlo.optimization_barrier")


def read(lowered: Any) -> Lowered:
    """The operations of a lowered program.

    Args:
        lowered: what `jax.jit(f).trace(...).lower(lowering_platforms=("cuda",))` returns.

    >>> import jax, jax.numpy as jnp
    >>> double = jax.jit(lambda x: 2 * x, donate_argnums=0).trace(jnp.ones(3))
    >>> program = read(double.lower(lowering_platforms=("tpu",)))
    >>> sorted(program.dtypes), program.aliased
    (['f32'], 1)
    """
    from jax.extend.mlir import ir

    module = lowered.compiler_ir("stablehlo")
    operations: list[Operation] = []
    aliased = 0

    def visit(op: Any) -> Any:
        nonlocal aliased
        operations.append(_operation(op))
        if op.name == "func.func" and "arg_attrs" in op.attributes:
            arguments = [ir.DictAttr(each) for each in op.attributes["arg_attrs"]]
            aliased += sum("tf.aliasing_output" in each for each in arguments)
        return ir.WalkResult.ADVANCE

    module.operation.walk(visit)
    return Lowered(tuple(operations), aliased)


def _operation(op: Any) -> Operation:
    operands, results = (
        tuple(t for value in values if (t := Tensor.of(str(value.type))))
        for values in (op.operands, op.results)
    )
    precision = target = ""
    if op.name in _PRODUCTS and "precision_config" in op.attributes:
        words = re.findall(r"precision (\w+)", str(op.attributes["precision_config"]))
        precision = min(words, key=("DEFAULT", "HIGH", "HIGHEST").index)
    elif op.name in _PRODUCTS:
        precision = "DEFAULT"
    if op.name == "stablehlo.custom_call":
        target = str(op.attributes["call_target_name"]).strip('"')
    return Operation(op.name, operands, results, precision, target)
