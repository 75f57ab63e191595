"""Numbers of several runs for people: mean, standard deviation, percentages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np


def deviation(values: Sequence[float] | Sequence[np.ndarray] | np.ndarray) -> Any:
    """Standard deviation of a sample (divided by N - 1) over the first axis; of a single value 0.

    >>> deviation([1.0, 3.0]).round(2), deviation([1.0])
    (np.float64(1.41), np.float64(0.0))
    """
    return np.std(values, axis=0, ddof=1 if len(values) > 1 else 0)


def mean_and_deviation(values: Sequence[float] | np.ndarray, digits: int = 4) -> str:
    """Mean and, of several values, standard deviation; nothing of none.

    >>> mean_and_deviation([1.0, 3.0], 2), mean_and_deviation([1.0], 1), mean_and_deviation([])
    ('2.00 ± 1.41', '1.0', '')
    """
    if not len(values):
        return ""
    mean = f"{np.mean(values):.{digits}f}"
    return mean if len(values) == 1 else f"{mean} ± {deviation(values):.{digits}f}"


def percent(value: float) -> str:
    """A fraction as a percentage with two decimals.

    >>> percent(0.9918)
    '99.18 %'
    """
    return f"{100 * value:.2f} %"
