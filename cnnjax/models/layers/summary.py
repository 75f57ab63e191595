"""The layer table: name, kind, output shape, parameters, FLOPs, receptive field."""

from __future__ import annotations

import math
from dataclasses import dataclass

import jax
import numpy as np
from flax import linen

from cnnjax.core import trees
from cnnjax.core.checks import sizes_text
from cnnjax.core.html import html_table, paragraphs
from cnnjax.core.table import table
from cnnjax.core.text import counted, plain
from cnnjax.models.graph import Call, Net, in_keras_order, trace
from cnnjax.models.layers.receptive_fields import fields_of
from cnnjax.nn import GRU, LSTM


@dataclass(frozen=True)
class LayerRow:
    """One layer.

    Args:
        index: place in the table, from 0: that of `keras.Model.layers` where Keras has the model.
        name: path of the layer, e.g. "conv1" or "block1/conv".
        kind: class of its module, e.g. "Conv2D".
        output_shape: without the batch.
        parameters: number of values that it owns, trainable or not.
        flops: floating-point operations for one image: 2 a multiply-accumulate of a convolution,
            dense or recurrent layer, padding included; the rest is not counted.
        receptive_field: (rows, columns) of input pixels, or (steps,) of a sequence, that one output
            pixel depends on, not cut off at the border; "all" behind a flatten, global or recurrent
            layer; None where it cannot be told because the layer's input comes from an operation
            that is no named module.
    """

    index: int
    name: str
    kind: str
    output_shape: tuple[int, ...]
    parameters: int
    flops: int
    receptive_field: tuple[int, ...] | str | None


@dataclass(frozen=True)
class Summary:
    """The layer table of a model; `print` it, or read its `rows`."""

    title: str
    rows: tuple[LayerRow, ...]
    parameters: int
    trainable: int

    @property
    def flops(self) -> int:
        """Floating-point operations for one image."""
        return sum(row.flops for row in self.rows)

    def __str__(self) -> str:
        rows = self.cells()
        lines = [plain(self.title), table(rows, "><<>", rules=(1, len(rows) - 1))]
        if self.trainable != self.parameters:
            lines.append(f"trainable: {self.trainable:,}")
        return "\n".join(lines)

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        trainable = f"trainable: {self.trainable:,}" if self.trainable != self.parameters else ""
        return paragraphs(self.title) + html_table(self.cells(), "><<>") + paragraphs(trainable)

    def cells(self) -> list[tuple[object, ...]]:
        """The rows of the table, its head first and the total last."""
        head = ("", "layer", "kind", "output", "parameters", "FLOPs", "receptive field")
        body = [
            (
                row.index,
                row.name,
                row.kind,
                "x".join(map(str, row.output_shape)),
                f"{row.parameters:,}",
                f"{row.flops:,}",
                field_text(row.receptive_field),
            )
            for row in self.rows
        ]
        total = ("", "total", "", "", f"{self.parameters:,}", f"{self.flops:,}", "")
        return [head, *body, total]


def field_text(field: tuple[int, ...] | str | None) -> str:
    """A receptive field in a table: "24x24", of a sequence "24", "all" or "-"."""
    if field is None:
        return "-"
    return field if isinstance(field, str) else "x".join(map(str, field))


def summary(model: Net) -> Summary:
    """The layer table of any model; nothing is computed but shapes.

    Args:
        model: of `create_model`, `Model.from_module` or `load`.

    Returns:
        A Summary.

    >>> import cnnjax as cj
    >>> [row.output_shape for row in cj.summary(cj.create_model("mnist_convnet")).rows][:2]
    [(26, 26, 32), (13, 13, 32)]
    """
    rows = _rows(model)
    total = sum(np.size(leaf) for leaf in jax.tree.leaves(model.variables))
    trainable = sum(np.size(leaf) for leaf in jax.tree.leaves(model.variables.get("params", {})))
    shape = sizes_text(model.spec.sample_shape)
    if model.spec.takes_any_size:
        shape = f"of any size, here {shape}"
    title = (
        f"{model.spec.name}, input {shape}, {counted(model.spec.num_classes, 'class', 'classes')}"
    )
    return Summary(title, tuple(rows), total, trainable)


def _rows(model: Net) -> list[LayerRow]:
    """One row a layer, in Keras' order; a layer called twice has one, with the work of both."""
    sizes: dict[str, dict[str, int]] = {}
    for collection in model.variables.values():
        for path, leaf in trees.leaves(collection).items():
            owner, _, name = path.rpartition("/")
            sizes.setdefault(owner or model.spec.name, {})[name] = int(np.size(leaf))
    calls = trace(model)
    fields = fields_of(calls)
    numbers = {id(call): number for number, call in enumerate(calls)}
    rows: dict[str, LayerRow] = {}
    for call in in_keras_order(calls):
        before, field = rows.get(call.name), fields[numbers[id(call)]]
        rows[call.name] = LayerRow(
            index=before.index if before else len(rows),
            name=call.name,
            kind=call.kind,
            output_shape=call.output_shape[1:],
            parameters=sum(sizes.get(call.name, {}).values()),
            flops=_flops(call, sizes.get(call.name, {})) + (before.flops if before else 0),
            receptive_field=_in_axes(field.size, len(model.spec.input_shape)) if field else None,
        )
    return list(rows.values())


def _in_axes(size: tuple[int, ...] | str, rank: int) -> tuple[int, ...] | str:
    """A size in rows and columns; of inputs without columns in rows, which are their steps."""
    return size if isinstance(size, str) or rank == 3 else size[:1]


def _flops(call: Call, sizes: dict[str, int]) -> int:
    """2 for every value of a kernel at every position of the output."""
    kernels = sum(size for name, size in sizes.items() if name.endswith("kernel"))
    positions = math.prod(call.output_shape[1:-1])
    if isinstance(call.module, linen.ConvTranspose):  # multiplies at its inputs' positions
        positions = math.prod(call.input_shapes[0][1:-1])
    elif isinstance(call.module, linen.DenseGeneral):
        features = math.prod(np.atleast_1d(call.module.features).tolist())
        positions = math.prod(call.output_shape[1:]) // features
    elif isinstance(call.module, GRU | LSTM):  # steps, whether all are returned or the last one
        positions = call.input_shapes[0][1]
    return 2 * kernels * positions
