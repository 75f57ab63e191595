"""What the experiments that draw share: options, a photo, images beside each other, a table."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro
from matplotlib.figure import Figure

from cnnjax.data import read_image, resize_image
from cnnjax.plot import image_grid, save_image
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
        try:
            from sklearn.datasets import load_sample_image
        except ImportError:
            raise ValueError(
                "the photo of a palace is scikit-learn's, which is not installed: give --photo "
                "FILE, or pip install scikit-learn"
            ) from None
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
    limits: Mapping[int, float] | None = None,
) -> Figure:
    """Images with titles, in rows; grey ones from their smallest to their largest value.

    Args:
        images: uint8 [H, W, 3], floating [H, W, 3] in [0, 1], or [H, W].
        titles, columns, width, title: of `cnnjax.plot.image_grid`.
        limits: position -> v for those [H, W] that are drawn from -v to v instead.

    Returns:
        A figure.
    """
    bounds = limits or {}
    shown = [
        np.clip(image / (2 * bounds[i]) + 0.5, 0, 1) if i in bounds
        else scaled(image) if image.ndim == 2
        else image
        for i, image in enumerate(images)
    ]  # fmt: skip
    return image_grid(shown, titles, columns, width=width, title=title)


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
