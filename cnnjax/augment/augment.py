"""Augmentation as a function (key, image) -> image: draw the parameters, then transform.

An example's key is made from (seed, epoch, index of the example), so that any single augmented
image can be made again, whatever the batch size or the number of machines: to the bit where
whole pixels are moved, to rounding where images are interpolated.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from cnnjax.augment.config import AugmentConfig
from cnnjax.augment.named import Named
from cnnjax.augment.parameters import draw
from cnnjax.augment.transforms import transform
from cnnjax.core import rng, target
from cnnjax.core.checks import channels_first, check_channels_last, holds_tokens


class Augment(AugmentConfig):
    """Random changes of images, as a function of a key.

    They are those of Keras' `ImageDataGenerator` and come in its order: rotation, shift, shear and
    zoom about the centre as one resampling (bilinear); channel shift; flips; brightness; rescaling.
    The crop goes in front of all, `rand_augment` after all that moves. Shifts by whole pixels,
    flips and crops alone interpolate nothing. mixup and cutmix need a batch and its labels: `mix`
    and the training step apply them.

    Of a task with a label at each pixel, as "dense", the labels move with the image, each pixel
    taking that of the nearest one; what comes in from beyond the borders has no label where
    fill_mode is "constant", and that of the pixel it repeats otherwise. Other labels do not move:
    where they name places in the image (a class at each position), training refuses all that moves
    it, which is the shifts, flips, crops, rotation, shear, zoom and cutmix. A function of your own,
    (key, image) -> image, may do anything, and has to leave the labels true: a text of symbols from
    left to right bears a shift by a few pixels, and no mirror.

    Unlike `ImageDataGenerator`'s, `width_shift` moves along the width and `height_shift` along the
    height (Keras swaps the two), images that are not square turn about their centre (Keras swaps
    its coordinates), and brightness does not round pixels down to whole numbers.

    Args:
        width_shift: largest shift along the width, >= 0. A whole number (`2`): by whole pixels,
            each of -2 to 2 equally likely. A float: any shift in [-s, s], which is a fraction of
            the width if s < 1, else in pixels.
        height_shift: the same along the height.
        horizontal_flip: mirror left and right with probability 1/2.
        vertical_flip: mirror up and down with probability 1/2.
        crop_padding: pad by so many pixels on each side and cut out the original size at random.
        resized_crop: pair (low, high), 0 < low <= high <= 1: cut out a part whose share of the area
            is uniform in it, and whose ratio of width to height lies between 3/4 and 4/3, uniform
            in its logarithm, from anywhere, and bring it to the full size. The best nets on
            ImageNet have (0.08, 1) (Szegedy et al. 2015). Of ten such parts it is the first that
            fits into the image; the largest in its middle where none does. It is part of the
            resampling, whose shift is added to it, and whose zoom multiplies it.
        fill_mode: what lies beyond the borders: "nearest" repeats the edge, "constant" is
            fill_value, "reflect" mirrors, the edge included, "wrap" goes on at the other side, as
            SciPy does: with a period of one pixel less than the size.
        fill_value: for "constant", in the units of the images.
        rotation: largest angle in degrees, >= 0; uniform in [-r, r].
        shear: largest shear angle in degrees, in [0, 90); uniform in [-s, s]. (Recipes that say
            .2 meant radians once; as in Keras these are degrees.)
        zoom: z in [0, 1) for two factors, of the width and of the height, uniform in
            [1 - z, 1 + z] each; or a pair (low, high) for other bounds. Below 1 enlarges.
        channel_shift: largest offset, in the units of the images, >= 0; one for all channels of an
            image, uniform in [-c, c]; the result is clipped to the image's own range.
        brightness: pair (low, high) of a factor, uniform; the result is clipped to [0, 255]. An
            image with pixels outside [0, 255] has its brightness above its least pixel changed,
            and is clipped to its own range.
        contrast: pair (low, high) of a factor of each pixel's distance from the mean luma (a grey
            of .299 red, .587 green and .114 blue), clipped as with brightness. With brightness,
            saturation and hue, which follow in this order, it is what is called colour jitter.
        saturation: the same of each pixel's distance from its own luma; for RGB.
        hue: largest turn of the hue in HSV, as a share of a whole one, in [0, 0.5]; uniform in
            [-h, h]; for RGB.
        rand_augment: pair (n, magnitude), e.g. (2, 9): n operations of fourteen, one after the
            other, each equally likely (Cubuk et al. 2020): none, shear and shift along either axis,
            rotation, brightness, colour, contrast, sharpness, posterise, solarise, autocontrast,
            equalise. What a magnitude in [0, 30] means is torchvision's, the pixels are Pillow's,
            moves are bilinear. After the moves above; for RGB pixels of 8 bits.
        erasing: probability in [0, 1] that a box of 2 to 33 % of the area and of a height to width
            between .3 and 3.3 takes the mean colour of the image (Zhong et al. 2020), after all
            other changes.
        rescale: factor applied last, > 0, for floating images. A model's preprocessing normally
            does that.
        mixup: parameter of the Beta distribution of mixup (Zhang et al. 2018), >= 0; 0 for none.
        cutmix: the same for CutMix (Yun et al. 2019). With both, a coin decides which it is.
        mix_probability: that anything is mixed at all, in (0, 1].
        mix_switch: with both, probability of CutMix, in (0, 1).
        mix_per: "example" draws share, box and coin for each example, whose partner is the next
            one; "batch" once for all of a batch, whose first one is mixed with the last one and so
            on, as timm's `Mixup` does unless told otherwise.

    References:
        Cubuk et al., RandAugment: practical automated data augmentation with a reduced search
            space, NeurIPS 2020.
        Zhong et al., Random erasing data augmentation, AAAI 2020.
        Szegedy et al., Going deeper with convolutions, CVPR 2015, section 6.
        Zhang et al., mixup: beyond empirical risk minimization, ICLR 2018.
        Yun et al., CutMix: regularization strategy to train strong classifiers, ICCV 2019.
    """

    def __call__(self, key: Array, images: Array) -> Array:
        """Change one image or a batch.

        Args:
            key: a random key; a batch uses `fold_in(key, i)` for its i-th image.
            images: [H, W, C] or [N, H, W, C], floating or uint8.

        Returns:
            The same shape and dtype; whole numbers are rounded.

        Raises:
            ValueError: for images with their channels first.

        >>> import jax, jax.numpy as jnp
        >>> Augment(width_shift=2, rotation=20)(jax.random.key(0), jnp.ones((8, 28, 28, 1))).shape
        (8, 28, 28, 1)
        """
        return apply(self, key, images)


def apply(config: AugmentConfig, key: Array, images: Array) -> Array:
    """`Augment.__call__` for any `AugmentConfig`."""
    images = jnp.asarray(images)
    if images.ndim == 4:
        check_channels_last("images to augment", images.shape)
        keys = jax.vmap(rng.at, in_axes=(None, 0))(key, jnp.arange(images.shape[0]))
        return jax.vmap(lambda k, image: apply(config, k, image))(keys, images)
    if images.ndim != 3:
        raise ValueError(f"images must be [H, W, C] or [N, H, W, C], got shape {images.shape}")
    if channels_first(images.shape):
        raise ValueError(
            f"an image to augment of shape {list(images.shape)} has its channels first, as PyTorch "
            "has them: give np.moveaxis(image, 0, -1)"
        )
    check_channels(config, images.shape[2])
    return transform(config, images, draw(config, key, images.shape))


def check_channels(config: AugmentConfig, channels: int) -> None:
    """Refuse changes of colours for images that have none.

    Raises:
        ValueError: naming the setting.
    """
    if config.needs_rgb and channels != 3:
        name = config.needs_rgb
        raise ValueError(
            f"augment with {name}={getattr(config, name)!r} is for images of red, green and blue, "
            f"and these have {channels} channel{'s' if channels > 1 else ''}: leave it out"
        )


def for_batch(
    augment: AugmentConfig | Callable, seed_key: Array, epoch: Array, index: Array, images: Array
) -> Array:
    """Augment a training batch, each example with its own key.

    Args:
        augment: an `AugmentConfig`, which needs images, or any function (key, example) -> example.
        seed_key: the stream "augment" of the run.
        epoch: int32 scalar.
        index: int32 [N], the examples' indices in the data set.
        images: [N, ...], floating or of 8 or 16 bits, which the function gets as float32; or
            numbers of words, int32 [N, T], which it gets as they are; or {name: these}.

    Returns:
        The examples; nothing is mixed yet, which is what `mix` does.

    Raises:
        ValueError: if the function makes something of another shape, or no numbers of words.
    """
    images = jax.tree.map(_as_examples, images)

    def one(example: Array, image: Array) -> Array:
        key = rng.at(seed_key, epoch, example)
        # Callable are functions, `Augment`, and subclasses of it with a way of their own.
        changed = augment(key, image) if callable(augment) else apply(augment, key, image)
        _check_changed(changed, image)
        return changed

    return apart(augment, epoch, jax.vmap(one), index, images)


def apart(
    augment: AugmentConfig | Callable, epoch: Array, change: Callable, index: Array, images: Array
) -> Array:
    """What is made of a batch, finished before anything reads it.

    Args:
        augment, epoch, index: as in `for_batch`.
        change: (index, images) -> images.
        images: or their labels, [N, ...].
    """

    def nobody(_: Array, images: Array) -> Array:
        return images

    if _stands_alone(augment):
        # XLA's CPU would fuse the resampling with whatever reads the images, such as the patches
        # of a convolution, and repeat it there, 20 times as slow. `optimization_barrier` is gone
        # by then; into a branch, of a condition that it cannot foresee, XLA does not look.
        return jax.lax.cond(epoch >= 0, change, nobody, index, images)
    return change(index, images)


def _as_examples(images: Array) -> Array:
    """As functions of the caller's get them."""
    return images if holds_tokens(images.dtype) else images.astype(jnp.float32)


def _check_changed(changed: Any, example: Any) -> None:
    """Refuse what a model would not take, with pages of text, or would look up as NaN."""
    if isinstance(example, Mapping):
        if not isinstance(changed, Mapping) or set(changed) != set(example):
            got = list(changed) if isinstance(changed, Mapping) else type(changed).__name__
            raise ValueError(
                f"augment must return an example as it gets one, an array for each of "
                f"{', '.join(example)}, got {got}"
            )
        for name in example:
            _check_changed(changed[name], example[name])
        return
    shape = getattr(changed, "shape", None)
    dtype: Any = getattr(changed, "dtype", None)
    numbers = jnp.issubdtype(example.dtype, jnp.integer)
    if shape != example.shape or (numbers and not jnp.issubdtype(dtype, jnp.integer)):
        got = type(changed).__name__ if shape is None else f"{dtype} {list(shape)}"
        raise ValueError(
            f"augment must return an example as it gets one, {example.dtype} "
            f"{list(example.shape)}, got {got}"
        )


def _stands_alone(augment: AugmentConfig | Callable) -> bool:
    """Whether the images must be finished before anything reads them."""
    if isinstance(augment, Named):
        return any(_stands_alone(part) for _, part in augment.parts)
    if not isinstance(augment, AugmentConfig):
        return False
    config = augment
    shifts = (config.width_shift, config.height_shift)
    resampled = config.rotation or config.shear or config.zoom or config.resized_crop
    resampled = resampled or any(isinstance(s, float) and s for s in shifts)
    recoloured = config.rand_augment or config.hue
    return bool(resampled or recoloured or config.mixes) and target.platform() == "cpu"
