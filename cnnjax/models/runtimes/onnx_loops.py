"""The rule for `lax.scan`, as recurrent layers use it: ONNX' Scan."""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import helper

from cnnjax.models.runtimes.onnx_graph import Graph, Value
from cnnjax.models.runtimes.onnx_operations import refuse, rule, write_program


@rule("scan")
def _scan(graph: Graph, operands: list[Value], given: Any, results: list[Any]) -> list[Value]:
    constants, carried = given["num_consts"], given["num_carry"]
    fixed = operands[:constants]
    moving = operands[constants:]  # the carry, then what is gone through
    rows = moving[carried:]
    if not rows:
        raise refuse(graph, "a loop that goes through nothing")
    # In the body a whole tensor of the graph around it may be read by its name.
    fixed = [one if one.data is not None else _named(graph, one) for one in fixed]
    starts = [graph.whole(one) for one in moving]
    body, arguments = graph.body(), []
    for number, one in enumerate(moving):
        shape = one.shape if number < carried else one.shape[1:]
        arguments.append(Value(shape, shape, one.dtype, tensor=graph.unused("step")))
    made = write_program(body, given["jaxpr"], [*fixed, *arguments])
    # An output may be neither an input of the body nor of the graph around it.
    ends = [body.node("Identity", [body.whole(one)]) for one in made]
    program = helper.make_graph(
        body.nodes,
        graph.unused("body"),
        [_info(one.tensor, one) for one in arguments],
        [_info(end, one) for end, one in zip(ends, made, strict=True)],
    )
    back = int(given["reverse"])
    tensors = graph.node(
        "Scan",
        starts,
        outputs=len(results),
        body=program,
        num_scan_inputs=len(rows),
        scan_input_directions=[back] * len(rows),
        scan_output_directions=[back] * (len(results) - carried),
    )
    tensors = [tensors] if len(results) == 1 else tensors
    return [
        Value(result.shape, result.shape, np.dtype(result.dtype), tensor=tensor)
        for tensor, result in zip(tensors, results, strict=True)
    ]


def _named(graph: Graph, value: Value) -> Value:
    return Value(value.shape, value.shape, value.dtype, tensor=graph.whole(value))


def _info(name: str, value: Value) -> Any:
    kind = helper.np_dtype_to_tensor_dtype(value.dtype)
    return helper.make_tensor_value_info(name, kind, [None] * len(value.shape))
