"""What a Keras file's configuration says of its layers: their order, names and settings."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from cnnjax.core.reading import parse_json
from cnnjax.weights.hdf5_child import MAX_DEPTH, MAX_OBJECTS
from cnnjax.weights.stored import DamagedWeights, KerasLayer, StoredLayer

# Keras writes a config.json of a few KB a layer.
MAX_BYTES = 64 << 20

# Models that list their layers; any other class is a layer, or knows its layers in its code.
_NETS = ("Sequential", "Functional", "Model")

# Names of Keras 1 and of TensorFlow for the same layers.
_ALIASES = {
    "BatchNormalizationV1": "BatchNormalization",
    "BatchNormalizationV2": "BatchNormalization",
    "Convolution1D": "Conv1D",
    "Convolution2D": "Conv2D",
    "DepthwiseConvolution2D": "DepthwiseConv2D",
    "SeparableConvolution2D": "SeparableConv2D",
    "SyncBatchNormalization": "BatchNormalization",
}

# Their weights are listed in two places.
_PARTLY_TRAINED = ("BatchNormalization", "Normalization")


def layers_of_config(text: str | bytes | None, path: Path) -> tuple[KerasLayer, ...]:
    """The layers of a net in Keras' order, those of nested nets in their places.

    Args:
        text: JSON of a `Sequential` or `Functional` model; None where the file has none.
        path: of the file, for messages.

    Returns:
        () where the text does not list layers, as of a subclassed model.

    Raises:
        DamagedWeights: if it is not readable.
    """
    if text is None:
        return ()
    if len(text) > MAX_BYTES:
        raise DamagedWeights(f"{path}: its configuration has {len(text):,} bytes")
    try:
        content = parse_json(text)
        layers = tuple(_walk(content))
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise DamagedWeights(f"{path}: its configuration is not readable: {error}") from None
    if len(layers) > MAX_OBJECTS:
        raise DamagedWeights(f"{path}: its configuration has more than {MAX_OBJECTS:,} layers")
    return layers


def _walk(
    net: Any, place: tuple[str, ...] = (), inside: tuple[str, ...] = (), uses: int = 1
) -> Iterator[KerasLayer]:
    """The layers of one net of the configuration."""
    if len(inside) > MAX_DEPTH:
        raise ValueError(f"nets are nested more than {MAX_DEPTH} deep")
    if not isinstance(net, dict) or net.get("class_name") not in _NETS:
        return
    config = net["config"]
    # Keras 1 and early versions of 2 write the list of a Sequential model without more.
    entries = config if isinstance(config, list) else config.get("layers", [])
    used: Counter[str] = Counter()
    for entry in entries:
        kind, settings = entry["class_name"], entry.get("config", {})
        if not isinstance(kind, str) or not isinstance(settings, dict | list):
            raise ValueError("a layer without class and settings")
        group = _snake_case(kind)
        number = used[group]
        used[group] += 1
        here = (*place, f"{group}_{number}" if number else group)
        name = _name(entry, settings, here)
        calls = entry.get("inbound_nodes")
        often = uses * max(1, len(calls) if isinstance(calls, list) else 1)
        if kind in _NETS:
            yield from _walk(entry, here, (*inside, name), often)
        elif isinstance(settings, dict):
            yield KerasLayer(name, _ALIASES.get(kind, kind), here, inside, settings, often)


def _name(entry: Mapping[str, Any], settings: Any, place: tuple[str, ...]) -> str:
    name = settings.get("name") if isinstance(settings, dict) else None
    name = entry.get("name", place[-1]) if name is None else name
    if not isinstance(name, str):
        raise ValueError(f"a layer's name is {name!r}")
    return name


def _snake_case(kind: str) -> str:
    """Keras' name of a group for a class: "Conv2D" to "conv2d"."""
    name = re.sub(r"\W+", "", kind)
    name = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", name).lower()


def described(
    layers: Sequence[StoredLayer], net: Sequence[KerasLayer], path: Path, legacy: bool
) -> tuple[list[StoredLayer], bool]:
    """Layers of a file in the order of its configuration, each with what that says of it.

    Args:
        layers: as they lie in the file.
        net: of `layers_of_config`.
        path: of the file, for messages.
        legacy: whether they are known there by names, and not by the groups of Keras 3.

    Returns:
        The layers, and whether the configuration has a place for every one of them.

    Raises:
        DamagedWeights: if groups and configuration name layers differently.
    """
    index = _by_names(net) if legacy else {layer.place: i for i, layer in enumerate(net)}
    ranks = [_rank(layer, index, legacy) for layer in layers]
    told = [
        replace(layer, described=None if rank is None else net[rank])
        for layer, rank in zip(layers, ranks, strict=True)
    ]
    if not legacy:
        _check_names(told, path)
    known = [rank for rank in ranks if rank is not None]
    if len(known) < len(ranks):
        return told, False
    if legacy:
        _check_order(told, known, path)
        groups: dict[str, int] = {}  # in Keras' order
        numbers = [groups.setdefault(layer.place[0], len(groups)) for layer in told]
        order = sorted(range(len(told)), key=lambda i: (numbers[i], known[i]))
    else:
        order = sorted(range(len(told)), key=lambda i: (known[i], i))
    return [told[i] for i in order], True


def _by_names(net: Sequence[KerasLayer]) -> dict[tuple[str, ...], int]:
    """Layers by (name,), nested ones by (outer model, name); names that are there twice by none."""
    keys = [(*layer.inside[:1], layer.name) for layer in net]
    times = Counter(keys)
    return {key: i for i, key in enumerate(keys) if times[key] == 1}


def _rank(layer: StoredLayer, index: Mapping[tuple[str, ...], int], legacy: bool) -> int | None:
    keys: list[tuple[str, ...]]
    if legacy:
        group, *inner = layer.place
        keys = [(layer.name,)] if layer.name == group else []
        keys += [(group, name) for name in reversed(inner)]
    else:
        keys = [layer.place[:length] for length in range(len(layer.place), 0, -1)]
    return next((index[key] for key in keys if key in index), None)


def _check_order(layers: Sequence[StoredLayer], ranks: Sequence[int], path: Path) -> None:
    """Legacy files list the trained layers of a net in a net, then the frozen ones, both in order.

    Raises:
        DamagedWeights: if the configuration has another order than that.
    """
    last: dict[tuple[str, bool], int] = {}
    for layer, rank in zip(layers, ranks, strict=True):
        told = layer.described
        if told is None or told.kind in _PARTLY_TRAINED:
            continue
        part = (layer.place[0], bool(told.settings.get("trainable", True)))
        if rank < last.get(part, rank):
            raise DamagedWeights(
                f"{path}: the layers of {layer.place[0]!r} have another order in its "
                "configuration than among its weights"
            )
        last[part] = rank


def _check_names(layers: Sequence[StoredLayer], path: Path) -> None:
    for layer in layers:
        told = layer.described
        own = told is not None and layer.place[-1] == told.place[-1]
        if own and told is not None and layer.name != told.name:
            raise DamagedWeights(
                f"{path}: the layer {told.name!r} of its configuration is {layer.name!r} among its "
                "weights"
            )
