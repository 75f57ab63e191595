"""mixup and CutMix: each example of a batch mixed with another one, images and labels."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from cnnjax.augment.affine import as_dtype
from cnnjax.augment.config import AugmentConfig
from cnnjax.core import rng


def mix(
    config: AugmentConfig, seed_key: Array, epoch: Array, index: Array, images: Array, labels: Any
) -> tuple[Array, Any, Array]:
    """Mix each example with another one of its batch.

    With mix_per="example" that is the next one, of the last one the first; with "batch" the first
    is mixed with the last, the second with the last but one and so on, and all in the same way.

    mixup (Zhang et al. 2018) takes `share * x + (1 - share) * partner` with share ~ Beta(a, a).
    CutMix (Yun et al. 2019) pastes a box of the partner with a share of about 1 - share of the
    area, of the image's proportions, its centre anywhere, cut off at the borders; the share is
    then what is left of x. The loss is `share * loss(z, y) + (1 - share) * loss(z, partner's y)`.

    Args:
        config: of which mixup, cutmix and what begins with mix_ matter here.
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
    batchwise = config.mix_per == "batch"

    def partners(leaf: Array) -> Array:
        return leaf[::-1] if batchwise else jnp.roll(leaf, -1, axis=0)

    def one(example: Array, image: Array, partner: Array) -> tuple[Array, Array]:
        key = rng.at(rng.named(seed_key, "mix"), epoch, example)
        drawn = draw_mix(config, key, image.shape)
        return mix_pair(drawn, image, partner), drawn.left

    # A batch is known by its first example, whose draw is that of all.
    drawn_of = jnp.broadcast_to(index[0], index.shape) if batchwise else index
    mixed, share = jax.vmap(one)(drawn_of, images, partners(images))
    return mixed, jax.tree.map(partners, labels), share


class Mix(NamedTuple):
    """How two images are mixed; None is what does not happen.

    Args:
        left: float32, what is left of the first one, the share of its label.
        blend: float32, the share of its pixels where they are blended.
        box: bool [H, W], pixels of the second one that are pasted.
        blends: bool, whether pixels are blended, and nothing pasted, where either may be.
    """

    left: Array
    blend: Array | None = None
    box: Array | None = None
    blends: Array | None = None


def draw_mix(config: AugmentConfig, key: Array, shape: tuple[int, ...]) -> Mix:
    """How an image of [H, W, C] is mixed with another one, a function of its key."""
    coin, beta, place = jax.random.split(key, 3)
    both = config.mixup > 0 and config.cutmix > 0
    chance = np.float32(1.0 - config.mix_switch)
    blends = jax.random.bernoulli(coin, chance) if both else config.mixup > 0
    alpha = jnp.where(blends, config.mixup, config.cutmix)
    share = jax.random.beta(beta, alpha, alpha)
    if config.mix_probability < 1:
        mixes = jax.random.bernoulli(rng.named(key, "whether"), config.mix_probability)
        share = jnp.where(mixes, share, 1.0)
    if not config.cutmix:
        return Mix(share, blend=share)
    box = _box(share, place, shape, whole=config.mix_per == "batch")
    left = 1.0 - jnp.mean(box, dtype=jnp.float32)
    if not config.mixup:
        return Mix(left, box=box)
    return Mix(jnp.where(blends, share, left), share, box, jnp.asarray(blends))


def mix_pair(drawn: Mix, image: Array, partner: Array) -> Array:
    """An image mixed with its partner, both [H, W, C], of their dtype."""
    blended = image if drawn.blend is None else _blend(drawn.blend, image, partner)
    if drawn.box is None:
        return blended
    pasted = jnp.where(drawn.box[:, :, None], partner, image)
    return pasted if drawn.blends is None else jnp.where(drawn.blends, blended, pasted)


def _blend(share: Array, image: Array, partner: Array) -> Array:
    pixels, others = image.astype(jnp.float32), partner.astype(jnp.float32)
    return as_dtype(share * pixels + (1.0 - share) * others, image.dtype)


def _box(share: Array, key: Array, shape: tuple[int, ...], *, whole: bool) -> Array:
    """Which pixels [H, W] lie in a box of about 1 - share of the area."""
    row, column = jax.random.split(key)
    side = jnp.sqrt(1.0 - share)
    rows, columns = (
        _span(key, side, size, whole) for key, size in ((row, shape[0]), (column, shape[1]))
    )
    return rows[:, None] & columns[None, :]


def _span(key: Array, side: Array, size: int, whole: bool) -> Array:
    """Which of `size` places lie in an interval of a fraction `side`, its centre anywhere.

    Args:
        whole: let it have an odd number of places too, as timm does.
    """
    length = (side * size).astype(jnp.int32)
    below, above = length // 2, (length + 1 if whole else length) // 2
    middle = jax.random.randint(key, (), 0, size)
    place = jnp.arange(size)
    return (place >= middle - below) & (place < middle + above)
