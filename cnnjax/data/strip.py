"""What is shown of a data set: one line, and some of its images."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

from cnnjax.core.html import inline_image
from cnnjax.core.text import plain
from cnnjax.data.pixels.image_files import png_bytes

_IMAGES = 10
_HEIGHT = 64  # pixels on the screen
_LARGEST = 128  # pixels of a side of what is sent to the browser


class Examples(Protocol):
    """What is needed of a data set; `Dataset` is one."""

    @property
    def inputs(self) -> Any:
        """Arrays, or what is read where it is indexed."""

    @property
    def labels(self) -> Any:
        """Of the examples."""

    @property
    def label_names(self) -> tuple[str, ...]:
        """One per class, or () where unknown."""

    @property
    def input_shape(self) -> Any:
        """Of one example."""

    @property
    def holds_images(self) -> bool:
        """Whether the inputs are (H, W, C)."""

    def __len__(self) -> int:
        """The number of examples."""


def kind_line(examples: Examples) -> str:
    """Shape, dtype and number of classes: "images 28x28x1 uint8, 10 classes"."""
    shape, dtype = examples.input_shape, getattr(examples.inputs, "dtype", "")
    text = "x".join(map(str, shape)) if isinstance(shape, tuple) else str(shape)
    kind = "images" if examples.holds_images else "inputs"
    classes = f", {len(examples.label_names)} classes" if examples.label_names else ""
    return f"{kind} {text} {dtype}".strip() + classes


def strip(examples: Examples) -> str:
    """A few images from beginning to end with their labels, as HTML; "" where there are none."""
    if not examples.holds_images:
        return ""
    places = np.unique(np.linspace(0, len(examples) - 1, _IMAGES).astype(int))
    images = np.asarray(examples.inputs[places])
    return "".join(
        inline_image(png_bytes(_pixels(image, images)), _label(examples, place), _HEIGHT)
        for place, image in zip(places, images, strict=True)
    )


def _label(examples: Examples, place: int) -> str:
    """The label of an example as a text; "" of what is no class."""
    labels, names = examples.labels, examples.label_names
    if np.ndim(labels) != 1 or not np.issubdtype(np.asarray(labels).dtype, np.integer):
        return ""
    label = int(labels[place])
    return plain(names[label] if 0 <= label < len(names) else label, 32)


def _pixels(image: np.ndarray, all_images: np.ndarray) -> np.ndarray:
    """uint8 of at most so many pixels; of other than 3 channels the first one, in grey."""
    if image.dtype != np.uint8:
        finite = all_images[np.isfinite(all_images)]
        low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 255.0)
        if np.issubdtype(image.dtype, np.floating) and low >= 0 and high <= 255:
            low, high = 0.0, 255.0  # pixels; of other numbers the extremes are black and white
        scaled = (np.nan_to_num(image.astype(np.float64)) - low) / max(high - low, 1e-12)
        image = np.clip(255 * scaled, 0, 255).astype(np.uint8)
    step = max(-(-max(image.shape[:2]) // _LARGEST), 1)
    return image[::step, ::step] if image.shape[2] == 3 else image[::step, ::step, :1]
