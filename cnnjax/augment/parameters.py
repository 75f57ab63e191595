"""The parameters of one image's augmentation, drawn at random from a key."""

from __future__ import annotations

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from cnnjax.augment.config import AugmentConfig
from cnnjax.augment.erasing import draw_box
from cnnjax.augment.operations import draw_operations
from cnnjax.core import rng

# Of a part that is cut out and resized: width to height, and how many are drawn until one fits.
_RATIOS = 3 / 4, 4 / 3
_TRIES = 10


class Parameters(NamedTuple):
    """What happens to one image; None is what does not, and costs nothing.

    Names, units and signs are those of the dictionary of `ImageDataGenerator`, so that
    `Parameters(**generator.get_random_transform(shape))` is one.

    Args:
        theta: angle of the rotation in degrees.
        tx: shift of the content to the left in pixels, before it is turned. Whole numbers are
            moved without interpolation, unless the other parameters need it.
        ty: the same upwards.
        shear: shear angle in degrees.
        zx: factor of the zoom along the width; below 1 enlarges.
        zy: the same along the height.
        flip_horizontal: whether left and right are exchanged.
        flip_vertical: whether up and down are exchanged.
        channel_shift_intensity: added to all channels.
        brightness: factor of the pixels.
        crop: int [2], how far the padded image moves down and right in the window cut out.
        contrast: factor of the distance from the mean luma.
        saturation: factor of the distance from each pixel's luma.
        hue: share of a whole turn.
        operations: of RandAugment: int [n], their numbers, and [n], their signs.
        erased: int [4], top, left, height and width of the box that is erased.
    """

    theta: ArrayLike | None = None
    tx: ArrayLike | None = None
    ty: ArrayLike | None = None
    shear: ArrayLike | None = None
    zx: ArrayLike | None = None
    zy: ArrayLike | None = None
    flip_horizontal: ArrayLike | None = None
    flip_vertical: ArrayLike | None = None
    channel_shift_intensity: ArrayLike | None = None
    brightness: ArrayLike | None = None
    crop: ArrayLike | None = None
    contrast: ArrayLike | None = None
    saturation: ArrayLike | None = None
    hue: ArrayLike | None = None
    operations: tuple[Array, Array] | None = None
    erased: Array | None = None


def draw(config: AugmentConfig, key: Array, shape: tuple[int, ...]) -> Parameters:
    """The parameters of one image, a function of its key; `transform` applies them.

    Args:
        config: the settings.
        key: of the image.
        shape: (H, W, C) of the image, of which shifts may be fractions.

    Returns:
        Scalars (and `crop` [2]); None for what the settings do not ask for.

    >>> import jax
    >>> from cnnjax.config import AugmentConfig
    >>> drawn = draw(AugmentConfig(rotation=40), jax.random.key(0), (150, 150, 3))
    >>> bool(abs(drawn.theta) <= 40), drawn.tx
    (True, None)
    """
    # Recipes rely on these five; whatever came later has a named stream of its own.
    crop, rows, columns, horizontal, vertical = jax.random.split(key, 5)
    zooms = _zooms(config, key)
    tx = _shift(config.width_shift, columns, shape[1])
    ty = _shift(config.height_shift, rows, shape[0])
    if config.resized_crop is not None:
        size, (right, down) = _resized_crop(
            config.resized_crop, rng.named(key, "resized_crop"), shape
        )
        zooms = size if zooms is None else zooms * size
        tx, ty = right if tx is None else right + tx, down if ty is None else down + ty
    return Parameters(
        theta=_symmetric(config.rotation, rng.named(key, "rotation")),
        tx=tx,
        ty=ty,
        shear=_symmetric(config.shear, rng.named(key, "shear")),
        zx=None if zooms is None else zooms[0],
        zy=None if zooms is None else zooms[1],
        flip_horizontal=jax.random.bernoulli(horizontal) if config.horizontal_flip else None,
        flip_vertical=jax.random.bernoulli(vertical) if config.vertical_flip else None,
        channel_shift_intensity=_symmetric(config.channel_shift, rng.named(key, "channel_shift")),
        brightness=_factor(config.brightness, rng.named(key, "brightness")),
        crop=_crop(config.crop_padding, crop),
        contrast=_factor(config.contrast, rng.named(key, "contrast")),
        saturation=_factor(config.saturation, rng.named(key, "saturation")),
        hue=_symmetric(config.hue, rng.named(key, "hue")),
        operations=_operations(config, key),
        erased=_erased(config, key, shape),
    )


def _symmetric(most: float, key: Array) -> Array | None:
    return jax.random.uniform(key, (), minval=-most, maxval=most) if most else None


def _shift(most: float, key: Array, size: int) -> Array | None:
    if not most:
        return None
    if isinstance(most, int):
        return -jax.random.randint(key, (), -most, most + 1)
    return _symmetric(most * size if most < 1 else most, key)


def _zooms(config: AugmentConfig, key: Array) -> Array | None:
    zoom = config.zoom
    low, high = zoom if isinstance(zoom, tuple) else (1.0 - zoom, 1.0 + zoom)
    if low == high == 1:
        return None
    return jax.random.uniform(rng.named(key, "zoom"), (2,), minval=low, maxval=high)


def _resized_crop(
    shares: tuple[float, float], key: Array, shape: tuple[int, ...]
) -> tuple[Array, Array]:
    """The part that is cut out, as factors and shifts of the resampling, float32 [2] each: x, y.

    Half pixels count, so that the borders of the part become those of the image.
    """
    height, width = shape[:2]
    areas, ratios, places = jax.random.split(key, 3)
    low, high = shares
    area = jax.random.uniform(areas, (_TRIES,), minval=low, maxval=high) * (height * width)
    least, most = map(math.log, _RATIOS)
    ratio = jnp.exp(jax.random.uniform(ratios, (_TRIES,), minval=least, maxval=most))
    sizes = jnp.stack([jnp.sqrt(area * ratio), jnp.sqrt(area / ratio)])
    whole = jnp.array([width, height], jnp.float32)
    fits = (sizes <= whole[:, None]).all(axis=0)
    middle = min(max(width / height, _RATIOS[0]), _RATIOS[1])
    largest = jnp.array([min(width, height * middle), min(height, width / middle)], jnp.float32)
    size = jnp.where(fits.any(), sizes[:, jnp.argmax(fits)], largest)
    place = jnp.where(fits.any(), jax.random.uniform(places, (2,)), 0.5)
    return size / whole, (whole - size) * (place - 0.5)


def _factor(bounds: tuple[float, float] | None, key: Array) -> Array | None:
    if bounds is None:
        return None
    low, high = bounds
    return jax.random.uniform(key, (), minval=low, maxval=high)


def _operations(config: AugmentConfig, key: Array) -> tuple[Array, Array] | None:
    if config.rand_augment is None:
        return None
    return draw_operations(config.rand_augment[0], rng.named(key, "rand_augment"))


def _erased(config: AugmentConfig, key: Array, shape: tuple[int, ...]) -> Array | None:
    if not config.erasing:
        return None
    return draw_box(config.erasing, rng.named(key, "erasing"), shape)


def _crop(padding: int, key: Array) -> Array | None:
    return jax.random.randint(key, (2,), -padding, padding + 1) if padding else None
