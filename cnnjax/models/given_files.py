"""Image files where a model is asked about images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cnnjax.data import read_image


class ImageFiles:
    """Image files as a list of images [H, W, C], each read when it is asked for.

    Args:
        files: their paths.
        channels: 1 or 3.
    """

    def __init__(self, files: Sequence[str | Path], channels: int):
        self.files, self.channels = tuple(files), channels

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self._read(file) for file in self.files[index]]
        return self._read(self.files[index])

    def _read(self, file: str | Path) -> np.ndarray:
        image: np.ndarray = read_image(file, self.channels)
        return image


def images_of(images: Any, channels: int) -> Any:
    """What `predict` was given: paths as their images, anything else as it is.

    Args:
        images: the path of an image, a sequence of paths, or what else `predict` takes.
        channels: of the model.

    Raises:
        ValueError: for paths among arrays, or an image of Pillow.
    """
    if isinstance(images, str | Path):
        return ImageFiles([images], channels)
    if hasattr(images, "getbands"):
        raise ValueError(
            "images: one of Pillow is given as np.asarray(image)[None], or by its path"
        )
    if not isinstance(images, list | tuple):
        return images
    paths = [isinstance(image, str | Path) for image in images]
    if any(paths) and not all(paths):
        raise ValueError(
            f"images[{paths.index(False)}] is no path of a file, as images[{paths.index(True)}] is:"
            " give paths or arrays"
        )
    return ImageFiles(images, channels) if any(paths) else images
