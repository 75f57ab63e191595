"""Checks of settings that have parts: patterns, factors, weights, fractions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from cnnjax.core.checks import (
    is_number,
)

BALANCED = "balanced"


def layer_patterns(name: str, value: Any) -> tuple[str, ...]:
    """Patterns of layers as a tuple; a string alone is no sequence of them."""
    if isinstance(value, str):
        raise ValueError(f"{name} must be a tuple of patterns, got the string {value!r}")
    if not isinstance(value, Iterable) or not all(isinstance(v, str) for v in (*value,)):
        raise ValueError(f"{name} must be a tuple of patterns, got {value!r}")
    return tuple(value)


def pattern_factors(name: str, pairs: Any) -> tuple[tuple[str, float], ...]:
    """Pairs of a pattern and a factor; a mapping and lists of JSON become tuples."""
    pairs = pairs.items() if isinstance(pairs, Mapping) else pairs
    wanted = f"{name} must be pairs of a pattern and a factor, e.g. (('block5_*', 0.1),)"
    if not isinstance(pairs, Iterable) or isinstance(pairs, str):
        raise ValueError(f"{wanted}, got {pairs!r}")
    plain = []
    for pair in pairs:
        if not isinstance(pair, list | tuple) or len(pair) != 2 or not isinstance(pair[0], str):
            raise ValueError(f"{wanted}, got {pair!r}")
        factor = pair[1].item() if isinstance(pair[1], np.generic) else pair[1]
        if not (is_number(factor) and factor > 0):
            raise ValueError(
                f"{name}: the factor of {pair[0]!r} must be positive, got {factor!r}: what "
                "is to stay as it is belongs to frozen"
            )
        plain.append((pair[0], factor))
    return tuple(plain)


def weights_of_classes(name: str, value: Any) -> tuple[float, ...] | str:
    """A weight for each class; {class: weight}, as Keras takes it, becomes a tuple."""
    wanted = f"{name} must be {BALANCED!r} or numbers >= 0, one for each class"
    if isinstance(value, str):
        if value != BALANCED:
            raise ValueError(f"{wanted}, got {value!r}")
        return value
    if isinstance(value, Mapping):
        if set(value) != set(range(len(value))):
            raise ValueError(f"{wanted}: a mapping must name classes 0 to K - 1, got {value!r}")
        value = [value[label] for label in range(len(value))]
    items = np.asarray(value).tolist() if isinstance(value, list | tuple | np.ndarray) else []
    if not items or not all(is_number(item) and item >= 0 for item in items) or not any(items):
        raise ValueError(f"{wanted}, not all of them 0, got {value!r}")
    return tuple(float(item) for item in items)


def rising_fractions(name: str, value: Any) -> tuple[float, ...]:
    """Fractions of all steps in (0, 1), each above the one before."""
    items = value if isinstance(value, list | tuple) else ()
    plain = tuple(v.item() if isinstance(v, np.generic) else v for v in items)
    if not plain or not all(is_number(v) and 0 < v < 1 for v in plain):
        raise ValueError(f"{name} must be fractions of all steps in (0, 1), got {value!r}")
    if list(plain) != sorted(set(plain)):
        raise ValueError(f"{name} must rise, got {value!r}")
    return plain
