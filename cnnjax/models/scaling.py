"""Whether the net that a file's configuration describes gets its inputs as ours does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np

from cnnjax.models.spec import ModelSpec
from cnnjax.task import INPUTS, Inputs
from cnnjax.weights import KerasLayer

# Layers that stand before a net and leave each image's values, or are no part of predicting.
RESIZING = ("Resizing", "CenterCrop")

# What changes values at the front of a net and cannot be known from settings alone.
_ARITHMETIC = (
    "Normalization", "Lambda", "TFOpLambda", "TensorFlowOpLayer", "SlicingOpLambda", "Operation",
    "Add", "Subtract", "Multiply", "Divide", "TrueDivide", "Cast", "GetItem", "Stack", "Flip",
    "Concatenate",
)  # fmt: skip

ON_INPUTS = ("Rescaling", *_ARITHMETIC, *RESIZING)


@dataclass(frozen=True)
class Scaling:
    """What a file's net does to its inputs before its first weights.

    Args:
        text: of it, for messages; "" where it does nothing.
        fitting: our names of preprocessing that do just that; None where it is not known what it
            computes.
    """

    text: str
    fitting: tuple[str, ...] | None


def scaling(front: Sequence[KerasLayer], spec: ModelSpec) -> Scaling:
    """How the layers before the first one with weights change the inputs.

    Args:
        front: those layers.
        spec: of our model.
    """
    changing = [one for one in front if one.kind == "Rescaling" or one.kind in _ARITHMETIC]
    if not changing or spec.inputs.tokens:
        return Scaling("", None)
    text = ", ".join(map(_shown, changing))
    pixels = np.linspace(0, 255, 4 * spec.input_shape[-1], dtype=np.float32)
    pixels = values = pixels.reshape(4, spec.input_shape[-1])
    for layer in changing:
        if layer.kind == "Normalization" and layer.settings.get("mean") is not None:
            values = _normalised(values, layer)
            continue
        try:
            factor, offset = (
                np.asarray(layer.settings.get(name, default), np.float32)
                for name, default in (("scale", None), ("offset", 0.0))
            )
            values = values * factor + offset
        except (ValueError, TypeError):
            return Scaling(text, None)
        if layer.kind != "Rescaling" or not np.isfinite(values).all():
            return Scaling(text, None)
    return Scaling(text, tuple(n for n, inputs in INPUTS.items() if _is_as(inputs, pixels, values)))


def _normalised(values: np.ndarray, layer: KerasLayer) -> np.ndarray:
    """What Keras' layer makes of them, where its statistics are known."""
    mean, variance = (
        np.ravel(np.asarray(layer.settings[name], np.float32)) for name in ("mean", "variance")
    )
    row = (1,) * (values.ndim - 1) + (-1,)
    return (values - mean.reshape(row)) / np.sqrt(variance).reshape(row)


def _is_as(inputs: Inputs, pixels: np.ndarray, values: np.ndarray) -> bool:
    if inputs.tokens or (inputs.rgb and pixels.shape[-1] != 3):
        return False
    ours = np.asarray(inputs.preprocess(jnp.asarray(pixels)))
    return ours.shape == values.shape and np.allclose(ours, values, rtol=1e-3, atol=1e-3)


def _shown(layer: KerasLayer) -> str:
    if layer.kind != "Rescaling":
        return layer.kind
    scale, offset = layer.settings.get("scale"), layer.settings.get("offset", 0.0)
    return f"Rescaling(scale={scale}, offset={offset})"
