"""Many steps as one program: a scan over data on the device, or over batches that are sent."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from cnnjax.data import Batch

Step = Callable[[Any, Any], tuple[Any, Any]]


def flat(arrays: Any) -> Any:
    """Examples as rows of one axis, [N, product of the rest], as they are kept on the device.

    Of images [N, H, W, C] an accelerator would make, in every dispatch, a copy of another layout,
    which for few channels is many times as large.
    """
    return jax.tree.map(
        lambda array: array.reshape(len(array), -1) if array.ndim > 2 else array, arrays
    )


def resident(step: Step, arrays: Any) -> Callable[..., tuple[Any, Any]]:
    """Steps over a data set that stays on the device.

    Args:
        step: (state, batch) -> (state, sums).
        arrays: the data set's, {name: [N, ...]}, of which only the shapes are used.

    Returns:
        (state, examples as `flat` makes them, indices [k, N], mask [k, N], epoch) -> (state after k
        steps, their sums [k, ...]).
    """
    batch_of = _looking_up(arrays)

    def scan(
        state: Any, examples: Any, indices: Array, mask: Array, epoch: Array
    ) -> tuple[Any, Any]:
        def body(state: Any, rows: tuple[Array, Array]) -> tuple[Any, Any]:
            return step(state, {**batch_of(examples, *rows), "epoch": epoch})

        return jax.lax.scan(body, state, (indices, mask))

    return scan


def evaluation(step: Callable[[Any, Any], Any], arrays: Any) -> Callable[..., Any]:
    """Evaluation over a data set that stays on the device.

    Args:
        step: (variables, batch) -> sums.
        arrays: as in `resident`.

    Returns:
        (variables, examples as `flat` makes them, indices [k, N], mask [k, N]) -> sums [k, ...].
    """
    batch_of = _looking_up(arrays)

    def scan(variables: Any, examples: Any, indices: Array, mask: Array) -> Any:
        def body(_: None, rows: tuple[Array, Array]) -> tuple[None, Any]:
            batch = batch_of(examples, *rows)
            return None, step(variables, {**batch, "epoch": jnp.zeros((), jnp.int32)})

        return jax.lax.scan(body, None, (indices, mask))[1]

    return scan


def _looking_up(arrays: Any) -> Callable[[Any, Array, Array], dict[str, Any]]:
    """(flat examples, index [N], mask [N]) -> the batch, of examples in their own shape."""
    shapes = _shapes(arrays)

    def batch_of(examples: Any, index: Array, mask: Array) -> dict[str, Any]:
        def picked(array: Array, whole: jax.ShapeDtypeStruct) -> Array:
            rows = array.at[index].get(mode="promise_in_bounds")
            return rows.reshape(*index.shape, *whole.shape[1:])

        return {**jax.tree.map(picked, examples, shapes), "mask": mask, "index": index}

    return batch_of


def staged(step: Step, batch: Batch) -> Callable[..., tuple[Any, Any]]:
    """Steps over batches that were put on the device together.

    Args:
        step: as in `resident`.
        batch: one of the loader, of which only the shapes are used.

    Returns:
        (state, k batches as `stacked` makes them, epoch) -> (state, sums [k, ...]).
    """

    shapes = _shapes(_without_epoch(batch))

    def scan(state: Any, batches: Any, epoch: Array) -> tuple[Any, Any]:
        def body(state: Any, rows: Any) -> tuple[Any, Any]:
            batch = jax.tree.map(lambda a, s: a.reshape(len(a), *s.shape[1:]), rows, shapes)
            return step(state, {**batch, "epoch": epoch})

        return jax.lax.scan(body, state, batches)

    return scan


def in_groups(batches: Iterable[Batch], sizes: Iterable[int]) -> Iterator[list[Batch]]:
    """Batches by so many, one group after the other."""
    source = iter(batches)
    for size in sizes:
        yield [next(source) for _ in range(size)]


def stacked(batches: Sequence[Batch]) -> Any:
    """Batches as one array a name, [k, N, product of the rest], without the scalar "epoch"."""
    rows = [flat(_without_epoch(batch)) for batch in batches]
    return jax.tree.map(lambda *several: np.stack(several), *rows)


def _without_epoch(batch: Batch) -> dict[str, Any]:
    return {name: array for name, array in batch.items() if name != "epoch"}


def _shapes(arrays: Any) -> Any:
    """Shapes alone, so that a program does not keep the arrays."""
    return jax.tree.map(lambda array: jax.ShapeDtypeStruct(array.shape, array.dtype), arrays)
