"""What explanations look at: inputs as a model takes them, and its layers by name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from cnnjax.core.checks import shape_text
from cnnjax.core.text import suggest
from cnnjax.models import Model, ModelSpec, taps

# Inputs so far above what the lightest pixel becomes were never preprocessed.
_SLACK = 64.0


def checked_images(model: Model, images: Array | np.ndarray) -> Array:
    """Preprocessed images as a model takes them, or one clear sentence.

    Args:
        model: to be explained.
        images: preprocessed inputs, [N, H, W, C] floating.

    Raises:
        ValueError: for a model of something else than images, another shape or dtype, NaN, or
            pixels in [0, 255] where the model wants them preprocessed (not checked inside a
            compiled function).
    """
    check_images(model.spec)
    inputs: Array = checked_inputs(model, images)
    return inputs


def checked_inputs(model: Model, inputs: Any) -> Any:
    """Preprocessed inputs of any model, of several a dictionary; errors as in `checked_images`."""
    checked = model.checked_inputs(inputs)
    for name, part in model.spec.parts.items():
        check_preprocessed(part, checked[name], f"inputs[{name!r}]")
    if not model.spec.parts:
        check_preprocessed(model.spec, checked)
    return checked


def count_of(inputs: Any) -> int:
    """How many examples inputs hold."""
    return len(jax.tree.leaves(inputs)[0])


def check_layer(model: Model, layer: str, fitting: Sequence[str] | None = None) -> None:
    """Refuse a name that is no layer of the model; offers the nearest of those that fit."""
    known = model.layer_names
    if taps.place(str(layer))[0] not in known:
        hint = suggest(str(layer), known if fitting is None else fitting, "layers")
        raise ValueError(f"layer={layer!r} names no layer of {model.spec.name}. {hint}")


def check_images(spec: ModelSpec) -> None:
    """Refuse a model of something else than images."""
    if not spec.takes_images:
        raise ValueError(
            f"{spec.name} takes no images [N, H, W, C], but inputs [{shape_text(spec.input_shape)}]"
        )


def check_preprocessed(spec: ModelSpec, inputs: Array, what: str = "images") -> None:
    """Refuse inputs that hold NaN or are pixels still (not checked inside a compiled function)."""
    if isinstance(inputs, jax.core.Tracer) or not inputs.size or spec.inputs.tokens:
        return
    with jax.ensure_compile_time_eval():  # inside a compiled function too, where it is a constant
        high = float(jnp.max(inputs))
        light = spec.preprocess(jnp.full((1, spec.input_shape[-1]), 255.0))
        highest = float(jnp.max(light)) + _SLACK
    if np.isnan(high):
        raise ValueError(f"{what} hold NaN")
    if spec.inputs.pixels and high > highest:
        raise ValueError(
            f"{what} reach {high:g}, so they are pixels; {spec.name} takes preprocessed inputs: "
            f"give model.spec.preprocess({what})"
        )
