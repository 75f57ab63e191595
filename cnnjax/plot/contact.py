"""A contact sheet: a few examples of every class of a data set, a row for each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from cnnjax.data import Dataset, resize_image
from cnnjax.data.examples import choose_examples, class_names_of
from cnnjax.plot.grids import as_pixels, in_colours_or_grey, span_of, tiled

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Of one sheet without a choice of classes.
_ROWS = 20

# Pixels: smaller images are magnified by a whole number, larger ones reduced.
_SMALLEST, _LARGEST, _MARGIN = 48, 96, 4

# Of a whole sheet.
_MOST = 40_000_000

_DPI = 100
_LETTER, _TITLE, _EDGE = 0.085, 0.4, 0.1  # inches: a letter of a name, the title, the margin


def contact_sheet(
    data: Dataset,
    per_class: int = 8,
    seed: int = 0,
    classes: Sequence[str] | None = None,
) -> Figure:
    """Draw a row of examples for every class, with its name and how many examples it has.

    Args:
        data: images with one class each; of other than 3 channels the first is shown.
        per_class: examples in a row, >= 1; of a smaller class all are shown.
        seed: of the choice, whole number in [0, 2^32).
        classes: names of those to show, in their order; None: all, the first 20 where there are
            more, which the title says.

    Returns:
        A figure.

    Raises:
        ValueError: for per_class < 1, an unknown class, no example at all, more than fits on a
            sheet, or data of another kind.
    """
    names = class_names_of(data)
    if not data.holds_images or not names:
        raise ValueError(f"a contact sheet is of images with one class each, not of {data.name}")
    title = data.name
    if classes is None and len(names) > _ROWS:
        classes = names[:_ROWS]
        title += f": the first {_ROWS} of {len(names):,} classes"
    chosen = choose_examples(data.labels, names, per_class, seed, classes)
    across = max(map(len, chosen.values()), default=0)
    if not across:
        raise ValueError(f"{data.name} has no example of {', '.join(chosen)}")
    height, width = _shown_size(data.input_shape[0], data.input_shape[1])
    if len(chosen) * across * height * width > _MOST:
        raise ValueError(
            f"per_class={per_class} makes a sheet of {across * width:,} x {len(chosen) * height:,} "
            f"pixels; at most {_MOST / 1e6:g} megapixels are drawn"
        )
    channels = 3 if data.input_shape[2] == 3 else 1
    canvas = np.full((len(chosen) * across, height, width, channels), 255, np.uint8)
    span = _span(data, np.concatenate(list(chosen.values())))
    for row, positions in enumerate(chosen.values()):
        for column, image in enumerate(data.inputs[positions]):
            canvas[row * across + column] = _shown(image, (height, width), span)
    counts = np.bincount(data.labels, minlength=len(names))
    labels = [f"{name} ({counts[names.index(name)]:,})" for name in chosen]
    return _sheet(tiled(canvas, across, _MARGIN, fill=255), labels, title)


def _shown_size(height: int, width: int) -> tuple[int, int]:
    longer = max(height, width)
    if longer > _LARGEST:
        scale = _LARGEST / longer
        return max(round(height * scale), 1), max(round(width * scale), 1)
    times = -(-_SMALLEST // longer)
    return height * times, width * times


def _span(data: Dataset, positions: np.ndarray) -> tuple[float, float]:
    """Which values are black and white; images of 8 bits are not read for it."""
    is_plain = data.inputs.dtype == np.uint8
    return (0, 255) if is_plain else span_of(np.asarray(data.inputs[positions]))


def _shown(image: np.ndarray, size: tuple[int, int], span: tuple[float, float]) -> np.ndarray:
    pixels = as_pixels(image if image.shape[2] == 3 else image[..., :1], span)
    if max(pixels.shape[:2]) > max(size):
        return resize_image(pixels, size, "stretch")
    times = size[0] // len(pixels)
    return pixels.repeat(times, axis=0).repeat(times, axis=1)


def _sheet(canvas: np.ndarray, labels: Sequence[str], title: str) -> Figure:
    from cnnjax.plot.shown_figure import ShownFigure

    # In inches, and laid out by hand: a pixel of the canvas is to be one of the file.
    rows, columns = (pixels / _DPI for pixels in canvas.shape[:2])
    left = _LETTER * max(map(len, labels)) + 2 * _EDGE
    width = max(left + columns, _LETTER * len(title)) + _EDGE
    height = rows + _TITLE + _EDGE
    figure = ShownFigure(figsize=(width, height), dpi=_DPI)
    axes = figure.add_axes((left / width, _EDGE / height, columns / width, rows / height))
    axes.imshow(in_colours_or_grey(canvas), cmap="gray", vmin=0, vmax=255, interpolation="nearest")
    row = canvas.shape[0] / len(labels)
    axes.set_yticks(
        [(k + 0.5) * row for k in range(len(labels))], labels, fontsize=9, parse_math=False
    )
    axes.set_xticks([])
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    top = (rows + _EDGE + 0.6 * _TITLE) / height
    place = {"x": _EDGE / width, "y": top, "ha": "left", "va": "center"}
    figure.suptitle(title, fontsize=9, parse_math=False, **place)
    return figure
