"""RISE: which random masks leave a model sure of a class."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from cnnjax.core import rng
from cnnjax.core.checks import is_number, whole_number
from cnnjax.explain.inputs import checked_images, image_of
from cnnjax.explain.masked import masked_scores
from cnnjax.explain.methods import method
from cnnjax.explain.targets import Target, asked
from cnnjax.models import Model

_BLOCK = 128  # masks in memory at once


@method(on_request=True)
def rise(
    model: Model,
    images: Any,
    target: Target = None,
    samples: int = 1000,
    grid: int | None = None,
    shown: float = 0.5,
    seed: int = 0,
) -> Array:
    """RISE (Petsiuk et al. 2018, arXiv:1806.07421): `sum_i f(x M_i) M_i / (samples shown)`.

    f is the probability of the class, or what else is asked; M_i are random grids of zeros and
    ones, enlarged (bilinear) and shifted at random. Needs no gradient and no layer, but `samples`
    forward passes; x, and the zero that stands where a mask is, are as the model takes them.

    Args:
        model, images, target: as in `grad_cam`.
        samples: masks, >= 1, the same for all images; the paper takes 4,000 and more.
        grid: cells of a mask along a side, >= 1, at most the pixels of one; None takes 7, as the
            paper does, or the pixels of a smaller side.
        shown: the share of cells that are shown, in (0, 1).
        seed: of the masks, in [0, 2^32).

    Returns:
        float32 [N, H, W], of several targets at once [N, K, H, W], each with its minimum and
        maximum brought to 0 and 1; zero where it is the same everywhere.

    Raises:
        ValueError: for images or targets that `grad_cam` refuses, or settings out of range.
    """
    inputs = checked_images(model, images)
    image = image_of(inputs)
    size = (image.shape[1], image.shape[2])
    samples = whole_number("samples", samples)
    cells = whole_number("grid", min(7, *size) if grid is None else grid, most=min(size))
    if not (is_number(shown) and 0 < shown < 1):
        raise ValueError(f"shown must lie in (0, 1), got {shown!r}")
    question = asked(model, target, len(image)).settled(model(inputs))
    key, nothing = rng.stream(seed, "rise"), jnp.zeros_like(image)
    activation, heat = model.spec.task.activation, np.zeros(size, np.float32)
    for numbers in np.array_split(np.arange(samples), -(-samples // _BLOCK)):
        masks = masks_of(key, jnp.asarray(numbers), size, cells, shown)
        scores = masked_scores(model, question, inputs, nothing, 1 - masks, activation)
        heat = heat + np.einsum("mhw,mn...->n...hw", np.asarray(masks), scores)
    return jnp.asarray(_stretched(heat / (samples * shown)), jnp.float32)


@functools.partial(jax.jit, static_argnums=(2, 3))
def masks_of(key: Array, numbers: Array, size: tuple[int, int], grid: int, shown: float) -> Array:
    """The masks of these numbers, float32 [M, H, W] in [0, 1], 1 where the image is shown.

    Of each a grid of cells is stretched over one cell more than the image has, of which the image
    is a random part.
    """
    cells = [-(-side // grid) for side in size]
    whole = tuple((grid + 1) * cell for cell in cells)

    def mask(number: Array) -> Array:
        here = jax.random.fold_in(key, number)
        drawn = jax.random.bernoulli(rng.named(here, "cells"), shown, (grid, grid))
        large = jax.image.resize(drawn.astype(jnp.float32), whole, "bilinear")
        shift = jax.random.randint(rng.named(here, "shift"), (2,), 0, jnp.array(cells))
        return jax.lax.dynamic_slice(large, shift, size)

    return jax.vmap(mask)(numbers)


def _stretched(heat: np.ndarray) -> np.ndarray:
    """[..., H, W] in [0, 1], each map for itself."""
    lowest = heat.min(axis=(-2, -1), keepdims=True)
    width = heat.max(axis=(-2, -1), keepdims=True) - lowest
    return (heat - lowest) / np.where(width > 0, width, 1)
