"""Checks of arguments: the plain value, or an error that names argument and value."""

from __future__ import annotations

import math
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
