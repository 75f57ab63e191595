"""Heatmaps over photos in files: Grad-CAM of several classes, a panel of methods."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jax import Array

from cnnjax import explain
from cnnjax.explain.targets import Target, class_numbers, with_predictions
from cnnjax.gallery import overlays
from cnnjax.gallery.photos import read_photos, save_picture
from cnnjax.models import Model
from cnnjax.models.predict import probabilities

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Drawn in grey, since they are made of lines and not of areas.
_FINE = ("saliency", "smooth_grad", "integrated_gradients", "guided_backpropagation")


def draw_gradcam(
    model: Model,
    files: Sequence[str | Path],
    folder: str | Path,
    layer: str | None = None,
    targets: Sequence[Target] = (None,),
    colormap: str = "jet",
    factor: float = 0.4,
) -> list[Path]:
    """Grad-CAM over photos: a picture of each with its heatmaps, and a contact sheet of several.

    Args:
        model: with a head.
        files: images.
        folder: where PHOTO_gradcam.png and .npz (heatmaps [T, H, W] at the model's size, classes,
            probabilities), and of several photos gradcam.png, are written.
        layer, targets: of `explain.grad_cam`; the targets of each photo stand side by side. Of a
            model of positions None is the class predicted at each of them.
        colormap, factor: of `overlays.overlay`.

    Returns:
        Paths of the pictures.

    Raises:
        UnreadableImage: for a file that is missing or no image.
        ValueError: for what `grad_cam` refuses, or an unknown colour map.
    """
    photos = read_photos(model, files)
    logits = model(photos.inputs)
    targets = list(targets) or [None]
    if model.spec.task == "positions" and targets == [None]:
        targets = [(position, None) for position in range(model.spec.positions)]
    classes = np.stack([_classes(model, logits, t) for t in targets], axis=1)
    probs = np.asarray(probabilities(logits)).reshape(len(logits), -1)
    chosen = np.take_along_axis(two_columns(probs), classes, axis=1)
    asked = [_asked(model, column) for column in classes.T]
    maps = np.stack(
        [np.asarray(explain.grad_cam(model, photos.inputs, layer, a)) for a in asked], axis=1
    )
    caption = f"Grad-CAM at {layer or model.spec.cam_layer}: where a photo holds what speaks for"
    rows, titles = [], []
    for i, photo in enumerate(photos.originals):
        seen = [placed(heat, photo.shape[:2], model.spec.resize) for heat in maps[i]]
        rows.append([photo, *(overlays.overlay(photo, heat, colormap, factor) for heat in seen)])
        named = [
            _title(model, k, p, heat)
            for k, p, heat in zip(classes[i], chosen[i], maps[i], strict=True)
        ]
        titles.append([photos.names[i], *named])
    found = []
    for name, row, texts, *arrays in zip(
        unique(photos.names), rows, titles, maps, classes, chosen, strict=True
    ):
        stored = dict(zip(("heatmaps", "classes", "probabilities"), arrays, strict=True))
        figure = overlays.picture_table([row], titles=[texts])
        text = f"{name}: {caption} the class above it"
        found.append(save_picture(folder, f"{name}_gradcam", figure, stored, text))
    if len(rows) > 1:
        text = f"{caption} the class above it"
        found.append(save_picture(folder, "gradcam", _sheet(rows, titles), caption=text))
    return found


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
        model, files, layer, colormap: as in `draw_gradcam`.
        folder: where methods.png and methods.npz ({method: heatmaps [N, H, W]}) are written.
        target: as in `explain.grad_cam`.
        methods: names of `explain.METHODS`; None takes all.

    Returns:
        Paths of the pictures; {method: heatmaps [N, H, W]}.
    """
    photos = read_photos(model, files)
    chosen = explain.methods_at(layer, methods)
    classes = _classes(model, model(photos.inputs), target)
    maps = {name: np.asarray(m(model, photos.inputs, classes)) for name, m in chosen.items()}
    rows = [
        [pixels, *(drawn(name, pixels, heat[i], colormap) for name, heat in maps.items())]
        for i, pixels in enumerate(photos.pixels)
    ]
    labels = [
        f"{name}\n{model.spec.label_name(int(k))}"
        for name, k in zip(photos.names, classes, strict=True)
    ]
    figure = overlays.picture_table(rows, ["", *(name.replace("_", " ") for name in maps)], labels)
    caption = "What in a photo speaks for the class beside it, by several methods"
    return [save_picture(folder, "methods", figure, maps, caption)], maps


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
    """A method's map as a picture: fine ones in grey, cut at their 99th percentile, others over it.

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
    """Names of files, those that come again with a number behind them.

    >>> unique(["a", "b", "a"])
    ['a', 'b', 'a_2']
    """
    seen: Counter[str] = Counter()
    found = []
    for name in names:
        seen[name] += 1
        found.append(name if seen[name] == 1 else f"{name}_{seen[name]}")
    return found


def _sheet(rows: list[list[np.ndarray]], titles: list[list[str]]) -> Figure:
    """All photos: in rows where each has one map and would leave the sheet narrow and long."""
    if len(rows[0]) > 2:
        return overlays.picture_table(rows, titles=titles)
    pictures = [row[1] for row in rows]
    texts = [f"{name}\n{found}" for name, found in titles]
    columns = min(5, len(rows))
    cut = range(0, len(rows), columns)
    return overlays.picture_table(
        [pictures[k : k + columns] for k in cut], titles=[texts[k : k + columns] for k in cut]
    )


def _asked(model: Model, classes: np.ndarray) -> np.ndarray:
    """What `grad_cam` takes for numbers of `_classes`: of positions pairs."""
    if model.spec.task != "positions":
        return classes
    return np.stack(np.divmod(classes, model.spec.num_classes), axis=1)


def _classes(model: Model, logits: Array, target: Target) -> np.ndarray:
    return np.asarray(with_predictions(logits, class_numbers(model, target, len(logits))))


def two_columns(probs: np.ndarray) -> np.ndarray:
    """Probabilities [N, K]; of one logit's [N, 1] those of both classes, [N, 2]."""
    return np.concatenate([1 - probs, probs], axis=1) if probs.shape[1] == 1 else probs


def _title(model: Model, label: int, probability: float, heat: np.ndarray) -> str:
    label = int(label) % max(model.spec.num_classes, 2)  # of positions: row by row
    text = f"{model.spec.label_name(label)} {probability:.2f}"
    return text if heat.any() else f"{text} (empty map)"
