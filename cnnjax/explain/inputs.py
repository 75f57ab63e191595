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


def checked_images(model: Model, images: Any) -> Any:
    """Preprocessed images as a model takes them, or one clear sentence.

    Args:
        model: to be explained.
        images: preprocessed inputs, [N, H, W, C] floating; a dictionary of several inputs, images
            of one size among them.

    Raises:
        ValueError: for a model of something else than images, another shape or dtype, NaN, or
            pixels in [0, 255] where the model wants them preprocessed (not checked inside a
            compiled function).
    """
    if not isinstance(images, dict):
        check_images(model.spec)
        return checked_inputs(model, images)
    inputs = checked_inputs(model, images)
    image_size(inputs)
    return inputs


def checked_inputs(model: Model, inputs: Any) -> Any:
    """Preprocessed inputs of any model, of several a dictionary; errors as in `checked_images`."""
    checked = model.checked_inputs(inputs)
    for name, part in model.spec.parts.items():
        check_preprocessed(part, checked[name], f"inputs[{name!r}]")
    if not model.spec.parts:
        check_preprocessed(model.spec, checked)
    return checked


def image_size(inputs: Any) -> tuple[int, int]:
    """Height and width of the images that inputs hold, [N, H, W, C].

    Raises:
        ValueError: where there are none, or of several sizes.
    """
    sizes = {leaf.shape[1:3] for leaf in jax.tree.leaves(inputs) if len(leaf.shape) == 4}
    if len(sizes) != 1:
        found = " and ".join(f"{height}x{width}" for height, width in sorted(sizes))
        raise ValueError(
            f"the inputs hold images of {found}, so a map has no single size"
            if sizes
            else "the inputs hold no images [N, H, W, C]"
        )
    ((height, width),) = sizes
    return height, width


def image_of(inputs: Any) -> Array:
    """The images that inputs hold, [N, H, W, C], where there is one such input.

    Raises:
        ValueError: where there are several.
    """
    image: Array = inputs if not isinstance(inputs, dict) else inputs[_image_name(inputs)]
    return image


def with_image(inputs: Any, images: Array) -> Any:
    """The inputs with other images, of another number: the others are repeated to fit.

    Args:
        inputs: of N examples, of which `image_of` gives the images.
        images: [M N, H, W, C], M times those of N examples.
    """
    if not isinstance(inputs, dict):
        return images
    name, times = _image_name(inputs), len(images) // max(count_of(inputs), 1)
    repeated = {
        key: jnp.tile(each, (times, *[1] * (each.ndim - 1)))
        for key, each in inputs.items()
        if key != name
    }
    return {**repeated, name: images}


def _image_name(inputs: dict[str, Any]) -> str:
    names = [name for name, each in inputs.items() if len(each.shape) == 4]
    if len(names) != 1:
        raise ValueError(
            f"the inputs hold {len(names)} images, {', '.join(names)}: parts of one of them "
            "cannot be covered alone; take a gradient, e.g. saliency"
        )
    return names[0]


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
        high, highest = float(jnp.max(inputs)), np.inf
        if spec.inputs.pixels:
            light = spec.preprocess(jnp.full((1, spec.input_shape[-1]), 255.0))
            highest = float(jnp.max(light)) + _SLACK
    if np.isnan(high):
        raise ValueError(f"{what} hold NaN")
    if high > highest:
        raise ValueError(
            f"{what} reach {high:g}, so they are pixels; {spec.name} takes preprocessed inputs: "
            f"give model.spec.preprocess({what})"
        )
