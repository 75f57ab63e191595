"""Rules for convolution and pooling: NHWC programs as ONNX' NCHW operators."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from cnnjax.models.runtimes.onnx_graph import Graph, Value, is_known
from cnnjax.models.runtimes.onnx_operations import made, refuse, rule
from cnnjax.models.runtimes.onnx_shapes import transposed

Pairs = Sequence[tuple[int, int]]


@rule("conv_general_dilated")
def _convolve(graph: Graph, operands: list[Value], given: Any, results: list[Any]) -> list[Value]:
    (inputs, kernel), places = operands, given["dimension_numbers"]
    if given["batch_group_count"] != 1:
        raise refuse(graph, "a convolution in groups of examples")
    images = transposed(graph, graph.whole(inputs), places.lhs_spec)
    spread = any(step != 1 for step in given["lhs_dilation"])
    write = _spread_convolution if spread else _convolution
    maps = write(graph, images, kernel, given)
    back = [places.out_spec.index(axis) for axis in range(len(places.out_spec))]
    return made(transposed(graph, maps, back), results[0])


def _convolution(graph: Graph, images: str, kernel: Value, given: Any) -> str:
    images, pads = padded(graph, images, given["padding"], 0.0)
    weights = _weights(graph, kernel, given["dimension_numbers"].rhs_spec)
    return str(
        graph.node(
            "Conv",
            [images, weights],
            strides=given["window_strides"],
            pads=pads,
            dilations=given["rhs_dilation"],
            group=given["feature_group_count"],
        )
    )


def padded(
    graph: Graph, images: str, pairs: Pairs, filling: float, sizes: Sequence[int] = ()
) -> tuple[str, list[int]]:
    """Images [N, C, ...], and the padding for an operator to do itself.

    Padding that follows from the size of the inputs, is negative, or is as wide as the window, no
    operator does.

    Args:
        graph: to add to.
        images: the tensor.
        pairs: (before, after) of each axis.
        filling: what is padded with.
        sizes: of a window of a pooling.
    """
    low, high = zip(*pairs, strict=True)
    plain = all(is_known(n) and n >= 0 for n in (*low, *high))
    narrow = all(max(pair) < n for pair, n in zip(pairs, sizes, strict=True)) if sizes else True
    if plain and narrow:
        return images, [*low, *high]
    wanted = graph.sizes_of((0, 0, *low, 0, 0, *high))
    constant = graph.initializer(np.array(filling, np.float32))
    return str(graph.node("Pad", [images, wanted, constant])), [0] * (2 * len(low))


def _spread_convolution(graph: Graph, images: str, kernel: Value, given: Any) -> str:
    """A convolution of inputs with zeros between them: ONNX' ConvTranspose, its kernel flipped."""
    if given["feature_group_count"] != 1 or any(step != 1 for step in given["window_strides"]):
        raise refuse(graph, "a transposed convolution in groups or with strides")
    out, incoming, *axes = given["dimension_numbers"].rhs_spec
    if kernel.data is None:
        raise refuse(graph, "a transposed convolution with a kernel that is computed")
    flipped = np.flip(np.broadcast_to(kernel.data, kernel.shape), axes)
    weights = graph.initializer(flipped.transpose(incoming, out, *axes), kernel.label)
    reach = [d * (kernel.shape[axis] - 1) for d, axis in zip(given["rhs_dilation"], axes)]  # noqa: B905
    low = [r - pad for r, (pad, _) in zip(reach, given["padding"], strict=True)]
    high = [r - pad for r, (_, pad) in zip(reach, given["padding"], strict=True)]
    more = [max(-n, 0) for n in high]
    if min(low) < 0 or any(m >= s for m, s in zip(more, given["lhs_dilation"], strict=True)):
        raise refuse(graph, "a transposed convolution with so much padding")
    return str(
        graph.node(
            "ConvTranspose",
            [images, weights],
            strides=given["lhs_dilation"],
            pads=[*low, *(max(n, 0) for n in high)],
            output_padding=more,
            dilations=given["rhs_dilation"],
        )
    )


def _weights(graph: Graph, kernel: Value, order: Sequence[int]) -> str:
    """A kernel as [outputs, inputs, rows, columns]."""
    if kernel.data is None:
        return transposed(graph, graph.whole(kernel), order)
    whole = np.broadcast_to(kernel.data, kernel.shape)
    return graph.initializer(whole.transpose(order), kernel.label)


@rule("reduce_window_max")
def _largest(graph: Graph, operands: list[Value], given: Any, results: list[Any]) -> list[Value]:
    window = _Window(graph, given)
    images = window.images(operands[0], -np.inf)
    maps = graph.node("MaxPool", [images], **window.settings, dilations=window.dilations)
    return window.result(maps, results[0])


@rule("reduce_window_sum")
def _sum(graph: Graph, operands: list[Value], given: Any, results: list[Any]) -> list[Value]:
    window = _Window(graph, given)
    if any(step != 1 for step in window.dilations):
        raise refuse(graph, "a sum over windows with gaps")
    images = window.images(operands[0], 0.0)
    maps = graph.node("AveragePool", [images], **window.settings, count_include_pad=1)
    count = np.array(math.prod(window.settings["kernel_shape"]), operands[0].dtype)
    return window.result(graph.node("Mul", [maps, graph.initializer(count)]), results[0])


class _Window:
    """The window of a pooling over [N, ..., C].

    Args:
        graph: to add to.
        given: parameters of JAX's operation.
    """

    def __init__(self, graph: Graph, given: Any):
        sizes, self.graph = given["window_dimensions"], graph
        self.padding: Pairs = given["padding"]
        rank, within = len(sizes), slice(1, -1)
        edges = (0, rank - 1)
        along = any(sizes[i] != 1 or given["window_strides"][i] != 1 for i in edges)
        if along or rank < 3 or any(step != 1 for step in given["base_dilation"]):
            raise refuse(graph, "a window over examples or channels, or with zeros between numbers")
        self.order = (0, rank - 1, *range(1, rank - 1))
        self.settings = {
            "kernel_shape": sizes[within],
            "strides": given["window_strides"][within],
        }
        self.dilations = given["window_dilation"][within]

    def images(self, value: Value, filling: float) -> str:
        """What is pooled as [N, C, ...]; padding that is as wide as the window stands in it."""
        if value.dtype != np.float32:
            raise refuse(self.graph, f"pooling of {value.dtype}")
        images = transposed(self.graph, self.graph.whole(value), self.order)
        pairs, sizes = self.padding[1:-1], self.settings["kernel_shape"]
        images, pads = padded(self.graph, images, pairs, filling, sizes)
        self.settings["pads"] = pads
        return images

    def result(self, maps: str, result: Any) -> list[Value]:
        """The maps, [N, ..., C] again."""
        rank = len(self.order)
        return made(transposed(self.graph, maps, (0, *range(2, rank), 1)), result)
