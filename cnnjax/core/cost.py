"""What a compiled program costs: operations, bytes moved, memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Cost:
    """What one run of a program costs, by XLA's own count.

    Args:
        flops: floating-point operations of the whole program, on all devices together, as it is
            before XLA rewrites it: on a GPU convolutions then become calls of a library, whose
            operations XLA does not count; after that on TPUs, for which it counts nothing before.
            A loop's body counts once.
        moved: bytes that one device reads and writes, by the operations of the compiled program.
        memory: bytes that one device needs at once: arguments, results and temporary buffers.
        temporary: bytes of the temporary buffers alone.
    """

    flops: float
    moved: float
    memory: int
    temporary: int


def cost_of(lowered: Any, options: Mapping[str, Any] | None = None) -> Cost:
    """The cost of a program, which is compiled for it.

    Args:
        lowered: `jax.jit(f).lower(...)`.
        options: of the compiler, for a program that is only counted.

    >>> import jax, jax.numpy as jnp
    >>> product = jax.jit(jnp.dot).lower(jnp.ones((4, 5)), jnp.ones((5, 6)))
    >>> cost_of(product).flops == 2 * 4 * 5 * 6
    True
    """
    compiled = lowered.compile(options)
    analysis = compiled.cost_analysis()
    memory = compiled.memory_analysis()
    held = memory.argument_size_in_bytes + memory.output_size_in_bytes
    return Cost(
        flops=float((lowered.cost_analysis() or analysis)["flops"]),
        moved=float(analysis["bytes accessed"]),
        memory=int(held + memory.temp_size_in_bytes - memory.alias_size_in_bytes),
        temporary=int(memory.temp_size_in_bytes),
    )
