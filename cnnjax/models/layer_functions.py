"""What a layer computes beside its weights, of a file's net and of ours in the same words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cnnjax.models.graph import Call
from cnnjax.weights import KerasLayer

# Compared where both sides know them; sizes of kernels and numbers of filters show in the shapes.
COMPARED_FIELDS: dict[str, tuple[str, ...]] = {
    "BatchNormalization": ("epsilon",),
    "Conv1D": ("strides", "dilation_rate", "padding"),
    "Conv2D": ("strides", "dilation_rate", "padding", "groups"),
    "Dense": (),
    "DepthwiseConv2D": ("strides", "dilation_rate", "padding"),
    "Embedding": (),
    "GRU": ("activation", "recurrent_activation", "return_sequences"),
    "LSTM": ("activation", "recurrent_activation", "return_sequences"),
    "LayerNormalization": ("epsilon",),
    "SeparableConv2D": ("strides", "dilation_rate", "padding"),
}


# What makes probabilities of the logits that our nets end with.
OF_LOGITS = ("softmax", "sigmoid")


def pool_description(settings: Mapping[str, Any], size_of_maps: tuple[int, ...] | None) -> str:
    """A pooling's settings in words; padding that finds nothing to pad is "valid"."""
    size = as_one(plain_setting("pool_size", settings.get("pool_size")))
    strides = settings.get("strides")
    step = size if strides is None else as_one(plain_setting("strides", strides))
    padding = str(settings.get("padding", "valid")).lower()
    if padding == "same" and size_of_maps and size == step and type(size) is int:
        padding = (
            "same" if size < 1 or any(n % size for n in size_of_maps) else "valid"
        )  # nothing to pad
    return f"(pool_size={size}, strides={step}, padding={padding!r})"


def own_activation(layer: KerasLayer) -> str:
    """The activation of a layer with weights; "" where it has none of this kind."""
    if layer.kind in ("GRU", "LSTM"):
        return ""
    return _keras_function(layer.settings.get("activation"))


def own_function(call: Call) -> str:
    """The activation of one of our layers with weights; "" where it has none of this kind."""
    if call.kind in ("GRU", "LSTM"):
        return ""
    return function_name(getattr(call.module, "activation", None))


def our_activation(call: Call) -> str:
    """The function of one of our layers that is one, or has one."""
    module: Any = call.module
    return function_name(module.function) if call.kind == "Activation" else own_function(call)


def layer_activation(layer: KerasLayer) -> str:
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
    if layer.kind == "Activation" or layer.kind in COMPARED_FIELDS:
        return own_activation(layer)
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
            value = layer_activation(inner) or settings.get("activation") or kind
    name = str(value or "linear").rpartition(">")[2]
    other = {"swish": "silu", "hard_swish": "hard_silu", "relu_6": "relu6", "exponential": "exp"}
    return other.get(name, name)


def function_name(function: Any) -> str:
    """The name of an activation of ours; "linear" for none."""
    if function is None:
        return "linear"
    name = getattr(function, "__name__", type(function).__name__)
    return {"identity": "linear", "swish": "silu", "<lambda>": "a function"}.get(name, name)


def plain_setting(field: str, value: Any) -> Any:
    """A setting in one form, from a configuration or from our layer."""
    if field.endswith("activation"):
        return function_name(value) if callable(value) else _keras_function(value)
    if isinstance(value, list | tuple):
        return tuple(value)
    return value.lower() if isinstance(value, str) else value


def as_one(value: Any) -> Any:
    """(2, 2) and (2,) to 2."""
    same = isinstance(value, tuple) and value and all(one == value[0] for one in value)
    return value[0] if same else value
