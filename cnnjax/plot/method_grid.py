"""Heatmaps over photos in files: at their place, several methods side by side."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jax import Array

from cnnjax import explain
from cnnjax.explain.targets import Target, class_numbers, with_predictions
from cnnjax.models import Model
from cnnjax.plot import overlays
from cnnjax.plot.images import read_photos, save_image

# Drawn in grey, since they are made of lines and not of areas.
_FINE = ("saliency", "smooth_grad", "integrated_gradients", "guided_backpropagation")


def draw_methods(
    model: Model,
    files: Sequence[str | Path],
    folder: str | Path,
    layer: str | None = None,
    target: int | str | None = None,
    methods: Sequence[str] | None = None,
    colormap: str = "jet",
) -> tuple[list[Path], dict[str, np.ndarray]]:
    """A panel of methods: a row per photo, a column per method.

    Args:
        model: with a head.
        files: images.
        layer: of the class activation maps; None for the model's own.
        colormap: of `overlays.overlay`.
        folder: where methods.png and methods.npz ({method: heatmaps [N, H, W]}) are written.
        target: as in `explain.grad_cam`.
        methods: names of `explain.METHODS`; None takes all.

    Returns:
        Paths of the images; {method: heatmaps [N, H, W]}.
    """
    photos = read_photos(model, files)
    chosen = explain.methods_at(layer, methods)
    classes = chosen_classes(model, model(photos.inputs), target)
    maps = {name: np.asarray(m(model, photos.inputs, classes)) for name, m in chosen.items()}
    rows = [
        [pixels, *(drawn(name, pixels, heat[i], colormap) for name, heat in maps.items())]
        for i, pixels in enumerate(photos.pixels)
    ]
    labels = [
        f"{name}\n{model.spec.label_name(int(k))}"
        for name, k in zip(photos.names, classes, strict=True)
    ]
    figure = overlays.image_table(rows, ["", *(name.replace("_", " ") for name in maps)], labels)
    caption = "What in a photo speaks for the class beside it, by several methods"
    return [save_image(folder, "methods", figure, maps, caption)], maps


def placed(heatmap: np.ndarray, size: tuple[int, int], policy: str) -> np.ndarray:
    """A heatmap at the place of the photo that the model saw.

    Args:
        heatmap: [h, w], of the photo brought to that size by the policy.
        size: (H, W) of the photo.
        policy: "crop", "stretch" or "pad", as in `resize_image`.

    Returns:
        float32 [H, W]; NaN where a crop left the photo out.

    >>> placed(np.ones((2, 2)), (2, 4), "crop").tolist()
    [[nan, 1.0, 1.0, nan], [nan, 1.0, 1.0, nan]]
    """
    from PIL import Image

    heat = Image.fromarray(np.asarray(heatmap, np.float32))
    (rows, columns), (height, width) = size, heatmap.shape
    if policy == "pad":  # the black bars are no part of the photo
        scale = max(rows / height, columns / width)
        h, w = max(round(rows / scale), 1), max(round(columns / scale), 1)
        top, left = (height - h) // 2, (width - w) // 2
        heat = heat.crop((left, top, left + w, top + h))
    elif policy == "crop":
        scale = min(rows / height, columns / width)
        rows = max(min(round(scale * height), rows), 1)
        columns = max(min(round(scale * width), columns), 1)
    shown = np.asarray(heat.resize((columns, rows), Image.Resampling.BILINEAR))
    result = np.full(size, np.nan, np.float32)
    top, left = (size[0] - rows) // 2, (size[1] - columns) // 2
    result[top : top + rows, left : left + columns] = shown
    return result


def drawn(method: str, pixels: np.ndarray, heat: np.ndarray, colormap: str = "jet") -> np.ndarray:
    """A method's map as an image: fine ones in grey, cut at their 99th percentile, others over it.

    Args:
        method: of `explain.METHODS`.
        pixels: uint8 [H, W, C].
        heat: [H, W] in [0, 1].
        colormap: of `overlays.overlay`.
    """
    if method not in _FINE:
        return overlays.overlay(pixels, heat, colormap)
    high = np.percentile(heat, 99)
    return np.clip(heat / (high if high > 0 else 1), 0, 1)


def unique(names: Sequence[str]) -> list[str]:
    """Names of files, those that come again with a number behind them that makes another name.

    >>> unique(["a", "b", "a", "a_2"])
    ['a', 'b', 'a_3', 'a_2']
    """
    taken = set(names)
    found: list[str] = []
    for name in names:
        number, free = 1, name
        while free in found or (number > 1 and free in taken):
            number += 1
            free = f"{name}_{number}"
        found.append(free)
    return found


def chosen_classes(model: Model, logits: Array, target: Target) -> np.ndarray:
    """Of each photo the class that a target is, int32 [N]: what a model predicts where it is None.

    Of a model of positions they are numbers as `explain.targets.position_numbers` has them.
    """
    return np.asarray(with_predictions(logits, class_numbers(model, target, len(logits))))


def two_columns(probs: np.ndarray) -> np.ndarray:
    """Probabilities [N, K]; of one logit's [N, 1] those of both classes, [N, 2]."""
    return np.concatenate([1 - probs, probs], axis=1) if probs.shape[1] == 1 else probs
