"""Which registered models a weight file is of."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from flax import linen

from cnnjax.models import taps
from cnnjax.models.builder import build
from cnnjax.models.model import Model
from cnnjax.models.pretrained.matching import Target, match
from cnnjax.models.pretrained.order import WeightsDoNotFit
from cnnjax.models.pretrained.torch_layers import as_ours, module_arguments
from cnnjax.models.registry import BUILDERS, Builder
from cnnjax.models.spec import ModelSpec
from cnnjax.models.torch_names import TorchNames
from cnnjax.weights import StoredWeights

# Anything could have the weights of fewer layers.
_MIN_BODY = 3


def described(spec: ModelSpec) -> str:
    """A model with what it was created with."""
    settings = [f"{k}={v}" for k, v in (spec.arguments or {}).items()]
    return f"{spec.name} ({', '.join(settings)})" if settings else spec.name


def models_that_fit(stored: StoredWeights) -> list[str]:
    """Registered models that the file covers, but for their heads."""
    arrays = [array for layer in stored.layers for array in layer.arrays.values()]
    known = {_key(array.shape, stored.torch) for array in arrays}
    fitting = []
    for name, builder in BUILDERS.items():
        for variant, table in _variants(builder, stored):
            module, spec = build(name, **variant)
            arguments = module_arguments(module)
            if table and not _names_most(stored, table, arguments):
                continue
            model = _abstract(known, stored.torch, module, spec)
            if model is not None and _fits(stored, model, table, arguments):
                fitting.append(described(spec))
    return list(dict.fromkeys(fitting))


def _variants(
    builder: Builder, stored: StoredWeights
) -> Iterator[tuple[dict[str, Any], TorchNames | None]]:
    """Arguments that make other shapes, each with a table of names where the file needs one."""
    chosen = [{argument: value} for argument, values in builder.choices for value in values]
    for variant in chosen or [{}]:
        for table in builder.foreign if stored.torch else (None,):
            arguments = table.arguments if table else {}
            # One that the table says otherwise is the same net as without the variant.
            if all(arguments.get(k, v) == v for k, v in variant.items()):
                yield {**variant, **arguments}, table


def _names_most(stored: StoredWeights, table: TorchNames, arguments: dict[str, Any]) -> bool:
    """Whether a table names the layers, but for a head's."""
    names = [layer.name for layer in stored.layers]
    return 2 * len(table.ours(names, arguments)) > len(names)


def _key(shape: tuple[int, ...], torch: bool) -> tuple[int, ...]:
    """What a weight's shape must have in common with an array's; PyTorch's are turned."""
    return (math.prod(shape),) if torch else tuple(shape)


def _abstract(
    known: set[tuple[int, ...]], torch: bool, module: linen.Module, spec: ModelSpec
) -> Model | None:
    """A model by its shapes, if every kernel of its body has one that is there.

    The net is left at the first one that has not: to build all of them takes seconds.
    """

    def watch(visit: taps.Visit) -> Any:
        output, owner = visit.proceed(), visit.module
        if owner.path and owner.path[0] not in spec.head:
            for weight in owner.variables.get("params", {}).values():
                if getattr(weight, "ndim", 0) > 1 and _key(weight.shape, torch) not in known:
                    raise taps.Stop
        return output

    try:
        with taps.watched(watch):
            return Model.abstract(module, spec)
    except taps.Stop:
        return None


def _fits(
    stored: StoredWeights, model: Model, table: TorchNames | None, arguments: dict[str, Any]
) -> bool:
    target = Target.of(model)
    try:
        ours = as_ours(stored, table, target, arguments) if table else stored
        return len(target.body) > _MIN_BODY and not match(ours, target).differences
    except WeightsDoNotFit:
        return False
