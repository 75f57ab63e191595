"""Time series: generated or a column of a CSV file, cut into windows by time."""

from __future__ import annotations

import functools
import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from cnnjax.core.checks import is_number, whole_number
from cnnjax.core.places import expanded
from cnnjax.data.dataset import Dataset
from cnnjax.data.readers.csv_rows import check_commas, column_of, header_of, read_rows
from cnnjax.data.readers.file_names import existing, nearest
from cnnjax.data.series.time_order import time_order
from cnnjax.data.splits import Splits

DAY, WEEK = 24, 168  # the seasons of a generated series, in steps

PARTS = ("train", "validation", "test")


@dataclass(frozen=True, eq=False)
class Series:
    """A series, and how it is cut: `length` past values, from which `horizon` next ones follow.

    A window belongs to the part in which all its next values lie; its past may reach back into the
    part before, as it is known when the forecast is made. What is learned of the values, scaling
    included, is learned of the training part.

    Args:
        values: float64 [T], in the series' own units.
        length, horizon: number of past and of next values, >= 1.
        ends: where training, validation and test part end: 0 < a <= b < c = T; without a
            validation part a = b.
        name: what it is.
        source: for records, as in `Splits`.

    Raises:
        ValueError: if values are no numbers [T] or not finite, a part is too short for a window,
            the training part is constant, or values are too large or too small to scale.
    """

    values: np.ndarray
    length: int
    horizon: int
    ends: tuple[int, int, int]
    name: str = "series"
    source: Mapping[str, Any] | None = field(default=None)

    def __post_init__(self) -> None:
        if np.ndim(self.values) != 1 or not np.issubdtype(self.values.dtype, np.floating):
            raise ValueError(
                f"{self.name}: values must be floating [T], got {np.asarray(self.values).dtype} "
                f"{list(np.shape(self.values))}"
            )
        if not np.isfinite(self.values).all():
            place = int(np.argmin(np.isfinite(self.values)))
            raise ValueError(f"{self.name}: values[{place}] is {self.values[place]}, not finite")
        least = {"train": self.length + self.horizon, "validation": self.horizon}
        starts = dict(zip(PARTS, (0, *self.ends), strict=False))
        for part, end in zip(PARTS, self.ends, strict=True):
            steps, needed = end - starts[part], least.get(part, self.horizon)
            if steps < needed and not (part == "validation" and steps == 0):
                raise ValueError(
                    f"{self.name} has {len(self.values)} values, of which its {part} part gets "
                    f"{steps}; length={self.length} and horizon={self.horizon} need {needed}: take "
                    "a longer series or smaller windows"
                )
        train = self.values[: self.ends[0]]
        low, high = float(train.min()), float(train.max())
        # Not by the deviation: that of equal values is above 0 where their mean is rounded.
        if not high - low > 4 * np.finfo(np.float64).eps * max(abs(low), abs(high)):
            raise ValueError(f"{self.name}: all values of the training part are {low:g}")
        with np.errstate(all="ignore"):
            scaled = self.scaled(self.values) if 0 < self.deviation < math.inf else None
        if scaled is None or np.isinf(scaled).any():
            raise ValueError(
                f"{self.name}: values from {self.values.min():g} to {self.values.max():g} are too "
                "large or too small to scale: give them in another unit"
            )

    @functools.cached_property
    def mean(self) -> float:
        """Of the training part."""
        return float(self.values[: self.ends[0]].mean())

    @functools.cached_property
    def deviation(self) -> float:
        """Standard deviation of the training part."""
        return float(self.values[: self.ends[0]].std())

    def scaled(self, values: np.ndarray) -> np.ndarray:
        """Own units to what models take: (x - mean) / deviation, float32."""
        return ((np.asarray(values) - self.mean) / self.deviation).astype(np.float32)

    def unscaled(self, values: np.ndarray) -> np.ndarray:
        """The inverse of `scaled`, float64."""
        return np.asarray(values, np.float64) * self.deviation + self.mean

    def origins(self, part: str) -> range:
        """Positions of the first next value of each window of a part."""
        start = dict(zip(PARTS, (self.length, *self.ends), strict=False))[part]
        return range(max(start, self.length), self.ends[PARTS.index(part)] - self.horizon + 1)

    def past(self, part: str) -> np.ndarray:
        """The windows that forecasts are made of, float64 [N, length], in own units."""
        return _windows(self.values, self.origins(part), -self.length, self.length)

    def future(self, part: str) -> np.ndarray:
        """What followed each window, float64 [N, horizon], in own units."""
        return _windows(self.values, self.origins(part), 0, self.horizon)

    @functools.cached_property
    def splits(self) -> Splits:
        """Scaled windows [N, length, 1] with labels [N, horizon], float32; no copies of values."""
        scaled = self.scaled(self.values)
        parts = {}
        for part in PARTS:
            if origins := self.origins(part):
                images = _windows(scaled, origins, -self.length, self.length)[..., None]
                labels = _windows(scaled, origins, 0, self.horizon)
                parts[part] = Dataset(images, labels, (), f"{self.name} {part}")
        return Splits(**parts, source=self.source)


def _windows(values: np.ndarray, origins: range, offset: int, size: int) -> np.ndarray:
    every = np.lib.stride_tricks.sliding_window_view(values, size)
    return every[origins.start + offset : origins.stop + offset]


def load_series(
    file: str | Path | None = None,
    column: str | None = None,
    *,
    length: int = 2 * WEEK,
    horizon: int = DAY,
    validation: float = 0.1,
    test: float = 0.2,
    steps: int = 365 * DAY,
    seed: int = 0,
    time_column: str | None = None,
    date_format: str | None = None,
) -> Series:
    """A series, cut by time: the oldest values are trained on, the newest tested on.

    The rows of a file are sorted by time. A warning says what was out of order, and that steps are
    not equal, as those of markets, which have no weekends; windows take them as equal.

    Args:
        file: a CSV file with a line of column names; None generates a series.
        column: which of its columns.
        length, horizon: number of past and of next values of a window, >= 1.
        validation, test: fractions of the series, >= 0 and > 0, below 1 together.
        steps, seed: of a generated series.
        time_column: of a file, says when each row is; None finds it by its dates or its name; ""
            takes the rows as they stand.
        date_format: as `datetime.strptime` takes it, e.g. "%d/%m/%Y"; None finds it by the whole
            column.

    Raises:
        DataNotFound: if there is no such file.
        ValueError: for a file without that column or with something else than numbers in it, a date
            that stands twice, is missing or not readable, dates that two ways of reading order
            differently, a series that is too short, or an argument out of range.

    >>> series = load_series(steps=1000, length=48, horizon=12)
    >>> {name: len(part) for name, part in series.splits.parts.items()}
    {'train': 641, 'validation': 89, 'test': 189}
    """
    length, horizon = whole_number("length", length), whole_number("horizon", horizon)
    numbers = is_number(validation) and is_number(test)
    if not (numbers and validation >= 0 and test > 0 and validation + test < 1):
        raise ValueError(
            "validation and test must be fractions of the series, >= 0 and > 0 and below 1 "
            f"together, got {validation!r} and {test!r}"
        )
    cut: dict[str, Any] = {
        "length": length, "horizon": horizon,
        "validation": float(validation), "test": float(test),
    }  # fmt: skip
    order = None
    if file is None:
        of_file = {"column": column, "time_column": time_column, "date_format": date_format}
        for argument, given in of_file.items():
            if given is not None:
                raise ValueError(f"{argument}={given!r} is for a file, and none is given")
        steps, seed = whole_number("steps", steps), whole_number("seed", seed, 0)
        values, name = generate_series(steps, seed), "generated series"
        made: dict[str, Any] = {"steps": steps, "seed": seed}
    else:
        path = expanded(file).absolute()
        values, name = read_column(path, column), f"{column} of {path.name}"
        header = header_of(path)
        order = time_order(
            path, header, column_of(path, header, str(column)), time_column, date_format
        )
        for remark in order.remarks:
            warnings.warn(remark, stacklevel=2)
        values = values[list(order.places)]
        made = {
            "file": str(path), "column": column,
            "time_column": time_column, "date_format": date_format,
        }  # fmt: skip
    total = len(values)
    ends = (round(total * (1 - validation - test)), round(total * (1 - test)), total)
    if validation == 0:
        ends = (ends[1], ends[1], total)
    source = {"data": "series", "series": {**made, **cut}}
    if order is not None:
        source["order"] = order.facts()
    return Series(values, length, horizon, ends, name, source)


def generate_series(steps: int = 365 * DAY, seed: int = 0) -> np.ndarray:
    """A series as of a load in MW, hour by hour: trend, two seasons and noise.

    `y_t = 500 + 40 t / 8760 + day(t) (1 + week(t) / 2) + 30 week(t) + e_t`, where day has the
    period 24 and two harmonics, week is lower on two days of seven, and
    `e_t = 0.8 e_{t-1} + 6 n_t` with standard normal n.

    Args:
        steps: >= 1.
        seed: of the noise, >= 0.

    Returns:
        float64 [steps].

    Raises:
        ValueError: for steps or a seed that are no such numbers.

    >>> bool((generate_series(50, seed=1) == generate_series(100, seed=1)[:50]).all())
    True
    """
    steps, seed = whole_number("steps", steps), whole_number("seed", seed, 0)
    t = np.arange(steps)
    angle = 2 * math.pi * t / DAY
    day = 60 * np.sin(angle - 2.0) + 25 * np.sin(2 * angle - 1.0)
    # Five working days and two others, with soft borders.
    week = np.tanh(4 * np.cos(2 * math.pi * (t / WEEK - 0.35)) + 2.4)
    noise = 6 * _normal(steps, seed)
    for i in range(1, steps):
        noise[i] += 0.8 * noise[i - 1]
    return 500 + 40 * t / (365 * DAY) + day * (1 + week / 2) + 30 * week + noise


def _normal(count: int, seed: int) -> np.ndarray:
    """Standard normal numbers, by Box & Muller's transform of bits that NumPy never changes."""
    bits = np.random.Philox(np.random.SeedSequence(seed)).random_raw(2 * count)
    uniform = ((bits >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53
    first, second = uniform[::2], uniform[1::2]
    normal: np.ndarray = np.sqrt(-2 * np.log(first)) * np.cos(2 * math.pi * second)
    return normal


def read_column(file: str | Path, column: str | None) -> np.ndarray:
    """A column of numbers of a CSV file.

    Args:
        file: with a line of column names, separated by commas.
        column: its name.

    Returns:
        float64 [T].

    Raises:
        DataNotFound: if there is no such file.
        ValueError: if it has no such column (offers the nearest) or more than one, is not separated
            by commas, or a value is missing or no finite number (names the line).
    """
    file = existing(file)
    header = header_of(file)
    if column is None:
        check_commas(file, header)
        raise ValueError(f"{file} has columns: name one. {nearest('', header, 'columns')}")
    name = column_of(file, header, column)
    rows = read_rows(file, [name], empty_lines=False)
    return np.array([_number(cell, file, name, line) for line, (cell,) in rows])


def _number(text: str, file: Path, column: str, line: int) -> float:
    # Python's own reading takes more: digits of other scripts, and 1_5 for 15.
    plain_number = text.isascii() and "_" not in text
    try:
        value = float(text) if plain_number else math.nan
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        what = f"{text.strip()[:40]!r}, which is no finite number" if text.strip() else "no value"
        raise ValueError(f"{file}, line {line}: column {column!r} has {what}")
    return value
