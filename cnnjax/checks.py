"""Checks of arguments: the plain value, or an error that names argument and value."""

from __future__ import annotations

import math
from typing import Any

import numpy as np


def whole_number(name: str, value: Any, least: int = 1) -> int:
    """A whole number as Python's, also where it is NumPy's.

    Args:
        name: of the argument, for the message.
        value: of it.
        least: the smallest that is right.

    Returns:
        The number.

    Raises:
        ValueError: if it is no whole number, or a smaller one.

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
    return plain


def is_number(value: Any) -> bool:
    """Whether a value is one finite number; True and False are none."""
    if isinstance(value, np.generic):
        value = value.item()
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
