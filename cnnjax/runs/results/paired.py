"""Whether paired values bear a claim out: mean difference, 95 % interval, and a word."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from cnnjax.core.checks import is_number

CONFIDENCE = 0.95

HOLDS, FAILS, OPEN = "holds", "does not hold", "not decided"


class Claimed(Protocol):
    """What a claim says of the difference between two arms; `Claim` and `Measured` are such."""

    @property
    def by(self) -> float:
        """The first arm exceeds the second by more than this."""

    @property
    def within(self) -> float | None:
        """The arms differ by at most this; None where one is to exceed the other."""


@dataclass(frozen=True)
class Verdict:
    """What paired values say of a claim.

    Args:
        pairs: how many there are.
        difference: the mean of first - second; NaN of no pair.
        low, high: bounds of its 95 % interval; infinite where there are too few pairs for one.
        word: "holds", "does not hold" or "not decided".
        reason: why nothing could be decided, where that is not the interval.
    """

    pairs: int
    difference: float
    low: float
    high: float
    word: str
    reason: str = ""


def evaluate(claim: Claimed, first: Sequence[float], second: Sequence[float]) -> Verdict:
    """Judge a claim by paired values, with Student's t over their differences.

    A claim that the first arm is above the second holds if the whole interval lies above `by`, and
    does not hold if it lies wholly at or below. One that both are alike holds if the interval lies
    inside [-within, within], and does not hold if it lies wholly outside.

    Args:
        claim: with `by` and `within`.
        first, second: values of its arms, as many of either, those of a pair at the same place.

    Raises:
        ValueError: if there are more of one arm, or a value is no finite number.

    >>> from cnnjax.runs.results import Claim
    >>> claim = Claim("Wide nets are better", "wide", "narrow", "test_accuracy")
    >>> verdict = evaluate(claim, [0.93, 0.94, 0.92], [0.90, 0.92, 0.89])
    >>> f"{verdict.difference:.4f} ({verdict.low:.4f} to {verdict.high:.4f}): {verdict.word}"
    '0.0267 (0.0123 to 0.0410): holds'
    """
    ours, theirs = paired(first, second)
    differences = ours - theirs
    count = len(differences)
    if count < 2:
        mean = float(differences[0]) if count else math.nan
        reason = f"{count or 'no'} pair{'s' * (count != 1)}, and an interval takes two"
        return Verdict(count, mean, -math.inf, math.inf, OPEN, reason)
    low, high = interval(differences)
    return Verdict(count, float(np.mean(differences)), low, high, _word(claim, low, high))


def paired(first: Sequence[float], second: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    """Values of two arms as float64 [pairs] each.

    Raises:
        ValueError: if there are more of one arm, or a value is no finite number.
    """
    if len(first) != len(second):
        raise ValueError(f"first has {len(first)} values and second {len(second)}: pairs have two")
    for name, values in (("first", first), ("second", second)):
        plain = [np.asarray(value).tolist() for value in values]
        if strange := [value for value in plain if not is_number(value)]:
            raise ValueError(f"{name} must hold finite numbers, got {strange[0]!r}")
    return np.asarray(first, np.float64), np.asarray(second, np.float64)


def interval(values: Sequence[float] | np.ndarray) -> tuple[float, float]:
    """The 95 % confidence interval of a mean: mean ± t s / sqrt(n).

    Args:
        values: at least two; of equal ones it is a point.
    """
    array = np.asarray(values, np.float64)
    mean, error = float(np.mean(array)), float(np.std(array, ddof=1)) / math.sqrt(len(array))
    if np.ptp(array) == 0:  # whose mean may be rounded
        return float(array[0]), float(array[0])
    reach = student_t(CONFIDENCE, len(array) - 1) * error
    return mean - reach, mean + reach


def student_t(inside: float, degrees: int) -> float:
    """The t for which Student's distribution has so much between -t and t.

    By bisection of the exact probability over the angle atan(t / sqrt(degrees)).

    Args:
        inside: of the probability, in (0, 1).
        degrees: of freedom, at least 1.

    >>> round(student_t(0.95, 2), 4)
    4.3027
    """
    low, high = 0.0, math.pi / 2
    while (angle := (low + high) / 2) not in (low, high):
        if _between(angle, degrees) < inside:
            low = angle
        else:
            high = angle
    return math.sqrt(degrees) * math.tan(low)


def _between(angle: float, degrees: int) -> float:
    """Student's probability between -t and t (Abramowitz and Stegun 1964, 26.7.3 and 26.7.4)."""
    cosine = math.cos(angle)
    odd = degrees % 2
    # The terms 1, c/d c^2, ... of the series, each the one before times a factor.
    later = np.arange(1, (degrees - odd) // 2)
    factors = (2 * later - 1 + odd) / (2 * later + odd) * cosine**2
    series = 1 + float(np.sum(np.cumprod(factors)))
    if not odd:
        return math.sin(angle) * series
    tail = math.sin(angle) * cosine * series if degrees > 1 else 0.0
    return 2 / math.pi * (angle + tail)


def _word(claim: Claimed, low: float, high: float) -> str:
    if claim.within is not None:
        if -claim.within <= low and high <= claim.within:
            return HOLDS
        return FAILS if low > claim.within or high < -claim.within else OPEN
    if low > claim.by:
        return HOLDS
    return FAILS if high <= claim.by else OPEN
