"""The order of a series' rows in time: by the column of dates, with what there is to say of it."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

from cnnjax.data.readers.csv_rows import column_of, read_rows
from cnnjax.data.series.dates import (
    DAY_NS,
    Moment,
    common_readings,
    compact,
    formatted,
    is_time_of_day,
    readings,
)

# Words in the names of columns that say when; numbers below the first are dates in digits, or
# counts of seconds, below the others a place in time where each stands once.
_OF_DATES = frozenset({"date", "datetime", "timestamp", "epoch", "unix"})
_OF_TIME = frozenset({"time", "ts", "ds", "year"}) | _OF_DATES
_OF_PLACES = frozenset({"day", "week", "month", "hour", "index", "step", "t", "period"})
_HOURS = ("hour", "hr")
_UNITS = ((86_400 * 7, "week"), (86_400, "day"), (3600, "hour"), (60, "minute"), (1, "second"))
_EQUAL = Decimal("1e-6")  # by how much steps of numbers may differ
_EVIDENCE = 10  # rows of equal steps that say how dates are to be read
_ADVICE = "give date_format=, or time_column='' to take the rows as they stand"


@dataclass(frozen=True)
class Order:
    """The rows of a series, the oldest first.

    Args:
        column: by which they are sorted; "": by none, they stand as in the file.
        places: positions of the rows in the file.
        step: between two of them, in words; "" where steps are unequal or unknown.
        remarks: sentences on what was sorted, and on unequal steps.
    """

    column: str
    places: tuple[int, ...]
    step: str = ""
    remarks: tuple[str, ...] = ()

    def facts(self) -> dict[str, Any]:
        """For records."""
        return {"time_column": self.column, "step": self.step, "remarks": list(self.remarks)}


def time_order(
    path: Path,
    header: Sequence[str],
    column: str,
    time_column: str | None = None,
    date_format: str | None = None,
) -> Order:
    """Sort the rows of a CSV file by time.

    Args:
        path: of the file.
        header: of it.
        column: of the values, which is none of time.
        time_column, date_format: as in `load_series`.

    Raises:
        ValueError: for a date that stands twice, is missing or is none, for dates that can be read
            in two ways that order the rows differently, or a column that is not there.
    """
    if time_column == "":
        count = sum(1 for _ in read_rows(path, [], empty_lines=False))
        return Order("", tuple(range(count)))
    first = dict(zip(header, next(iter(read_rows(path, header)))[1], strict=True))
    if time_column is not None:
        columns = [column_of(path, header, time_column)]
    else:
        columns = _columns_of_time(path, {k: v for k, v in first.items() if k != column})
    rows = list(read_rows(path, columns, empty_lines=False))
    where = f"{path}, column {columns[0]!r}" if columns else str(path)
    lines = [line for line, _ in rows]
    if not columns:
        return Order("", tuple(range(len(lines))))
    texts = [_joined(columns, cells) for _, cells in rows]
    asked = time_column is not None or date_format is not None
    moments = _moments(texts, lines, where, columns[0], date_format, asked)
    if moments is None:
        return Order("", tuple(range(len(lines))))
    return _sorted(columns[0], moments, texts, lines, where)


def _columns_of_time(path: Path, first: Mapping[str, str]) -> list[str]:
    """The column of dates by names and by the first row; with those of the time beside it."""
    dated = [name for name, text in first.items() if readings(text)]
    named = [name for name in first if _words(name) & _OF_TIME]
    if dated:
        column = next((name for name in dated if name in named), dated[0])
        if ":" in first[column]:
            return [column]
        clocks = [name for name, text in first.items() if is_time_of_day(text)]
        hours = [name for name in first if name.lower() in _HOURS and first[name].strip().isdigit()]
        return [column, *(clocks or hours)[:1]]
    parts = {name.lower(): name for name in first}
    if {"year", "month"} <= parts.keys() and all(
        first[parts[p]].isdigit() for p in ("year", "month")
    ):
        return [parts[name] for name in ("year", "month", "day", "hour", "minute") if name in parts]
    for name in (*named, *(name for name in first if _words(name) & _OF_PLACES)):
        if _number(first[name]) is not None:
            return [name]
    for name in first:
        if _words(name) & (_OF_TIME | _OF_PLACES) and name.lower() not in _OF_DATES:
            _check_not_backwards(path, name)
    for name in first:
        if name.lower() in _OF_DATES and first[name].strip():
            raise ValueError(
                f"{path}: column {name!r} holds {first[name]!r}, which is no date of a known form: "
                f"{_ADVICE}"
            )
    return []


def _check_not_backwards(path: Path, name: str) -> None:
    """Refuse a column of time that is not understood, and whose numbers fall from row to row."""
    texts = [text for _, (text,) in read_rows(path, [name], empty_lines=False)]
    forms = {re.sub(r"\d+", "0", text) for text in texts}
    numbers = [[int(digits) for digits in re.findall(r"\d+", text)] for text in texts]
    falling = all(a > b for a, b in itertools.pairwise(numbers))
    if len(texts) > 1 and len(forms) == 1 and falling:
        raise ValueError(
            f"{path}: column {name!r} runs backwards, from {texts[0]!r} to {texts[-1]!r}, which "
            f"are no dates of a known form: {_ADVICE}"
        )


def _joined(columns: Sequence[str], cells: Sequence[str]) -> str:
    """A date of one column or more; of year, month, day, hour and minute where these have each."""
    cells = [cell.strip() for cell in cells]
    if len(cells) > 1 and columns[0].lower() == "year":
        day = cells[2] if len(cells) > 2 else "1"
        clock = f" {':'.join(cells[3:])}" if len(cells) > 3 else ""
        return f"{cells[0].zfill(4)}-{cells[1]}-{day}{clock}"
    return " ".join(cells)


def _moments(
    texts: Sequence[str], lines: Sequence[int], where: str, column: str,
    date_format: str | None, asked: bool,
) -> list[Any] | None:  # fmt: skip
    """When each row is, to be compared with each other; None: the column is none of time."""
    for text, line in zip(texts, lines, strict=True):
        if not text:
            raise ValueError(f"{where}, line {line}: the date is missing: add it, or {_ADVICE}")
    if date_format is not None:
        return _of_format(texts, lines, where, date_format)
    numbers = [number for text in texts if (number := _number(text)) is not None]
    if len(numbers) == len(texts):
        return _of_numbers(texts, numbers, column, asked)
    ways, read = common_readings(texts, readings)
    if not ways:
        raise ValueError(
            f"{where}, line {lines[read]}: {texts[read]!r} is no date of the form of those before "
            f"it: {_ADVICE}"
        )
    orders = {way: sorted(range(len(texts)), key=ms.__getitem__) for way, ms in ways.items()}
    chosen, *others = orders
    even = [way for way, moments in ways.items() if _step(sorted(m.ns for m in moments))[0]]
    # Steps that are equal in one reading alone are no chance, of more rows than a few.
    decided = len(even) == 1 and len(texts) >= _EVIDENCE
    if not decided and any(orders[other] != orders[chosen] for other in others):
        raise ValueError(
            f"{where}: dates such as {texts[0]!r} can be read as {' or '.join(ways)}, which order "
            "the rows differently: give date_format=, e.g. '%d/%m/%Y' or '%m/%d/%Y'"
        )
    moments = ways[even[0] if even else chosen]
    _check_zones(moments, lines, where)
    return [moment.ns for moment in moments]


def _of_format(
    texts: Sequence[str], lines: Sequence[int], where: str, date_format: str
) -> list[int]:
    moments = []
    for text, line in zip(texts, lines, strict=True):
        moment = formatted(text, date_format)
        if moment is None:
            raise ValueError(
                f"{where}, line {line}: {text!r} is not of date_format={date_format!r}"
            )
        moments.append(moment)
    _check_zones(moments, lines, where)
    return [moment.ns for moment in moments]


def _check_zones(moments: Sequence[Moment], lines: Sequence[int], where: str) -> None:
    for moment, line in zip(moments, lines, strict=True):
        if moment.zoned != moments[0].zoned:
            raise ValueError(
                f"{where}: line {lines[0]} and line {line} differ in whether they have a time "
                "zone, so they cannot be compared"
            )


def _of_numbers(
    texts: Sequence[str], numbers: list[Decimal], column: str, asked: bool
) -> list[Any] | None:
    """Dates in digits, or numbers that grow with time; None: numbers of something else."""
    words = _words(column)
    digits = [compact(text) for text in texts] if asked or words & _OF_TIME else [None]
    if None not in digits:
        return [moment.ns for moment in digits if moment is not None]
    if asked or words & _OF_DATES:
        return numbers
    if words & _OF_TIME and len(set(numbers)) == len(numbers):
        return numbers
    ordered = sorted(set(numbers))
    return numbers if numbers in (ordered, ordered[::-1]) else None


def _sorted(
    column: str, moments: list[Any], texts: Sequence[str], lines: Sequence[int], where: str
) -> Order:
    places = sorted(range(len(moments)), key=moments.__getitem__)
    for a, b in itertools.pairwise(places):
        if moments[a] == moments[b]:
            raise ValueError(
                f"{where}: {texts[a]!r} in line {lines[a]} and {texts[b]!r} in line {lines[b]} are "
                "one point of time: keep one row of each, or give time_column='' to take the rows "
                "as they stand"
            )
    remarks = []
    if places == list(range(len(places)))[::-1] and len(places) > 1:
        remarks.append(f"{where}: the newest rows stand first, they are sorted by time")
    elif moved := sum(place != i for i, place in enumerate(places)):
        remarks.append(
            f"{where}: the rows are not in the order of time, they are sorted ({moved:,} of "
            f"{len(places):,} move)"
        )
    step, uneven = _step([moments[place] for place in places])
    if uneven:
        remarks.append(f"{where}: {uneven}")
    return Order(column, tuple(places), step, tuple(remarks))


def _step(moments: Sequence[Any]) -> tuple[str, str]:
    """The equal step of sorted moments, in words; else "", and what there is to say of them."""
    steps = Counter(b - a for a, b in itertools.pairwise(moments))
    if not steps:
        return "", ""
    least, most = min(steps), max(steps)
    if isinstance(least, Decimal):
        if most - least <= _EQUAL * most:
            return str(least), ""
    elif least == most:
        return _in_words(least), ""
    elif months := _months(moments):
        return f"{months} month{'s' * (months > 1)}", ""
    usual, count = steps.most_common(1)[0]
    total = len(moments) - 1
    return "", (
        f"steps are not equal: {count:,} of {total:,} are {_in_words(usual)}, the shortest "
        f"{_in_words(least)} and the longest {_in_words(most)}; windows take them as equal"
    )


def _months(moments: Sequence[int]) -> int:
    """The equal number of months between the first, or the last, days of months; 0: it is none."""
    days = [divmod(moment, DAY_NS) for moment in moments]
    if any(rest != days[0][1] for _, rest in days):
        return 0
    dates = [date.fromordinal(day) for day, _ in days]
    ends = all(date.fromordinal(day + 1).day == 1 for day, _ in days)
    if not ends and any(d.day != dates[0].day for d in dates):
        return 0
    counts = [d.year * 12 + d.month for d in dates]
    steps = {b - a for a, b in itertools.pairwise(counts)}
    return steps.pop() if len(steps) == 1 else 0


def _in_words(step: Any) -> str:
    """A step in the largest unit of which it is a whole number.

    >>> _in_words(2 * DAY_NS), _in_words(90 * 60 * 10**9)
    ('2 days', '90 minutes')
    """
    if isinstance(step, Decimal):
        return str(step)
    for seconds, name in _UNITS:
        count, rest = divmod(step, seconds * 10**9)
        if not rest and (name != "week" or count == 1):
            return f"{count:,} {name}{'s' * (count != 1)}"
    return f"{step / 1e9:g} seconds"


def _number(text: str) -> Decimal | None:
    text = text.strip()
    if (
        not re.fullmatch(r"[-+]?\d+(\.\d+)?(e[-+]?\d{1,2})?", text, re.ASCII | re.I)
        or len(text) > 40
    ):
        return None
    try:
        return Decimal(text)
    except InvalidOperation:
        return None


def _words(name: str) -> set[str]:
    return set(re.findall(r"[a-z]+", name.lower()))
