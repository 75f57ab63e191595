"""RandAugment: some operations of a fixed list, all of one magnitude, one after the other.

The list and what a magnitude means are torchvision's (`transforms.v2.RandAugment`); what the
operations do to pixels is Pillow's, without rounding in between.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

from cnnjax.augment.affine import sample
from cnnjax.augment.colours import blend, contrast, saturation
from cnnjax.augment.config import MOST_MAGNITUDE
from cnnjax.core import target

# (image [H, W, C] in [0, 255], share of the largest magnitude, sign) -> image.
Change = Callable[[Array, float, Array], Array]

# (share of the largest magnitude, sign, height, width) -> where a pixel (x, y) comes from:
# [[a, b, c], [d, e, f]] for (a x + b y + c, d x + e y + f).
Move = Callable[[float, Array, int, int], list[list[Any]]]

_WHITE = 255.0

# What the operations reach at the largest magnitude.
_MOST_SHEAR, _MOST_SHIFT, _MOST_DEGREES, _MOST_CHANGE, _MOST_BITS = 0.3, 150 / 331, 30.0, 0.9, 4


def rand_augment(
    image: Array,
    chosen: Array,
    signs: Array,
    magnitude: float,
    fill_mode: str,
    fill_value: float,
) -> Array:
    """Apply operations of one magnitude, one after the other.

    Args:
        image: [H, W, C], floating in [0, 255].
        chosen: int [n], places in `OPERATIONS`.
        signs: [n], -1 or 1: the direction of those that have two.
        magnitude: in [0, 30].
        fill_mode, fill_value: what a move uncovers.
    """
    share = magnitude / MOST_MAGNITUDE
    last_move = len(MOVES)

    def moved(image: Array, number: Array, sign: Array) -> Array:
        height, width, _ = image.shape
        matrices = jnp.array([move(share, sign, height, width) for move in MOVES.values()])
        (a, b, c), (d, e, f) = matrices[jnp.clip(number - 1, 0, last_move - 1)]
        y, x = jnp.mgrid[:height, :width].astype(jnp.float32)
        return sample(image, d * x + e * y + f, a * x + b * y + c, fill_mode, fill_value)

    # All that moves is one branch, since each is compiled.
    changes = [lambda image, _, sign, act=act: act(image, share, sign) for act in CHANGES.values()]
    branches = [lambda image, *_: image, moved, *changes]

    def one(image: Array, chosen: Array, signs: Array) -> Array:
        def round(i: Array, image: Array) -> Array:
            number = chosen[i]
            branch = jnp.where(number == 0, 0, jnp.maximum(number - last_move + 1, 1))
            return lax.switch(branch, branches, image, number, signs[i])

        return lax.fori_loop(0, chosen.shape[0], round, image)

    if target.platform() == "cpu":
        # A `vmap` of a switch computes all branches of every image: on CPUs one image at a time.
        one = jax.custom_batching.sequential_vmap(one)
    return one(image, chosen, signs)


def draw_operations(count: int, key: Array) -> tuple[Array, Array]:
    """Numbers of operations, int32 [count], and signs, float32 [count]: each equally likely."""
    which, direction = jax.random.split(key)
    chosen = jax.random.randint(which, (count,), 0, len(OPERATIONS))
    signs = jnp.where(jax.random.bernoulli(direction, shape=(count,)), 1.0, -1.0)
    return chosen, signs


def _changed(function: Callable[[Array, Array], Array]) -> Change:
    """A change by a factor above or below 1."""

    def act(image: Array, share: float, sign: Array) -> Array:
        return lax.clamp(0.0, function(image, 1.0 + sign * _MOST_CHANGE * share), _WHITE)

    return act


def _smooth(image: Array) -> Array:
    """Each pixel with its neighbours, as Pillow's `SMOOTH`; the border stays."""
    height, width, _ = image.shape
    rows = image[: height - 2] + image[1 : height - 1] + image[2:]
    around = rows[:, : width - 2] + rows[:, 1 : width - 1] + rows[:, 2:]
    inner = (around + 4.0 * image[1:-1, 1:-1]) / 13.0
    return image.at[1:-1, 1:-1].set(inner) if inner.size else image


def _posterize(image: Array, share: float, sign: Array) -> Array:
    lost = 2.0 ** round(_MOST_BITS * share)
    return jnp.floor(_whole(image) / lost) * lost


def _solarize(image: Array, share: float, sign: Array) -> Array:
    return jnp.where(image >= _WHITE * (1.0 - share), _WHITE - image, image)


def _autocontrast(image: Array, share: float, sign: Array) -> Array:
    low, high = (end(image, (0, 1), keepdims=True) for end in (jnp.min, jnp.max))
    scale = _WHITE / jnp.where(high > low, high - low, _WHITE)
    return jnp.where(high > low, (image - low) * scale, image)


def _equalize(image: Array, share: float, sign: Array) -> Array:
    """The grey levels of each channel spread so that all are about equally frequent."""
    levels = _whole(image).astype(jnp.int32)
    return jnp.stack([_spread(levels[:, :, i]) for i in range(image.shape[2])], axis=2)


def _spread(levels: Array) -> Array:
    counts = jnp.zeros(256, jnp.int32).at[levels.reshape(-1)].add(1)
    last = counts[jnp.max(levels)]
    step = (levels.size - last) // 255
    before = jnp.cumsum(counts) - counts
    table = jnp.minimum((before + step // 2) // jnp.maximum(step, 1), 255)
    return jnp.where(step > 0, table[levels], levels).astype(jnp.float32)


def _whole(image: Array) -> Array:
    return lax.clamp(0.0, jnp.round(image), _WHITE)


# Pillow counts from the corner of the first pixel, half a pixel before its middle.
def _shear_x(share: float, sign: Array, height: int, width: int) -> list[list[Any]]:
    slope = sign * _MOST_SHEAR * share
    return [[1.0, slope, 0.5 * slope], [0.0, 1.0, 0.0]]


def _shear_y(share: float, sign: Array, height: int, width: int) -> list[list[Any]]:
    slope = sign * _MOST_SHEAR * share
    return [[1.0, 0.0, 0.0], [slope, 1.0, 0.5 * slope]]


def _translate_x(share: float, sign: Array, height: int, width: int) -> list[list[Any]]:
    return [[1.0, 0.0, -sign * int(_MOST_SHIFT * width * share)], [0.0, 1.0, 0.0]]


def _translate_y(share: float, sign: Array, height: int, width: int) -> list[list[Any]]:
    return [[1.0, 0.0, 0.0], [0.0, 1.0, -sign * int(_MOST_SHIFT * height * share)]]


def _rotate(share: float, sign: Array, height: int, width: int) -> list[list[Any]]:
    """Against the clock about the centre."""
    angle = sign * math.radians(_MOST_DEGREES * share)
    cos, sin, middle_y, middle_x = jnp.cos(angle), jnp.sin(angle), (height - 1) / 2, (width - 1) / 2
    right = middle_x - cos * middle_x + sin * middle_y
    down = middle_y - sin * middle_x - cos * middle_y
    return [[cos, -sin, right], [sin, cos, down]]


MOVES: dict[str, Move] = {
    "shear_x": _shear_x,
    "shear_y": _shear_y,
    "translate_x": _translate_x,
    "translate_y": _translate_y,
    "rotate": _rotate,
}

CHANGES: dict[str, Change] = {
    "brightness": _changed(lambda image, factor: blend(0.0, image, factor)),
    "colour": _changed(saturation),
    "contrast": _changed(contrast),
    "sharpness": _changed(lambda image, factor: blend(_smooth(image), image, factor)),
    "posterize": _posterize,
    "solarize": _solarize,
    "autocontrast": _autocontrast,
    "equalize": _equalize,
}

OPERATIONS = ("identity", *MOVES, *CHANGES)  # in torchvision's order
