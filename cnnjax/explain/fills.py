"""What stands in the place of pixels that are taken away."""

from __future__ import annotations

from typing import TypeAlias

import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from cnnjax.core.checks import is_number
from cnnjax.core.text import suggest
from cnnjax.models import ModelSpec

Fill: TypeAlias = str | float | np.ndarray | Array

FILLS = ("mean", "blur")
SIDE = 224  # of the images for which a blur is given in pixels
_BLUR = 10.0


def covers_of(spec: ModelSpec, inputs: Array, fill: Fill) -> tuple[Array, str]:
    """What covers images, and what it is called in records.

    Args:
        spec: of the model.
        inputs: preprocessed, [N, H, W, C].
        fill: "mean": of each image the mean of each channel; "blur": the image under a Gaussian of
            10 pixels, of 224; or a pixel, as `spec.preprocess` takes it: a number, [C], [H, W, C]
            or [N, H, W, C]. Pixels lie in [0, 255], and where the model takes its inputs as they
            are (preprocessing "none") within the range of these and zero.

    Returns:
        [N, H, W, C], preprocessed; e.g. "mean" or "127.5".

    Raises:
        ValueError: for another name, shape, or value.
    """
    if isinstance(fill, str):
        if fill not in FILLS:
            hint = suggest(fill, FILLS, "fills")
            raise ValueError(f"fill={fill!r} is neither a fill by name nor a pixel. {hint}")
        if fill == "blur":
            return blurred(inputs, _BLUR * min(inputs.shape[1:3]) / SIDE), fill
        return jnp.broadcast_to(inputs.mean((1, 2), keepdims=True), inputs.shape), fill
    plain = is_number(fill)
    array = np.asarray(fill, np.float32) if plain or hasattr(fill, "shape") else np.empty(0)
    shapes = ((), inputs.shape[3:], inputs.shape[1:], inputs.shape)
    if isinstance(fill, bool) or array.shape not in shapes:
        wanted = " or ".join(str(list(shape)) for shape in shapes[1:])
        raise ValueError(
            f"fill must be {', '.join(map(repr, FILLS))}, a number, or an array {wanted}, got "
            + (f"an array {list(np.shape(fill))}" if hasattr(fill, "shape") else repr(fill))
        )
    _check_range(spec, inputs, array)
    pixels = jnp.broadcast_to(jnp.asarray(array), inputs.shape)
    name = f"{float(array):g}" if plain else f"array {list(array.shape)}"
    return spec.preprocess(pixels, check=False), name


def _check_range(spec: ModelSpec, inputs: Array, fill: np.ndarray) -> None:
    if not fill.size:  # of a batch of nothing
        return
    low, high = float(fill.min()), float(fill.max())
    if spec.inputs.pixels:
        spec.inputs.check_range(low, high, "fill")
        return
    if not inputs.size:
        return
    least, most = min(float(inputs.min()), 0.0), max(float(inputs.max()), 0.0)
    if not (least <= low and high <= most):  # NaN is not
        raise ValueError(
            f"fill in [{low:g}, {high:g}] lies outside of the images' own range and zero, "
            f"[{least:g}, {most:g}], and {spec.name} takes its inputs as they are: give a value "
            "within, or 'mean'"
        )


def blurred(images: Array, deviation: float) -> Array:
    """Images under a Gaussian blur, the border pixels repeated outwards.

    Args:
        images: [N, H, W, C] floating.
        deviation: of the Gaussian in pixels, > 0; cut off at twice that.
    """
    radius = max(int(np.ceil(2 * deviation)), 1)
    taps = np.exp(-0.5 * (np.arange(-radius, radius + 1) / deviation) ** 2)
    kernel = jnp.asarray(taps / taps.sum(), images.dtype)
    padded = jnp.pad(images, ((0, 0), (radius, radius), (radius, radius), (0, 0)), mode="edge")
    channels = images.shape[-1]
    for shape in ((-1, 1, 1, 1), (1, -1, 1, 1)):
        taps_per_channel = jnp.tile(kernel.reshape(shape), (1, 1, 1, channels))
        padded = lax.conv_general_dilated(
            padded, taps_per_channel, (1, 1), "VALID",
            dimension_numbers=("NHWC", "HWIO", "NHWC"), feature_group_count=channels,
            precision=lax.Precision.HIGHEST,
        )  # fmt: skip
    return padded
