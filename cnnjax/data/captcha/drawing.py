"""How CAPTCHAs are drawn: with Pillow alone, and through the package `captcha`."""

from __future__ import annotations

import functools
import importlib.util
import itertools
import math
import random
import threading
from collections.abc import Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import numpy as np

if TYPE_CHECKING:
    from PIL.Image import Image

Item = TypeVar("Item")
Level: TypeAlias = int | tuple[int, ...]

# Of the package `captcha`: its font sizes for its own height.
_FONT_SIZES, _FONT_HEIGHT = (42, 50, 56), 60

_BENDS = (8, 2)  # columns and rows of the mesh that bends an image


class Draws:
    """Random numbers that are the same on every machine and in every version of Python.

    Of Python's generator only what is promised never to change is used: the seeding by a text, and
    `random()`.

    Args:
        key: of the numbers.
    """

    def __init__(self, key: str):
        self._random = random.Random(key).random

    def between(self, low: float, high: float) -> float:
        """A real number in [low, high)."""
        return low + (high - low) * self._random()

    def whole(self, low: int, high: int) -> int:
        """A whole number in [low, high]."""
        return low + int(self._random() * (high - low + 1))

    def choice(self, items: Sequence[Item]) -> Item:
        """One of the items."""
        return items[self.whole(0, len(items) - 1)]

    def grain(self, count: int) -> np.ndarray:
        """Noise, int16 [count] in [-128, 127], from raw bits, which NumPy never changes either."""
        bits = np.random.Philox(self.whole(0, 2**53 - 1)).random_raw(-(-count // 8))
        return np.asarray(bits, "<u8").view(np.int8)[:count].astype(np.int16)


def draw_with_pillow(text: str, size: tuple[int, int], channels: int, draws: Draws) -> np.ndarray:
    """A text turned, scaled, sheared and shifted symbol by symbol, bent, crossed out and grained.

    Args:
        text: symbols that the font has.
        size: (height, width).
        channels: 1 or 3.
        draws: of everything random.

    Returns:
        uint8 [height, width, channels], dark on light.
    """
    from PIL import Image, ImageDraw

    height, width = size
    ground = _level(draws, channels, 170, 255)
    image = Image.new("L" if channels == 1 else "RGB", (width, height), ground)
    share = width / len(text)
    side = round(1.3 * min(height, 1.3 * share))
    for place, symbol in enumerate(text):
        mask = _distorted(symbol, min(0.62 * height, 0.95 * share), side, draws)
        x = (place + 0.5 + draws.between(-0.12, 0.12)) * share - side / 2
        y = height * (0.5 + draws.between(-0.1, 0.1)) - side / 2
        image.paste(_level(draws, channels, 0, 90), (round(x), round(y)), mask)
    image = _bent(image, ground, draws)
    pen = ImageDraw.Draw(image)
    for _ in range(draws.whole(1, 3)):
        line = _curve(width, height, draws)
        pen.line(line, fill=_level(draws, channels, 0, 150), width=draws.whole(1, 2))
    for _ in range(draws.whole(20, 50)):
        x, y = draws.whole(0, width - 1), draws.whole(0, height - 1)
        extent = draws.whole(0, 1)
        pen.rectangle((x, y, x + extent, y + extent), fill=_level(draws, channels, 0, 255))
    pixels = np.asarray(image).astype(np.int16).reshape(height, width, channels)
    grain = draws.grain(pixels.size).reshape(pixels.shape) * draws.whole(0, 24)
    return np.clip(pixels + (grain >> 7), 0, 255).astype(np.uint8)


def _level(draws: Draws, channels: int, low: int, high: int) -> Level:
    """A grey level or a colour."""
    if channels == 1:
        return draws.whole(low, high)
    return tuple(draws.whole(low, high) for _ in range(channels))


def _distorted(symbol: str, size: float, side: int, draws: Draws) -> Image:
    """A symbol as a mask [side, side]: turned, scaled, and each corner pulled a little."""
    from PIL import Image

    glyph = _glyph(symbol, round(1.5 * size))
    angle = math.radians(draws.between(-25, 25))
    scale = 1.5 / draws.between(0.8, 1.1)
    middle_x, middle_y = glyph.width / 2, glyph.height / 2
    corners = []
    # In the order of Pillow's quadrilaterals: upper left, lower left, lower right, upper right.
    for x, y in ((-1, -1), (-1, 1), (1, 1), (1, -1)):
        pulled_x = (x + draws.between(-0.12, 0.12)) * side / 2 * scale
        pulled_y = (y + draws.between(-0.12, 0.12)) * side / 2 * scale
        corners.append(middle_x + pulled_x * math.cos(angle) - pulled_y * math.sin(angle))
        corners.append(middle_y + pulled_x * math.sin(angle) + pulled_y * math.cos(angle))
    return glyph.transform(
        (side, side), Image.Transform.QUAD, tuple(corners), Image.Resampling.BILINEAR
    )


@functools.lru_cache(maxsize=512)
def _glyph(symbol: str, size: int) -> Image:
    """A symbol in Pillow's own font, its capital letters' height in the middle."""
    from PIL import Image, ImageDraw

    font = _font(size)
    left, top, right, bottom = font.getbbox(symbol)
    margin = size // 4
    extent = (round(right - left) + 2 * margin, round(bottom - top) + 2 * margin)
    glyph = Image.new("L", extent, 0)
    ImageDraw.Draw(glyph).text((margin - left, margin - top), symbol, font=font, fill=255)
    return glyph


@functools.lru_cache(maxsize=16)
def _font(size: int) -> Any:
    from PIL import ImageFont

    return ImageFont.load_default(size)


def _bent(image: Image, ground: Level, draws: Draws) -> Image:
    """The image along two waves, one that lifts columns and one that shifts rows."""
    from PIL import Image

    width, height = image.size
    lift, shift = draws.between(0, 0.05 * height), draws.between(0, 0.05 * height)
    (a, b), (c, d) = ((draws.between(4, 9), draws.between(0, 2 * math.pi)) for _ in range(2))

    def source(x: float, y: float) -> tuple[float, float]:
        return (
            x + shift * math.sin(c * y / height + d),
            y + lift * math.sin(a * x / width + b),
        )

    columns = [round(width * i / _BENDS[0]) for i in range(_BENDS[0] + 1)]
    rows = [round(height * i / _BENDS[1]) for i in range(_BENDS[1] + 1)]
    mesh = []
    for left, right in itertools.pairwise(columns):
        for top, bottom in itertools.pairwise(rows):
            corners = ((left, top), (left, bottom), (right, bottom), (right, top))
            quad = tuple(value for corner in corners for value in source(*corner))
            mesh.append(((left, top, right, bottom), quad))
    return image.transform(
        image.size, Image.Transform.MESH, mesh, Image.Resampling.BILINEAR, fillcolor=ground
    )


def _curve(width: int, height: int, draws: Draws) -> list[tuple[float, float]]:
    """Points of a parabola from the left part of an image to its right part."""
    ends = (draws.between(0, 0.3 * width), draws.between(0.7 * width, width))
    first, middle, last = (draws.between(0.1 * height, 0.9 * height) for _ in range(3))
    points = []
    for i in range(13):
        t = i / 12
        y = (1 - t) ** 2 * first + 2 * t * (1 - t) * middle + t**2 * last
        points.append(((1 - t) * ends[0] + t * ends[1], y))
    return points


def draw_with_captcha(text: str, size: tuple[int, int], channels: int, draws: Draws) -> np.ndarray:
    """A text by the package `captcha`; arguments and result as in `draw_with_pillow`."""
    module, source = captcha_package()
    source.draws = draws
    image = _images(module, size).generate_image(text)
    return np.asarray(image.convert("L" if channels == 1 else "RGB")).reshape(*size, channels)


class _Source(threading.local):
    """Stands for `secrets` in the copy of `captcha.image`: draws from a key instead of the system.

    Each thread has its own.
    """

    draws: Draws

    def randbelow(self, limit: int) -> int:
        return self.draws.whole(0, limit - 1)

    def randbits(self, count: int) -> int:
        return self.draws.whole(0, 2**count - 1)

    def choice(self, items: Sequence[Item]) -> Item:
        return self.draws.choice(items)


@functools.cache
def captcha_package() -> tuple[ModuleType, _Source]:
    """A copy of `captcha.image` of our own, and the source of its random numbers.

    The package draws from the operating system, so that no seed reaches it; in the copy another
    source takes that place, and whoever imports the package beside us has it as it is.

    Raises:
        ValueError: if the package is not installed, or makes its random numbers in another way.
    """
    found = importlib.util.find_spec("captcha")
    spec = importlib.util.find_spec("captcha.image") if found else None
    if spec is None or spec.loader is None:
        raise ValueError(
            "renderer='captcha' needs the package captcha: pip install 'captcha>=0.7', or take "
            "renderer='pillow'"
        )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if not hasattr(module, "secrets"):
        raise ValueError(
            "renderer='captcha': this version of the package captcha does not draw its random "
            "numbers from `secrets`, so no seed can take their place: pip install 'captcha>=0.7'"
        )
    source = _Source()
    module.__dict__["secrets"] = source
    return module, source


@functools.lru_cache(maxsize=16)
def _images(module: ModuleType, size: tuple[int, int]) -> Any:
    height, width = size
    sizes = tuple(max(round(s * height / _FONT_HEIGHT), 8) for s in _FONT_SIZES)
    return module.ImageCaptcha(width, height, font_sizes=sizes)
