"""Image files and sizes: read one, bring it to a model's size."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

RESIZE_POLICIES = {
    "crop": "cutting out the largest centred part of these proportions",
    "stretch": "stretching",
    "pad": "scaling all of it and adding black bars",
}

INTERPOLATIONS = ("bilinear", "nearest")

_EXIF_ORIENTATION = 0x0112


class UnreadableImage(ValueError):
    """A file that is missing, or not an image that Pillow can read."""


def read_image(path: str | Path, channels: int = 3) -> np.ndarray:
    """Read an image file.

    Args:
        path: of a JPEG, PNG, WebP, GIF (first frame), BMP or TIFF file, of any mode; the EXIF
            orientation is applied, where it can be read, and transparency is laid on white.
        channels: 1 for grey, 3 for RGB.

    Returns:
        uint8 [H, W, channels].

    Raises:
        UnreadableImage: if there is no such file or it cannot be decoded.
    """
    return decode_image(path, channels, str(path))


def decode_image(file: str | Path | BinaryIO, channels: int, name: str) -> np.ndarray:
    """`read_image` for a path or an open file; `name` stands for it in the error."""
    from PIL import Image

    if channels not in (1, 3):
        raise ValueError(f"channels must be 1 or 3, got {channels}")
    try:
        with Image.open(file) as opened:
            image = _upright(opened)
            if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
                image = image.convert("RGBA")
                white = Image.new("RGBA", image.size, "white")
                image = Image.alpha_composite(white, image)
            elif image.mode.startswith("I") or image.mode == "F":
                image = Image.fromarray(_from_16_bits(np.asarray(image, np.float64)))
            pixels = np.asarray(image.convert("L" if channels == 1 else "RGB"))
    except FileNotFoundError:
        raise UnreadableImage(f"{name}: no such file") from None
    except (MemoryError, Warning):  # not the file's fault, or turned into an error on purpose
        raise
    except Exception as error:  # of damaged files Pillow raises nearly anything
        raise UnreadableImage(f"{name}: not a readable image ({error})") from None
    return pixels[..., None] if channels == 1 else pixels


def orientation_of(image: Picture) -> int:
    """How a picture lies by its EXIF, 1 (upright) to 8; 0 where that cannot be read."""
    try:
        orientation = image.getexif().get(_EXIF_ORIENTATION, 1)
    except Exception:  # damaged; the pixels may be whole
        return 0
    return int(orientation) if orientation in range(1, 9) else 0


def _upright(image: Picture) -> Picture:
    """An image turned as its EXIF says; as it is where that cannot be read."""
    from PIL import Image

    image.load()
    # Not `ImageOps.exif_transpose`, which writes the EXIF anew and fails at any damaged entry.
    method = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_270,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_90,
    }.get(orientation_of(image))
    return image if method is None else image.transpose(method)


def _from_16_bits(values: np.ndarray) -> np.ndarray:
    """[0, 65535] to uint8; of pixels in any other range nobody knows what is white."""
    low, high = values.min(), values.max()
    if not (low >= 0 and high <= 65535) or 0 < high <= 1:
        raise ValueError(f"its pixels lie in [{low:g}, {high:g}]: save it with 8 or 16 bits")
    return (values / 257).astype(np.uint8)


def resize_image(
    image: np.ndarray,
    size: tuple[int, int],
    policy: str = "crop",
    interpolation: str = "bilinear",
) -> np.ndarray:
    """Bring an image to a size with Pillow.

    Args:
        image: uint8 or floating [H, W, C] in [0, 255], C = 1 or 3.
        size: (height, width) of the result.
        policy: "crop": the largest centred part of the target's proportions; "stretch": all of it,
            distorted; "pad": all of it, with black bars.
        interpolation: "bilinear", antialiased, or "nearest", as `flow_from_directory` of Keras has
            it by default.

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
    if policy == "crop":
        scale = min(height / size[0], width / size[1])
        # Whole pixels, cut out before the filter could mix in what lies outside.
        rows = max(min(round(scale * size[0]), height), 1)
        columns = max(min(round(scale * size[1]), width), 1)
        top, left = (height - rows) // 2, (width - columns) // 2
        image = image[top : top + rows, left : left + columns]
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


def _resample(image: np.ndarray, size: tuple[int, int], interpolation: str) -> np.ndarray:
    from PIL import Image

    height_width = size[1], size[0]
    method = Image.Resampling[interpolation.upper()]
    if image.dtype == np.uint8:
        picture = Image.fromarray(image[..., 0] if image.shape[2] == 1 else image)
        result = np.asarray(picture.resize(height_width, method))
        return result.reshape(*size, image.shape[2])
    planes = [
        Image.fromarray(np.ascontiguousarray(plane, np.float32)).resize(height_width, method)
        for plane in np.moveaxis(image, 2, 0)
    ]
    return np.stack([np.asarray(plane) for plane in planes], axis=-1).astype(image.dtype)
