"""Rules for what moves, joins, picks and adds up numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from cnnjax.models.runtimes.onnx_elementwise import cast
from cnnjax.models.runtimes.onnx_graph import Graph, Value, is_known
from cnnjax.models.runtimes.onnx_operations import RULES, Rule, made, refuse, rule

_END = np.iinfo(np.int64).max


def whole_numbers(graph: Graph, numbers: Sequence[int]) -> str:
    """A constant int64 [K]."""
    return graph.initializer(np.array(numbers, np.int64))


def transposed(graph: Graph, tensor: str, order: Sequence[int]) -> str:
    """A tensor with its axes in another order; what was just brought into one is taken back."""
    if list(order) == sorted(order):
        return tensor
    before = next((node for node in reversed(graph.nodes) if tensor in node.output), None)
    if before is not None and before.op_type == "Transpose":
        first = list(before.attribute[0].ints)
        if [first[i] for i in order] == sorted(order):
            return str(before.input[0])
    return str(graph.node("Transpose", [tensor], perm=list(order)))


@rule("transpose")
def _transpose(graph: Graph, operands: list[Value], given: Any, results: list[Any]) -> list[Value]:
    return made(transposed(graph, graph.whole(operands[0]), given["permutation"]), results[0])


@rule("reshape", "squeeze", "expand_dims")
def _reshape(graph: Graph, operands: list[Value], given: Any, results: list[Any]) -> list[Value]:
    return made(reshaped(graph, graph.whole(operands[0]), results[0].shape), results[0])


def reshaped(graph: Graph, tensor: str, shape: Sequence[Any]) -> str:
    """A tensor in another shape."""
    return str(graph.node("Reshape", [tensor, graph.sizes_of(tuple(shape), one_unknown=True)]))


@rule("broadcast_in_dim")
def _broadcast(graph: Graph, operands: list[Value], given: Any, results: list[Any]) -> list[Value]:
    value, shape = operands[0], tuple(results[0].shape)
    if not value.shape:
        own: tuple[Any, ...] = ()
    else:
        # Only its rank changes: operators, or `whole`, make the rest of it.
        sizes = (1,) * (len(value.shape) - len(value.own)) + tuple(value.own)
        own_sizes: list[Any] = [1] * len(shape)
        for axis, size in zip(given["broadcast_dimensions"], sizes, strict=True):
            own_sizes[axis] = size
        own = tuple(own_sizes)
    if value.data is not None:
        return [Value.constant(value.data.reshape(own), shape, value.label)]
    tensor = value.tensor if own == value.own else reshaped(graph, value.tensor, own)
    return [Value(shape, own, value.dtype, tensor=tensor)]


@rule("tile")
def _tile(graph: Graph, operands: list[Value], given: Any, results: list[Any]) -> list[Value]:
    inputs = [graph.whole(operands[0]), whole_numbers(graph, given["reps"])]
    return made(graph.node("Tile", inputs), results[0])


@rule("concatenate")
def _join(graph: Graph, operands: list[Value], given: Any, results: list[Any]) -> list[Value]:
    parts = [graph.whole(one) for one in operands]
    return made(graph.node("Concat", parts, axis=given["dimension"]), results[0])


@rule("stack")
def _stack(graph: Graph, operands: list[Value], given: Any, results: list[Any]) -> list[Value]:
    (axis,) = (value for name, value in given.items() if name in ("axis", "dimension"))
    place = whole_numbers(graph, [axis])
    parts = [graph.node("Unsqueeze", [graph.whole(one), place]) for one in operands]
    return made(graph.node("Concat", parts, axis=axis), results[0])


@rule("split")
def _split(graph: Graph, operands: list[Value], given: Any, results: list[Any]) -> list[Value]:
    inputs = [graph.whole(operands[0]), whole_numbers(graph, given["sizes"])]
    parts = graph.node("Split", inputs, outputs=len(results), axis=given["axis"])
    parts = [parts] if len(results) == 1 else parts
    return [v for one, result in zip(parts, results, strict=True) for v in made(one, result)]


@rule("pad")
def _pad(graph: Graph, operands: list[Value], given: Any, results: list[Any]) -> list[Value]:
    value, filling = operands
    if any(inside for _, _, inside in given["padding_config"]):
        raise refuse(graph, "padding between numbers")
    lows, highs, _ = zip(*given["padding_config"], strict=True)
    inputs = [graph.whole(value), graph.sizes_of((*lows, *highs)), graph.whole(filling)]
    return made(graph.node("Pad", inputs), results[0])


def sliced(
    graph: Graph, tensor: str, starts: Sequence[int], ends: Sequence[int], axes: Sequence[int],
    steps: Sequence[int] | None = None,
) -> str:  # fmt: skip
    """A part of a tensor along some axes; nothing where that is all of it."""
    steps = steps or [1] * len(axes)
    some = [i for i in range(len(axes)) if (starts[i], ends[i], steps[i]) != (0, _END, 1)]
    if not some:
        return tensor
    settings = [[numbers[i] for i in some] for numbers in (starts, ends, axes, steps)]
    return str(graph.node("Slice", [tensor, *(whole_numbers(graph, one) for one in settings)]))


@rule("slice")
def _slice(graph: Graph, operands: list[Value], given: Any, results: list[Any]) -> list[Value]:
    (value,), limits = operands, given["limit_indices"]
    ends = [_END if end == n else end for end, n in zip(limits, value.shape, strict=True)]
    if not all(is_known(n) for n in (*given["start_indices"], *ends)):
        raise refuse(graph, "a slice whose ends follow the size of the inputs")
    axes, steps = range(len(value.shape)), given["strides"]
    tensor = sliced(graph, graph.whole(value), given["start_indices"], ends, axes, steps)
    return made(tensor, results[0])


@rule("rev")
def _reverse(graph: Graph, operands: list[Value], given: Any, results: list[Any]) -> list[Value]:
    axes = given["dimensions"]
    back = [-1] * len(axes)
    tensor = sliced(graph, graph.whole(operands[0]), back, [-_END] * len(axes), axes, back)
    return made(tensor, results[0])


@rule("dynamic_slice")
def _dynamic(graph: Graph, operands: list[Value], given: Any, results: list[Any]) -> list[Value]:
    value, *starts = operands
    if any(start.data is None for start in starts):
        raise refuse(graph, "a slice whose place is computed")
    numbers = [int(start.data) for start in starts]  # type: ignore[arg-type]
    return made(_window(graph, value, numbers, given["slice_sizes"]), results[0])


def _window(graph: Graph, value: Value, starts: Sequence[int], sizes: Sequence[Any]) -> str:
    """A part of an array, moved into it where it would reach over its end, as JAX does."""
    first, end = [], []
    for start, size, n in zip(starts, sizes, value.shape, strict=True):
        whole = size == n
        first.append(0 if whole else max(0, min(start, n - size)))
        end.append(_END if whole else first[-1] + size)
    return sliced(graph, graph.whole(value), first, end, range(len(value.shape)))


@rule("gather")
def _gather(graph: Graph, operands: list[Value], given: Any, results: list[Any]) -> list[Value]:
    value, indices = operands
    places, sizes = given["dimension_numbers"], given["slice_sizes"]
    if indices.data is not None and len(indices.shape) == 1 and not places.operand_batching_dims:
        starts = [0] * len(value.shape)
        for axis, start in zip(places.start_index_map, indices.data, strict=True):
            starts[axis] = int(start)
        tensor = _window(graph, value, starts, sizes)
        return made(reshaped(graph, tensor, results[0].shape), results[0])
    axis = _axis_of_rows(value, indices, places, sizes)
    if axis is None:
        raise refuse(graph, "picking by several indices at once")
    rows = reshaped(graph, graph.whole(indices), indices.shape[:-1])
    last = graph.initializer(np.array(value.shape[axis] - 1, indices.dtype))
    first = graph.initializer(np.array(0, indices.dtype))
    inside = graph.node("Max", [graph.node("Min", [rows, last]), first])
    tensor = graph.node("Gather", [graph.whole(value), inside], axis=axis)
    if "FILL" in str(given["mode"]) and np.issubdtype(value.dtype, np.floating):
        known = graph.node("Equal", [rows, inside])
        after = (1,) * (len(value.shape) - 1 - axis)
        known = reshaped(graph, known, (*indices.shape[:-1], *after))
        filling = graph.initializer(np.array(np.nan, value.dtype))
        tensor = graph.node("Where", [known, tensor, filling])
    return made(tensor, results[0])


def _axis_of_rows(value: Value, indices: Value, places: Any, sizes: Any) -> int | None:
    """The axis along which whole rows are picked, each by one index; None of another picking."""
    if len(places.start_index_map) != 1 or places.operand_batching_dims:
        return None
    (axis,), count = places.start_index_map, len(indices.shape) - 1
    wanted = [n if i != axis else 1 for i, n in enumerate(value.shape)]
    others = (*range(axis), *range(axis + count, len(value.shape) - 1 + count))
    same = list(sizes) == wanted and tuple(places.collapsed_slice_dims) == (axis,)
    return axis if same and tuple(places.offset_dims) == others else None


@rule("iota")
def _iota(graph: Graph, operands: list[Value], given: Any, results: list[Any]) -> list[Value]:
    (result,), axis = results, given["dimension"]
    own = [1] * len(result.shape)
    own[axis] = result.shape[axis]
    zero, one = (graph.initializer(np.array(n, np.int64)) for n in (0, 1))
    end = reshaped(graph, graph.size(own[axis]), ())
    row = made(reshaped(graph, graph.node("Range", [zero, end, one]), own), result)[0]
    (numbers,) = cast(graph, row, result)
    return [Value(result.shape, tuple(own), np.dtype(result.dtype), tensor=numbers.tensor)]


@rule("dim_as_value")
def _size(graph: Graph, operands: list[Value], given: Any, results: list[Any]) -> list[Value]:
    size = reshaped(graph, graph.size(given["dim"]), ())
    return cast(graph, Value((), (), np.dtype(np.int64), tensor=size), results[0])


_REDUCTIONS = {
    "reduce_sum": "ReduceSum",
    "reduce_max": "ReduceMax",
    "reduce_min": "ReduceMin",
    "reduce_prod": "ReduceProd",
}


def _reduction(operator: str) -> Rule:
    def write(graph: Graph, operands: list[Value], given: Any, results: list[Any]) -> list[Value]:
        inputs = [graph.whole(operands[0]), whole_numbers(graph, given["axes"])]
        return made(graph.node(operator, inputs, keepdims=0), results[0])

    return write


RULES.update({name: _reduction(operator) for name, operator in _REDUCTIONS.items()})


def _winner(operator: str) -> Rule:
    def write(graph: Graph, operands: list[Value], given: Any, results: list[Any]) -> list[Value]:
        (axis,) = given["axes"]
        place = graph.node(operator, [graph.whole(operands[0])], axis=axis, keepdims=0)
        numbers = Value(results[0].shape, results[0].shape, np.dtype(np.int64), tensor=place)
        return cast(graph, numbers, results[0])

    return write


RULES.update({"argmax": _winner("ArgMax"), "argmin": _winner("ArgMin")})


@rule("cumsum")
def _sums(graph: Graph, operands: list[Value], given: Any, results: list[Any]) -> list[Value]:
    axis = graph.initializer(np.array(given["axis"], np.int64))
    inputs = [graph.whole(operands[0]), axis]
    return made(graph.node("CumSum", inputs, reverse=int(given["reverse"])), results[0])


@rule("dot_general")
def _product(graph: Graph, operands: list[Value], given: Any, results: list[Any]) -> list[Value]:
    (left_sum, right_sum), (left_batch, right_batch) = given["dimension_numbers"]
    left, right = operands
    ranks = len(left.shape), len(right.shape)
    names = [graph.whole(left), graph.whole(right)]
    rows_by_matrix = (tuple(left_sum), tuple(right_sum)) == ((ranks[0] - 1,), (0,))
    if rows_by_matrix and not left_batch and ranks[1] == 2:
        return made(graph.node("MatMul", names), results[0])
    letters = iter("abcdefghijklmnopqrstuvwxyz")
    first, second = [next(letters) for _ in range(ranks[0])], [""] * ranks[1]
    for mine, theirs in ((left_sum, right_sum), (left_batch, right_batch)):
        for i, j in zip(mine, theirs, strict=True):
            second[j] = first[i]
    second = [letter or next(letters) for letter in second]
    batch = [first[i] for i in left_batch]
    summed = [first[i] for i in left_sum]
    rest = [one for one in (*first, *second) if one not in batch and one not in summed]
    equation = f"{''.join(first)},{''.join(second)}->{''.join((*batch, *rest))}"
    return made(graph.node("Einsum", names, equation=equation), results[0])
