"""Checks of arguments: the plain value, or an error that names argument and value."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from cnnjax.core.text import nearest

# Every seed; more examples, pixels a side or classes than anything here has.
LARGEST = 2**32 - 1


def whole_number(name: str, value: Any, least: int = 1, most: int = LARGEST) -> int:
    """A whole number as Python's, also where it is NumPy's.

    Args:
        name: of the argument, for the message.
        value: of it.
        least: the smallest that is right.
        most: the largest.

    Returns:
        The number.

    Raises:
        ValueError: if it is no whole number, or a smaller or larger one.

    >>> whole_number("count", np.int64(3))
    3
    >>> whole_number("count", 2.5)
    Traceback (most recent call last):
        ...
    ValueError: count must be a whole number >= 1, got 2.5
    """
    plain = value.item() if isinstance(value, np.integer) else value
    if isinstance(plain, bool) or not isinstance(plain, int) or plain < least:
        raise ValueError(f"{name} must be a whole number >= {least}, got {value!r}")
    if plain > most:
        raise ValueError(f"{name} must be at most {most}, got {value!r}")
    return plain


def is_number(value: Any) -> bool:
    """Whether a value is one finite number, as a float has it; True and False are none."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number beyond every float
        return False


# Without a model that says how many, channels are few, and sides not of all lengths.
_MOST_CHANNELS, _SHORTEST_SIDE, _LONGEST_TO_SHORTEST = 4, 8, 4


def channels_first(shape: Sequence[int], channels: int | None = None) -> bool:
    """Whether an image's shape is (C, H, W), as PyTorch has it, and cannot be (H, W, C).

    Args:
        shape: of one image.
        channels: how many a model takes; None where none is known, so that small maps of features
            may be meant.

    >>> channels_first((3, 32, 32)), channels_first((3, 32, 3)), channels_first((2, 2, 512))
    (True, False, False)
    """
    if len(shape) != 3:
        return False
    first, *sides = shape
    if channels is not None:
        return first == channels != shape[2]
    small, large = sorted(sides)
    few = 1 <= first <= _MOST_CHANNELS
    return few and small >= _SHORTEST_SIDE and large <= _LONGEST_TO_SHORTEST * small


def check_channels_last(
    what: str, shape: Sequence[int], channels: int | None = None, argument: str = "images"
) -> None:
    """Refuse a batch of images whose channels stand second.

    Args:
        what: the images are, in the message.
        shape: of the batch, [N, ...].
        channels: as in `channels_first`.
        argument: what the images are called in the remedy.

    Raises:
        ValueError: which says how to put the channels last.
    """
    if channels_first(shape[1:], channels):
        raise ValueError(
            f"{what} of shape {list(shape)} have their channels second, as PyTorch has them, and "
            f"cnnjax takes [N, H, W, C]: give np.moveaxis({argument}, 1, -1), which is "
            f"{argument}.transpose(0, 2, 3, 1)"
        )


def holds_tokens(dtype: Any) -> bool:
    """Whether inputs of a dtype are token ids, and not pixels of 8 or 16 bits or real numbers.

    >>> holds_tokens(np.int32), holds_tokens(np.int16), holds_tokens(np.float32)
    (True, False, False)
    """
    return bool(np.issubdtype(dtype, np.signedinteger)) and np.dtype(dtype).itemsize >= 4


# What pixels may come as, beside floating numbers.
PIXEL_DTYPES = (np.uint8, np.uint16, np.int16)
PIXELS = "uint8, uint16, int16 or floating"


def holds_pixels(dtype: Any) -> bool:
    """Whether inputs of a dtype may be pixels: of 8 or 16 bits, or floating.

    >>> holds_pixels(np.uint16), holds_pixels(np.float16), holds_pixels(np.int32)
    (True, True, False)
    """
    return dtype in PIXEL_DTYPES or bool(np.issubdtype(dtype, np.floating))


def sizes_text(shape: Any) -> str:
    """A shape in a title; several by name.

    >>> sizes_text((None, 8, 3)), sizes_text({"photo": (8, 8, 3), "age": (1,)})
    ('?x8x3', 'photo 8x8x3, age 1')
    """
    if isinstance(shape, Mapping):
        return ", ".join(f"{name} {sizes_text(one)}" for name, one in shape.items())
    return "x".join("?" if size is None else str(size) for size in shape)


def shape_text(shape: Any) -> str:
    """A shape in a message, with a question mark where any size will do; several by name.

    >>> shape_text((None, 8, 3)), shape_text({"photo": (8, 8, 3), "age": (1,)})
    ('?, 8, 3', "{'photo': [8, 8, 3], 'age': [1]}")
    """
    if isinstance(shape, Mapping):
        each = (f"{name!r}: [{shape_text(one)}]" for name, one in shape.items())
        return f"{{{', '.join(each)}}}"
    return ", ".join("?" if size is None else str(size) for size in shape)


def check_input_shape(shape: Any) -> None:
    """Refuse the size of a model's images with the channels first; other faults are not its own.

    Recordings of a few rows and many channels, as a net for time series takes them, are let through
    where their proportions are none that an image has often.
    """
    whole = isinstance(shape, Sequence) and all(isinstance(n, int | np.integer) for n in shape)
    if whole and channels_first(shape) and shape[0] in (1, 3) and max(shape) <= 2 * min(shape[1:]):
        first, height, width = shape
        raise ValueError(
            f"input_shape={tuple(shape)} has the channels first, as PyTorch has them, and cnnjax "
            f"takes (H, W, C): give input_shape={(height, width, first)}, and images as "
            "np.moveaxis(images, 1, -1)"
        )


Check = Callable[[str, Any], Any]  # (name of a setting, value) -> the value, or a ValueError

_SMALLEST, _GREATEST = (float(edge) for edge in (np.finfo("f4").tiny, np.finfo("f4").max))


def flag(name: str, value: Any) -> bool:
    """True or False: a text that is not empty would count as True."""
    if not isinstance(value, bool):
        raise ValueError(f"{name} must be True or False, got {value!r}")
    return value


def number(name: str, value: Any) -> float:
    """A finite number."""
    if not is_number(value):
        raise ValueError(f"{name} must be a finite number, got {value!r}")
    return value


def positive(name: str, value: Any) -> float:
    """A positive number that float32 has."""
    if not (is_number(value) and value > 0):
        raise ValueError(f"{name} must be a positive number, got {value!r}")
    if not _SMALLEST <= value <= _GREATEST:  # would be 0 or infinite
        raise ValueError(f"{name} must be a number that float32 has, got {value!r}")
    return value


def at_least_zero(name: str, value: Any) -> float:
    """A finite number that is not negative."""
    if not (is_number(value) and value >= 0):
        raise ValueError(f"{name} must be a finite number >= 0, got {value!r}")
    return value


def factors(name: str, value: Any) -> tuple[float, float]:
    """A pair of factors, of which a list becomes a tuple."""
    items = value if isinstance(value, list | tuple) else ()
    pair = tuple(v.item() if isinstance(v, np.generic) else v for v in items)
    if not (len(pair) == 2 and all(map(is_number, pair)) and 0 < pair[0] <= pair[1]):
        raise ValueError(
            f"{name} must be a pair of factors (low, high) with 0 < low <= high, got {value!r}"
        )
    return pair


def whole(least: int = 1) -> Check:
    """A check for `whole_number`."""
    return partial(whole_number, least=least)


def within(interval: str) -> Check:
    """A check for numbers of an interval, which is written as mathematics has it.

    >>> within("[0, 1)")("rate", 1)
    Traceback (most recent call last):
        ...
    ValueError: rate must lie in [0, 1), got 1
    """
    low, high = map(float, interval[1:-1].split(","))

    def check(name: str, value: Any) -> float:
        fits = is_number(value) and low <= value <= high
        if not fits or (value == low and interval[0] == "(") or (value == high and ")" in interval):
            raise ValueError(f"{name} must lie in {interval}, got {value!r}")
        return value

    return check


def one_of(*known: str) -> Check:
    """A check for one of the known names, of which the nearest one is offered."""

    def check(name: str, value: Any) -> str:
        if not isinstance(value, str) or value not in known:
            near = nearest(str(value), known)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise ValueError(f"{name} must be one of {', '.join(known)}, got {value!r}{hint}")
        return value

    return check


def optional(check: Check) -> Check:
    """A check that lets None pass."""
    return lambda name, value: None if value is None else check(name, value)
