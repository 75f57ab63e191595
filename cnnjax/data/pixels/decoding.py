"""How an image file becomes pixels of one size, and the threads that do it."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cnnjax.core.checks import whole_number
from cnnjax.core.runtime import visible_cores
from cnnjax.data.pixels.decode import (
    INTERPOLATIONS,
    RESIZE_POLICIES,
    centre,
    resize_decoded,
    resize_image,
)
from cnnjax.data.pixels.image_files import image_bytes, opened_image, orientation_of
from cnnjax.data.pixels.image_modes import pixels_of

if TYPE_CHECKING:
    from PIL.Image import Image as PILImage

DECODERS = ("pillow", "fast")


@dataclass(frozen=True)
class Decoding:
    """How an image file becomes pixels of one size.

    Args:
        size: (height, width) of the result, each >= 1.
        channels: 3 for RGB, 1 for grey.
        resize: "stretch" to the size, as Keras does with folders, or "crop" or "pad", as in
            `resize_image`.
        interpolation: "bilinear", antialiased, or "nearest", the default of Keras'
            `flow_from_directory`.
        decoder: "pillow"; or "fast" for JPEGs through simplejpeg and OpenCV (the extra `fast`),
            two to three times as fast, whose bilinear filter does not antialias: an image differs
            by up to 10 of 255 in the mean.

    Raises:
        ValueError: for a setting that cannot be, or a decoder that is not installed.
    """

    size: tuple[int, int]
    channels: int = 3
    resize: str = "stretch"
    interpolation: str = "bilinear"
    decoder: str = "pillow"

    def __post_init__(self) -> None:
        given = self.size if isinstance(self.size, Sequence | np.ndarray) else ()
        try:
            height, width = (whole_number("image_size", n) for n in given)
        except (TypeError, ValueError):
            raise ValueError(
                f"image_size must be (height, width), each >= 1 and whole, got {self.size!r}"
            ) from None
        object.__setattr__(self, "size", (height, width))
        if self.channels not in (1, 3):
            raise ValueError(f"channels must be 1 (grey) or 3 (RGB), got {self.channels!r}")
        for name, known in (
            ("resize", tuple(RESIZE_POLICIES)),
            ("interpolation", INTERPOLATIONS),
            ("decoder", DECODERS),
        ):
            if getattr(self, name) not in known:
                raise ValueError(
                    f"{name} must be one of {', '.join(known)}, got {getattr(self, name)!r}"
                )
        if self.decoder == "fast":
            _check_fast(self)

    def __call__(self, path: str | Path) -> np.ndarray:
        """uint8 [height, width, channels] of a file.

        Raises:
            UnreadableImage: if there is no such file or it cannot be decoded.
        """
        return self.decoded(image_bytes(path), str(path))

    def decoded(self, encoded: bytes, name: str) -> np.ndarray:
        """uint8 [height, width, channels] of a file's content; `name` stands for it in errors.

        Raises:
            UnreadableImage: if it cannot be decoded.
        """
        with opened_image(encoded, name) as image:
            if self.channels == 3 and _is_plain_jpeg(image):
                if self.decoder == "fast" and (pixels := _fast(encoded, self)) is not None:
                    return pixels
                if self.resize != "pad":
                    return self.resized_jpeg(image)
            pixels = pixels_of(image, self.channels)
            image.close()  # its own pixels, before those of the other size take memory
            return self.resized(pixels)

    def resized_jpeg(self, image: PILImage) -> np.ndarray:
        """An RGB image at the size, cut out or stretched."""
        return resize_decoded(image, self.size, self.resize, self.interpolation)

    def resized(self, pixels: np.ndarray) -> np.ndarray:
        """Decoded pixels at the size."""
        return resize_image(pixels, self.size, self.resize, self.interpolation)


class AsStored(Decoding):
    """Of images that all have one size, which are taken as they are: another one is refused."""

    def resized(self, pixels: np.ndarray) -> np.ndarray:
        """Decoded pixels as they are.

        Raises:
            ValueError: for those of another size.
        """
        if pixels.shape[:2] != self.size:
            raise ValueError(
                f"it has {list(pixels.shape[:2])} pixels, the first image {list(self.size)}: give "
                "image_size=(height, width) to bring all to one size"
            )
        return pixels

    def resized_jpeg(self, image: PILImage) -> np.ndarray:
        """Its pixels as they are; errors as of `resized`."""
        return self.resized(np.asarray(image))


@functools.cache
def decoders() -> ThreadPoolExecutor:
    """The threads that decode; Pillow and simplejpeg let go of Python's lock while they do."""
    return ThreadPoolExecutor(max_workers=visible_cores(), thread_name_prefix="decode")


def _check_fast(decoding: Decoding) -> None:
    known = decoding.channels == 3 and decoding.interpolation == "bilinear"
    if not known or decoding.resize == "pad":
        raise ValueError(
            "decoder='fast' is for RGB, cut out or stretched, with interpolation='bilinear', got "
            f"channels={decoding.channels}, resize={decoding.resize!r} and "
            f"interpolation={decoding.interpolation!r}"
        )
    try:
        import cv2
        import simplejpeg  # noqa: F401
    except ImportError as error:
        raise ValueError(
            f"decoder='fast' needs {error.name}, which is not installed: pip install 'cnnjax[fast]'"
        ) from None
    cv2.setNumThreads(1)  # the images are what is done side by side


def _is_plain_jpeg(image: PILImage) -> bool:
    """Whether an opened image is an RGB JPEG that is not turned, as most photos are."""
    return (image.format, image.mode, orientation_of(image)) == ("JPEG", "RGB", 1)


def _fast(encoded: bytes, decoding: Decoding) -> np.ndarray | None:
    """A plain upright RGB JPEG by the fast libraries; None for one that they do not take."""
    import cv2
    import simplejpeg

    size = decoding.size
    try:
        # Scaled while it is decoded, to not less than the size.
        pixels = simplejpeg.decode_jpeg(encoded, "RGB", min_height=size[0], min_width=size[1])
        if decoding.resize == "crop":
            height, width = pixels.shape[:2]
            top, left, bottom, right = centre(height, width, size)
            pixels = pixels[top:bottom, left:right]
        pixels = cv2.resize(pixels, (size[1], size[0]), interpolation=cv2.INTER_LINEAR)
    except (OSError, ValueError, SyntaxError):
        return None  # Pillow says what is wrong with it
    return np.asarray(pixels, np.uint8)
