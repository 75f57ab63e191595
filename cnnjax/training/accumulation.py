"""A batch in parts, one after the other, whose gradients are added up."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from cnnjax.core import target

# Of the carried tree, a part of the batch and its number, None of an undivided one.
Visit = Callable[[Any, Mapping[str, Any], int | Array | None], tuple[Any, Any]]


def over_parts(visit: Visit, carried: Any, batch: Mapping[str, Any], parts: int) -> tuple[Any, Any]:
    """What the parts of a batch add up to.

    On CPUs they are unrolled, since XLA:CPU runs convolutions inside a loop of its own on one
    thread; elsewhere they are one `lax.scan`, which needs the memory of one part.

    Args:
        visit: (carried, part, number) -> (carried, what is added up), both pytrees of arrays.
        carried: what goes from part to part.
        batch: {name: [N, ...], or a scalar, which each part has}, with "mask" [N].
        parts: their number, which divides N. A part has every parts-th example, so that a batch
            that lies on several devices stays there.

    Returns:
        (carried, sum) after the last part.

    Raises:
        ValueError: if the batch does not divide.
    """
    if parts == 1:
        return visit(carried, batch, None)
    divided, same = _divided(batch, parts)

    def at(number: int | Array, rows: Mapping[str, Any], carried: Any) -> tuple[Any, Any]:
        return visit(carried, {**same, **rows}, number)

    if target.platform() == "cpu":
        total: Any = None
        for i in range(parts):
            carried, one = at(i, jax.tree.map(lambda leaf, i=i: leaf[i], divided), carried)
            total = one if total is None else jax.tree.map(jnp.add, total, one)
        return carried, total
    first = jax.tree.map(lambda leaf: leaf[0], divided)
    shapes = jax.eval_shape(at, jnp.int32(0), first, carried)[1]
    zeros = jax.tree.map(lambda shape: jnp.zeros(shape.shape, shape.dtype), shapes)

    def body(so_far: tuple[Any, Any], part: tuple[Array, Any]) -> tuple[tuple[Any, Any], None]:
        carried, total = so_far
        carried, one = at(*part, carried)
        return (carried, jax.tree.map(jnp.add, total, one)), None

    return jax.lax.scan(body, (carried, zeros), (jnp.arange(parts), divided))[0]


def _is_scalar(value: Any) -> bool:
    return not isinstance(value, Mapping) and jnp.ndim(value) == 0


def _divided(batch: Mapping[str, Any], parts: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """What of a batch has an axis of examples, as [parts, N / parts, ...], and what has none."""
    count = batch["mask"].shape[0]
    if count % parts:
        raise ValueError(
            f"accumulate={parts} must divide the batch into equal parts, and it has {count} "
            "examples"
        )

    def strided(leaf: Array) -> Array:
        return jnp.swapaxes(leaf.reshape(count // parts, parts, *leaf.shape[1:]), 0, 1)

    same = {name: value for name, value in batch.items() if _is_scalar(value)}
    rows = {name: value for name, value in batch.items() if name not in same}
    return jax.tree.map(strided, rows), same
