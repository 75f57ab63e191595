"""Random erasing: a box of an image takes the image's mean colour."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
from jax import Array

# Of the box: its share of the area, its height to its width, and how many are drawn until one fits,
# as in torchvision.
_SHARES = 0.02, 0.33
_RATIOS = 0.3, 3.3
_TRIES = 10


def draw_box(probability: float, key: Array, shape: tuple[int, ...]) -> Array:
    """The box that is erased, of shares and ratios as Zhong et al. (2020) have them.

    Args:
        probability: that one is erased.
        key: of the image.
        shape: (H, W, C).

    Returns:
        int32 [4]: top, left, height, width; the latter two 0 where nothing is erased.
    """
    height, width = shape[:2]
    whether, areas, ratios, places = jax.random.split(key, 4)
    low, high = _SHARES
    area = jax.random.uniform(areas, (_TRIES,), minval=low, maxval=high) * (height * width)
    least, most = map(math.log, _RATIOS)
    ratio = jnp.exp(jax.random.uniform(ratios, (_TRIES,), minval=least, maxval=most))
    sizes = jnp.round(jnp.stack([jnp.sqrt(area * ratio), jnp.sqrt(area / ratio)])).astype(jnp.int32)
    fits = (sizes < jnp.array([[height], [width]])).all(axis=0)
    erases = jax.random.bernoulli(whether, float(probability)) & fits.any()
    size = jnp.where(erases, sizes[:, jnp.argmax(fits)], 0)
    place = jax.random.randint(places, (2,), 0, jnp.array([height, width]) - size + 1)
    return jnp.concatenate([place, size])


def erase(image: Array, box: Array) -> Array:
    """An image whose box has the mean colour of the whole image.

    Args:
        image: [H, W, C], floating.
        box: int [4]: top, left, height, width.
    """
    top, left, height, width = jnp.asarray(box)
    rows, columns = jnp.arange(image.shape[0]) - top, jnp.arange(image.shape[1]) - left
    down, right = (rows >= 0) & (rows < height), (columns >= 0) & (columns < width)
    inside = down[:, None] & right[None, :]
    mean = jnp.mean(image, axis=(0, 1), keepdims=True)
    return jnp.where(inside[:, :, None], mean, image)
