"""Grad-CAM over photos in files: figures, and the bare images at each photo's own size."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jax import Array

from cnnjax import explain
from cnnjax.explain.targets import Target, asked, is_of_classes, names_of, settled
from cnnjax.models import Model
from cnnjax.plot.figures import BARE
from cnnjax.plot.grids import image_grid
from cnnjax.plot.images import Photos, read_photos, save_image, save_pixels, unique
from cnnjax.plot.overlays import coloured, overlay, placed

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class ClassHeat:
    """Where a photo holds what speaks for a class.

    Args:
        photo: name of its file, without folder and ending; a number behind what comes again.
        label: name of the class, or its number where it has none; of a function its name.
        number: of the class; of a model of positions, of its logit [P, K], counted row by row; -1
            of a target that is no class.
        probability: that the model gives it, in [0, 1]; of a target that is no class its score.
        layer: whose maps were asked.
        heatmap: float32 [h, w] in [0, 1], at the model's size.
    """

    photo: str
    label: str
    number: int
    probability: float
    layer: str
    heatmap: np.ndarray

    @property
    def title(self) -> str:
        """Of its image."""
        text = f"{self.label} {self.probability:.2f}"
        return text if self.heatmap.any() else f"{text} (empty map)"


def draw_gradcam(
    model: Model,
    files: Sequence[str | Path],
    folder: str | Path,
    layer: str | None = None,
    targets: Sequence[Target] = (None,),
    colormap: str = "jet",
    factor: float = 0.4,
) -> tuple[list[Path], list[ClassHeat]]:
    """Grad-CAM over photos: figures, and heatmap and overlay alone at each photo's own size.

    In a folder are written, for each photo,

    - PHOTO_gradcam.png: the photo beside its overlays, with classes and probabilities; and .npz:
      heatmaps [T, H, W] at the model's size, classes, probabilities;
    - PHOTO_heatmap.png: the colours of the heatmap, RGBA, transparent where a crop left the photo
      out, so that the model did not see it; for several targets PHOTO_heatmap_1.png, ...;
    - PHOTO_overlay.png: the photo with the heatmap over it, RGB; numbered likewise;

    and of several photos gradcam.png, a sheet of them all. A photo is upright and laid on white
    where it is transparent, as the model sees it.

    Args:
        model: with a head.
        files: images.
        folder: made if needed.
        layer, targets: of `explain.grad_cam`; the targets of each photo stand side by side. Of a
            model of positions None is the class predicted at each of them.
        colormap, factor: of `overlay`.

    Returns:
        Paths of the images; what each photo was asked, in the order of photos and targets.

    Raises:
        UnreadableImage: for a file that is missing or no image.
        ValueError: for what `grad_cam` refuses, or an unknown colour map.
    """
    photos = read_photos(model, files)
    asked: list[ClassHeat] = []
    written: list[Path] = []
    images, titles = [], []
    for photo, heats in zip(photos.originals, _heats(model, photos, layer, targets), strict=True):
        seen = [placed(heat.heatmap, photo.shape[:2], model.spec.resize) for heat in heats]
        over = [overlay(photo, heat, colormap, factor) for heat in seen]
        images.append([photo, *over])
        titles.append([heats[0].photo, *(heat.title for heat in heats)])
        written.append(_save_figure(folder, heats, images[-1], titles[-1]))
        for k, heat in enumerate(heats):
            end = f"_{k + 1}" if len(heats) > 1 else ""
            bare = {"heatmap": coloured(seen[k], colormap), "overlay": over[k]}
            written += [_save_bare(folder, heat, kind, end, bare[kind]) for kind in bare]
        asked += heats
    if len(images) > 1:
        caption = _caption(asked[0].layer)
        written.append(save_image(folder, "gradcam", _sheet(images, titles), caption=caption))
    return written, asked


def _heats(
    model: Model, photos: Photos, layer: str | None, targets: Sequence[Target]
) -> Iterator[list[ClassHeat]]:
    """Of each photo the heat of its targets."""
    outputs = model(photos.inputs)
    targets = list(targets) or [None]
    if model.spec.positions and targets == [None]:
        targets = [(position, None) for position in range(model.spec.positions)]
    layer = layer or model.spec.cam_layer
    columns = [_column(model, photos.inputs, outputs, layer, target) for target in targets]
    for name, row in zip(unique(photos.names), zip(*columns, strict=True), strict=True):
        yield [replace(heat, photo=name) for heat in row]


def _column(
    model: Model, inputs: Array, outputs: Any, layer: str | None, target: Target
) -> list[ClassHeat]:
    """Of each photo the heat of one target."""
    question = asked(model, target, len(inputs)).settled(outputs)
    chances = np.asarray(question.chances(outputs, model.spec.task.activation))
    maps = np.asarray(explain.grad_cam(model, inputs, layer, settled(model, outputs, target)))
    of_class = is_of_classes(target)
    numbers = np.asarray(question.values) if of_class else np.full(len(inputs), -1)
    labels = names_of(model, outputs, target)
    return [
        ClassHeat("", label, int(k), float(p), str(layer), heat)
        for label, k, p, heat in zip(labels, numbers, chances, maps, strict=True)
    ]


def _save_figure(
    folder: str | Path,
    heats: Sequence[ClassHeat],
    row: Sequence[np.ndarray],
    titles: Sequence[str],
) -> Path:
    first = heats[0]
    stored = {
        "heatmaps": np.stack([heat.heatmap for heat in heats]),
        "classes": np.array([heat.number for heat in heats], np.int32),
        "probabilities": np.array([heat.probability for heat in heats], np.float32),
    }
    figure = image_grid(row, titles, len(row))
    text = f"{first.photo}: {_caption(first.layer)}"
    return save_image(folder, f"{first.photo}_gradcam", figure, stored, text)


def _save_bare(
    folder: str | Path, heat: ClassHeat, kind: str, end: str, pixels: np.ndarray
) -> Path:
    text = f"{heat.photo}: {kind} of Grad-CAM at {heat.layer} for {heat.label}"
    return save_pixels(folder, f"{heat.photo}_{kind}{end}", pixels, {"Description": text, **BARE})


def _caption(layer: str) -> str:
    return f"Grad-CAM at {layer}: where a photo holds what speaks for the class above it"


def _sheet(rows: list[list[np.ndarray]], titles: list[list[str]]) -> Figure:
    """All photos: in rows where each has one map and would leave the sheet narrow and long."""
    if len(rows[0]) > 2:
        return image_grid([*chain(*rows)], [*chain(*titles)], len(rows[0]))
    return image_grid([row[1] for row in rows], ["\n".join(texts) for texts in titles], 5)
