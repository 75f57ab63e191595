"""Weights of a file into a model."""

from __future__ import annotations

import dataclasses
import warnings
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import linen

from cnnjax import paths
from cnnjax.models.export import KERAS_KINDS, by_layer
from cnnjax.models.graph import in_keras_order, trace
from cnnjax.models.imagenet import IMAGENET_CLASSES, names_beside
from cnnjax.models.model import Model
from cnnjax.models.spec import ModelSpec
from cnnjax.weights import (
    StoredLayer,
    StoredWeights,
    read_weights,
)

Shapes = dict[str, dict[str, tuple[int, ...]]]
Arrays = dict[str, dict[str, np.ndarray]]

# Lines of a list of differences before it is cut.
_MAX_LINES = 12


class WeightsDoNotFit(ValueError):
    """A weight file of another model."""


def with_weights(
    module: linen.Module,
    spec: ModelSpec,
    file: Path,
    *,
    seed: int = 0,
    allow_partial: bool = False,
) -> Model:
    """A model with the weights of a file.

    A Keras file is taken layer by layer in the order of `keras.Model.layers`, as Keras itself does,
    or, if that does not fit, by the names of the layers; other files by names.

    Args:
        module, spec: of the model.
        file: as `weights.read_weights` takes it.
        seed: of what the file does not supply.
        allow_partial: take what there is and list the rest in a warning.

    Raises:
        WeightsDoNotFit: if the file does not cover the model, but for its head; lists missing (-),
            extra (+) and differing (~) weights.
        DamagedWeights: if the file cannot be read.
        FileNotFoundError: if there is none.
    """
    stored = read_weights(file)
    _refuse_old_resnet(stored, spec)
    shapes = _shapes(Model.abstract(module, spec))
    found, extra = _matched(stored, Model.abstract(module, spec), shapes, spec)
    new_head = _unfitting_head(found, shapes, spec)
    for layer in new_head:
        found.pop(layer, None)
    lines = _differences(found, shapes, extra, spec, new_head)
    if lines and not allow_partial:
        raise WeightsDoNotFit(_misfit(stored, spec, lines))
    usable: Arrays = {
        layer: {w: a for w, a in arrays.items() if a.shape == shapes[layer].get(w)}
        for layer, arrays in found.items()
        if layer in shapes
    }
    if not any(usable.values()):
        raise WeightsDoNotFit(_misfit(stored, spec, lines))
    if lines:
        _warn(f"{file} was loaded in part: {_cut(lines)}")
    if new_head:
        _warn(
            f"the head ({', '.join(new_head)}) is new, with random weights: {file} has none of "
            f"its shape"
        )
    return _complete(module, spec, stored, usable, seed)


def _shapes(model: Model) -> Shapes:
    return {k: {w: tuple(a.shape) for w, a in v.items()} for k, v in by_layer(model).items()}


def _matched(
    stored: StoredWeights, model: Model, shapes: Shapes, spec: ModelSpec
) -> tuple[Arrays, list[str]]:
    """Arrays by our layers and weights, and the names of layers of the file that have no place."""
    if stored.positional:
        by_position = _by_position(stored, model, shapes, spec)
        if by_position is not None:
            return by_position, []
    found: Arrays = {}
    extra = []
    for layer in stored.layers:
        if layer.name in shapes:
            found[layer.name] = _named(layer, shapes[layer.name], stored.positional)
        else:
            extra.append(layer.name)
    return found, extra


def _named(layer: StoredLayer, wanted: Mapping[str, Any], positional: bool) -> dict[str, Any]:
    if not positional:
        return layer.arrays
    names = [*wanted, *(f"weight {i}" for i in range(len(wanted), len(layer.arrays)))]
    return dict(zip(names, layer.arrays.values(), strict=False))


def _by_position(
    stored: StoredWeights, model: Model, shapes: Shapes, spec: ModelSpec
) -> Arrays | None:
    """Layer for layer in Keras' order, or None if that does not fit up to the head."""
    calls = [c for c in in_keras_order(trace(model)) if c.name in shapes]
    ours: dict[str, list[str]] = defaultdict(list)
    theirs: dict[str, list[StoredLayer]] = defaultdict(list)
    by_kind = any(layer.kind for layer in stored.layers)
    for call in calls:
        ours[KERAS_KINDS.get(call.kind, call.kind) if by_kind else ""].append(call.name)
    for layer in stored.layers:
        theirs[layer.kind].append(layer)
    found: Arrays = {}
    for kind in {**ours, **theirs}:
        names, layers = ours.get(kind, []), theirs.get(kind, [])
        pairs = list(zip(names, layers, strict=False))
        found.update({name: _named(layer, shapes[name], True) for name, layer in pairs})
        # What is left over on either side can only be a head.
        if any(name not in spec.head for name in names[len(layers) :]):
            return None
        if layers[len(names) :] and spec.head:
            return None
    body = [name for name in shapes if name not in spec.head]
    fits = all(
        name in found and {w: a.shape for w, a in found[name].items()} == shapes[name]
        for name in body
    )
    return found if fits else None


def _unfitting_head(found: Arrays, shapes: Shapes, spec: ModelSpec) -> list[str]:
    """The layers of the head from the first one on that the file does not supply."""
    for i, layer in enumerate(spec.head):
        if {w: a.shape for w, a in found.get(layer, {}).items()} != shapes.get(layer):
            return list(spec.head[i:])
    return []


def _differences(
    found: Arrays, shapes: Shapes, extra: Sequence[str], spec: ModelSpec, new_head: Sequence[str]
) -> list[str]:
    wanted = {
        f"{layer}/{weight}": list(shape)
        for layer, weights in shapes.items()
        if layer not in new_head
        for weight, shape in weights.items()
    }
    have = {
        f"{layer}/{weight}": list(array.shape)
        for layer, arrays in found.items()
        for weight, array in arrays.items()
    }
    # A file with a head serves a model without.
    surplus = [name for name in extra if spec.head or not _is_head(name)]
    return paths.differences(wanted, have) + [f"+ {name}" for name in surplus]


def _is_head(layer: str) -> bool:
    return layer in ("fc1", "fc2", "predictions", "conv_preds", "logits")


def _misfit(stored: StoredWeights, spec: ModelSpec, lines: Sequence[str]) -> str:
    text = f"{stored.path} does not fit {_described(spec)}: {_cut(lines)}"
    fitting = _models_that_fit(stored)
    if fitting:
        return f"{text}. It has the weights of {' or '.join(fitting)}"
    return f"{text}. allow_partial=True takes what fits"


def _described(spec: ModelSpec) -> str:
    settings = [f"{k}={v}" for k, v in (spec.arguments or {}).items()]
    return f"{spec.name} ({', '.join(settings)})" if settings else spec.name


def _cut(lines: Sequence[str]) -> str:
    shown = "; ".join(lines[:_MAX_LINES])
    return f"{shown}; and {len(lines) - _MAX_LINES} more" if len(lines) > _MAX_LINES else shown


def _models_that_fit(stored: StoredWeights) -> list[str]:
    """Registered models whose weights, but for the head, have the shapes of the file's."""
    from cnnjax.models.registry import BUILDERS, build

    theirs = sorted(a.shape for layer in stored.layers for a in layer.arrays.values())
    fitting = []
    for name, builder in BUILDERS.items():
        variants: list[dict[str, Any]] = [
            {argument: value} for argument, values in builder.choices for value in values
        ]
        for variant in variants or [{}]:
            module, spec = build(name, **variant)
            shapes = _shapes(Model.abstract(module, spec))
            body = sorted(s for k, v in shapes.items() if k not in spec.head for s in v.values())
            if body and _contains(theirs, body):
                fitting.append((len(body), _described(spec)))
    most = max((size for size, _ in fitting), default=0)
    return [text for size, text in fitting if size == most]


def _contains(values: Sequence[Any], part: Sequence[Any]) -> bool:
    """Whether a sorted list has all of another, and not many more: those of a head."""
    rest = list(values)
    for value in part:
        if value not in rest:
            return False
        rest.remove(value)
    return len(rest) <= 6


def _refuse_old_resnet(stored: StoredWeights, spec: ModelSpec) -> None:
    if any(layer.name.startswith("res2a_branch2a") for layer in stored.layers):
        raise WeightsDoNotFit(
            f"{stored.path} is the ResNet50 file of Keras before 2.2.5, made for another order of "
            "layers and epsilon=1e-3: use the newer file of the same name "
            "(cj.create_model('resnet50', weights='imagenet') downloads it)"
        )


def _complete(
    module: linen.Module, spec: ModelSpec, stored: StoredWeights, found: Arrays, seed: int
) -> Model:
    """The file's arrays in the model's collections; random ones where it has none."""
    if stored.path and len(spec.label_names) == 0 and _is_imagenet(found, spec):
        spec = dataclasses.replace(spec, label_names=names_beside(stored.path))
    spec = dataclasses.replace(spec, weights=stored.path.name)
    abstract = Model.abstract(module, spec)
    missing = []
    variables: dict[str, Any] = {}
    for collection, tree in abstract.variables.items():
        flat: dict[str, Any] = {}
        for path in paths.flatten(tree):
            layer, _, weight = path.rpartition("/")
            array = found.get(layer, {}).get(weight)
            if array is None:
                missing.append(f"{collection}/{path}")
            flat[path] = None if array is None else jax.numpy.array(array)
        variables[collection] = flat
    if missing:
        # Only what is missing is computed: the initialisers of a whole net take seconds.
        fresh = Model.initialise(module, spec, seed, only=frozenset(missing))
        for collection, tree in fresh.variables.items():
            variables[collection].update(paths.flatten(tree))
    return Model(module, {k: paths.unflatten(v) for k, v in variables.items()}, spec)


def _is_imagenet(found: Arrays, spec: ModelSpec) -> bool:
    return spec.num_classes == IMAGENET_CLASSES and set(spec.head) <= set(found)


def _warn(message: str) -> None:
    warnings.warn(message, stacklevel=4)
