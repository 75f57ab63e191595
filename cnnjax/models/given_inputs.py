"""Whether inputs are such as a model takes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array

from cnnjax.core.checks import check_channels_last, shape_text
from cnnjax.models.spec import ModelSpec


def checked_inputs(spec: ModelSpec, inputs: Any) -> Any:
    """Preprocessed inputs as a JAX array, or one by the name of each of several.

    Args:
        spec: of the model.
        inputs: [N, H, W, C] float32, or what else it takes.

    Raises:
        ValueError: for another shape or dtype.
    """
    if spec.parts:
        return _checked_by_name(spec, inputs)
    shape = tuple(np.shape(inputs))
    if not spec.takes(shape[1:]):
        if spec.takes_images:
            check_channels_last("inputs", shape, spec.input_shape[2], "inputs")
        wanted = shape_text(spec.input_shape)
        one = "image" if spec.takes_images else "input"
        raise ValueError(
            f"{spec.name} takes inputs [N, {wanted}], got {list(shape)}"
            + (f"; a single {one} needs a batch axis" if spec.takes(shape) else "")
        )
    array = jnp.asarray(inputs)
    tokens = spec.inputs.tokens
    if tokens and not jnp.issubdtype(array.dtype, jnp.integer):
        raise ValueError(f"{spec.name} takes tokens, whole numbers, got {array.dtype}")
    if tokens:
        return array
    if not jnp.issubdtype(array.dtype, jnp.floating):
        raise ValueError(
            f"{spec.name} takes preprocessed float32 inputs, got {array.dtype}: use "
            "cj.predict(model, images) for pixels, or model.spec.preprocess(images)"
        )
    return array


def _checked_by_name(spec: ModelSpec, inputs: Any) -> dict[str, Array]:
    """`checked_inputs` of several inputs."""
    parts = spec.parts
    if not isinstance(inputs, Mapping) or set(inputs) != set(parts):
        got = list(inputs) if isinstance(inputs, Mapping) else type(inputs).__name__
        raise ValueError(
            f"{spec.name} takes inputs by name, an array for each of {', '.join(parts)}, got {got}"
        )
    checked = {}
    for name, part in parts.items():
        try:
            checked[name] = checked_inputs(part, inputs[name])
        except ValueError as error:
            raise ValueError(f"inputs[{name!r}]: {error}") from None
    return checked
