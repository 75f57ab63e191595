"""What the experiments that draw share: options, a photo, images beside each other, a table."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro
from matplotlib.figure import Figure

from cnnjax.data import read_image, resize_image
from cnnjax.plot import save_image
from cnnjax.recipes import RUNS


@dataclass(frozen=True)
class ImageOptions:
    """What every experiment that draws can be told on the command line."""

    photo: Annotated[str | None, tyro.conf.arg(metavar="FILE")] = None
    """An image file; default: the photo of a Chinese palace that scikit-learn carries."""
    out: Annotated[str | None, tyro.conf.arg(metavar="DIR")] = None
    """Folder for the images; default: checkpoints/NAME."""
    seed: int = 0
    """Of random weights."""


def read_photo(
    options: ImageOptions, size: tuple[int, int] | None = None, longest: int | None = None
) -> np.ndarray:
    """The photo that the options name.

    Args:
        options: of the command line.
        size: (height, width); its centre is cut out and resized.
        longest: instead of that, the longer side in pixels, in the photo's own proportions.

    Returns:
        uint8 [H, W, 3].
    """
    if options.photo is None:
        from sklearn.datasets import load_sample_image

        photo = np.asarray(load_sample_image("china.jpg"))
    else:
        photo = read_image(options.photo)
    if longest is not None:
        scale = longest / max(photo.shape[:2])
        size = (round(photo.shape[0] * scale), round(photo.shape[1] * scale))
    return photo if size is None else resize_image(photo, size)


def grey(photo: np.ndarray) -> np.ndarray:
    """Luminance, ITU-R 601: uint8 [H, W, 3] to whole numbers in float32 [H, W]."""
    luminance: np.ndarray = np.round(photo @ np.array([0.299, 0.587, 0.114])).astype(np.float32)
    return luminance


def scaled(image: np.ndarray) -> np.ndarray:
    """Values from the smallest to the largest as [0, 1]; all 0 where they are all the same."""
    low, high = float(image.min()), float(image.max())
    return (image - low) / (high - low) if high > low else np.zeros_like(image)


def panels(
    images: Sequence[np.ndarray],
    titles: Sequence[str],
    columns: int,
    *,
    width: float = 3.0,
    title: str = "",
    cmap: str = "gray",
    limits: Mapping[int, float] | None = None,
) -> Figure:
    """Images with titles, in rows.

    Args:
        images: uint8 [H, W, 3], floating [H, W, 3] in [0, 1], or floating [H, W] from the
            smallest to the largest value.
        titles: one each.
        columns: images a row.
        width: of one, in inches; all rows are as high as the highest of the images.
        title: of the whole figure.
        cmap: of images [H, W].
        limits: position -> v for those [H, W] that are drawn from -v to v instead.

    Returns:
        A figure.
    """
    rows = -(-len(images) // columns)
    aspect = max(p.shape[0] / p.shape[1] for p in images)
    lines = max(text.count("\n") + 1 for text in titles)
    height = width * aspect + 0.25 + 0.17 * lines
    figure = Figure((width * columns, rows * height + (0.35 if title else 0)), dpi=120)
    figure.set_layout_engine("constrained", h_pad=0.06)
    for i, (image, text) in enumerate(zip(images, titles, strict=True)):
        axes = figure.add_subplot(rows, columns, i + 1)
        bound = (limits or {}).get(i)
        span: dict[str, Any] = {} if bound is None else {"vmin": -bound, "vmax": bound}
        axes.imshow(image, cmap=cmap, interpolation="nearest", **span)
        axes.set_axis_off()
        axes.set_title(text, fontsize=9)
    if title:
        figure.suptitle(title, fontsize=10)
    return figure


class Gallery:
    """A folder that images are written into.

    Args:
        options: of the command line.
        name: of the experiment.
    """

    def __init__(self, options: ImageOptions, name: str):
        self.folder = Path(options.out).expanduser() if options.out else RUNS / name

    def add(self, name: str, figure: Figure) -> Path:
        """Write NAME.png."""
        return save_image(self.folder, name, figure)

    def report(self, say: Callable[[str], None] = print) -> Path:
        """Say where the images are."""
        say(f"\nimages: {self.folder}")
        return self.folder
