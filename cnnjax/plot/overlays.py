"""Heatmaps as images: in colours over a photo, in tables of images; curves of their tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from cnnjax.core.text import suggest

if TYPE_CHECKING:
    from matplotlib.colors import Colormap
    from matplotlib.figure import Figure


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
    colours = _colours(heat, colormap) * factor
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


def _colours(heat: np.ndarray, colormap: str) -> np.ndarray:
    """[H, W] in [0, 1] to RGB [H, W, 3] in [0, 255]."""
    colours: np.ndarray = np.asarray(_colour_map(colormap)(heat))[..., :3] * 255
    return colours


def _colour_map(name: str) -> Colormap:
    import matplotlib

    if name not in matplotlib.colormaps:
        hint = suggest(name, ["jet", "viridis", "turbo", "inferno", "gray"], "ones")
        raise ValueError(f"colormap={name!r} is none of matplotlib's. {hint}")
    return matplotlib.colormaps[name]


def image_table(
    rows: Sequence[Sequence[np.ndarray]],
    columns: Sequence[str] = (),
    labels: Sequence[str] = (),
    titles: Sequence[Sequence[str]] = (),
) -> Figure:
    """Images in rows and columns, each with its own proportions.

    Args:
        rows: R times K images, uint8 [H, W, 3] or floating in [0, 1], [H, W, 3] or, drawn in
            grey, [H, W].
        columns: K texts above the first row.
        labels: R texts left of the rows.
        titles: R times K texts above the images, instead of `columns`.

    Returns:
        A figure.
    """
    count = max(map(len, rows), default=0)
    size = 2.0 if count > 4 else 3.0
    figure = _figure(max(size * count, 1), (size + (0.25 if titles else 0)) * max(len(rows), 1))
    for i, row in enumerate(rows):
        for j, image in enumerate(row):
            axes = figure.add_subplot(len(rows), count, i * count + j + 1)
            axes.imshow(image, cmap="gray", vmin=0, vmax=1)  # of grey images alone
            axes.set_xticks([])
            axes.set_yticks([])
            axes.spines[:].set_visible(False)
            if titles or (columns and i == 0):
                title = titles[i][j] if titles else columns[j]
                axes.set_title(title, fontsize=8, parse_math=False)
            if labels and j == 0:
                axes.set_ylabel(labels[i], fontsize=8, parse_math=False)
    return figure


def line_panels(
    panels: Mapping[str, Mapping[str, np.ndarray]],
    xlabel: str,
    ylabel: str,
    x: np.ndarray | Sequence[str],
) -> Figure:
    """Lines in panels side by side, with one legend.

    Args:
        panels: {title: {label: [K] values}}.
        xlabel, ylabel: texts.
        x: [K] positions, or names of them.

    Returns:
        A figure.
    """
    figure = _figure(5.0 * len(panels), 4.2)
    named = isinstance(x[0], str)
    places = np.arange(len(x)) if named else np.asarray(x)
    for position, (title, lines) in enumerate(panels.items(), start=1):
        first = figure.axes[0] if figure.axes else None
        axes = figure.add_subplot(1, len(panels), position, sharey=first)
        for label, values in lines.items():
            axes.plot(places, values, ".-" if named else "-", label=label)
        if named:
            axes.set_xticks(places, [str(name) for name in x], rotation=60, ha="right", fontsize=7)
        axes.set(title=title, xlabel=xlabel, ylabel=ylabel if position == 1 else "")
        axes.grid(alpha=0.3)
    figure.axes[-1].legend(fontsize=7)
    return figure


def _figure(width: float, height: float) -> Figure:
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), dpi=120, layout="constrained")
