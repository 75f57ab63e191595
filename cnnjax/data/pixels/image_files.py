"""Opening image files: of the formats that are named here, within bounds, without remarks."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import re
import threading
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, cast

import numpy as np

from cnnjax.core.reading import Unreadable, check_regular
from cnnjax.core.text import plain

if TYPE_CHECKING:
    from PIL.Image import Image as PILImage

# Only these: Pillow hands other formats to other programs, PostScript to Ghostscript. What phones
# write as MPO is opened as the JPEG that it begins with.
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")

# Above any camera's photo, and of all images that are decoded at a time together. A pixel takes
# some ten bytes on the way.
MOST_PIXELS = 2**27
# A filter that brings an image to another size takes memory by its longest side.
MOST_SIDE = 2**20
_MOST_BYTES = 2**30

_EXIF_ORIENTATION = 0x0112
_TIFF_WIDTH, _TIFF_HEIGHT = 256, 257
_TURNED = 5  # from this orientation on, height and width are swapped

# Without a handler of anybody's, Python prints what Pillow logs of damaged files.
logging.getLogger("PIL").addHandler(logging.NullHandler())


class UnreadableImage(ValueError):
    """A file that is missing, or not an image that Pillow can read."""


def image_bytes(path: str | Path) -> bytes:
    """The content of an image file.

    Raises:
        UnreadableImage: if there is no such file, it is no regular one, or it is beyond all bounds.
    """
    try:
        check_regular(path, "image")
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size > _MOST_BYTES:
                raise Unreadable(f"{size:,} bytes are more than {_MOST_BYTES:,}")
            return file.read()
    except FileNotFoundError:
        raise UnreadableImage(f"{plain(path)}: no such file") from None
    except (OSError, Unreadable) as error:
        raise UnreadableImage(f"{plain(path)}: not a readable image ({plain(error)})") from None


@contextlib.contextmanager
def opened_image(file: str | Path | bytes | BinaryIO, name: str) -> Iterator[PILImage]:
    """An image whose header is read, and whose pixels may be.

    As long as it is open its pixels count among those of all threads, and whatever is raised
    meanwhile is taken for the file's fault.

    Args:
        file: its path, content, or the open file.
        name: that stands for it in the error.

    Raises:
        UnreadableImage: if there is no such file, or it cannot be decoded.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        with (
            _unremarked(),
            _content(file) as content,
            Image.open(content, formats=FORMATS) as image,
            _IN_WORK.held(_checked_pixels(*image.size)),
        ):
            yield image
    except FileNotFoundError:
        raise UnreadableImage(f"{plain(name)}: no such file") from None
    except UnidentifiedImageError:
        raise UnreadableImage(
            f"{plain(name)}: not a readable image (cannot identify image file as "
            f"{', '.join(FORMATS)})"
        ) from None
    except (MemoryError, Warning):  # not the file's fault, or turned into an error on purpose
        raise
    except Exception as error:  # of damaged files Pillow raises nearly anything
        raise UnreadableImage(f"{plain(name)}: not a readable image ({plain(error)})") from None


@contextlib.contextmanager
def _content(file: str | Path | bytes | BinaryIO) -> Iterator[BinaryIO]:
    """An open file. Given a path Pillow would map it to memory, and scramble a rotated TIFF."""
    if isinstance(file, bytes):
        yield io.BytesIO(file)
    elif isinstance(file, str | Path):
        with open(check_regular(file, "image"), "rb") as opened:
            yield opened
    else:
        yield file


def png_bytes(pixels: np.ndarray, about: Mapping[str, str] | None = None) -> bytes:
    """An image as a PNG file.

    Args:
        pixels: uint8 [H, W], or [H, W, C], C = 1, 3 (RGB) or 4 (RGBA).
        about: texts that the file keeps, by name.
    """
    from PIL import Image, PngImagePlugin

    texts = PngImagePlugin.PngInfo()
    for key, text in (about or {}).items():
        texts.add_itxt(key, text)
    image = Image.fromarray(pixels[..., 0] if pixels.shape[2:] == (1,) else pixels)
    encoded = io.BytesIO()
    image.save(encoded, "PNG", pnginfo=texts)
    return encoded.getvalue()


def orientation_of(image: PILImage) -> int:
    """How an image lies by its EXIF, 1 (upright) to 8; 0 where that cannot be read."""
    try:
        orientation = image.getexif().get(_EXIF_ORIENTATION, 1)
    except Exception:  # damaged; the pixels may be whole
        return 0
    return int(orientation) if orientation in range(1, 9) else 0


def upright(image: PILImage) -> PILImage:
    """An image, decoded and turned as its EXIF says; as it is where that cannot be read."""
    from PIL import Image

    image.load()  # by which Pillow turns a TIFF, but no other
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


def upright_size(path: str | Path) -> tuple[int, int]:
    """(height, width) of the image in a file once it is upright; mostly its header is read.

    Raises:
        UnreadableImage: if there is no such file, or its header cannot be read.
    """
    with opened_image(path, str(path)) as image:
        width, height = image.size
        if image.format == "TIFF":  # whose size is swapped already, or not: that is Pillow's choice
            tags = image.tag_v2  # type: ignore[attr-defined]
            width, height = tags[_TIFF_WIDTH], tags[_TIFF_HEIGHT]
        turned = orientation_of(image) >= _TURNED
    return (width, height) if turned else (height, width)


def _checked_pixels(width: int, height: int) -> int:
    """How many pixels an image of that size has.

    Raises:
        ValueError: if it has none, or they are too many.
    """
    size = f"{width:,} x {height:,} pixels"
    if min(width, height) < 1:
        raise ValueError(f"{size}: no image")
    if max(width, height) > MOST_SIDE:
        raise ValueError(f"{size}: a side has more than {MOST_SIDE:,}")
    if width * height > MOST_PIXELS:
        raise ValueError(f"{size} are more than {MOST_PIXELS:,} in all")
    return width * height


class _Allowance:
    """So much of something for all threads; who asks for more than is left waits its turn."""

    def __init__(self, most: int) -> None:
        self._left = most
        self._changed = threading.Condition()
        self._turn = threading.Lock()  # a large request is not overtaken by small ones for ever

    @contextlib.contextmanager
    def held(self, amount: int) -> Iterator[None]:
        """Have this much of it within; never more than there is in all."""
        with self._turn, self._changed:
            self._changed.wait_for(lambda: self._left >= amount)
            self._left -= amount
        try:
            yield
        finally:
            with self._changed:
                self._left += amount
                self._changed.notify_all()


_IN_WORK = _Allowance(MOST_PIXELS)

_IGNORED = ("ignore", None, Warning, re.compile(r"PIL\."), 0)


@contextlib.contextmanager
def _unremarked() -> Iterator[None]:
    """No warnings of Pillow within, of large images, damaged metadata and the like.

    What is wrong with a file is an error or no matter. `warnings.catch_warnings` is not for
    threads: whoever leaves last brings back the filters of another. Here each thread puts in an
    entry and takes one out.
    """
    cast(list[Any], warnings.filters).insert(0, _IGNORED)
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):  # another has put back a list without it
            cast(list[Any], warnings.filters).remove(_IGNORED)
