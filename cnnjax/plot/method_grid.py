"""Several methods side by side, for photos in files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from cnnjax import explain
from cnnjax.explain.targets import Target, names_of, settled
from cnnjax.models import Model
from cnnjax.plot.grids import image_grid
from cnnjax.plot.images import read_photos, save_image
from cnnjax.plot.overlays import drawn


def draw_methods(
    model: Model,
    files: Sequence[str | Path],
    folder: str | Path,
    layer: str | None = None,
    target: Target = None,
    methods: Sequence[str] | None = None,
    colormap: str = "jet",
) -> tuple[list[Path], dict[str, np.ndarray]]:
    """A panel of methods: a row per photo, a column per method.

    Args:
        model: with a head.
        files: images.
        layer: of the class activation maps; None for the model's own.
        colormap: of `plot.overlay`.
        folder: where methods.png and methods.npz ({method: heatmaps [N, H, W]}) are written.
        target: as in `explain.grad_cam`, one per image.
        methods: names of `explain.METHODS`; None takes all but those of hundreds of passes.

    Returns:
        Paths of the images; {method: heatmaps [N, H, W]}.
    """
    photos = read_photos(model, files)
    chosen = explain.methods_at(layer, methods)
    outputs = model(photos.inputs)
    fixed = settled(model, outputs, target)
    maps = {name: np.asarray(m(model, photos.inputs, fixed)) for name, m in chosen.items()}
    images = []
    for i, pixels in enumerate(photos.pixels):
        images += [pixels, *(drawn(name, pixels, heat[i], colormap) for name, heat in maps.items())]
    labels = [
        f"{name}\n{asked}"
        for name, asked in zip(photos.names, names_of(model, outputs, target), strict=True)
    ]
    titles = ["", *(name.replace("_", " ") for name in maps)]
    figure = image_grid(images, titles, len(titles), labels=labels)
    caption = "What in a photo speaks for the class beside it, by several methods"
    return [save_image(folder, "methods", figure, maps, caption)], maps
