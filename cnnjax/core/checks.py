"""Checks of arguments: the plain value, or an error that names argument and value."""

from __future__ import annotations

import dataclasses
import difflib
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

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


def check_input_shape(shape: Sequence[int]) -> None:
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


_SMALLEST, _GREATEST = (float(edge) for edge in (np.finfo("f4").tiny, np.finfo("f4").max))


def plain_numbers(config: Any) -> None:
    """NumPy scalars, as computed settings often are, to Python's numbers: records are JSON."""
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if isinstance(value, np.generic):
            object.__setattr__(config, field.name, value.item())


def check_flags(config: Any) -> None:
    """Every field that is a bool: a text that is not empty would count as True."""
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if field.type in (bool, "bool") and not isinstance(value, bool):
            raise ValueError(f"{field.name} must be True or False, got {value!r}")


def check_numbers(config: Any, *names: str) -> None:
    """Fields that must be finite numbers."""
    for name in names:
        value = getattr(config, name)
        if not is_number(value):
            raise ValueError(f"{name} must be a finite number, got {value!r}")


def check_at_least(config: Any, least: int, *names: str) -> None:
    """Fields that must be finite and not below `least`; whole where the field's type says so."""
    for name in names:
        value = getattr(config, name)
        if value == math.inf:
            raise ValueError(f"{name} must be a finite number, got {value!r}")
        if not (is_number(value) and value >= least):
            raise ValueError(f"{name} must be at least {least}, got {value!r}")
        whole = type(config).__dataclass_fields__[name].type
        if "float" not in str(whole):
            if not isinstance(value, int):
                raise ValueError(f"{name} must be a whole number, got {value!r}")
            whole_number(name, value, least)


def check_factors(config: Any, name: str) -> None:
    """A pair of factors, of which a list becomes a tuple."""
    value = getattr(config, name)
    items = value if isinstance(value, list | tuple) else ()
    pair = tuple(v.item() if isinstance(v, np.generic) else v for v in items)
    if not (len(pair) == 2 and all(map(is_number, pair)) and 0 < pair[0] <= pair[1]):
        raise ValueError(
            f"{name} must be a pair of factors (low, high) with 0 < low <= high, got {value!r}"
        )
    object.__setattr__(config, name, pair)


def check_positive(config: Any, name: str) -> None:
    """A field that must be a positive number that float32 has."""
    value = getattr(config, name)
    if not (is_number(value) and value > 0):
        raise ValueError(f"{name} must be a positive number, got {value!r}")
    if not _SMALLEST <= value <= _GREATEST:  # would be 0 or infinite
        raise ValueError(f"{name} must be a number that float32 has, got {value!r}")


def check_one_of(config: Any, name: str, known: tuple[str, ...]) -> None:
    """A field that must be one of the known names; the nearest one is offered."""
    value = getattr(config, name)
    if value not in known:
        near = difflib.get_close_matches(str(value), known, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"{name} must be one of {', '.join(known)}, got {value!r}{hint}")
