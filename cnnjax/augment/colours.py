"""Changes of colours: contrast, saturation and hue of one image."""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

# Of red, green and blue in what looks grey (ITU-R BT.601, as Pillow's mode "L" has it).
_LUMA = 0.299, 0.587, 0.114


def grey(image: Array) -> Array:
    """The luma of RGB, [H, W, 1]; an image of another number of channels by their mean.

    Args:
        image: [H, W, C], floating.
    """
    if image.shape[2] != len(_LUMA):
        return jnp.mean(image, axis=2, keepdims=True)
    return sum(weight * image[:, :, i : i + 1] for i, weight in enumerate(_LUMA))  # type: ignore[return-value]


def blend(other: ArrayLike, image: Array, factor: ArrayLike) -> Array:
    """`other + factor * (image - other)`, as Pillow's `ImageEnhance`: 1 leaves the image as it is.

    Args:
        other: what factor 0 makes of the image, e.g. its grey.
        image: [H, W, C], floating.
        factor: >= 0.
    """
    return jnp.where(jnp.equal(factor, 1.0), image, other + factor * (image - other))


def contrast(image: Array, factor: ArrayLike) -> Array:
    """Blended with the mean of its luma."""
    return blend(jnp.mean(grey(image)), image, factor)


def saturation(image: Array, factor: ArrayLike) -> Array:
    """Blended with its luma."""
    return blend(grey(image), image, factor)


def hue(image: Array, turn: ArrayLike) -> Array:
    """The hue of RGB turned in HSV, whose value and saturation stay.

    With the largest and the smallest of the three, V and v, hue h in [0, 1), and `k = (n + 6 h) mod
    6`, the new red, green and blue are `V - (V - v) max(0, min(k, 4 - k, 1))` for n = 5, 3, 1.

    Args:
        image: [H, W, 3], floating.
        turn: share of a whole turn, in [-0.5, 0.5].

    Returns:
        The same shape, within the range of each pixel.
    """
    red, green, blue = (image[:, :, i] for i in range(3))
    most, least = jnp.max(image, axis=2), jnp.min(image, axis=2)
    span = most - least
    safe = jnp.where(span > 0, span, 1.0)
    sixth = jnp.where(
        most == red,
        (green - blue) / safe,
        jnp.where(most == green, 2.0 + (blue - red) / safe, 4.0 + (red - green) / safe),
    )
    turned = sixth + 6.0 * turn
    k = jnp.stack([(turned + n) % 6.0 for n in (5.0, 3.0, 1.0)], axis=2)
    share = jnp.clip(jnp.minimum(k, 4.0 - k), 0.0, 1.0)
    return jnp.where(jnp.equal(turn, 0.0), image, most[:, :, None] - span[:, :, None] * share)
