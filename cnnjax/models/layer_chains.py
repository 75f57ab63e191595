"""The functions between two layers with weights, in a file's net and in ours."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

from cnnjax.models.graph import Call
from cnnjax.models.layer_functions import (
    COMPARED_FIELDS,
    OF_LOGITS,
    function_name,
    layer_activation,
    own_activation,
    own_function,
    pool_description,
)
from cnnjax.models.scaling import ON_INPUTS
from cnnjax.weights import KerasLayer

# Of other layers that may have weights of the same shapes.
_OTHER_KINDS = ("Conv1DTranspose", "Conv2DTranspose", "Convolution2DTranspose", "SimpleRNN")

POOLS = ("MaxPooling1D", "MaxPooling2D", "AveragePooling1D", "AveragePooling2D")

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


CONVOLUTIONS_2D, ZERO_PADDING = ("Conv2D", "DepthwiseConv2D", "SeparableConv2D"), "ZeroPadding2D"


@dataclass(frozen=True)
class Segment:
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
        """The first function in which they differ, if any does."""
        theirs, ours = _in_order(self.theirs), _in_order(self.ours)
        probabilities = [("activation", function) for function in OF_LOGITS]
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


def between(
    net: Sequence[KerasLayer], first: int, following: int | None, sizes: Sequence[Any]
) -> list[tuple[str, str]]:
    """The file's functions behind one layer and before the next; sizes of what our pools get."""
    left = list(sizes)
    functions: list[tuple[str, str]] = []
    if first >= 0 and (activation := own_activation(net[first])):
        functions.append(("activation", activation))
    for at, layer in enumerate(net[first + 1 : following], start=first + 1):
        if following is None and (layer.kind in COMPARED_FIELDS or layer.kind in _OTHER_KINDS):
            break  # of a head that is not ours
        if activation := layer_activation(layer):
            functions.append(("activation", activation))
        elif layer.kind in POOLS:
            functions.append(
                (layer.kind, pool_description(layer.settings, left.pop(0) if left else None))
            )
        elif _changes(layer, net[at + 1 : at + 2], inputs=first < 0):
            functions.append((layer.kind, ""))
    return functions


def _changes(layer: KerasLayer, following: Sequence[KerasLayer], inputs: bool) -> bool:
    """Whether a layer without weights is a function of its own."""
    kind = layer.kind
    if kind in _UNSEEN or kind.startswith("Random") or (inputs and kind in ON_INPUTS):
        return False
    if kind == ZERO_PADDING:  # otherwise they are the padding of what follows
        return not following or following[0].kind not in CONVOLUTIONS_2D
    return kind not in ("Activation", "ReLU", *COMPARED_FIELDS)


def our_between(
    calls: Sequence[Call], first: str, following: str | None
) -> tuple[list[tuple[str, str]], list[Any]]:
    """Our functions behind one layer and before the next, and the sizes of what our pools get."""
    sizes: list[Any] = []
    names = [call.name for call in calls]
    start = names.index(first) if first else -1
    functions: list[tuple[str, str]] = []
    if first and (activation := own_function(calls[start])):
        functions.append(("activation", activation))
    for call in calls[start + 1 : names.index(following) if following else None]:
        module: Any = call.module
        if following is None and call.kind in COMPARED_FIELDS:
            break
        if call.kind == "Activation":
            functions.append(("activation", function_name(module.function)))
        elif call.kind in POOLS:
            sizes.append(call.input_shapes[0][1:-1])
            functions.append((call.kind, pool_description(vars(module), sizes[-1])))
        elif call.kind not in (*_UNSEEN, *COMPARED_FIELDS, ZERO_PADDING):
            functions.append((call.kind, ""))
    return functions, sizes
