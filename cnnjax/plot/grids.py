"""Images beside each other: each with a title, or as one image of many."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from cnnjax.plot.figures import new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def image_grid(
    images: Sequence[np.ndarray] | np.ndarray,
    titles: Sequence[str] = (),
    columns: int = 8,
    *,
    labels: Sequence[str] = (),
    width: float | None = None,
    title: str = "",
) -> Figure:
    """Images in rows, each with its own proportions.

    Args:
        images: uint8, or floating in [0, 1]; in colours [H, W, 3], in grey [H, W] or the first
            channel of [H, W, C].
        titles: texts above the images, or above the first ones of them.
        columns: images in a row, >= 1.
        labels: texts left of the rows.
        width: of an image, in inches; None: 3, of more than 4 in a row 2. All rows are as high as
            the highest image.
        title: of the whole figure.

    Returns:
        A figure.
    """
    columns = max(min(columns, len(images)), 1)
    rows = max(-(-len(images) // columns), 1)
    width = width or (2.0 if columns > 4 else 3.0)
    height = width * max((image.shape[0] / image.shape[1] for image in images), default=1)
    if titles:
        height += 0.1 + 0.17 * max(text.count("\n") + 1 for text in titles)
    figure = new_figure(width * columns, rows * height + (0.35 if title else 0))
    for i, image in enumerate(images):
        axes = figure.add_subplot(rows, columns, i + 1)
        white = 255 if image.dtype == np.uint8 else 1
        axes.imshow(in_colours_or_grey(image), cmap="gray", vmin=0, vmax=white)
        axes.set_xticks([])
        axes.set_yticks([])
        axes.spines[:].set_visible(False)
        axes.set_title(titles[i] if i < len(titles) else "", fontsize=8, parse_math=False)
        if labels and i % columns == 0:
            axes.set_ylabel(labels[i // columns], fontsize=8, parse_math=False)
    if title:
        figure.suptitle(title, fontsize=10, parse_math=False)
    return figure


def in_colours_or_grey(image: np.ndarray) -> np.ndarray:
    """Images [..., 3] as they are, of those with other channels the first; [H, W] stays."""
    return image if image.ndim == 2 or image.shape[-1] == 3 else image[..., 0]


def as_pixels(values: np.ndarray, span: tuple[float, float] = (0, 255)) -> np.ndarray:
    """Values as uint8: clipped, and cut to whole numbers.

    Args:
        values: any shape.
        span: the values that become 0 and 255.
    """
    low, high = span
    if span != (0, 255):
        values = 255 * (np.asarray(values, np.float64) - low) / max(high - low, 1e-12)
    return np.clip(values, 0, 255).astype(np.uint8)


def span_of(images: np.ndarray) -> tuple[float, float]:
    """Which values of images are black and white.

    Args:
        images: any shape, of finite values.

    Returns:
        (0, 255) of pixels, uint8 or floating; of other numbers, such as 16 bits, the extremes.

    >>> span_of(np.array([0, 4095], np.uint16))
    (0.0, 4095.0)
    """
    if images.dtype == np.uint8 or not images.size:
        return 0, 255
    low, high = float(images.min()), float(images.max())
    pixels = np.issubdtype(images.dtype, np.floating) and low >= 0 and high <= 255
    return (0, 255) if pixels else (low, high)


def augmentation(originals: np.ndarray, copies: np.ndarray) -> Figure:
    """Images, each followed by augmented copies of it in its row.

    Args:
        originals: [R, H, W, C]; what is black and white, `span_of` says.
        copies: [R, K, H, W, C].

    Returns:
        A figure.
    """
    rows, count = copies.shape[:2]
    panels = np.concatenate([originals[:, None], copies], axis=1)
    flat = panels.reshape(rows * (count + 1), *panels.shape[2:])
    return image_grid(as_pixels(flat, span_of(originals)), columns=count + 1, width=1.6)


def tiled(panels: np.ndarray, columns: int, margin: int, fill: float = 0) -> np.ndarray:
    """Images beside each other, as one.

    Args:
        panels: the images, [N, H, W] or [N, H, W, C].
        columns: images in a row, >= 1.
        margin: pixels between them.
        fill: of margins and of empty places.

    Returns:
        [R H + (R - 1) margin, K W + (K - 1) margin] or with C, for R rows and K columns.

    >>> tiled(np.ones((3, 1, 1)), columns=2, margin=1).tolist()
    [[1.0, 0.0, 1.0], [0.0, 0.0, 0.0], [1.0, 0.0, 0.0]]
    """
    count, height, width = panels.shape[:3]
    columns = max(min(columns, count), 1)
    down, right = height + margin, width + margin
    shape = (-(-count // columns) * down - margin, columns * right - margin, *panels.shape[3:])
    canvas = np.full(shape, fill, panels.dtype)
    for i, panel in enumerate(panels):
        top, left = i // columns * down, i % columns * right
        canvas[top : top + height, left : left + width] = panel
    return canvas


def feature_maps(maps: np.ndarray, title: str = "", columns: int = 16) -> Figure:
    """The maps of a layer, in rows, in viridis; margins are white.

    Args:
        maps: [H, W, F]; uint8, as `explain.normalise_maps` makes them, is shown from 0 to 255,
            floating from the smallest to the largest value, with a scale beside it.
        title: e.g. the layer's name and shape.
        columns: maps per row.

    Returns:
        A figure.
    """
    height, width, count = maps.shape
    rows, across = -(-count // columns), min(columns, count)
    # A single pixel between the maps of deep layers would take a third of the image.
    margin = 1 if height < 32 else 2
    canvas = tiled(np.moveaxis(maps, 2, 0).astype(np.float32), columns, margin, np.nan)
    scale = {"vmin": 0, "vmax": 255} if maps.dtype == np.uint8 else {}
    wide = max(0.75 * across, 4.0)
    figure = new_figure(wide, 0.75 * rows * height / width * wide / (0.75 * across) + 0.5)
    axes = figure.add_subplot()
    shown = axes.imshow(canvas, cmap="viridis", **scale)
    axes.set_axis_off()
    axes.set_title(title, fontsize=9)
    if not scale:
        figure.colorbar(shown, fraction=0.02, pad=0.01)
    return figure


def pattern_grid(
    patterns: np.ndarray,
    title: str = "",
    columns: int = 8,
    margin: int = 5,
    marked: Sequence[int] = (),
) -> Figure:
    """Patterns of filters in rows, with black margins.

    Args:
        patterns: [F, H, W, C] in [0, 1]; of other than 3 channels the first is shown.
        title: e.g. the layer's name.
        columns: patterns per row.
        margin: pixels between them.
        marked: positions of those to cross out, e.g. the dead ones.

    Returns:
        A figure.
    """
    canvas = tiled(in_colours_or_grey(patterns), columns, margin)
    across, (height, width) = min(columns, len(patterns)), patterns.shape[1:3]
    wide = max(1.1 * across, 3.0)
    figure = new_figure(wide, wide * canvas.shape[0] / canvas.shape[1] + 0.35)
    axes = figure.add_subplot()
    axes.imshow(canvas, cmap="gray", vmin=0, vmax=1)
    for i in marked:
        top, left = i // across * (height + margin), i % across * (width + margin)
        for rise in ((0, height - 1), (height - 1, 0)):
            ends = [left, left + width - 1], [top + rise[0], top + rise[1]]
            axes.plot(*ends, color="#d62728", linewidth=1.5)
    axes.set_axis_off()
    axes.set_title(title, fontsize=9)
    return figure
