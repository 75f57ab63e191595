"""CAPTCHAs: images of a few distorted symbols, drawn by Pillow or by the package `captcha`."""

from __future__ import annotations

import hashlib
import string
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from typing import Any

import numpy as np

from cnnjax.core.checks import whole_number
from cnnjax.core.runtime import cache_directory
from cnnjax.core.text import suggest
from cnnjax.data.captcha.drawing import (
    Draws,
    captcha_package,
    draw_with_captcha,
    draw_with_pillow,
)
from cnnjax.data.dataset import Dataset
from cnnjax.data.pixels.cache import kept_pixels, open_pixels
from cnnjax.data.splits import Splits

SYMBOLS = string.digits + string.ascii_uppercase
RENDERERS = ("pillow", "captcha")

_KNOWN = frozenset(string.digits + string.ascii_letters)
_SMALLEST = (16, 8)  # height of an image, width of a symbol's share of it
_CACHE_FORMAT = 1


@dataclass(frozen=True)
class CaptchaRendering:
    """How a text becomes an image.

    Args:
        renderer: "pillow": symbols turned (up to 25 degrees), scaled, sheared and shifted one by
            one, the whole bent by waves, crossed by lines, with dots and grain, dark levels on
            light ones, in Pillow's own font Aileron, in which 0 and O, 1 and I differ; "captcha":
            the package of that name (`pip install captcha`) with its font Droid Sans Mono.
        length: symbols in an image, >= 1.
        symbols: what a text is made of: different letters and digits of ASCII.
        size: (height, width) of an image: at least 16 high and 8 wide a symbol.
        channels: 1 for grey, 3 for RGB.

    Raises:
        ValueError: for a setting that cannot be, or a package that is not installed.

    >>> CaptchaRendering()("A7K2", key="0 example").shape
    (64, 160, 1)
    """

    renderer: str = "pillow"
    length: int = 4
    symbols: str = SYMBOLS
    size: tuple[int, int] = (64, 160)
    channels: int = 1

    def __post_init__(self) -> None:
        if self.renderer not in RENDERERS:
            hint = suggest(str(self.renderer), RENDERERS, "renderers")
            raise ValueError(f"there is no renderer {self.renderer!r}. {hint}")
        object.__setattr__(self, "length", whole_number("length", self.length))
        _check_symbols(self.symbols)
        size = tuple(self.size) if isinstance(self.size, Sequence) else (self.size,)
        size = tuple(n.item() if isinstance(n, np.integer) else n for n in size)
        least = (_SMALLEST[0], _SMALLEST[1] * self.length)
        whole = len(size) == 2 and all(isinstance(n, int) for n in size)
        if not whole or size[0] < least[0] or size[1] < least[1]:
            raise ValueError(
                f"size must be (height, width), for length={self.length} at least {least}, got "
                f"{self.size!r}"
            )
        object.__setattr__(self, "size", size)
        if self.channels not in (1, 3):
            raise ValueError(f"channels must be 1 (grey) or 3 (RGB), got {self.channels!r}")
        object.__setattr__(self, "channels", int(self.channels))
        if self.renderer == "captcha":
            captcha_package()

    def __call__(self, text: str, key: str) -> np.ndarray:
        """An image of a text; a pure function of text, key and settings.

        Args:
            text: `length` of the symbols.
            key: of everything random.

        Returns:
            uint8 [height, width, channels].

        Raises:
            ValueError: for a text of another length or of other symbols.
        """
        self.numbers(text)
        draw = draw_with_pillow if self.renderer == "pillow" else draw_with_captcha
        return draw(text, self.size, self.channels, Draws(f"captcha {key}"))

    def numbers(self, text: str) -> np.ndarray:
        """A text as positions in `symbols`, int32 [length].

        Raises:
            ValueError: for a text of another length or of other symbols.
        """
        if len(text) != self.length:
            raise ValueError(f"text must have {self.length} symbols, got {text!r}")
        for symbol in text:
            if symbol not in self.symbols:
                raise ValueError(f"text={text!r} holds {symbol!r}, which is none of {self.symbols}")
        return np.array([self.symbols.index(symbol) for symbol in text], np.int32)


def load_captchas(
    train: int = 20_000,
    test: int = 1_000,
    validation: int = 0,
    *,
    seed: int = 0,
    rendering: CaptchaRendering | None = None,
    progress: Callable[[str], None] | None = None,
    **settings: Any,
) -> Splits:
    """Images of random texts, drawn once into a memory-mapped cache.

    Args:
        train, test, validation: number of images of each part; train >= 1, the others >= 0.
        seed: of texts and images; no two images share a key, so those of the test are new.
        rendering: how they are drawn; None takes the further settings, those of
            `CaptchaRendering`, which are refused beside a rendering.
        progress: told in a sentence before something takes long.

    Returns:
        Splits of uint8 images [N, H, W, C] and int32 labels [N, length], positions in `symbols`,
        which are the label names.

    Raises:
        ValueError: for a number or a setting that cannot be.
        OSError: if the cache cannot be written, as on a full disk.

    >>> splits = load_captchas(train=3, test=2, symbols="AB", length=2)
    >>> splits.train.inputs.shape, splits.train.labels.shape, splits.test.label_names
    ((3, 64, 160, 1), (3, 2), ('A', 'B'))
    """
    if rendering is not None and settings:
        raise ValueError(
            f"rendering is given, and {', '.join(settings)} beside it: give the settings to "
            "CaptchaRendering, or no rendering"
        )
    rendering = rendering or CaptchaRendering(**settings)
    counts = {
        "train": whole_number("train", train),
        "validation": whole_number("validation", validation, 0),
        "test": whole_number("test", test, 0),
    }
    seed = seed.item() if isinstance(seed, np.integer) else seed
    parts = {
        name: _part(rendering, name, count, seed, progress)
        for name, count in counts.items()
        if count
    }
    facts = {**asdict(rendering), "size": list(rendering.size)}
    source = {"data": "captcha", "captcha": {**facts, **counts, "seed": seed}}
    return Splits(**parts, source=source)


def random_text(rendering: CaptchaRendering, key: str) -> str:
    """A text of a rendering's symbols, a pure function of the key."""
    draws = Draws(f"captcha text {key}")
    return "".join(draws.choice(rendering.symbols) for _ in range(rendering.length))


def _part(
    rendering: CaptchaRendering,
    part: str,
    count: int,
    seed: int,
    progress: Callable[[str], None] | None,
) -> Dataset:
    """A part from the cache, or drawn into it."""
    keys = [f"{seed} {part} {index}" for index in range(count)]
    texts = [random_text(rendering, key) for key in keys]
    labels = np.stack([rendering.numbers(text) for text in texts])
    shape = (count, *rendering.size, rendering.channels)
    facts = (_CACHE_FORMAT, asdict(rendering), part, count, seed, _versions(rendering.renderer))
    name = hashlib.sha256(repr(facts).encode()).hexdigest()[:32]
    folder = cache_directory() / "data" / "captcha" / name
    images = open_pixels(folder, shape)
    if images is None:
        if progress:
            progress(f"drawing {count:,} CAPTCHAs once, into {folder}")
        # One after the other: Pillow keeps Python's lock most of the time, threads gain nothing.
        drawn = (rendering(text, key)[None] for text, key in zip(texts, keys, strict=True))
        images = kept_pixels(folder, shape, drawn)
    return Dataset(images, labels, tuple(rendering.symbols), f"captcha {rendering.renderer} {part}")


def _versions(renderer: str) -> tuple[str, ...]:
    """Of what draws: another one may draw other pixels."""
    names = ("pillow",) if renderer == "pillow" else ("pillow", "captcha")
    return tuple(f"{name} {metadata.version(name)}" for name in names)


def _check_symbols(symbols: str) -> None:
    if not isinstance(symbols, str) or not symbols:
        raise ValueError(f"symbols must be a text such as {SYMBOLS!r}, got {symbols!r}")
    for symbol in symbols:
        if symbol not in _KNOWN:
            raise ValueError(
                f"symbols={symbols!r} holds {symbol!r}: letters and digits of ASCII are needed"
            )
        if symbols.count(symbol) > 1:
            raise ValueError(f"symbols={symbols!r} holds {symbol!r} more than once")
