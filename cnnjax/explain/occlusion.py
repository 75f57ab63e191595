"""What a model says of an image parts of which are covered."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array

from cnnjax.explain.fills import Fill, covers_of
from cnnjax.explain.inputs import checked_images, image_of
from cnnjax.explain.masked import masked_scores
from cnnjax.explain.methods import method
from cnnjax.explain.targets import Target, asked
from cnnjax.models import Model


@method()
def occlusion(
    model: Model,
    images: Any,
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
        float32 [N, H, W] in [0, 1], of several targets at once [N, K, H, W].

    Raises:
        ValueError: for images or targets that `grad_cam` refuses, a patch larger than the image,
            or a fill that is no input of the model.
    """
    inputs = checked_images(model, images)
    image = image_of(inputs)
    height, width = image.shape[1:3]
    size = max(min(height, width) // 7, 1) if size is None else size
    stride = max(size // 2, 1) if stride is None else stride
    if not 1 <= size <= min(height, width) or not 1 <= stride <= size:
        raise ValueError(
            f"size must lie in [1, {min(height, width)}] and stride in [1, size], got size={size} "
            f"and stride={stride}"
        )
    masks = patches((height, width), size, stride)
    outputs = model(inputs)
    question = asked(model, target, len(image)).settled(outputs)
    covers, _ = covers_of(model.spec, image, fill)
    whole = np.asarray(question.scores(outputs), np.float32)
    falls = whole - masked_scores(model, question, inputs, covers, masks)
    heat = np.einsum("mhw,mn...->n...hw", masks, falls)
    return jnp.asarray(shares_of_top(np.maximum(heat, 0) / masks.sum(0)))


def shares_of_top(heat: np.ndarray) -> np.ndarray:
    """Heat [..., H, W], >= 0, divided by its maximum; float32."""
    top = np.max(heat, axis=(-2, -1), keepdims=True, initial=np.finfo(np.float32).tiny)
    return (heat / top).astype(np.float32)


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
