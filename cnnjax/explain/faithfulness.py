"""Does a heatmap mark what the model used? Deletion, insertion, and the pointing game."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jax import Array

from cnnjax.core.checks import is_number
from cnnjax.explain.fills import SIDE, Fill, blurred, covers_of
from cnnjax.explain.inputs import checked_images, image_of
from cnnjax.explain.masked import masked_scores
from cnnjax.explain.targets import Target, asked
from cnnjax.models import Model


@dataclass(frozen=True)
class Curve:
    """The probability of a class as pixels are deleted or inserted, most important first.

    Args:
        fractions: float [S + 1], share of the pixels that are changed, 0 to 1.
        probabilities: float [N, S + 1], of each image's class; of a target that is none the scores.
        fill: what stood in the place of pixels: "mean", "blur", a number, or "array [H, W, C]".
    """

    fractions: np.ndarray
    probabilities: np.ndarray
    fill: str

    @property
    def areas(self) -> np.ndarray:
        """float [N], the areas under the curves, in [0, 1]."""
        areas: np.ndarray = np.trapezoid(self.probabilities, self.fractions, axis=1)
        return areas


def deletion(
    model: Model,
    images: Any,
    heatmaps: Array | np.ndarray,
    target: Target = None,
    steps: int = 50,
    fill: Fill = "mean",
) -> Curve:
    """Cover pixels, the hottest first (Petsiuk et al. 2018, RISE, arXiv:1806.07421).

    A small area is good: the probability falls as soon as what is hot is gone.

    Args:
        model: with a head.
        images: preprocessed inputs, [N, H, W, C] floating.
        heatmaps: [N, H, W]; places of equal heat come in a random order, always the same.
        target: as in `grad_cam`, one per image.
        steps: into which the pixels are divided, >= 1.
        fill: what covers them, as in `occlusion`: the image's mean colour by default.

    Returns:
        A `Curve`.

    Raises:
        ValueError: for what `grad_cam` refuses, heatmaps of another shape, or a fill that is no
            input of the model.
    """
    inputs = checked_images(model, images)
    covers, name = covers_of(model.spec, image_of(inputs), fill)
    return _curve(model, inputs, covers, np.asarray(heatmaps), target, steps, name, reveal=False)


def insertion(
    model: Model,
    images: Any,
    heatmaps: Array | np.ndarray,
    target: Target = None,
    steps: int = 50,
    blur: float = 10.0,
) -> Curve:
    """Start from a blurred image and make pixels sharp, the hottest first (RISE, as `deletion`).

    A large area is good: the probability rises as soon as what is hot is there.

    Args:
        model, images, heatmaps, target, steps: as in `deletion`.
        blur: standard deviation of the Gaussian, in pixels of an image of 224; scaled with others.

    Returns:
        A `Curve`.
    """
    inputs = checked_images(model, images)
    if not (is_number(blur) and blur > 0):
        raise ValueError(f"blur must be > 0 pixels, got {blur!r}")
    image = image_of(inputs)
    covers = blurred(image, blur * min(image.shape[1:3]) / SIDE)
    name = f"blur of {blur:g} pixels"
    return _curve(model, inputs, covers, np.asarray(heatmaps), target, steps, name, reveal=True)


def _curve(
    model: Model,
    inputs: Any,
    covers: Array,
    heatmaps: np.ndarray,
    target: Target,
    steps: int,
    fill: str,
    reveal: bool,
) -> Curve:
    shape = image_of(inputs).shape[:3]
    if heatmaps.shape != shape:
        raise ValueError(
            f"heatmaps must be {list(shape)}, one per image, got {list(heatmaps.shape)}"
        )
    if steps < 1:
        raise ValueError(f"steps must be at least 1, got {steps}")
    outputs = model(inputs)
    question = asked(model, target, shape[0]).settled(outputs)
    if question.scores(outputs).ndim > 1:
        raise ValueError("target asks several things of each image: a curve is of one")
    fractions = np.linspace(0, 1, steps + 1)
    counts = np.round(fractions * heatmaps[0].size if len(heatmaps) else fractions)
    places = np.array([order(heatmap) for heatmap in heatmaps]).reshape(heatmaps.shape)
    changed = places[None] < counts[:, None, None, None]
    activation = model.spec.task.activation
    scores = masked_scores(model, question, inputs, covers, changed != reveal, activation)
    return Curve(fractions, scores.T.astype(np.float64), fill)


def order(heatmap: np.ndarray) -> np.ndarray:
    """int [H, W]: the place of each pixel in the order of falling heat; ties at random, seeded.

    >>> order(np.array([[0.1, 0.9], [0.5, 0.2]])).tolist()
    [[3, 0], [1, 2]]
    """
    ties = np.random.default_rng(0).permutation(heatmap.size)
    ranks = np.empty(heatmap.size, np.int64)
    ranks[np.lexsort((ties, -heatmap.ravel()))] = np.arange(heatmap.size)
    return ranks.reshape(heatmap.shape)


@dataclass(frozen=True)
class Pointing:
    """The pointing game.

    Args:
        hits: bool [N], whether the hottest place lies in its box, or near enough.
        shares: float [N], of the heat that lies in the box.
        chances: float [N], the box's share of the area: what a flat map would reach.
    """

    hits: np.ndarray
    shares: np.ndarray
    chances: np.ndarray


def pointing_game(
    heatmaps: Array | np.ndarray, boxes: Sequence[Sequence[int]], tolerance: int = 15
) -> Pointing:
    """Whether heatmaps point at objects (Zhang et al. 2016, arXiv:1608.00507).

    Args:
        heatmaps: [N, H, W], each for the class of its object.
        boxes: N times (x0, y0, x1, y1), in pixels of the heatmaps, x1 and y1 outside.
        tolerance: pixels by which the hottest place may miss its box; 15 as in the paper.

    Returns:
        A `Pointing`.

    Raises:
        ValueError: for another number of boxes, or one that does not lie in the image.

    >>> found = pointing_game(np.eye(4)[None] * [1, 2, 3, 4], [(2, 2, 4, 4)])
    >>> found.hits.tolist(), found.shares.tolist(), found.chances.tolist()
    ([True], [0.7], [0.25])
    """
    maps = np.asarray(heatmaps, np.float64)
    if maps.ndim != 3 or len(boxes) != len(maps):
        raise ValueError(f"{len(boxes)} boxes for heatmaps of shape {list(maps.shape)}: one each")
    height, width = maps.shape[1:]
    hits, shares, chances = [], [], []
    for heat, (x0, y0, x1, y1) in zip(maps, boxes, strict=True):
        if not (0 <= x0 < x1 <= width and 0 <= y0 < y1 <= height):
            raise ValueError(
                f"box {(x0, y0, x1, y1)} must be x0 < x1 <= {width} and y0 < y1 <= {height}"
            )
        row, column = (int(i) for i in np.unravel_index(np.argmax(heat), heat.shape))
        total = heat.sum()
        down, across = max(y0 - row, row - y1 + 1, 0), max(x0 - column, column - x1 + 1, 0)
        hits.append(bool(total > 0 and max(down, across) <= tolerance))
        shares.append(heat[y0:y1, x0:x1].sum() / total if total > 0 else 0.0)
        chances.append((x1 - x0) * (y1 - y0) / heat.size)
    return Pointing(np.array(hits), np.array(shares), np.array(chances))
