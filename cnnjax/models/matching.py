"""Which layer of a weight file belongs to which layer of a model."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from cnnjax import paths
from cnnjax.models.export import KERAS_KINDS, by_layer
from cnnjax.models.graph import in_keras_order, trace
from cnnjax.models.model import Model
from cnnjax.weights import StoredLayer, StoredWeights

Shapes = dict[str, dict[str, tuple[int, ...]]]
Arrays = dict[str, dict[str, np.ndarray]]

# Keras numbers layers without a name through a session, so that such names say nothing.
_AUTOMATIC = re.compile(f"({'|'.join(KERAS_KINDS.values())})(_[0-9]+)?")

# More layers than this behind a backbone are no head but another net.
_MAX_HEAD = 4


class WeightsDoNotFit(ValueError):
    """A weight file of another model."""


@dataclass(frozen=True)
class Target:
    """The layers with weights of a model.

    Args:
        shapes: {layer: {weight: shape}}, in Keras' order.
        kinds: of each layer, as Keras 3 names groups of files.
        head: names of the layers that make logits of features.
    """

    shapes: Shapes
    kinds: dict[str, str]
    head: tuple[str, ...]

    @classmethod
    def of(cls, model: Model) -> Target:
        """Those of a model, whose variables may be only shapes."""
        arrays = by_layer(model)
        calls = {call.name: call for call in in_keras_order(trace(model))}
        order = [
            *(name for name in calls if name in arrays),
            *(n for n in arrays if n not in calls),
        ]
        kinds = {name: KERAS_KINDS.get(calls[name].kind, "") for name in order if name in calls}
        shapes = {n: {w: tuple(a.shape) for w, a in arrays[n].items()} for n in order}
        return cls(shapes, kinds, model.spec.head)

    @property
    def body(self) -> list[str]:
        """The layers before the head."""
        return [name for name in self.shapes if name not in self.head]


@dataclass(frozen=True)
class Match:
    """What a file has for a model.

    Args:
        found: {layer: {weight: array}}, of any shapes.
        new_head: layers of the head for which the file has nothing of their shape.
        differences: lines on all else that is missing (-), extra (+) or of another shape (~).
    """

    found: Arrays
    new_head: tuple[str, ...]
    differences: tuple[str, ...]


def match(stored: StoredWeights, target: Target) -> Match:
    """Find the place of every layer of a file.

    A Keras file is taken layer by layer in Keras' order, as Keras itself does, or, if that does
    not fit, by those names that were given by hand; other files by names. What follows the body,
    in either of them, is its head.

    Raises:
        WeightsDoNotFit: if two layers of the file have one name that decides.
    """
    found = _by_position(stored, target) if stored.positional else None
    extra: list[StoredLayer] = []
    if found is None:
        found, extra = _by_name(stored, target)
    new_head = _unfitting_head(found, target)
    for layer in new_head:
        found.pop(layer, None)
    if new_head or not target.head:
        extra = [layer for layer in extra if not _like_a_head(layer)]
    wanted = {
        f"{layer}/{weight}": list(shape)
        for layer, weights in target.shapes.items()
        if layer not in new_head
        for weight, shape in weights.items()
    }
    have = {
        f"{layer}/{weight}": list(array.shape)
        for layer, arrays in found.items()
        for weight, array in arrays.items()
    }
    lines = [*paths.differences(wanted, have), *(f"+ {layer.name}" for layer in extra)]
    return Match(found, new_head, tuple(lines))


def _by_position(stored: StoredWeights, target: Target) -> Arrays | None:
    """Layer for layer in Keras' order, of one kind where the file tells kinds; None if unfit."""
    by_kind = any(layer.kind for layer in stored.layers)
    theirs: dict[str, list[StoredLayer]] = defaultdict(list)
    for layer in stored.layers:
        theirs[layer.kind].append(layer)
    found: Arrays = {}
    for name in target.body:
        queue = theirs[target.kinds.get(name, "") if by_kind else ""]
        if not queue:
            return None
        found[name] = _numbered(queue.pop(0), target.shapes[name])
        if _shapes(found[name]) != target.shapes[name]:
            return None
    rest = [layer for layers in theirs.values() for layer in layers]
    if len(rest) > _MAX_HEAD or not all(map(_like_a_head, rest)):
        return None
    # A head of as many layers is this one, with other sizes perhaps; any other is foreign.
    if len(rest) == len(target.head):
        for name, layer in zip(target.head, rest, strict=True):
            if not by_kind or layer.kind == target.kinds.get(name):
                found[name] = _numbered(layer, target.shapes[name])
    return found


def _by_name(stored: StoredWeights, target: Target) -> tuple[Arrays, list[StoredLayer]]:
    """By the layers' names, and the layers that have no place."""
    found: Arrays = {}
    extra = []
    times = Counter(layer.name for layer in stored.layers)
    for layer in stored.layers:
        says_nothing = stored.positional and _AUTOMATIC.fullmatch(layer.name)
        if layer.name not in target.shapes or says_nothing:
            extra.append(layer)
            continue
        if times[layer.name] > 1:
            raise WeightsDoNotFit(
                f"{stored.path} has {times[layer.name]} layers named {layer.name!r}, so it holds "
                "several nets: save the one that is meant in a file of its own"
            )
        wanted = target.shapes[layer.name]
        found[layer.name] = _numbered(layer, wanted) if stored.positional else dict(layer.arrays)
    return found, extra


def _numbered(layer: StoredLayer, wanted: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """A layer's arrays by our names, in Keras' order."""
    names = [*wanted, *(f"weight {i}" for i in range(len(wanted), len(layer.arrays)))]
    return dict(zip(names, layer.arrays.values(), strict=False))


def _like_a_head(layer: StoredLayer) -> bool:
    """Whether a layer could make logits: a dense one, or a 1x1 convolution."""
    # Files that name their arrays have them in alphabetical order.
    kernel, *rest = sorted(layer.arrays.values(), key=lambda array: -array.ndim)
    small = kernel.ndim == 2 or (kernel.ndim == 4 and kernel.shape[:2] == (1, 1))
    return small and len(rest) <= 1 and all(bias.ndim == 1 for bias in rest)


def _unfitting_head(found: Arrays, target: Target) -> tuple[str, ...]:
    """The layers of the head from the first one on that the file does not supply."""
    for i, layer in enumerate(target.head):
        if _shapes(found.get(layer, {})) != target.shapes.get(layer):
            return target.head[i:]
    return ()


def _shapes(arrays: Mapping[str, np.ndarray]) -> dict[str, tuple[int, ...]]:
    return {weight: tuple(array.shape) for weight, array in arrays.items()}
