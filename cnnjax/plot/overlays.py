"""Heatmaps as images: in colours, alone or over a photo, at the place that the model saw."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from cnnjax import explain
from cnnjax.core.text import nearest, suggest

if TYPE_CHECKING:
    from matplotlib.colors import Colormap


def overlay(
    photo: np.ndarray, heatmap: np.ndarray, colormap: str = "jet", factor: float = 0.4
) -> np.ndarray:
    """A heatmap in colours over a photo: `colours * factor + photo`, clipped.

    Args:
        photo: uint8 [H, W, C], C = 1 or 3.
        heatmap: [h, w] in [0, 1], resized (bilinear) to the photo; NaN leaves the photo as it is.
        colormap: a name of matplotlib's, e.g. "jet" or "viridis".
        factor: of the colours, >= 0.

    Returns:
        uint8 [H, W, 3].

    Raises:
        ValueError: for an unknown colour map; offers the nearest.

    >>> photo = np.full((2, 2, 3), 100, np.uint8)
    >>> overlay(photo, np.array([[1.0, 0.0], [0.5, np.nan]]))[0, 0].tolist()
    [151, 100, 100]
    """
    from PIL import Image

    photo = np.broadcast_to(photo, (*photo.shape[:2], 3))
    heat, outside = np.nan_to_num(np.asarray(heatmap, np.float32)), np.isnan(heatmap)
    if heat.shape != photo.shape[:2]:
        size = (photo.shape[1], photo.shape[0])
        heat = np.asarray(Image.fromarray(heat).resize(size, Image.Resampling.BILINEAR))
        outside = np.asarray(Image.fromarray(outside).resize(size))
    colours = np.asarray(_colour_map(colormap)(heat))[..., :3] * 255 * factor
    colours[outside] = 0
    return np.clip(colours + photo, 0, 255).astype(np.uint8)


def coloured(heatmap: np.ndarray, colormap: str = "jet") -> np.ndarray:
    """A heatmap in colours, alone.

    Args:
        heatmap: [H, W] in [0, 1]; NaN where there is none.
        colormap: as in `overlay`.

    Returns:
        uint8 [H, W, 4], RGBA; transparent where the heatmap is NaN.

    Raises:
        ValueError: for an unknown colour map; offers the nearest.

    >>> coloured(np.array([[1.0, np.nan]])).tolist()
    [[[127, 0, 0, 255], [0, 0, 0, 0]]]
    """
    colours: np.ndarray = np.array(_colour_map(colormap)(heatmap, bytes=True))
    colours[np.isnan(heatmap)] = 0
    return colours


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
    """A method's map as an image: lines in grey, cut at their 99th percentile, others over it.

    Args:
        method: of `explain.METHODS`.
        pixels: uint8 [H, W, C].
        heat: [H, W] in [0, 1].
        colormap: of `overlay`.
    """
    if not explain.METHODS[method].lines:
        return overlay(pixels, heat, colormap)
    high = np.percentile(heat, 99)
    return np.clip(heat / (high if high > 0 else 1), 0, 1)


def _colour_map(name: str) -> Colormap:
    import matplotlib

    if name not in matplotlib.colormaps:
        near = nearest(name, matplotlib.colormaps, most=2)
        hint = suggest(name, near or ["jet", "viridis", "turbo", "inferno", "gray"], "ones")
        raise ValueError(f"colormap={name!r} is none of matplotlib's. {hint}")
    return matplotlib.colormaps[name]
