"""The layer table: name, kind, output shape, parameters, FLOPs, receptive field."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen

from cnnjax import paths
from cnnjax.models.model import Model, train_kwargs
from cnnjax.nn import (
    Activation,
    AveragePooling2D,
    Conv2D,
    Dense,
    Dropout,
    Flatten,
    MaxPooling2D,
)


@dataclass(frozen=True)
class LayerRow:
    """One layer.

    Args:
        name: path of the layer, e.g. "conv1" or "block1/conv".
        kind: class of its module, e.g. "Conv2D".
        output_shape: without the batch.
        parameters: number of values that it owns, trainable or not.
        flops: floating-point operations for one image: 2 a multiply-accumulate of a convolution or
            dense layer, padding included; the rest is not counted.
        receptive_field: (rows, columns) of input pixels that one output pixel depends on, not cut
            off at the border; "all" behind a flatten or global layer; None where it cannot be told
            because the layer's input comes from an operation that is no named module.
    """

    name: str
    kind: str
    output_shape: tuple[int, ...]
    parameters: int
    flops: int
    receptive_field: tuple[int, int] | str | None


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
        head = ("layer", "kind", "output", "parameters", "FLOPs", "receptive field")
        body = [
            (
                row.name,
                row.kind,
                "x".join(map(str, row.output_shape)),
                f"{row.parameters:,}",
                f"{row.flops:,}",
                field_text(row.receptive_field),
            )
            for row in self.rows
        ]
        total = ("total", "", "", f"{self.parameters:,}", f"{self.flops:,}", "")
        widths = [max(map(len, column)) for column in zip(head, *body, total, strict=True)]
        right = (False, False, True, True, True, True)

        def line(cells: tuple[str, ...]) -> str:
            columns = zip(cells, widths, right, strict=True)
            return "  ".join(c.rjust(w) if r else c.ljust(w) for c, w, r in columns).rstrip()

        rule = "-" * len(line(head))
        lines = [self.title, line(head), rule, *map(line, body), rule, line(total)]
        if self.trainable != self.parameters:
            lines.append(f"trainable: {self.trainable:,}")
        return "\n".join(lines)


def field_text(field: tuple[int, int] | str | None) -> str:
    """A receptive field in a table: "24x24", "all" or "-"."""
    if field is None:
        return "-"
    return field if isinstance(field, str) else f"{field[0]}x{field[1]}"


def summary(model: Model) -> Summary:
    """The layer table of any model; nothing is computed but shapes.

    Args:
        model: of `create_model`, `Model.from_module` or `load`.

    Returns:
        A Summary.

    >>> import cnnjax as cj
    >>> [row.output_shape for row in cj.summary(cj.create_model("mnist_convnet")).rows][:2]
    [(26, 26, 32), (13, 13, 32)]
    """
    owned = _owned_sizes(model)
    calls = _trace(model, set(owned))
    rows: dict[str, LayerRow] = {}
    for call in calls:
        before = rows.get(call.name)
        rows[call.name] = LayerRow(
            name=call.name,
            kind=call.kind,
            output_shape=call.output_shape,
            parameters=owned.get(call.name, 0),
            flops=call.flops + (before.flops if before else 0),
            receptive_field=call.field.text if call.field else None,
        )
    total = sum(np.size(leaf) for leaf in jax.tree.leaves(model.variables))
    trainable = sum(np.size(leaf) for leaf in jax.tree.leaves(model.params))
    shape = "x".join(map(str, model.spec.input_shape))
    title = f"{model.spec.name}, input {shape}, {model.spec.num_classes} classes"
    return Summary(title, tuple(rows.values()), total, trainable)


@dataclass(frozen=True)
class _Field:
    """Receptive field: extent, and distance of neighbouring outputs, in input pixels an axis."""

    extent: tuple[int, int] = (1, 1)
    jump: tuple[int, int] = (1, 1)
    all: bool = False

    @property
    def text(self) -> tuple[int, int] | str:
        return "all" if self.all else self.extent

    def window(self, size: Any, strides: Any, dilation: Any) -> _Field:
        size, strides, dilation = _pair(size), _pair(strides), _pair(dilation)
        grown = zip(self.extent, size, dilation, self.jump, strict=True)
        extent = tuple(e + (k - 1) * d * j for e, k, d, j in grown)
        jump = tuple(j * s for j, s in zip(self.jump, strides, strict=True))
        return _Field((extent[0], extent[1]), (jump[0], jump[1]), self.all)


@dataclass(frozen=True)
class _Call:
    name: str
    kind: str
    output_shape: tuple[int, ...]
    flops: int
    field: _Field | None


def _owned_sizes(model: Model) -> dict[str, int]:
    """Number of values that each module owns itself, by path."""
    sizes: dict[str, int] = {}
    for collection in model.variables.values():
        for path, leaf in paths.flatten(collection).items():
            owner = path.rpartition("/")[0] or model.spec.name
            sizes[owner] = sizes.get(owner, 0) + int(np.size(leaf))
    return sizes


def _trace(model: Model, owners: set[str]) -> list[_Call]:
    """One abstract forward pass, with every call of a layer noted."""
    calls: list[_Call] = []
    fields: dict[int, _Field] = {}
    alive: list[Any] = []  # traced arrays are known by identity, so they must not be freed
    active: list[bool] = []  # for each open call: whether a submodule was called inside it

    def interceptor(next_function: Any, args: Any, kwargs: Any, context: Any) -> Any:
        if context.method_name != "__call__":
            return next_function(*args, **kwargs)
        if active:
            active[-1] = True
        module, name = context.module, "/".join(context.module.path) or model.spec.name
        active.append(False)
        output = next_function(*args, **kwargs)
        has_children = active.pop()
        inputs = [a for a in jax.tree.leaves((args, kwargs)) if hasattr(a, "ndim") and a.ndim > 1]
        arrays = [a for a in jax.tree.leaves(output) if hasattr(a, "shape")]
        alive.extend((inputs, arrays))
        inside_layer = isinstance(module, Activation) and isinstance(module.parent, Conv2D | Dense)
        if not inside_layer and (name in owners or not has_children) and len(arrays) == 1:
            is_leaf = not has_children or isinstance(module, Conv2D | Dense)
            field = _field_after(module, [fields.get(id(a)) for a in inputs]) if is_leaf else None
            if field:
                fields[id(arrays[0])] = field
            calls.append(_record(module, name, inputs, arrays[0], field, model))
        return output

    def forward(variables: Any, inputs: Any) -> Any:
        fields[id(inputs)] = _Field()
        alive.append(inputs)
        with linen.intercept_methods(interceptor):
            return model.module.apply(variables, inputs, **train_kwargs(model.module, train=False))

    sample = jax.ShapeDtypeStruct((1, *model.spec.input_shape), jnp.float32)
    jax.eval_shape(forward, model.variables, sample)
    return calls


def _record(
    module: Any, name: str, inputs: list[Any], output: Any, field: _Field | None, model: Model
) -> _Call:
    kernel = paths.flatten(model.params).get(f"{name}/kernel")
    flops = 0
    if kernel is not None and np.ndim(kernel) >= 2:
        positions = math.prod(output.shape[1:-1])
        if isinstance(module, linen.ConvTranspose):  # multiplies at its inputs' positions
            positions = math.prod(inputs[0].shape[1:-1])
        elif isinstance(module, linen.DenseGeneral):
            features = math.prod(np.atleast_1d(module.features).tolist())
            positions = math.prod(output.shape[1:]) // features
        flops = 2 * int(np.size(kernel)) * positions
    return _Call(name, type(module).__name__, tuple(output.shape[1:]), flops, field)


def _field_after(module: Any, incoming: list[_Field | None]) -> _Field | None:
    if not incoming or None in incoming:
        return None
    known = [f for f in incoming if f is not None]
    field = known[0]
    if any(f.all for f in known):
        field = _Field(all=True)
    elif any(f.jump != field.jump for f in known):
        return None
    else:
        extents = [f.extent for f in known]
        field = _Field((max(e[0] for e in extents), max(e[1] for e in extents)), field.jump)
    if field.all:
        return field
    match module:
        case Conv2D():
            return field.window(module.kernel_size, module.strides, module.dilation_rate)
        case MaxPooling2D() | AveragePooling2D():
            return field.window(module.pool_size, module.strides or module.pool_size, 1)
        case linen.Conv():
            return field.window(
                module.kernel_size, module.strides or 1, module.kernel_dilation or 1
            )
        case Flatten():
            return _Field(all=True)
        case Activation() | Dropout() | Dense() | linen.Dense() | linen.Dropout():
            return field
        case linen.BatchNorm():
            return field
    return None


def _pair(value: Any) -> tuple[int, int]:
    if isinstance(value, int):
        return (value, value)
    pair = tuple(int(v) for v in value)
    return (pair[0], pair[-1])
