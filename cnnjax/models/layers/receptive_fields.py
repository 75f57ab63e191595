"""Receptive fields by arithmetic: which input pixels one output pixel of a layer depends on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from flax import linen
from jax import lax

from cnnjax.models.graph import INPUT, Call, Net, trace
from cnnjax.nn import (
    GRU,
    LSTM,
    Activation,
    AdaptiveAveragePooling2D,
    Add,
    AveragePooling2D,
    BatchNormalization,
    Concatenate,
    Conv1D,
    Conv2D,
    Cropping2D,
    Dense,
    DepthwiseConv2D,
    Dropout,
    Embedding,
    Flatten,
    GlobalAveragePooling1D,
    GlobalAveragePooling2D,
    GlobalMaxPooling1D,
    GlobalMaxPooling2D,
    InputLayer,
    LastStep,
    LayerNormalization,
    LayerScale,
    MaxPooling1D,
    MaxPooling2D,
    Multiply,
    SeparableConv2D,
    Slice1D,
    StochasticDepth,
    ZeroPadding1D,
    ZeroPadding2D,
)
from cnnjax.nn.conv import resolve_padding
from cnnjax.nn.sequence import pads_1d

Pair = tuple[int, int]


@dataclass(frozen=True)
class ReceptiveField:
    """What the pixels of a layer's map depend on, in input pixels, (rows, columns) each.

    A sequence is an image of one column here.

    Behind windows of the sizes k_l with the strides s_l and the padding p_l before the first pixel

        extent = 1 + sum_l (k_l - 1) j_l,   jump = j_L = prod_l s_l,   start = -sum_l p_l j_(l-1)

    (Araujo et al. 2019, Computing receptive fields of convolutional neural networks, Distill).

    Args:
        extent: size of the window, not cut off at the border.
        jump: distance between the windows of neighbouring output pixels.
        start: first row and column of the window of output pixel (0, 0); negative where it begins
            in the padding.
        all: whether each value depends on the whole input; the others then mean nothing.
    """

    extent: Pair = (1, 1)
    jump: Pair = (1, 1)
    start: Pair = (0, 0)
    all: bool = False

    @property
    def size(self) -> Pair | str:
        """The extent, or "all"."""
        return "all" if self.all else self.extent

    def box(self, pixel: Sequence[int]) -> tuple[int, int, int, int]:
        """The window of an output pixel.

        Args:
            pixel: (row, column) in the layer's map.

        Returns:
            (top, left, bottom, right), bottom and right excluded; beyond the input where the window
            reaches into the padding.

        >>> ReceptiveField(extent=(3, 3), jump=(2, 2), start=(-1, -1)).box((1, 0))
        (1, -1, 4, 2)
        """
        top, left = (s + j * i for s, j, i in zip(self.start, self.jump, pixel, strict=True))
        return top, left, top + self.extent[0], left + self.extent[1]


def receptive_fields(model: Net) -> dict[str, ReceptiveField | None]:
    """The receptive field of every layer; nothing is computed but shapes.

    Args:
        model: any.

    Returns:
        {layer: field}; None where it cannot be told because the layer's input comes from an
        operation that is no named module. Of a layer that is called twice the last call counts.

    >>> import cnnjax as cj
    >>> receptive_fields(cj.create_model("mnist_convnet"))["pool2"]
    ReceptiveField(extent=(10, 10), jump=(4, 4), start=(0, 0), all=False)
    """
    calls = trace(model)
    return {c.name: f for c, f in zip(calls, fields_of(calls), strict=True)}


def fields_of(calls: Sequence[Call]) -> list[ReceptiveField | None]:
    """Of every call of `trace` the receptive field of its output."""
    fields: dict[int | None, ReceptiveField | None] = {INPUT: ReceptiveField()}
    for number, call in enumerate(calls):
        incoming = [fields.get(source) for source in call.sources]
        fields[number] = _after(call, incoming) if call.leaf else None
    return [fields[number] for number in range(len(calls))]


def _after(call: Call, incoming: list[ReceptiveField | None]) -> ReceptiveField | None:
    known = [f for f in incoming if f is not None]
    if not known or len(known) < len(incoming):
        return None
    if any(f.all for f in known):
        return ReceptiveField(all=True)
    field = _joined(known)
    module = call.module
    if field is None:
        return None
    match module:
        case Conv2D() | DepthwiseConv2D() | SeparableConv2D():
            return _window(field, call, module.kernel_size, module.strides, module.dilation_rate)
        case Conv1D():
            steps, rate = (module.strides, 1), (module.dilation_rate, 1)
            return _window(field, call, (module.kernel_size, 1), steps, rate)
        case MaxPooling1D():
            steps = (module.strides or module.pool_size, 1)
            return _window(field, call, (module.pool_size, 1), steps, 1)
        case MaxPooling2D() | AveragePooling2D():
            return _window(field, call, module.pool_size, module.strides or module.pool_size, 1)
        case linen.Conv():
            strides, dilation = module.strides or 1, module.kernel_dilation or 1
            return _window(field, call, module.kernel_size, strides, dilation)
        case ZeroPadding2D():
            (top, _), (left, _) = module.padding
            return _taking(field, (-top, -left))
        case Cropping2D():
            (top, _), (left, _) = module.cropping
            return _taking(field, (top, left))
        case ZeroPadding1D():
            return _taking(field, (-module.padding[0], 0))
        case Slice1D():
            return _taking(field, (module.start, 0), (module.strides, 1))
        case LastStep():
            return _taking(field, (call.input_shapes[0][1] - 1, 0))
        case GRU() | LSTM() if module.return_sequences:  # all steps before: of no one size
            return None
        case Flatten() | GlobalAveragePooling2D() | GlobalMaxPooling2D() | GRU() | LSTM():
            return ReceptiveField(all=True)
        case AdaptiveAveragePooling2D() if call.input_shapes[0][1:3] != call.output_shape[1:3]:
            return None  # windows of several sizes
        case GlobalAveragePooling1D() | GlobalMaxPooling1D():
            return ReceptiveField(all=True)
        case (
            Activation()
            | AdaptiveAveragePooling2D()
            | Add()
            | BatchNormalization()
            | Concatenate()
            | Dense()
            | Dropout()
            | Embedding()
            | InputLayer()
            | LayerNormalization()
            | LayerScale()
            | Multiply()
            | StochasticDepth()
            | linen.LayerNorm()
            | linen.BatchNorm()
            | linen.Dense()
            | linen.Dropout()
        ):
            return field
    return None


def _joined(fields: Sequence[ReceptiveField]) -> ReceptiveField | None:
    """Of a sum or concatenation of maps: the smallest window around those of all."""
    if any(f.jump != fields[0].jump for f in fields):
        return None
    first = [min(f.start[axis] for f in fields) for axis in (0, 1)]
    last = [max(f.start[axis] + f.extent[axis] for f in fields) for axis in (0, 1)]
    extent = (last[0] - first[0], last[1] - first[1])
    return ReceptiveField(extent, fields[0].jump, (first[0], first[1]))


def _window(
    field: ReceptiveField, call: Call, size: Any, strides: Any, dilation: Any
) -> ReceptiveField:
    """Behind a layer that slides a window over the map."""
    size, strides, dilation = _pair(size), _pair(strides), _pair(dilation)
    top, left = _pads_before(call, size, strides, dilation)
    extent = [field.extent[a] + (size[a] - 1) * dilation[a] * field.jump[a] for a in range(2)]
    return replace(_taking(field, (-top, -left), strides), extent=_pair(extent))


def _taking(field: ReceptiveField, first: Pair, strides: Pair = (1, 1)) -> ReceptiveField:
    """Behind a layer whose map begins at a pixel of its input's and goes on in steps.

    A negative first pixel lies in padding.
    """
    start = [field.start[a] + first[a] * field.jump[a] for a in range(2)]
    jump = [field.jump[a] * strides[a] for a in range(2)]
    return ReceptiveField(field.extent, _pair(jump), _pair(start))


def _pads_before(call: Call, size: Pair, strides: Pair, dilation: Pair) -> Pair:
    """Rows and columns that the layer adds above and to the left."""
    padding, shape = call.module.padding, _pair(call.input_shapes[0][1:-1])
    if isinstance(call.module, Conv1D):
        padding = pads_1d(padding, size[0], dilation[0])
    if not isinstance(call.module, linen.Conv):
        (top, _), (left, _) = resolve_padding(padding, shape, size, strides, dilation)
        return top, left
    if isinstance(padding, str):
        # CIRCULAR and REFLECT add as many as SAME does at stride 1; CAUSAL all of it before.
        extent = _pair([(k - 1) * d + 1 for k, d in zip(size, dilation, strict=True)])
        if padding == "CAUSAL":
            return extent[0] - 1, extent[1] - 1
        kind = "VALID" if padding == "VALID" else "SAME"
        (top, _), (left, _) = lax.padtype_to_pads(shape, extent, strides, kind)
        return int(top), int(left)
    pads = [padding] * 2 if isinstance(padding, int) else list(padding)
    return _pair([p if isinstance(p, int) else p[0] for p in pads])


def _pair(value: Any) -> Pair:
    if isinstance(value, int):
        return (value, value)
    pair = tuple(int(v) for v in value)
    return (pair[0], pair[-1])
