"""Augmentation: pure functions (key, image) -> image.

An example's key is made from (seed, epoch, index of the example), so that any single augmented
picture can be made again, whatever the batch size or the number of machines.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array

from cnnjax import rng
from cnnjax.config import AugmentConfig

_PAD_MODES = {"nearest": "edge", "constant": "constant", "reflect": "symmetric"}


class Augment(AugmentConfig):
    """Random changes of images, as a function of a key.

    Args:
        width_shift: largest shift along the width, in pixels if >= 1, else as a fraction; >= 0.
        height_shift: the same along the height.
        horizontal_flip: mirror left and right with probability 1/2.
        vertical_flip: mirror up and down with probability 1/2.
        crop_padding: pad by so many pixels on each side and cut out the original size at random.
        fill_mode: what comes in at the borders of a shift or crop: "nearest" repeats the edge,
            "constant" is fill_value, "reflect" mirrors, the edge included.
        fill_value: for "constant", in the units of the images.
    """

    def __call__(self, key: Array, images: Array) -> Array:
        """Change one image or a batch.

        Args:
            key: a random key; a batch uses `fold_in(key, i)` for its i-th image.
            images: [H, W, C] or [N, H, W, C], floating or uint8.

        Returns:
            The same shape and dtype.

        >>> import jax, jax.numpy as jnp
        >>> Augment(width_shift=2)(jax.random.key(0), jnp.ones((8, 28, 28, 1))).shape
        (8, 28, 28, 1)
        """
        return apply(self, key, images)


def apply(config: AugmentConfig, key: Array, images: Array) -> Array:
    """`Augment.__call__` for any `AugmentConfig`: crop, then shift, then flips."""
    if images.ndim == 4:
        keys = jax.vmap(rng.at, in_axes=(None, 0))(key, jnp.arange(images.shape[0]))
        return jax.vmap(lambda k, image: apply(config, k, image))(keys, images)
    if images.ndim != 3:
        raise ValueError(f"images must be [H, W, C] or [N, H, W, C], got shape {images.shape}")
    crop, rows, columns, horizontal, vertical = jax.random.split(key, 5)
    height, width, _ = images.shape
    if config.crop_padding:
        size = config.crop_padding
        offset = jax.random.randint(crop, (2,), -size, size + 1)
        images = _translate(images, offset[0], offset[1], size, size, config)
    if config.height_shift or config.width_shift:
        most_rows = _pixels(config.height_shift, height)
        most_columns = _pixels(config.width_shift, width)
        down = jax.random.randint(rows, (), -most_rows, most_rows + 1)
        right = jax.random.randint(columns, (), -most_columns, most_columns + 1)
        images = _translate(images, down, right, most_rows, most_columns, config)
    if config.horizontal_flip:
        images = jnp.where(jax.random.bernoulli(horizontal), images[:, ::-1], images)
    if config.vertical_flip:
        images = jnp.where(jax.random.bernoulli(vertical), images[::-1], images)
    return images


def for_batch(
    augment: AugmentConfig | Callable, seed_key: Array, epoch: Array, index: Array, images: Array
) -> Array:
    """Augment a training batch, each example with its own key.

    Args:
        augment: an `AugmentConfig` or any function (key, image [H, W, C]) -> image.
        seed_key: the stream "augment" of the run.
        epoch: int32 scalar.
        index: int32 [N], the examples' indices in the data set.
        images: [N, H, W, C].

    Returns:
        [N, H, W, C].
    """

    def one(example: Array, image: Array) -> Array:
        key = rng.at(seed_key, epoch, example)
        if isinstance(augment, AugmentConfig):
            return apply(augment, key, image)
        return augment(key, image)

    return jax.vmap(one)(index, images)


def _pixels(amount: float, size: int) -> int:
    return int(amount) if amount >= 1 else round(amount * size)


def _translate(
    image: Array, down: Array, right: Array, rows: int, columns: int, config: AugmentConfig
) -> Array:
    """Move the content by whole pixels, at most (rows, columns); the border is filled."""
    mode = _PAD_MODES[config.fill_mode]
    options = {"constant_values": config.fill_value} if mode == "constant" else {}
    padded = jnp.pad(image, ((rows, rows), (columns, columns), (0, 0)), mode=mode, **options)
    return jax.lax.dynamic_slice(padded, (rows - down, columns - right, 0), image.shape)
