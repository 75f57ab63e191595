"""Applying given parameters to one image."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from jax import Array, lax
from jax.typing import ArrayLike

from cnnjax.augment.affine import as_dtype, resample, translate
from cnnjax.augment.colours import contrast, hue, saturation
from cnnjax.augment.config import AugmentConfig
from cnnjax.augment.erasing import erase
from cnnjax.augment.operations import rand_augment
from cnnjax.augment.parameters import Parameters


def transform(config: AugmentConfig, image: Array, parameters: Parameters) -> Array:
    """Apply parameters to one image, in the order of `ImageDataGenerator.apply_transform`.

    Args:
        config: of which only fill_mode, fill_value, rescale and the magnitude of rand_augment
            matter here.
        image: [H, W, C], floating or uint8.
        parameters: what to do, drawn by `draw` or given.

    Returns:
        The same shape and dtype; whole numbers are rounded.

    Raises:
        ValueError: for a wrong shape, or if images of whole numbers are to be rescaled.

    >>> import jax.numpy as jnp
    >>> row = jnp.array([[[10.0], [20.0], [40.0]]])
    >>> shifted = transform(AugmentConfig(), row, Parameters(tx=0.5, flip_horizontal=True))
    >>> shifted.ravel().tolist()
    [40.0, 30.0, 15.0]
    """
    image = jnp.asarray(image)
    if image.ndim != 3:
        raise ValueError(f"image must be [H, W, C], got shape {image.shape}")
    floating = jnp.issubdtype(image.dtype, jnp.floating)
    if config.rescale != 1 and not floating:
        raise ValueError(
            f"rescale={config.rescale} needs floating images, got {image.dtype}: convert them "
            "first, or leave it to the preprocessing of the model"
        )
    result = _move(image, parameters, config.fill_mode, config.fill_value)
    if parameters.operations is not None and config.rand_augment is not None:
        filled = config.fill_mode, config.fill_value
        pixels = result.astype(jnp.float32)
        result = rand_augment(pixels, *parameters.operations, config.rand_augment[1], *filled)
    if parameters.channel_shift_intensity is not None:
        result = _shift_channels(result, parameters.channel_shift_intensity)
    if parameters.brightness is not None:
        result = _brighten(result, parameters.brightness)
    result = _coloured(result, parameters)
    if parameters.erased is not None:
        result = erase(result.astype(jnp.float32), parameters.erased)
    if config.rescale != 1:
        result = result * config.rescale
    return as_dtype(result, image.dtype)


def transform_labels(
    config: AugmentConfig, labels: Array, parameters: Parameters, ignored: int | None = None
) -> Array:
    """Move the labels of an image's pixels as `transform` moves the image.

    Each pixel takes the label of the one that is nearest to where it comes from. What changes no
    place, brightness and channel shift, changes no label.

    Args:
        config: of which only fill_mode matters here.
        labels: [H, W], or [H, W, K] of several at each pixel, of any dtype.
        parameters: what happens to the image.
        ignored: what comes in from beyond the borders where fill_mode is "constant".

    Returns:
        The same shape and dtype.

    >>> import jax.numpy as jnp
    >>> row = jnp.array([[1, 2, 3]])
    >>> parameters = Parameters(tx=0.6, flip_horizontal=True)
    >>> transform_labels(AugmentConfig(fill_mode="constant"), row, parameters, -1).tolist()
    [[-1, 3, 2]]
    """
    planes = labels if labels.ndim == 3 else labels[..., None]
    value = 0 if ignored is None else ignored
    moved = _move(planes, parameters, config.fill_mode, value, nearest=True)
    return moved.reshape(labels.shape)


def _move(
    image: Array, parameters: Parameters, mode: str, value: float, *, nearest: bool = False
) -> Array:
    """Crop, then rotation, shift, shear, zoom and flips (which channel shifts do not notice)."""
    if parameters.crop is not None:
        down, right = jnp.asarray(parameters.crop)
        image = translate(image, down, right, mode, value)
    moves = _given(parameters, "theta", "tx", "ty", "shear", "zx", "zy")
    flips = _given(parameters, "flip_horizontal", "flip_vertical")
    if moves.keys() <= {"tx", "ty"} and all(map(_is_whole, moves.values())):
        if moves:
            down, right = (-jnp.asarray(moves.get(name, 0)) for name in ("ty", "tx"))
            image = translate(image, down, right, mode, value)
        if "flip_horizontal" in flips:
            image = jnp.where(flips["flip_horizontal"], image[:, ::-1], image)
        if "flip_vertical" in flips:
            image = jnp.where(flips["flip_vertical"], image[::-1], image)
        return image
    return resample(image, **moves, **flips, fill_mode=mode, fill_value=value, nearest=nearest)


def _given(parameters: Parameters, *names: str) -> dict[str, Any]:
    found = {name: getattr(parameters, name) for name in names}
    return {name: value for name, value in found.items() if value is not None}


def _is_whole(value: ArrayLike) -> bool:
    return jnp.issubdtype(jnp.asarray(value).dtype, jnp.integer)


def _shift_channels(image: Array, intensity: ArrayLike) -> Array:
    """`image + intensity` within the image's own range."""
    pixels = image.astype(jnp.float32)
    return _clamp(pixels + intensity, jnp.min(pixels), jnp.max(pixels))


def _coloured(image: Array, parameters: Parameters) -> Array:
    """Contrast, saturation and hue, the former two within [0, 255] or the image's own range."""
    for name, change in (("contrast", contrast), ("saturation", saturation)):
        if (factor := getattr(parameters, name)) is not None:
            pixels = image.astype(jnp.float32)
            image = _clamp(change(pixels, factor), *_range(pixels))
    if parameters.hue is not None:
        image = hue(image.astype(jnp.float32), parameters.hue)
    return image


def _range(pixels: Array) -> tuple[Array, Array]:
    """[0, 255], or of an image with pixels outside of it their least and greatest."""
    low, high = jnp.min(pixels), jnp.max(pixels)
    usual = (low >= 0) & (high <= 255)
    return jnp.where(usual, 0.0, low), jnp.where(usual, 255.0, high)


def _brighten(image: Array, factor: ArrayLike) -> Array:
    """`factor * image` within [0, 255]; about its own least pixel if it exceeds that range."""
    pixels = image.astype(jnp.float32)
    low, high = _range(pixels)
    bright = _clamp((pixels - low) * factor, jnp.zeros_like(low), high - low) + low
    # Without rounding if nothing is to change.
    return jnp.where(jnp.equal(factor, 1.0), pixels, bright)


def _clamp(pixels: Array, low: Array, high: Array) -> Array:
    """`jnp.clip`, which XLA's CPU would fuse with the reductions in a way seven times as slow."""
    return lax.clamp(low, pixels, high)
