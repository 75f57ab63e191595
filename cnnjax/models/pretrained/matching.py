"""Which layer of a weight file belongs to which layer of a model."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from cnnjax.core import trees
from cnnjax.models.graph import Call, in_keras_order, trace
from cnnjax.models.model import Model
from cnnjax.models.pretrained.export import KERAS_KINDS, by_layer
from cnnjax.models.pretrained.order import Wanted, Way, WeightsDoNotFit, ways
from cnnjax.weights import KerasLayer, StoredLayer, StoredWeights

Shapes = dict[str, dict[str, tuple[int, ...]]]
Arrays = dict[str, dict[str, np.ndarray]]

# Keras numbers layers without a name through a session, so that such names say nothing.
_AUTOMATIC = re.compile(f"({'|'.join(KERAS_KINDS.values())})(_[0-9]+)?")

# More layers than this behind a backbone are no head but another net.
_MAX_HEAD = 4


@dataclass(frozen=True)
class Target:
    """The layers with weights of a model.

    Args:
        shapes: {layer: {weight: shape}}, in Keras' order.
        kinds: of each layer, as Keras 3 names groups of files.
        head: names of the layers that make logits of features.
        flattened: (H, W, C) of the maps that dense layers get flattened.
        calls: of layers, in Keras' order.
    """

    shapes: Shapes
    kinds: dict[str, str]
    head: tuple[str, ...]
    flattened: dict[str, tuple[int, ...]] = field(default_factory=dict)
    calls: tuple[Call, ...] = ()

    @classmethod
    def of(cls, model: Model) -> Target:
        """Those of a model, whose variables may be only shapes."""
        arrays = by_layer(model)
        traced = trace(model)
        in_order = in_keras_order(traced)
        calls = {call.name: call for call in in_order}
        order = [
            *(name for name in calls if name in arrays),
            *(n for n in arrays if n not in calls),
        ]
        kinds = {name: KERAS_KINDS.get(calls[name].kind, "") for name in order if name in calls}
        shapes = {n: {w: tuple(a.shape) for w, a in arrays[n].items()} for n in order}
        return cls(shapes, kinds, model.spec.head, _flattened(traced), tuple(in_order))

    @property
    def body(self) -> list[str]:
        """The layers before the head."""
        return [name for name in self.shapes if name not in self.head]


@dataclass(frozen=True)
class _Layer:
    """Arrays by our names, and the layer of the file that they are from."""

    arrays: dict[str, np.ndarray]
    source: StoredLayer

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Of the arrays."""
        return {weight: tuple(array.shape) for weight, array in self.arrays.items()}


Found = dict[str, _Layer]


@dataclass(frozen=True)
class Match:
    """What a file has for a model.

    Args:
        found: {layer: {weight: array}}, of any shapes.
        new_head: layers of the head for which the file has nothing of their shape.
        differences: lines on all else that is missing (-), extra (+) or of another shape (~).
        sources: what the file's configuration says of the layers that were found.
    """

    found: Arrays
    new_head: tuple[str, ...]
    differences: tuple[str, ...]
    sources: dict[str, KerasLayer] = field(default_factory=dict)


def match(stored: StoredWeights, target: Target) -> Match:
    """Find the place of every layer of a file.

    Names decide where the file has all of the body's; those that Keras made up itself say nothing.
    Otherwise the layers of a Keras file are taken in Keras' order, as Keras itself does; if that
    does not fit either, those layers are found whose names are there. What follows the body is its
    head.

    Raises:
        WeightsDoNotFit: if two layers of the file have one name that decides, or the file can be
            read in several ways that differ.
    """
    found: Found | None = None
    extra: list[StoredLayer] = []
    if stored.positional and not _all_named(stored, target):
        found = _by_position(stored, target)
    if found is None:
        found, extra = _by_name(stored, target)
    if stored.positional and len(extra) == len(target.head) and not set(target.head) & set(found):
        found |= _head(extra, stored, target)
        extra = [] if set(target.head) <= set(found) else extra
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
        f"{layer}/{weight}": list(shape)
        for layer, one in found.items()
        for weight, shape in one.shapes.items()
    }
    lines = [
        f"{line} {wanted[line[2:]]}" if line.startswith("- ") else line
        for line in trees.differences(wanted, have)
    ]
    lines += [f"+ {_shown(layer)}" for layer in extra]
    sources = {name: one.source.described for name, one in found.items()}
    return Match(
        {name: one.arrays for name, one in found.items()},
        new_head,
        tuple(lines),
        {name: described for name, described in sources.items() if described},
    )


def _shown(layer: StoredLayer) -> str:
    """A layer that has no place, with its shapes, which may say what it is."""
    return f"{layer.name} {[list(array.shape) for array in layer.arrays.values()]}"


def _all_named(stored: StoredWeights, target: Target) -> bool:
    """Whether names that say something find all of the body, in its shapes."""
    named = _named(stored)
    return all(
        name in named and _numbered(named[name], stored, target, name).shapes == shapes
        for name, shapes in ((name, target.shapes[name]) for name in target.body)
    )


def _named(stored: StoredWeights) -> dict[str, StoredLayer]:
    """Layers by names that say something, and that only one has."""
    times = Counter(layer.name for layer in stored.layers)
    return {
        layer.name: layer
        for layer in stored.layers
        if times[layer.name] == 1 and not _AUTOMATIC.fullmatch(layer.name)
    }


def _by_position(stored: StoredWeights, target: Target) -> Found | None:
    """Layer for layer in Keras' order; None where that does not fit.

    Raises:
        WeightsDoNotFit: if there are several ways to do so, with other results.
    """
    if len(stored.layers) - len(target.body) > _MAX_HEAD:
        return None
    wanted = [Wanted(n, target.kinds.get(n, ""), _in_order(target, n)) for n in target.body]
    try:
        possible = [*ways(stored, wanted, KERAS_KINDS), *_named_first(stored, wanted)]
    except WeightsDoNotFit as error:
        raise WeightsDoNotFit(f"{stored.path}: {error}") from None
    found = [one for way in possible if (one := _with_head(way, stored, target)) is not None]
    # A way that also has the head's weights is better than one that leaves it random.
    whole = [one for one in found if not _unfitting_head(one, target)]
    found = whole or found
    for other in found[1:]:
        if layer := _differing(found[0], other):
            raise WeightsDoNotFit(
                f"{stored.path} can be read in several ways, which give {layer!r} other weights, "
                "and nothing in it says which is meant: save the model as .keras, which lists the "
                "layers in their order, or under the names of the layers here"
            )
    return found[0] if found else None


def _named_first(stored: StoredWeights, wanted: Sequence[Wanted]) -> Iterator[Way]:
    """Those layers by names that are there, the others in the order of what is left."""
    named = _named(stored)
    way = {w.name: named[w.name] for w in wanted if w.name in named}
    if not way:
        return
    taken = {id(layer) for layer in way.values()}
    left = tuple(layer for layer in stored.layers if id(layer) not in taken)
    others = [w for w in wanted if w.name not in way]
    if all(w.fits(way[w.name], way[w.name].kind) for w in wanted if w.name in way):
        for rest in ways(replace(stored, layers=left), others, KERAS_KINDS):
            yield {w.name: way.get(w.name) or rest[w.name] for w in wanted}


def _with_head(way: Way, stored: StoredWeights, target: Target) -> Found | None:
    """The arrays of the body, and of the head what is left; None where that is no head."""
    taken = {id(layer) for layer in way.values()}
    rest = [layer for layer in stored.layers if id(layer) not in taken]
    if len(rest) > _MAX_HEAD or not all(map(_like_a_head, rest)):
        return None
    found = {name: _numbered(layer, stored, target, name) for name, layer in way.items()}
    return found | _head(rest, stored, target)


def _head(rest: Sequence[StoredLayer], stored: StoredWeights, target: Target) -> Found:
    """A head of as many layers is this one, with other sizes perhaps; any other is foreign."""
    if len(rest) != len(target.head):
        return {}
    return {
        name: _numbered(layer, stored, target, name)
        for name, layer in zip(target.head, rest, strict=True)
        if not layer.kind or layer.kind == target.kinds.get(name)
    }


def _differing(some: Found, other: Found) -> str:
    """The first layer whose arrays are not the same; "" where all are."""
    for layer in some.keys() | other.keys():
        one = some[layer].arrays if layer in some else {}
        two = other[layer].arrays if layer in other else {}
        if one.keys() != two.keys() or any(
            one[w] is not two[w] and not np.array_equal(one[w], two[w]) for w in one
        ):
            return layer
    return ""


def _by_name(stored: StoredWeights, target: Target) -> tuple[Found, list[StoredLayer]]:
    """By the layers' names, and the layers that have no place."""
    found: Found = {}
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
        found[layer.name] = (
            _numbered(layer, stored, target, layer.name)
            if stored.positional
            else _Layer(dict(layer.arrays), layer)
        )
    return found, extra


def _numbered(layer: StoredLayer, stored: StoredWeights, target: Target, name: str) -> _Layer:
    """A layer's arrays by our names, in Keras' order, as this layer of the model takes them."""
    wanted = target.shapes[name]
    names = [*wanted, *(f"weight {i}" for i in range(len(wanted), len(layer.arrays)))]
    arrays = dict(zip(names, layer.arrays.values(), strict=False))
    if "kernel" in arrays:
        arrays["kernel"] = _turned(arrays["kernel"], stored, target, name)
    return _Layer(arrays, layer)


def _turned(kernel: np.ndarray, stored: StoredWeights, target: Target, name: str) -> np.ndarray:
    """A kernel as a correlation over maps with the channels last takes it.

    Theano's convolution turns its kernels around, and Keras on Theano keeps them so; those of
    depthwise convolutions it turns itself. With the channels first, the rows of a dense layer on
    flattened maps go by (C, H, W).
    """
    if stored.backend == "theano" and target.kinds.get(name) in ("conv1d", "conv2d"):
        return np.ascontiguousarray(np.flip(kernel, tuple(range(kernel.ndim - 2))))
    shape = target.flattened.get(name)
    if shape and kernel.shape[:1] == (math.prod(shape),) and _flattens_channels_first(stored):
        height, width, channels = shape
        maps = kernel.reshape(channels, height, width, -1)
        return np.ascontiguousarray(maps.transpose(1, 2, 0, 3)).reshape(kernel.shape)
    return kernel


def _flattens_channels_first(stored: StoredWeights) -> bool:
    """Whether maps of the file's net are flattened with the channels first.

    Raises:
        WeightsDoNotFit: if its layers do not agree.
    """
    formats = {
        str(layer.settings["data_format"])
        for layer in stored.net
        if layer.kind != "Flatten" and layer.settings.get("data_format")
    }
    if "channels_first" not in formats:
        return False
    if len(formats) > 1:
        raise WeightsDoNotFit(
            f"{stored.path} holds a net with data_format='channels_first' in some layers and "
            "'channels_last' in others, which is not converted: save it with 'channels_last'"
        )
    # A Flatten that knows of it puts the channels last itself.
    return not any(
        layer.kind == "Flatten" and layer.settings.get("data_format") == "channels_first"
        for layer in stored.net
    )


def _flattened(calls: Sequence[Call]) -> dict[str, tuple[int, ...]]:
    """(H, W, C) of the maps that dense layers get flattened, perhaps through dropout."""
    shapes: dict[int, tuple[int, ...]] = {}
    flattened = {}
    for number, call in enumerate(calls):
        source = call.sources[0] if call.sources else None
        if call.kind == "Flatten" and len(call.input_shapes[0]) == 4:
            shapes[number] = call.input_shapes[0][1:]
        elif call.kind in ("Dropout", "Activation") and source in shapes:
            shapes[number] = shapes[source]
        elif call.kind == "Dense" and source in shapes:
            flattened[call.name] = shapes[source]
    return flattened


def _in_order(target: Target, name: str) -> tuple[tuple[int, ...], ...]:
    return tuple(target.shapes[name].values())


def _like_a_head(layer: StoredLayer) -> bool:
    """Whether a layer could make logits: a dense one, or a 1x1 convolution."""
    # Files that name their arrays have them in alphabetical order.
    kernel, *rest = sorted(layer.arrays.values(), key=lambda array: -array.ndim)
    small = kernel.ndim == 2 or (kernel.ndim == 4 and kernel.shape[:2] == (1, 1))
    return small and len(rest) <= 1 and all(bias.ndim == 1 for bias in rest)


def _unfitting_head(found: Found, target: Target) -> tuple[str, ...]:
    """The layers of the head from the first one on that the file does not supply."""
    for i, layer in enumerate(target.head):
        if layer not in found or found[layer].shapes != target.shapes.get(layer):
            return target.head[i:]
    return ()
