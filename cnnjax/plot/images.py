"""Photos as a model takes them, and images with their arrays as files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
import numpy as np
from jax import Array

from cnnjax.core.places import expanded
from cnnjax.core.storage import write_bytes, write_file
from cnnjax.data import read_image, resize_image
from cnnjax.data.pixels.image_files import png_bytes
from cnnjax.explain.inputs import check_images
from cnnjax.models import Model
from cnnjax.plot import figures

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Photos:
    """Photos in three forms.

    Args:
        names: of the files, without folder and ending.
        originals: uint8 [H, W, C], of any sizes.
        pixels: uint8 [N, H, W, C], at the model's size.
        inputs: float32 [N, H, W, C], preprocessed: what `model(...)` and `explain` take.
    """

    names: tuple[str, ...]
    originals: tuple[np.ndarray, ...]
    pixels: np.ndarray
    inputs: Array


def read_photos(model: Model, files: Sequence[str | Path]) -> Photos:
    """Read image files for a model, resized and preprocessed as its spec says.

    Args:
        model: whose size, resize policy and preprocessing are taken.
        files: at least one.

    Raises:
        UnreadableImage: for a file that is missing or no image.
        ValueError: if there are no files; for a model of something else than images.
    """
    if not files:
        raise ValueError("files must name at least one image")
    spec = model.spec
    check_images(spec)
    size = (spec.sample_shape[0], spec.sample_shape[1])
    originals = tuple(read_image(file, spec.input_shape[2]) for file in files)
    pixels = np.stack(
        [resize_image(image, size, spec.resize, spec.interpolation) for image in originals]
    )
    names = tuple(Path(file).stem for file in files)
    return Photos(names, originals, pixels, spec.preprocess(jnp.asarray(pixels)))


def unique(names: Sequence[str]) -> list[str]:
    """Names of files, those that come again with a number behind them that makes another name.

    >>> unique(["a", "b", "a", "a_2"])
    ['a', 'b', 'a_3', 'a_2']
    """
    taken = set(names)
    found: list[str] = []
    for name in names:
        number, free = 1, name
        while free in found or (number > 1 and free in taken):
            number += 1
            free = f"{name}_{number}"
        found.append(free)
    return found


def save_image(
    folder: str | Path,
    name: str,
    figure: Figure,
    arrays: Mapping[str, Any] | None = None,
    caption: str = "",
) -> Path:
    """Write a figure as NAME.png and, if there are any, the arrays behind it as NAME.npz.

    Args:
        folder: made if needed.
        name: of the files, without an ending; slashes become underscores.
        figure: of `cnnjax.plot.figures`.
        arrays: by name.
        caption: of the image in a run's report; kept in the PNG file, as its "Description".

    Returns:
        The path of the image.
    """
    image_file = _image_file(folder, name)
    figures.save(figure, image_file, {"Description": caption} if caption else {})
    if arrays:

        def write(beside: Path) -> None:
            with open(beside, "wb") as file:  # a name would get an ending
                named: dict[str, Any] = {k: np.asarray(v) for k, v in arrays.items()}
                np.savez_compressed(file, **named)

        write_file(image_file.with_suffix(".npz"), write)
    return image_file


def save_pixels(
    folder: str | Path, name: str, pixels: np.ndarray, about: Mapping[str, str] | None = None
) -> Path:
    """Write pixels as NAME.png, as many as they are: nothing is drawn around them.

    Args:
        folder, name: as in `save_image`.
        pixels, about: as in `cnnjax.data.pixels.image_files.png_bytes`.

    Returns:
        The path of the image.
    """
    image_file = _image_file(folder, name)
    # Of a file that cannot be written Pillow would say neither name nor reason.
    write_bytes(image_file, png_bytes(pixels, about))
    return image_file


def _image_file(folder: str | Path, name: str) -> Path:
    """NAME.png in a folder, which is made if needed."""
    folder = expanded(folder)
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"{name.replace('/', '_')}.png"
