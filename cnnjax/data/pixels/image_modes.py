"""What the samples of an image mean: from each of Pillow's modes to 8-bit grey or RGB on white.

Pillow names how an image is stored by its mode, and how its file has it by a raw mode. `_MODES` and
`_RAW_16` have an entry for each that is understood; any other is an error. Samples of 16 bits are
divided by 257 in all formats, rounded down. Which value is white, files of 32-bit numbers, of
floating and of signed ones do not say: they are errors, too.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from cnnjax.data.pixels.image_files import FORMATS, upright

if TYPE_CHECKING:
    from PIL.Image import Image as PILImage

_WHITE_16 = 65535
_PIXELS_AT_ONCE = 2**22

# By raw mode, what a file of 16 bits has in each pixel; "a" is an alpha that the colours are
# multiplied by already, "X" means nothing. An end of "N" is the machine's own byte order.
_RAW_16 = {
    f"{bands};16{order}": bands
    for bands in ("RGB", "RGBX", "RGBA", "RGBa", "CMYK")
    for order in "BLN"
} | {"LA;16B": "LA"}
_OTHER_ORDER = {"B": "L", "L": "B", "N": "B" if sys.byteorder == "little" else "L"}
_GREY_16 = ("I;16", "I;16B", "I;16L", "I;16N")

# By raw mode: greys of few bits, as which Pillow leaves a transparent one.
_FEW_BITS = {"L;2": 2, "L;4": 4}

_TIFF_BITS, _TIFF_PHOTOMETRIC, _TIFF_PLANES, _TIFF_SAMPLE_FORMAT = 258, 262, 284, 339
_TIFF_TILE = 322, 323
_TILE_PIXELS = 2**24  # that any tile may have; a larger one only in a larger image


def pixels_of(image: PILImage, channels: int) -> np.ndarray:
    """The pixels of an opened image.

    Args:
        image: not decoded yet.
        channels: 1 for grey, 3 for RGB.

    Returns:
        uint8 [H, W, channels], upright, what is transparent on white.

    Raises:
        ValueError: for samples whose range is unknown, and what else is not understood.
    """
    raw = _raw_mode(image)
    if image.format == "TIFF":
        _check_tiff(image)
    if raw in _RAW_16:
        halves = _halves(image, raw)
        key = image.info.get("transparency")
        return _joined(halves, lambda parts: _colours_16(parts, key, _RAW_16[raw], channels))
    inverted = raw.startswith("I;16") and _tiff_tag(image, _TIFF_PHOTOMETRIC, 1) == 0
    decoded = upright(image)
    key = _key(image, raw)
    if decoded.mode in _GREY_16 or (decoded.mode == "I" and image.format == "PPM"):
        white = 4095 if raw == "I;12" else _WHITE_16
        return _joined([decoded], lambda parts: _grey_16(parts[0], key, white, inverted, channels))
    if decoded.mode in ("I", "F"):
        low, high = decoded.getextrema()
        raise ValueError(
            f"its pixels lie in [{low:g}, {high:g}], of which it is unknown what is white: save it "
            "with 8 or 16 bits"
        )
    if decoded.mode not in _MODES:
        raise ValueError(f"its mode {decoded.mode} is not known: save it as RGB")
    convert = _MODES[decoded.mode]
    return _joined([decoded], lambda parts: convert(parts[0], key, channels))


def is_plain(image: PILImage) -> bool:
    """Whether an opened image is opaque grey or RGB of 8 bits, which need no conversion."""
    opaque = image.mode in ("L", "RGB") and "transparency" not in image.info
    return opaque and _raw_mode(image) not in _RAW_16


def _raw_mode(image: PILImage) -> str:
    """How the file of an opened image has its samples; "" where that is said nowhere."""
    tiles = getattr(image, "tile", None)
    if not tiles:
        return ""
    codec, _, _, rest = tiles[0]
    if codec == "ppm" and rest == ("RGB", _WHITE_16):
        return "RGB;16B"
    raw = rest if isinstance(rest, str) else next(iter(rest or ()), "")
    return raw if isinstance(raw, str) else ""


def _tiff_tag(image: PILImage, tag: int, default: Any) -> Any:
    return image.tag_v2.get(tag, default) if image.format == "TIFF" else default  # type: ignore[attr-defined]


def _check_tiff(image: PILImage) -> None:
    """What Pillow reads as something else than what it is, or at any price.

    Raises:
        ValueError: for signed samples of 8 bits, and for planes of more than 8 bits; for tiles
            much larger than the image, which take memory without need.
    """
    if image.mode == "L" and set(_tiff_tag(image, _TIFF_SAMPLE_FORMAT, (1,))) != {1}:
        raise ValueError("its samples are signed, so it is unknown what is black: save it unsigned")
    planes, bits = _tiff_tag(image, _TIFF_PLANES, 1), _tiff_tag(image, _TIFF_BITS, (1,))
    if planes != 1 and max(bits) > 8 and image.tile[0][0] == "raw":  # type: ignore[attr-defined]
        raise ValueError("its colours of 16 bits lie in planes: save it with them side by side")
    width, height = (_tiff_tag(image, tag, 1) for tag in _TIFF_TILE)
    if width * height > max(_TILE_PIXELS, 4 * image.width * image.height):
        raise ValueError(f"its tiles of {width:,} x {height:,} pixels are larger than the image")


def _key(image: PILImage, raw: str) -> Any:
    """The colour that is transparent, as the decoded samples have it; None: there is none."""
    key = image.info.get("transparency")
    if isinstance(key, int) and image.mode == "L":
        bits = _FEW_BITS.get(raw, 8)
        return (key & (2**bits - 1)) * 255 // (2**bits - 1)
    return tuple(part & 255 for part in key) if isinstance(key, tuple) else key


def _joined(images: list[PILImage], convert: Callable[[list[PILImage]], np.ndarray]) -> np.ndarray:
    """Images of one size, converted some rows at a time: what lies between takes little memory."""
    width, height = images[0].size
    rows = max(_PIXELS_AT_ONCE // width, 1)
    if rows >= height:
        return convert(images)
    parts = (
        convert([image.crop((0, top, width, min(top + rows, height))) for image in images])
        for top in range(0, height, rows)
    )
    first = next(parts)
    joined = np.empty((height, *first.shape[1:]), np.uint8)
    joined[:rows] = first
    for number, part in enumerate(parts, 1):
        joined[number * rows : number * rows + len(part)] = part
    return joined


# 8 bits: (rows of the image, its transparent colour, channels) -> uint8 [h, W, channels]


def _opaque(image: PILImage, key: Any, channels: int) -> np.ndarray:
    mode = "L" if channels == 1 else "RGB"
    pixels = np.asarray(image if image.mode == mode else image.convert(mode))
    return pixels[..., None] if channels == 1 else pixels


def _by_rgb(image: PILImage, key: Any, channels: int) -> np.ndarray:
    """What Pillow does not bring to grey directly."""
    return _opaque(image.convert("RGB"), key, channels)


def _with_key(image: PILImage, key: Any, channels: int) -> np.ndarray:
    """What has one colour that is transparent, or none."""
    if key is None:
        return _opaque(image, key, channels)
    samples = np.asarray(image.convert("L") if image.mode == "1" else image)
    pixels = np.array(_opaque(image, key, channels))
    pixels[(samples.reshape(*samples.shape[:2], -1) == key).all(axis=-1)] = 255
    return pixels


def _palette(image: PILImage, key: Any, channels: int) -> np.ndarray:
    return (_with_alpha if image.has_transparency_data else _opaque)(image, key, channels)


def _with_alpha(image: PILImage, key: Any, channels: int) -> np.ndarray:
    from PIL import Image

    image = image.convert("RGBA")
    white = Image.new("RGBA", image.size, "white")
    return _opaque(Image.alpha_composite(white, image), None, channels)


def _multiplied(image: PILImage, key: Any, channels: int) -> np.ndarray:
    """What holds its colours multiplied by alpha: white shines through the rest."""
    from PIL import Image

    samples = np.asarray(image)
    colours, through = samples[..., :-1], 255 - samples[..., -1:]
    pixels = colours + np.minimum(through, 255 - colours)  # at most white, in a file that errs
    if image.mode == "La":
        return np.repeat(pixels, channels, axis=-1)
    return _opaque(Image.fromarray(pixels), None, channels)


_MODES: dict[str, Callable[[PILImage, Any, int], np.ndarray]] = {
    "1": _with_key,
    "L": _with_key,
    "RGB": _with_key,
    "P": _palette,
    "LA": _with_alpha,
    "PA": _with_alpha,
    "RGBA": _with_alpha,
    "La": _multiplied,
    "RGBa": _multiplied,
    "RGBX": _opaque,
    "CMYK": _opaque,
    "YCbCr": _opaque,
    "LAB": _by_rgb,
    "HSV": _by_rgb,
}


# 16 bits


def _grey_16(image: PILImage, key: Any, white: int, inverted: bool, channels: int) -> np.ndarray:
    values = np.asarray(image).astype(np.uint16)  # of the machine's byte order
    shown = _WHITE_16 - values if inverted else values
    if white != _WHITE_16:
        shown = (np.minimum(shown, white).astype(np.uint32) * _WHITE_16 // white).astype(np.uint16)
    grey = (shown // 257).astype(np.uint8)
    if key is not None:
        grey[values == key] = 255
    return np.repeat(grey[..., None], channels, axis=-1)


def _halves(image: PILImage, raw: str) -> list[PILImage]:
    """Images of the high and of the low bytes: Pillow reads the high ones only of such files.

    A little-endian number read as a big-endian one shows its other half. Of grey with alpha both
    are read at once, as four samples of 8 bits.
    """
    from PIL import Image

    if raw == "LA;16B":
        return [upright(_read_as(image, "RGBA"))]
    file: Any = image.fp  # type: ignore[attr-defined]
    file.seek(0)
    low = Image.open(io.BytesIO(file.read()), formats=FORMATS)
    bands, order = raw.replace("RGBa", "RGBA")[:-1], raw[-1]
    return [
        upright(_read_as(image, bands + order)),
        upright(_read_as(low, bands + _OTHER_ORDER[order])),
    ]


def _read_as(image: PILImage, raw: str) -> PILImage:
    """An image that is not decoded yet, to be decoded by another raw mode."""

    def changed(tile: Any) -> Any:
        # PPM's own decoder is slow, and rounds otherwise.
        if tile.codec_name == "ppm":
            return tile._replace(codec_name="raw", args=(raw, 0, 1))
        return tile._replace(args=raw if isinstance(tile.args, str) else (raw, *tile.args[1:]))

    image.tile = [changed(tile) for tile in image.tile]  # type: ignore[attr-defined]
    return image


def _colours_16(parts: list[PILImage], key: Any, bands: str, channels: int) -> np.ndarray:
    from PIL import Image

    halves = [np.asarray(part) for part in parts]
    high, low = (halves[0][..., ::2], halves[0][..., 1::2]) if bands == "LA" else halves
    samples = high.astype(np.uint16) << 8 | low
    if bands[-1] in "Aa":
        colours, alpha = samples[..., :-1].astype(np.uint32), samples[..., -1:].astype(np.uint32)
        if bands[-1] == "A":
            colours = _WHITE_16 - alpha * (_WHITE_16 - colours) // _WHITE_16
        else:
            colours = np.minimum(colours + (_WHITE_16 - alpha), _WHITE_16)
        samples = colours.astype(np.uint16)
    pixels = (samples // 257).astype(np.uint8)
    if key is not None and bands == "RGB":
        pixels[(samples == key).all(axis=-1)] = 255
    if bands == "LA":
        return np.repeat(pixels, channels, axis=-1)
    mode = "CMYK" if bands == "CMYK" else "RGB"
    return _opaque(Image.frombytes(mode, pixels.shape[1::-1], pixels.tobytes()), None, channels)
