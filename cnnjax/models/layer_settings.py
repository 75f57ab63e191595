"""Whether the net that a file's configuration describes computes what ours does."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from cnnjax.models.graph import Call
from cnnjax.models.layer_chains import (
    CONVOLUTIONS_2D,
    POOLS,
    ZERO_PADDING,
    Difference,
    Segment,
    between,
    our_between,
)
from cnnjax.models.layer_functions import (
    COMPARED_FIELDS,
    OF_LOGITS,
    as_one,
    layer_activation,
    our_activation,
    plain_setting,
)
from cnnjax.nn.conv import resolve_padding
from cnnjax.weights import KerasLayer

# What our layers cannot be otherwise.
_FIXED = {"GRU": {"go_backwards": False}, "LSTM": {"go_backwards": False}}

# Whose steps are left out where the words of an embedding are masked.
_MASKED = ("GRU", "LSTM", "GlobalAveragePooling1D")


def differences(
    sources: Mapping[str, KerasLayer],
    net: Sequence[KerasLayer],
    calls: Sequence[Call],
    head: Sequence[str],
    logits: bool,
) -> list[Difference]:
    """Settings in which a file's net is not ours, though its weights fit.

    Args:
        sources: our layers with weights, and what the file says of the layer each was taken from.
        net: all layers of the file.
        calls: of our layers, in Keras' order.
        head: our layers that make logits.
        logits: whether a function that makes probabilities may follow them in the file.
    """
    ours = {call.name: call for call in calls}
    found: list[Difference] = []
    chain = _is_chain(calls)
    pads = chain or not _has_zero_padding(net, calls)
    least = min((layer.uses for layer in sources.values()), default=1)
    masked = any(call.kind in _MASKED for call in calls)
    for name, layer in sources.items():
        found += _of_a_layer(name, layer, ours[name])
        if layer.uses > least:  # all of them more often: a whole net that is applied several times
            found.append(Difference(name, "its weights applied", f"{layer.uses} times", "once"))
        if masked and layer.kind == "Embedding" and layer.settings.get("mask_zero"):
            found.append(Difference(name, "mask_zero", "True", "False"))
        if pads:
            found += _of_padding(layer, net, calls, ours[name])
    if not chain:
        return [*found, *_of_named(net, ours, set(sources)), *_of_branches(sources, net, calls)]
    names = [call.name for call in calls if call.name in sources]
    places = [next(i for i, one in enumerate(net) if one is sources[name]) for name in names]
    if places != sorted(places):
        return found
    for number, name in enumerate(["", *names]):
        last = number == len(names)
        mine, sizes = our_between(calls, name, None if last else names[number])
        first, following = places[number - 1] if name else -1, None if last else places[number]
        segment = Segment(
            name or "the input",
            between(net, first, following, sizes),
            mine,
            only_activation=last and (not head or head[-1] != name),
            may_end_in_probabilities=last and logits and name in head,
        )
        found += segment.differences()
    return found


def _of_a_layer(name: str, layer: KerasLayer, call: Call) -> Iterator[Difference]:
    """Fields of one layer with weights, but for what depends on its neighbours."""
    if call.kind in COMPARED_FIELDS and layer.kind != call.kind:
        yield Difference(name, "the class", layer.kind, call.kind)
        return
    for field in COMPARED_FIELDS.get(call.kind, ()):
        if field in layer.settings and not (field == "padding" and call.kind != "Conv1D"):
            theirs = plain_setting(field, layer.settings[field])
            ours = plain_setting(field, getattr(call.module, field))
            if as_one(theirs) != as_one(ours):
                yield Difference(name, field, str(theirs), str(ours))
    for field, value in _FIXED.get(call.kind, {}).items():
        if layer.settings.get(field, value) != value:
            yield Difference(name, field, str(layer.settings[field]), str(value))


def _has_zero_padding(net: Sequence[KerasLayer], calls: Sequence[Call]) -> bool:
    kinds = [*(layer.kind for layer in net), *(call.kind for call in calls)]
    return any(kind.startswith("ZeroPadding") for kind in kinds)


def _of_padding(
    layer: KerasLayer, net: Sequence[KerasLayer], calls: Sequence[Call], call: Call
) -> Iterator[Difference]:
    """Of a 2-D convolution, together with zeros that a layer before it adds."""
    padding = layer.settings.get("padding")
    if call.kind not in CONVOLUTIONS_2D or layer.kind != call.kind or not padding:
        return
    at = next(i for i, one in enumerate(net) if one is layer)
    before = net[at - 1] if at else None
    zeros: Any = before.settings.get("padding") if before and before.kind == ZERO_PADDING else None
    our_at = calls.index(call)
    our_before: Any = calls[our_at - 1].module if our_at else None
    our_zeros = our_before.padding if type(our_before).__name__ == ZERO_PADDING else None
    module: Any = call.module
    (top, bottom), (left, right) = our_zeros or _NO_ZEROS
    height, width = call.input_shapes[0][1:3]
    size = (height - top - bottom, width - left - right)
    theirs = _pads(zeros or _NO_ZEROS, padding, size, module)
    ours = _pads(our_zeros or _NO_ZEROS, module.padding, size, module)
    if theirs != ours:
        yield Difference(
            call.name, "padding", f"{padding!r} {theirs}", f"{module.padding!r} {ours}"
        )


_NO_ZEROS = ((0, 0), (0, 0))


def _pads(zeros: Any, padding: Any, size: tuple[int, int], module: Any) -> Any:
    """Rows and columns around maps of this size, those of a layer before included."""
    kernel, strides, dilation = (
        (value, value) if isinstance(value, int) else tuple(value)
        for value in (module.kernel_size, module.strides, module.dilation_rate)
    )
    try:
        (top, bottom), (left, right) = zeros
        inner = (size[0] + top + bottom, size[1] + left + right)
        more = resolve_padding(padding, inner, kernel, strides, dilation)
    except (ValueError, TypeError):
        return str(padding)
    return tuple((a + c, b + d) for (a, b), (c, d) in zip(zeros, more, strict=True))


def _of_named(
    net: Sequence[KerasLayer], ours: Mapping[str, Call], weighted: set[str]
) -> Iterator[Difference]:
    """Of a net with branches, layers of one name; their own activation where both have one."""
    for layer in net:
        call = ours.get(layer.name)
        if call is None:
            continue
        theirs, mine = layer_activation(layer), our_activation(call)
        plain = "linear" in (theirs, mine) and layer.name in weighted
        if theirs and mine and theirs != mine and not plain and theirs not in OF_LOGITS:
            yield Difference(call.name, "activation", theirs, mine)
        if layer.kind in POOLS and layer.kind != call.kind and call.kind in POOLS:
            yield Difference(call.name, "the class", layer.kind, call.kind)


def _of_branches(
    sources: Mapping[str, KerasLayer], net: Sequence[KerasLayer], calls: Sequence[Call]
) -> Iterator[Difference]:
    """Functions that are nowhere in our net, whatever their names and places in the file's."""
    taken = {id(layer) for layer in sources.values()}
    places = [place for place, layer in enumerate(net) if id(layer) in taken]
    inside = net[places[0] : places[-1]] if places else ()
    theirs = {layer_activation(layer) for layer in inside} - {"", "linear", *OF_LOGITS}
    ours = {our_activation(call) for call in calls} - {"", "linear"}
    if "hard_sigmoid" in ours:
        ours.add("relu6")  # of which Keras' MobileNetV3 makes it, with additions beside
    if others := sorted(theirs - ours):
        yield Difference("the net", "activation", ", ".join(others), ", ".join(sorted(ours)))
    merging = {layer.kind for layer in inside if layer.kind in _MERGING}
    ours = {call.kind for call in calls}
    if ours & set(_MERGING) and (others := sorted(merging - ours)):
        known = ", ".join(sorted(ours & set(_MERGING)))
        yield Difference("the net", "branches joined by", ", ".join(others), known)


_MERGING = ("Add", "Average", "Concatenate", "Maximum", "Minimum", "Multiply", "Subtract")


def _is_chain(calls: Sequence[Call]) -> bool:
    """Whether every layer gets what the one before it returns."""
    return all(call.leaf and call.sources == (number - 1,) for number, call in enumerate(calls))
