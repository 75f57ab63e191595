"""Image files and sizes: read one, bring it to a model's size."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from cnnjax.data.pixels.image_files import opened_image
from cnnjax.data.pixels.image_modes import pixels_of

if TYPE_CHECKING:
    from PIL.Image import Image as PILImage
    from PIL.Image import Resampling

RESIZE_POLICIES = {
    "crop": "cutting out the largest centred part of these proportions",
    "stretch": "stretching",
    "pad": "scaling all of it and adding black bars",
}

INTERPOLATIONS = ("bilinear", "nearest")

# Of the image between the two passes of a filter.
_MOST_BETWEEN = 2**25


def read_image(path: str | Path, channels: int = 3) -> np.ndarray:
    """Read an image file.

    Its samples have 8 bits afterwards: those of 16 are divided by 257, whatever the format. What is
    transparent is laid on white. Of several images, as in a GIF or an animated PNG, the first is
    taken.

    Args:
        path: of a JPEG (MPO, too), PNG, WebP, GIF, BMP, PPM or TIFF file of up to 134 million
            pixels and 1,048,576 on a side, of any mode but 32-bit, floating and signed numbers, of
            which the file does not say what is white. The EXIF orientation is applied, where it can
            be read.
        channels: 1 for grey, 3 for RGB.

    Returns:
        uint8 [H, W, channels].

    Raises:
        UnreadableImage: if there is no such file, it is no regular one, or it cannot be decoded.
    """
    return decode_image(path, channels, str(path))


def decode_image(file: str | Path | bytes | BinaryIO, channels: int, name: str) -> np.ndarray:
    """`read_image` for a path, content or an open file; `name` stands for it in the error."""
    if channels not in (1, 3):
        raise ValueError(f"channels must be 1 or 3, got {channels}")
    with opened_image(file, name) as image:
        return pixels_of(image, channels)


def resize_image(
    image: np.ndarray,
    size: tuple[int, int],
    policy: str = "crop",
    interpolation: str = "bilinear",
    share: float = 1.0,
) -> np.ndarray:
    """Bring an image to a size with Pillow.

    Args:
        image: [H, W, C] of 8 or 16 bits, or floating, of any number of channels.
        size: (height, width) of the result.
        policy: "crop": the largest centred part of the target's proportions; "stretch": all of it,
            distorted; "pad": all of it, with black bars.
        interpolation: "bilinear", antialiased, or "nearest", as `flow_from_directory` of Keras has
            it by default.
        share: of the side that "crop" keeps, in (0, 1]; below 1 the image is first resized to
            size / share and its middle cut out, as torchvision's `Resize` and `CenterCrop` do.

    Returns:
        [height, width, C] of the image's dtype; an image of that size already comes back as it is.

    Raises:
        ValueError: for an unknown policy or interpolation.
    """
    if policy not in RESIZE_POLICIES:
        raise ValueError(f"resize must be one of {', '.join(RESIZE_POLICIES)}, got {policy!r}")
    if interpolation not in INTERPOLATIONS:
        raise ValueError(
            f"interpolation must be one of {', '.join(INTERPOLATIONS)}, got {interpolation!r}"
        )
    if image.shape[:2] == size:
        return image
    height, width = image.shape[:2]
    target = size
    if policy == "crop" and share < 1:
        return _middle(_resample(image, _enlarged(height, width, size, share), interpolation), size)
    if policy == "crop":
        top, left, bottom, right = centre(height, width, size)
        image = image[top:bottom, left:right]
    elif policy == "pad":
        scale = max(height / size[0], width / size[1])
        target = (max(round(height / scale), 1), max(round(width / scale), 1))
    resized = _resample(image, target, interpolation)
    if target == size:
        return resized
    canvas = np.zeros((*size, image.shape[2]), image.dtype)
    top, left = (size[0] - target[0]) // 2, (size[1] - target[1]) // 2
    canvas[top : top + target[0], left : left + target[1]] = resized
    return canvas


def _enlarged(height: int, width: int, size: tuple[int, int], share: float) -> tuple[int, int]:
    """Height and width, in the image's proportions, of which a size is such a share."""
    rows, columns = (int(side / share) for side in size)
    if rows * width >= columns * height:
        return rows, max(int(rows * width / height), size[1])
    return max(int(columns * height / width), size[0]), columns


def _middle(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The centre of an image; Python rounds halves to even, as torchvision does."""
    top, left = (round((n - wanted) / 2) for n, wanted in zip(image.shape, size, strict=False))
    return image[top : top + size[0], left : left + size[1]]


def resize_decoded(
    image: PILImage, size: tuple[int, int], policy: str, interpolation: str
) -> np.ndarray:
    """`resize_image` of an RGB image as Pillow has it, without copies of its pixels.

    Args:
        image: RGB, of any size.
        size, interpolation: as in `resize_image`.
        policy: "crop" or "stretch".

    Returns:
        uint8 [height, width, 3], the same to the bit.
    """
    from PIL import Image

    if image.size != (size[1], size[0]):
        if policy == "crop":
            top, left, bottom, right = centre(image.height, image.width, size)
            image = image.crop((left, top, right, bottom))
        image = _filtered(image, size, Image.Resampling[interpolation.upper()])
    return np.asarray(image)


def centre(height: int, width: int, size: tuple[int, int]) -> tuple[int, int, int, int]:
    """Top, left, bottom and right of the largest centred part of a size's proportions."""
    scale = min(height / size[0], width / size[1])
    # Whole pixels, cut out before the filter could mix in what lies outside.
    rows = max(min(round(scale * size[0]), height), 1)
    columns = max(min(round(scale * size[1]), width), 1)
    top, left = (height - rows) // 2, (width - columns) // 2
    return top, left, top + rows, left + columns


def _resample(image: np.ndarray, size: tuple[int, int], interpolation: str) -> np.ndarray:
    from PIL import Image

    method = Image.Resampling[interpolation.upper()]
    if image.dtype == np.uint8 and image.shape[2] in (1, 3):
        pil_image = Image.fromarray(image[..., 0] if image.shape[2] == 1 else image)
        return np.asarray(_filtered(pil_image, size, method)).reshape(*size, image.shape[2])
    planes = [
        _filtered(Image.fromarray(np.ascontiguousarray(plane, np.float32)), size, method)
        for plane in np.moveaxis(image, 2, 0)
    ]
    resized = np.stack([np.asarray(plane) for plane in planes], axis=-1)
    if np.issubdtype(image.dtype, np.integer):
        resized = np.round(resized)
    return resized.astype(image.dtype)


def _filtered(pil_image: PILImage, size: tuple[int, int], method: Resampling) -> PILImage:
    height, width = size
    # Pillow's first pass is the horizontal one, of all rows. Of a strip that would take gigabytes.
    if width * pil_image.height > _MOST_BETWEEN:
        pil_image = pil_image.resize((pil_image.width, height), method)
    return pil_image.resize((width, height), method)
