"""mixup and CutMix: each example of a batch mixed with another one, images and labels."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from cnnjax.augment.affine import as_dtype
from cnnjax.augment.config import AugmentConfig
from cnnjax.core import rng


def mix(
    config: AugmentConfig, seed_key: Array, epoch: Array, index: Array, images: Array, labels: Any
) -> tuple[Array, Any, Array]:
    """Mix each example with the next one of the batch, the last one with the first.

    mixup (Zhang et al. 2018) takes `share * x + (1 - share) * partner` with share ~ Beta(a, a).
    CutMix (Yun et al. 2019) pastes a box of the partner with a share of about 1 - share of the
    area, of the image's proportions, its centre anywhere, cut off at the borders; the share is
    then what is left of x. The loss is `share * loss(z, y) + (1 - share) * loss(z, partner's y)`.

    Args:
        config: of which mixup and cutmix matter here; with both > 0 a coin decides an example.
        seed_key: the stream "augment" of the run; with epoch and index it makes an example's key.
        epoch: int32 scalar.
        index: int32 [N], the examples' indices in the data set.
        images: [N, H, W, C], floating or uint8, after `for_batch`.
        labels: [N] or [N, ...], or {name: these}.

    Returns:
        Images as they came in; the partners' labels [N] or [N, ...]; share float32 [N] in [0, 1].

    Raises:
        ValueError: if there is nothing to mix.

    >>> import jax, jax.numpy as jnp
    >>> images, labels, index = jnp.ones((4, 8, 8, 1)), jnp.arange(4), jnp.arange(4)
    >>> config = AugmentConfig(mixup=0.2)
    >>> _, partners, share = mix(config, jax.random.key(0), jnp.int32(0), index, images, labels)
    >>> partners.tolist(), share.shape
    ([1, 2, 3, 0], (4,))
    """
    if not config.mixes:
        raise ValueError("mix needs mixup or cutmix above 0, got 0 for both")
    partners = jnp.roll(images, -1, axis=0)
    partner_labels = jax.tree.map(lambda leaf: jnp.roll(leaf, -1, axis=0), labels)

    def one(example: Array, image: Array, partner: Array) -> tuple[Array, Array]:
        key = rng.at(rng.named(seed_key, "mix"), epoch, example)
        coin, beta, place = jax.random.split(key, 3)
        both = config.mixup > 0 and config.cutmix > 0
        blends = jax.random.bernoulli(coin) if both else config.mixup > 0
        alpha = jnp.where(blends, config.mixup, config.cutmix)
        share = jax.random.beta(beta, alpha, alpha)
        if not config.cutmix:
            return _blend(share, image, partner), share
        pasted, left = _paste(share, place, image, partner)
        if not config.mixup:
            return pasted, left
        blended = _blend(share, image, partner)
        return jnp.where(blends, blended, pasted), jnp.where(blends, share, left)

    mixed, share = jax.vmap(one)(index, images, partners)
    return mixed, partner_labels, share


def _blend(share: Array, image: Array, partner: Array) -> Array:
    pixels, others = image.astype(jnp.float32), partner.astype(jnp.float32)
    return as_dtype(share * pixels + (1.0 - share) * others, image.dtype)


def _paste(share: Array, key: Array, image: Array, partner: Array) -> tuple[Array, Array]:
    """A box of the partner on the image; the share of the area that is left."""
    height, width, _ = image.shape
    row, column = jax.random.split(key)
    side = jnp.sqrt(1.0 - share)
    rows, columns = _span(row, side, height), _span(column, side, width)
    box = rows[:, None] & columns[None, :]
    return jnp.where(box[:, :, None], partner, image), 1.0 - jnp.mean(box, dtype=jnp.float32)


def _span(key: Array, side: Array, size: int) -> Array:
    """Which of `size` places lie in an interval of a fraction `side`, its centre anywhere."""
    half = (side * size).astype(jnp.int32) // 2
    middle = jax.random.randint(key, (), 0, size)
    place = jnp.arange(size)
    return (place >= middle - half) & (place < middle + half)
