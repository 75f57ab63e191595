"""What a model says of an image parts of which are covered."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from cnnjax.explain.fills import Fill, covers_of
from cnnjax.explain.methods import method
from cnnjax.explain.targets import Target, checked_images, class_numbers, class_weights
from cnnjax.models import Model
from cnnjax.models.modules import Static, Variables, forward

_BATCH = 32


@method()
def occlusion(
    model: Model,
    images: Array | np.ndarray,
    target: Target = None,
    size: int | None = None,
    stride: int | None = None,
    fill: Fill = "mean",
) -> Array:
    """How much the class logit falls when a patch is covered (Zeiler & Fergus 2014).

    A place's heat is the mean fall over the patches that cover it; rises count as zero. Needs no
    gradient, but one forward pass per patch.

    Args:
        model, images, target: as in `grad_cam`.
        size: of the square patch, >= 1; None takes a seventh of the smaller side.
        stride: between patches, in [1, size]; None takes half the size.
        fill: what is shown in the patch: "mean", the mean of each channel of the image, which
            suits inputs of any range; "blur", the image under a Gaussian of 10 pixels, of 224; or
            a pixel as `model.spec.preprocess` takes it, in [0, 255]: a number, [C] or [H, W, C].
            For a model with preprocessing "none" that is a value of its inputs, within the range
            of these images and zero. An image of a single colour shows nothing under "mean".

    Returns:
        float32 [N, H, W] in [0, 1].

    Raises:
        ValueError: for images or targets that `grad_cam` refuses, a patch larger than the image,
            or a fill that is no input of the model.
    """
    inputs = checked_images(model, images)
    height, width = inputs.shape[1:3]
    size = max(min(height, width) // 7, 1) if size is None else size
    stride = max(size // 2, 1) if stride is None else stride
    if not 1 <= size <= min(height, width) or not 1 <= stride <= size:
        raise ValueError(
            f"size must lie in [1, {min(height, width)}] and stride in [1, size], got size={size} "
            f"and stride={stride}"
        )
    masks = patches((height, width), size, stride)
    whole = model(inputs)
    weights = np.asarray(class_weights(whole, class_numbers(model, target, len(inputs))))
    covers, _ = covers_of(model.spec, inputs, fill)
    heatmaps = []
    for image, cover, logits, weight in zip(
        inputs, covers, np.asarray(whole), weights, strict=True
    ):
        falls = (logits - masked_logits(model, image, cover, masks)) @ weight
        heat = np.maximum(np.einsum("mhw,m->hw", masks, falls), 0) / masks.sum(0)
        heatmaps.append(heat / max(heat.max(), np.finfo(np.float32).tiny))
    return jnp.asarray(np.array(heatmaps, np.float32).reshape(-1, height, width))


def patches(shape: tuple[int, int], size: int, stride: int) -> np.ndarray:
    """bool [P, H, W]: squares that cover an image; the last of a row or column ends at its edge.

    >>> patches((3, 4), size=3, stride=2).sum(axis=(1, 2)).tolist()
    [9, 9]
    """
    tops, lefts = (sorted({*range(0, side - size, stride), side - size}) for side in shape)
    masks = np.zeros((len(tops) * len(lefts), *shape), bool)
    corners = [(top, left) for top in tops for left in lefts]
    for mask, (top, left) in zip(masks, corners, strict=True):
        mask[top : top + size, left : left + size] = True
    return masks


def masked_logits(model: Model, image: Array, other: Array, masks: np.ndarray) -> np.ndarray:
    """Logits of an image in which parts are replaced by those of another one.

    Args:
        model: any.
        image, other: preprocessed, [H, W, C].
        masks: bool [M, H, W], true where the other one is shown.

    Returns:
        float32 [M, K].
    """
    rows = []
    # Parts of one size, so of one compiled shape, with little padding.
    size = -(-len(masks) // -(-len(masks) // _BATCH))
    for start in range(0, len(masks), size):
        chunk = masks[start : start + size]
        padded = np.zeros((size, *chunk.shape[1:]), bool)
        padded[: len(chunk)] = chunk
        logits = _masked(model.static, model.variables, image, other, padded)
        rows.append(np.asarray(logits, np.float32)[: len(chunk)])
    return np.concatenate(rows)


@functools.partial(jax.jit, static_argnums=0)
def _masked(static: Static, variables: Variables, image: Array, other: Array, masks: Array) -> Any:
    mixed = jnp.where(masks[..., None], other[None], image[None])
    return forward(static, variables, mixed)
