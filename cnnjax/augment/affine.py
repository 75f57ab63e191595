"""Moving the pixels of an image: by whole pixels, or through one bilinear resampling.

Coordinates run from 0 to size - 1 along each axis. Beyond these, the fill modes are SciPy's
(`scipy.ndimage.affine_transform`, order 1), which is what Keras' `ImageDataGenerator` calls.
"""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array, lax
from jax.typing import ArrayLike

from cnnjax.core import target


def translate(
    image: Array, down: ArrayLike, right: ArrayLike, fill_mode: str, fill_value: float
) -> Array:
    """Move the content by whole pixels, without interpolation.

    On accelerators an image is extended beyond its borders and a window cut out of it; on CPUs,
    which look up single pixels faster, each is looked up. The pixels are the same.

    Args:
        image: [H, W, C].
        down, right: int scalars, of any size.
        fill_mode, fill_value: what comes in, as in `Augment`.

    Returns:
        The same shape and dtype.
    """
    height, width, channels = image.shape
    y, x = jnp.arange(height) - down, jnp.arange(width) - right
    # SciPy's "wrap" has another period before the image than within it.
    if target.platform() == "cpu" or fill_mode == "wrap":
        rows, columns = fold(y, height, fill_mode), fold(x, width, fill_mode)
        pixels = image.reshape(height * width, channels)
        moved = _pick(pixels, rows[:, None] * width + columns[None, :])
    else:
        moved = _window(_window(image, down, 0, fill_mode), right, 1, fill_mode)
    if fill_mode == "constant":
        inside = _within(y, height)[:, None] & _within(x, width)[None, :]
        moved = jnp.where(inside[:, :, None], moved, as_dtype(fill_value, image.dtype))
    return moved


def resample(
    image: Array,
    *,
    theta: ArrayLike = 0.0,
    tx: ArrayLike = 0.0,
    ty: ArrayLike = 0.0,
    shear: ArrayLike = 0.0,
    zx: ArrayLike = 1.0,
    zy: ArrayLike = 1.0,
    flip_horizontal: ArrayLike = False,
    flip_vertical: ArrayLike = False,
    fill_mode: str = "nearest",
    fill_value: float = 0.0,
    nearest: bool = False,
) -> Array:
    """Rotation, shift, shear, zoom about the centre and flips, as one bilinear resampling.

    The pixel at p = (x, y) is that of the source at `A (p - c) + R t + c` with the centre
    c = ((W - 1) / 2, (H - 1) / 2), the shift t = (tx, ty) and, with rotation R, shear S, zoom Z,

        A = R S Z = [[cos theta, -sin(theta + shear)], [sin theta, cos(theta + shear)]] diag(zx, zy)

    as in `keras.src.legacy.preprocessing.image.apply_affine_transform`, but for the centre of
    images that are not square, of which Keras exchanges the coordinates.

    Args:
        image: [H, W, C], floating or uint8.
        theta, shear: angles in degrees.
        tx, ty: pixels.
        zx, zy: factors of the width and the height.
        flip_horizontal, flip_vertical: whether the result is mirrored.
        fill_mode, fill_value: what lies beyond the borders, as in `Augment`.
        nearest: take the nearest pixel instead, as labels need it, in the image's own dtype.

    Returns:
        float32 [H, W, C]; the image itself if nothing is moved.

    >>> import jax.numpy as jnp
    >>> resample(jnp.arange(3, dtype=jnp.float32).reshape(1, 3, 1), tx=0.5).ravel().tolist()
    [0.5, 1.5, 2.0]
    """
    height, width, _ = image.shape
    angle, tilted = jnp.deg2rad(theta), jnp.deg2rad(jnp.add(theta, shear))
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    middle_y, middle_x = (height - 1) / 2, (width - 1) / 2
    # The mirrored result is read off here: a flip of it would cost XLA's CPU a second resampling.
    down = (_places(height, flip_vertical) - middle_y)[:, None]
    right = (_places(width, flip_horizontal) - middle_x)[None, :]
    x = cos * zx * right - jnp.sin(tilted) * zy * down + (cos * tx - sin * ty) + middle_x
    y = sin * zx * right + jnp.cos(tilted) * zy * down + (sin * tx + cos * ty) + middle_y
    return sample(image, y, x, fill_mode, fill_value, nearest=nearest)


def sample(
    image: Array,
    y: Array,
    x: Array,
    fill_mode: str,
    fill_value: float,
    *,
    nearest: bool = False,
) -> Array:
    """The image at coordinates, which need not lie within it.

    Args:
        image: [H, W, C], floating or uint8.
        y, x: floating [H', W'], in pixels from the first one.
        fill_mode, fill_value, nearest: as in `resample`.

    Returns:
        [H', W', C], float32 or with `nearest` of the image's own dtype.
    """
    height, width, _ = image.shape
    rows, columns = fold(y, height, fill_mode), fold(x, width, fill_mode)
    if nearest:
        inside = (_within(y, height) & _within(x, width))[:, :, None]
        result = _nearest(image, rows, columns)
        return jnp.where(inside, result, fill_value) if fill_mode == "constant" else result
    result = _bilinear(image, rows, columns)
    if fill_mode == "constant":
        # A product, exact with 0 and 1: for a `where` the CPU branches at every pixel, three times
        # as slow.
        inside = (_within(y, height) & _within(x, width)).astype(jnp.float32)[:, :, None]
        result = result * inside + fill_value * (1.0 - inside)
    return result


def fold(i: Array, size: int, fill_mode: str) -> Array:
    """Coordinates beyond the borders to those inside from which they are filled.

    Args:
        i: floating or int, any shape.
        size: of the axis, >= 1.
        fill_mode: "nearest", "reflect" and "wrap" as in SciPy; "constant" as "nearest".

    Returns:
        In [0, size - 1], of the same shape and dtype.

    >>> import jax.numpy as jnp
    >>> fold(jnp.arange(-3, 6), 3, "reflect").tolist()
    [2, 1, 0, 0, 1, 2, 2, 1, 0]
    >>> fold(jnp.arange(-3, 6), 3, "wrap").tolist()
    [1, 2, 1, 0, 1, 2, 1, 0, 1]
    """
    if fill_mode == "reflect":
        once = i - 2 * size * _turns(i, 2 * size)
        i = jnp.minimum(once, 2 * size - 1 - once)
    elif fill_mode == "wrap" and size > 1:
        # The last pixel stands where the first one of the next period would.
        period = size - 1
        below = i + period * (_turns(-i, period) + 1)
        above = i - period * _turns(i, period)
        i = jnp.where(_within(i, size), i, jnp.where(i < 0, below, above))
    return jnp.clip(i, 0, size - 1)


def as_dtype(values: ArrayLike, dtype: jnp.dtype) -> Array:
    """Pixels in another dtype: rounded and clipped where it holds whole numbers."""
    values = jnp.asarray(values)
    if jnp.issubdtype(dtype, jnp.integer) and jnp.issubdtype(values.dtype, jnp.floating):
        limits = jnp.iinfo(dtype)
        values = jnp.clip(jnp.round(values), limits.min, limits.max)
    return values.astype(dtype)


def _places(size: int, backwards: ArrayLike) -> Array:
    places = jnp.arange(size, dtype=jnp.float32)
    return places if backwards is False else jnp.where(backwards, places[::-1], places)


def _turns(i: Array, period: int) -> Array:
    """How many whole periods lie below i."""
    if jnp.issubdtype(i.dtype, jnp.integer):
        return i // period
    return jnp.floor(i / period)


def _within(i: Array, size: int) -> Array:
    return (i >= 0) & (i <= size - 1)


def _window(image: Array, by: ArrayLike, axis: int, fill_mode: str) -> Array:
    """The image moved along an axis: a window on what is there and beyond its borders."""
    size = image.shape[axis]
    if fill_mode == "reflect":
        extended = jnp.concatenate([image, jnp.flip(image, axis), image], axis)
        start = jnp.mod(-jnp.asarray(by), 2 * size)
    else:
        edges = [(size, size) if i == axis else (0, 0) for i in range(image.ndim)]
        extended = jnp.pad(image, edges, mode="edge")
        start = size - jnp.clip(by, -size, size)  # further on everything is the edge's
    return lax.dynamic_slice_in_dim(extended, start, size, axis)


def _nearest(image: Array, y: Array, x: Array) -> Array:
    """The pixels of the image that are nearest to coordinates [H, W] within it."""
    height, width, channels = image.shape
    rows, columns = (jnp.round(i).astype(jnp.int32) for i in (y, x))
    return _pick(image.reshape(height * width, channels), rows * width + columns)


def _bilinear(image: Array, y: Array, x: Array) -> Array:
    """The image at coordinates [H, W] within it."""
    height, width, channels = image.shape
    top, left = jnp.floor(y), jnp.floor(x)
    # An edge plus a part of the difference: exact where nothing moves or all pixels are the same.
    part_y, part_x = (y - top)[:, :, None], (x - left)[:, :, None]
    top, left = top.astype(jnp.int32), left.astype(jnp.int32)
    bottom, right = jnp.minimum(top + 1, height - 1), jnp.minimum(left + 1, width - 1)
    # On CPUs four look-ups in a list of pixels are the fastest of many ways: 1.4 times as fast as
    # one of 2x2 patches or two of pairs, 4 times as fast as a plane for each channel. An image
    # that comes as uint8 is converted after the look-up, which is twice as fast again.
    pixels = image.reshape(height * width, channels)

    def at(rows: Array, columns: Array) -> Array:
        return _pick(pixels, rows * width + columns).astype(jnp.float32)

    above, below = at(top, left), at(bottom, left)
    above = above + part_x * (at(top, right) - above)
    below = below + part_x * (at(bottom, right) - below)
    return above + part_y * (below - above)


def _pick(pixels: Array, index: Array) -> Array:
    """Rows of [P, C], by an index that lies within."""
    return pixels.at[index].get(mode="promise_in_bounds")
