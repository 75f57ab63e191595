"""Which registered models a weight file is of."""

from __future__ import annotations

from typing import Any

from flax import linen

from cnnjax.models import taps
from cnnjax.models.model import Model
from cnnjax.models.pretrained.matching import Target, match
from cnnjax.models.pretrained.order import WeightsDoNotFit
from cnnjax.models.spec import ModelSpec
from cnnjax.weights import StoredWeights

# Anything could have the weights of fewer layers.
_MIN_BODY = 3


def described(spec: ModelSpec) -> str:
    """A model with what it was created with."""
    settings = [f"{k}={v}" for k, v in (spec.arguments or {}).items()]
    return f"{spec.name} ({', '.join(settings)})" if settings else spec.name


def models_that_fit(stored: StoredWeights) -> list[str]:
    """Registered models that the file covers, but for their heads."""
    from cnnjax.models.builder import build
    from cnnjax.models.registry import BUILDERS

    shapes = {tuple(array.shape) for layer in stored.layers for array in layer.arrays.values()}
    fitting = []
    for name, builder in BUILDERS.items():
        variants: list[dict[str, Any]] = [
            {argument: value} for argument, values in builder.choices for value in values
        ]
        for variant in variants or [{}]:
            module, spec = build(name, **variant)
            model = _abstract(shapes, module, spec)
            if model is not None and _fits(stored, model):
                fitting.append(described(spec))
    return fitting


def _abstract(shapes: set[tuple[int, ...]], module: linen.Module, spec: ModelSpec) -> Model | None:
    """A model by its shapes, if every kernel of its body has one that is there.

    The net is left at the first one that has not: to build all of them takes seconds.
    """

    def watch(visit: taps.Visit) -> Any:
        output, owner = visit.proceed(), visit.module
        if owner.path and owner.path[0] not in spec.head:
            for weight in owner.variables.get("params", {}).values():
                if getattr(weight, "ndim", 0) > 1 and tuple(weight.shape) not in shapes:
                    raise taps.Stop
        return output

    try:
        with taps.watched(watch):
            return Model.abstract(module, spec)
    except taps.Stop:
        return None


def _fits(stored: StoredWeights, model: Model) -> bool:
    target = Target.of(model)
    try:
        return len(target.body) > _MIN_BODY and not match(stored, target).differences
    except WeightsDoNotFit:
        return False
