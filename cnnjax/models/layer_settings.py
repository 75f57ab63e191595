"""Whether the net that a file's configuration describes computes what ours does."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

from cnnjax.models.graph import Call
from cnnjax.models.scaling import ON_INPUTS
from cnnjax.nn.conv import resolve_padding
from cnnjax.weights import KerasLayer

# Compared where both sides know them; sizes of kernels and numbers of filters show in the shapes.
_FIELDS: dict[str, tuple[str, ...]] = {
    "BatchNormalization": ("epsilon",),
    "Conv1D": ("strides", "dilation_rate", "padding"),
    "Conv2D": ("strides", "dilation_rate", "padding"),
    "Dense": (),
    "DepthwiseConv2D": ("strides", "dilation_rate", "padding"),
    "Embedding": (),
    "GRU": ("activation", "recurrent_activation", "return_sequences"),
    "LSTM": ("activation", "recurrent_activation", "return_sequences"),
    "SeparableConv2D": ("strides", "dilation_rate", "padding"),
}
# What our layers cannot be otherwise.
_FIXED = {"GRU": {"go_backwards": False}, "LSTM": {"go_backwards": False}}

# Whose steps are left out where the words of an embedding are masked.
_MASKED = ("GRU", "LSTM", "GlobalAveragePooling1D")

# Of other layers that may have weights of the same shapes.
_OTHER_KINDS = ("Conv1DTranspose", "Conv2DTranspose", "Convolution2DTranspose", "SimpleRNN")

_POOLS = ("MaxPooling1D", "MaxPooling2D", "AveragePooling1D", "AveragePooling2D")

# Layers without weights that leave the values, and their order, as they are when a net predicts;
# beside them all that augments ("RandomFlip"). Any other layer changes what a net computes.
_UNSEEN = (
    "InputLayer", "Identity", "Flatten", "Reshape", "ActivityRegularization",
    "Dropout", "SpatialDropout1D", "SpatialDropout2D", "AlphaDropout", "GaussianDropout",
    "GaussianNoise",
)  # fmt: skip

# A function that grows, before or behind a maximum: the same.
_GROWING = ("relu", "relu6", "sigmoid", "tanh", "elu", "selu", "softplus", "leaky_relu")
_MAXIMUM = ("MaxPooling1D", "MaxPooling2D", "GlobalMaxPooling1D", "GlobalMaxPooling2D")

# What makes probabilities of the logits that our nets end with.
_OF_LOGITS = ("softmax", "sigmoid")


@dataclass(frozen=True)
class Difference:
    """A layer that is otherwise in the file than in our net.

    Args:
        layer: our name of it.
        setting: e.g. "activation" or "padding"; "" for what follows the layer.
        theirs, ours: its values.
    """

    layer: str
    setting: str
    theirs: str
    ours: str

    def __str__(self) -> str:
        if not self.setting:
            return f"{self.layer} is followed by {self.theirs} in the file, by {self.ours} here"
        return f"{self.layer} has {self.setting} {self.theirs} in the file and {self.ours} here"


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
        mine, sizes = _our_between(calls, name, None if last else names[number])
        first, following = places[number - 1] if name else -1, None if last else places[number]
        segment = _Segment(
            name or "the input",
            _between(net, first, following, sizes),
            mine,
            only_activation=last and (not head or head[-1] != name),
            may_end_in_probabilities=last and logits and name in head,
        )
        found += segment.differences()
    return found


def _of_a_layer(name: str, layer: KerasLayer, call: Call) -> Iterator[Difference]:
    """Fields of one layer with weights, but for what depends on its neighbours."""
    if call.kind in _FIELDS and layer.kind != call.kind:
        yield Difference(name, "the class", layer.kind, call.kind)
        return
    for field in _FIELDS.get(call.kind, ()):
        if field in layer.settings and not (field == "padding" and call.kind != "Conv1D"):
            theirs = _plain(field, layer.settings[field])
            ours = _plain(field, getattr(call.module, field))
            if _pair(theirs) != _pair(ours):
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
    if call.kind not in _CONVOLUTIONS_2D or layer.kind != call.kind or not padding:
        return
    at = next(i for i, one in enumerate(net) if one is layer)
    before = net[at - 1] if at else None
    zeros: Any = before.settings.get("padding") if before and before.kind == _ZEROS else None
    our_at = calls.index(call)
    our_before: Any = calls[our_at - 1].module if our_at else None
    our_zeros = our_before.padding if type(our_before).__name__ == _ZEROS else None
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


_CONVOLUTIONS_2D, _ZEROS = ("Conv2D", "DepthwiseConv2D", "SeparableConv2D"), "ZeroPadding2D"
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
        theirs, mine = _activation(layer), _our_activation(call)
        plain = "linear" in (theirs, mine) and layer.name in weighted
        if theirs and mine and theirs != mine and not plain and theirs not in _OF_LOGITS:
            yield Difference(call.name, "activation", theirs, mine)
        if layer.kind in _POOLS and layer.kind != call.kind and call.kind in _POOLS:
            yield Difference(call.name, "the class", layer.kind, call.kind)


def _of_branches(
    sources: Mapping[str, KerasLayer], net: Sequence[KerasLayer], calls: Sequence[Call]
) -> Iterator[Difference]:
    """Functions that are nowhere in our net, whatever their names and places in the file's."""
    taken = {id(layer) for layer in sources.values()}
    places = [place for place, layer in enumerate(net) if id(layer) in taken]
    inside = net[places[0] : places[-1]] if places else ()
    theirs = {_activation(layer) for layer in inside} - {"", "linear", *_OF_LOGITS}
    ours = {_our_activation(call) for call in calls} - {"", "linear"}
    if others := sorted(theirs - ours):
        yield Difference("the net", "activation", ", ".join(others), ", ".join(sorted(ours)))
    merging = {layer.kind for layer in inside if layer.kind in _MERGING}
    ours = {call.kind for call in calls}
    if ours & set(_MERGING) and (others := sorted(merging - ours)):
        known = ", ".join(sorted(ours & set(_MERGING)))
        yield Difference("the net", "branches joined by", ", ".join(others), known)


_MERGING = ("Add", "Average", "Concatenate", "Maximum", "Minimum", "Multiply", "Subtract")


@dataclass(frozen=True)
class _Segment:
    """What lies between two layers with weights, in the file and here.

    Args:
        start: our name of the first one.
        theirs, ours: descriptions of the functions, in their order.
        only_activation: whether what follows is of another net's head.
        may_end_in_probabilities: whether the file may end with softmax or sigmoid, and we not.
    """

    start: str
    theirs: list[tuple[str, str]]
    ours: list[tuple[str, str]]
    only_activation: bool
    may_end_in_probabilities: bool

    def differences(self) -> Iterator[Difference]:
        theirs, ours = _in_order(self.theirs), _in_order(self.ours)
        probabilities = [("activation", function) for function in _OF_LOGITS]
        if self.may_end_in_probabilities and theirs[-1:] != ours[-1:] and theirs[-1:]:
            theirs = theirs[:-1] if theirs[-1] in probabilities else theirs
        if self.only_activation:
            theirs, ours = theirs[:1], ours[:1]
            if any(kind != "activation" for kind, _ in theirs + ours):
                return
        if theirs == ours:
            return
        one, other = _first_that_differs(theirs, ours)
        if "activation" in (one[0], other[0]):
            functions = [f if kind == "activation" else "linear" for kind, f in (one, other)]
            yield Difference(self.start, "activation", *functions)
        else:
            yield Difference(self.start, "", "".join(one), "".join(other))


_NOTHING = ("nothing", "")


def _first_that_differs(
    theirs: list[tuple[str, str]], ours: list[tuple[str, str]]
) -> tuple[tuple[str, str], tuple[str, str]]:
    """The pair at the first place where two lists differ; it may shift all that follow."""
    pairs = zip_longest(theirs, ours, fillvalue=_NOTHING)
    return next((one, other) for one, other in pairs if one != other)


def _in_order(functions: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Without what changes nothing, growing functions before maxima."""
    result: list[tuple[str, str]] = []
    for kind, value in functions:
        if kind == "activation" and value == "linear":
            continue
        place = len(result)
        if kind == "activation" and value in _GROWING:
            while place and result[place - 1][0] in _MAXIMUM:
                place -= 1
        if place and result[place - 1] == ("activation", value) and value in ("relu", "relu6"):
            continue  # once more is the same
        result.insert(place, (kind, value))
    return result


def _between(
    net: Sequence[KerasLayer], first: int, following: int | None, sizes: Sequence[Any]
) -> list[tuple[str, str]]:
    """The file's functions behind one layer and before the next; sizes of what our pools get."""
    left = list(sizes)
    functions: list[tuple[str, str]] = []
    if first >= 0 and (activation := _own_activation(net[first])):
        functions.append(("activation", activation))
    for at, layer in enumerate(net[first + 1 : following], start=first + 1):
        if following is None and (layer.kind in _FIELDS or layer.kind in _OTHER_KINDS):
            break  # of a head that is not ours
        if activation := _activation(layer):
            functions.append(("activation", activation))
        elif layer.kind in _POOLS:
            functions.append((layer.kind, _pool(layer.settings, left.pop(0) if left else None)))
        elif _changes(layer, net[at + 1 : at + 2], inputs=first < 0):
            functions.append((layer.kind, ""))
    return functions


def _changes(layer: KerasLayer, following: Sequence[KerasLayer], inputs: bool) -> bool:
    """Whether a layer without weights is a function of its own."""
    kind = layer.kind
    if kind in _UNSEEN or kind.startswith("Random") or (inputs and kind in ON_INPUTS):
        return False
    if kind == _ZEROS:  # otherwise they are the padding of what follows
        return not following or following[0].kind not in _CONVOLUTIONS_2D
    return kind not in ("Activation", "ReLU", *_FIELDS)


def _our_between(
    calls: Sequence[Call], first: str, following: str | None
) -> tuple[list[tuple[str, str]], list[Any]]:
    sizes: list[Any] = []
    names = [call.name for call in calls]
    start = names.index(first) if first else -1
    functions: list[tuple[str, str]] = []
    if first and (activation := _own_function(calls[start])):
        functions.append(("activation", activation))
    for call in calls[start + 1 : names.index(following) if following else None]:
        module: Any = call.module
        if following is None and call.kind in _FIELDS:
            break
        if call.kind == "Activation":
            functions.append(("activation", _function_name(module.function)))
        elif call.kind in _POOLS:
            sizes.append(call.input_shapes[0][1:-1])
            functions.append((call.kind, _pool(vars(module), sizes[-1])))
        elif call.kind not in (*_UNSEEN, *_FIELDS, _ZEROS):
            functions.append((call.kind, ""))
    return functions, sizes


def _pool(settings: Mapping[str, Any], size_of_maps: tuple[int, ...] | None) -> str:
    size = _pair(_plain("pool_size", settings.get("pool_size")))
    strides = settings.get("strides")
    step = size if strides is None else _pair(_plain("strides", strides))
    padding = str(settings.get("padding", "valid")).lower()
    if padding == "same" and size_of_maps and size == step and type(size) is int:
        padding = (
            "same" if size < 1 or any(n % size for n in size_of_maps) else "valid"
        )  # nothing to pad
    return f"(pool_size={size}, strides={step}, padding={padding!r})"


def _own_activation(layer: KerasLayer) -> str:
    """The activation of a layer with weights; "" where it has none of this kind."""
    if layer.kind in ("GRU", "LSTM"):
        return ""
    return _keras_function(layer.settings.get("activation"))


def _own_function(call: Call) -> str:
    if call.kind in ("GRU", "LSTM"):
        return ""
    return _function_name(getattr(call.module, "activation", None))


def _our_activation(call: Call) -> str:
    module: Any = call.module
    return _function_name(module.function) if call.kind == "Activation" else _own_function(call)


def _activation(layer: KerasLayer) -> str:
    """The function of a layer that is one, or has one; "" otherwise."""
    settings = layer.settings
    match layer.kind:
        case "ReLU":
            return _relu(settings)
        case "LeakyReLU":
            return "leaky_relu"
        case "ELU":
            return "elu"
        case "Softmax":
            return "softmax"
    if layer.kind == "Activation" or layer.kind in _FIELDS:
        return _own_activation(layer)
    return ""


def _relu(settings: Mapping[str, Any]) -> str:
    slope = settings.get("negative_slope") or 0
    threshold, most = settings.get("threshold") or 0, settings.get("max_value")
    if not isinstance(slope, int | float) or slope or threshold:
        return f"relu(negative_slope={slope}, threshold={threshold})"
    return "relu" if most is None else "relu6" if most == 6 else f"relu(max_value={most})"


def _keras_function(value: Any) -> str:
    """The name of an activation in a configuration, text or {"class_name", "config"}."""
    if isinstance(value, dict):
        kind, settings = value.get("class_name"), value.get("config")
        if kind == "function":
            value = settings
        elif isinstance(kind, str) and isinstance(settings, dict):
            inner = KerasLayer("", kind, (), (), settings)
            value = _activation(inner) or settings.get("activation") or kind
    name = str(value or "linear").rpartition(">")[2]
    return {"swish": "silu", "relu_6": "relu6", "exponential": "exp"}.get(name, name)


def _function_name(function: Any) -> str:
    if function is None:
        return "linear"
    name = getattr(function, "__name__", type(function).__name__)
    return {"identity": "linear", "swish": "silu", "<lambda>": "a function"}.get(name, name)


def _is_chain(calls: Sequence[Call]) -> bool:
    """Whether every layer gets what the one before it returns."""
    return all(call.leaf and call.sources == (number - 1,) for number, call in enumerate(calls))


def _plain(field: str, value: Any) -> Any:
    """A setting in one form, from a configuration or from our layer."""
    if field.endswith("activation"):
        return _function_name(value) if callable(value) else _keras_function(value)
    if isinstance(value, list | tuple):
        return tuple(value)
    return value.lower() if isinstance(value, str) else value


def _pair(value: Any) -> Any:
    """(2, 2) and (2,) to 2."""
    same = isinstance(value, tuple) and value and all(one == value[0] for one in value)
    return value[0] if same else value
