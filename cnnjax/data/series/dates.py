"""Dates as files write them, read to nanoseconds in each way that a whole column allows."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from datetime import date, datetime
from typing import NamedTuple

DAY_NS = 86_400 * 10**9

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_MONTH = rf"(?P<month_name>{'|'.join(_MONTHS)})[a-z]*\.?"
_SEPARATOR = r"(?P<separator>[-/. ])"
_ALL_DATES = tuple(
    re.compile(rf"(?:(?:mon|tue|wed|thu|fri|sat|sun)[a-z]*,? )?{form}(?P<rest>.*)")
    for form in (
        rf"(?P<a>\d{{1,4}}){_SEPARATOR}(?P<b>\d{{1,2}})(?P=separator)(?P<c>\d{{1,4}})(?!\d)",
        rf"(?P<day>\d{{1,2}})[-/. ]?{_MONTH}[-/., ]*(?P<year>\d{{4}}|\d{{2}})(?!\d)",
        rf"(?P<year>\d{{4}})[-/. ]{_MONTH}[-/. ]?(?P<day>\d{{1,2}})(?!\d)",
        rf"{_MONTH}[-/. ]?(?P<day>\d{{1,2}}),? (?P<year>\d{{4}})(?!\d)",
        rf"{_MONTH}[-/. ]?(?P<year>\d{{4}}|\d{{2}})(?!\d)",
        r"(?P<year>\d{4})[-/.m](?P<month>\d{1,2})(?!\d)",
        r"(?P<month>\d{1,2})[-/.](?P<year>\d{4})(?!\d)",
        rf"(?P<year>\d{{4}})[-/. ]{_MONTH}(?!\d)",
        r"(?P<year>\d{4})[-/.: ]?q(?P<quarter>[1-4])",
        r"q(?P<quarter>[1-4])[-/.' ]*(?P<year>\d{4}|\d{2})(?!\d)",
        r"(?P<quarter>[1-4])q[-/.' ]*(?P<year>\d{4}|\d{2})(?!\d)",
        r"(?P<year>\d{4})[- ]?w(?P<week>\d{1,2})(?!\d)",
    )
)
_TIME = re.compile(
    r",?[t ]*(?P<hour>\d{1,2})(?:[:.h](?P<minute>\d{2})(?:[:.](?P<second>\d{2})"
    r"(?:[.,](?P<fraction>\d{1,9}))?)?)? ?(?P<half>[ap])?\.?(?:m\.?)? ?"
    r"(?P<zone>z|utc|gmt|[-+]\d{2}(?::?\d{2})?)?"
)
_CLOCK = re.compile(r"\d{1,2}:\d{2}(:\d{2}(\.\d+)?)?( ?[ap]\.?m\.?)?")
_COMPACT = re.compile(r"(\d{4})(\d{2})(\d{2})?(?:t?(\d{2})(\d{2})(\d{2})?)?")

# How three numbers may be meant, by where year, month and day stand.
_ORDERS = {"year-month-day": "abc", "day/month/year": "cba", "month/day/year": "cab"}


class Moment(NamedTuple):
    """A point of time in nanoseconds from the year 1 on, and whether it has a time zone."""

    ns: int
    zoned: bool


def readings(text: str) -> dict[str, Moment]:
    """The ways to read a text as a date, perhaps with a time of the day.

    Args:
        text: such as "2020-01-31", "1/2/2020 13:00", "31.01.2020" or "2 Jan 2020".

    Returns:
        {"year-month-day" and so on: what it is, read so}; empty: it is no date.

    >>> sorted(readings("1/2/2020")), sorted(readings("31/2/2020")), sorted(readings("13/2/2020"))
    (['day/month/year', 'month/day/year'], [], ['day/month/year'])
    """
    text = " ".join(text.lower().split())
    for form in _ALL_DATES:
        if (match := form.fullmatch(text)) and (time := _time_of(match["rest"])):
            found = {}
            if week := match.groupdict().get("week"):
                return _first_day(int(match["year"]), int(week), time)
            for order, (year, month, day) in _numbers(match.groupdict()):
                if (days := _ordinal(year, month, day)) is not None:
                    found[order] = Moment(days * DAY_NS + time.ns, time.zoned)
            return found
    return {}


def compact(text: str) -> Moment | None:
    """The date in digits alone, as 20200131, 202001 or 20200131235959; None: it is none."""
    # Whole numbers get a fraction where a column of theirs lacks one.
    match = _COMPACT.fullmatch(text.strip().lower().removesuffix(".0"))
    if match is None:
        return None
    year, month, day, hour, minute, second = (int(number or 0) for number in match.groups())
    days = _ordinal(year, month, day or 1) if 1700 <= year < 2300 else None
    if days is None or hour > 23 or minute > 59 or second > 59:
        return None
    return Moment(days * DAY_NS + (hour * 3600 + minute * 60 + second) * 10**9, False)


def formatted(text: str, date_format: str) -> Moment | None:
    """A text read as `datetime.strptime` does; None: it is of another form."""
    try:
        moment = datetime.strptime(text.strip(), date_format)
    except (ValueError, re.error):
        return None
    offset = moment.utcoffset()
    seconds = moment.hour * 3600 + moment.minute * 60 + moment.second
    seconds -= round(offset.total_seconds()) if offset else 0
    ns = moment.toordinal() * DAY_NS + seconds * 10**9 + moment.microsecond * 1000
    return Moment(ns, offset is not None)


def is_time_of_day(text: str) -> bool:
    """Whether a text is a time without a date, as 13:00."""
    return bool(_CLOCK.fullmatch(text.strip().lower()))


def _first_day(year: int, week: int, time: Moment) -> dict[str, Moment]:
    """The Monday of a week of ISO 8601; empty: the year has no such week."""
    try:
        days = date.fromisocalendar(year, week, 1).toordinal()
    except ValueError:
        return {}
    return {"year-week": Moment(days * DAY_NS + time.ns, time.zoned)}


def _numbers(found: dict[str, str | None]) -> Iterator[tuple[str, tuple[int, int, int]]]:
    """The orders in which a date's numbers may stand, each with (year, month, day)."""
    if found.get("a") is None:
        name, quarter = found.get("month_name"), found.get("quarter")
        month = _MONTHS.index(name) + 1 if name else int(found.get("month") or 0)
        month = int(quarter) * 3 - 2 if quarter else month
        yield "year-month-day", (_year(found["year"] or ""), month, int(found.get("day") or 1))
        return
    for order, places in _ORDERS.items():
        digits = [found[place] or "" for place in places]
        # German dates, with points, are written in one way.
        if found["separator"] == "." and order == "month/day/year" and int(digits[2]) <= 12:
            continue
        if len(digits[0]) in (2, 4) and len(digits[1]) <= 2 and len(digits[2]) <= 2:
            yield order, (_year(digits[0]), int(digits[1]), int(digits[2]))


def _year(digits: str) -> int:
    """A year; of two digits as POSIX has it, 1969 to 2068."""
    year = int(digits)
    return year if len(digits) > 2 else year + (1900 if year > 68 else 2000)


def _ordinal(year: int, month: int, day: int) -> int | None:
    try:
        return date(year, month, day).toordinal()
    except ValueError:
        return None


def _time_of(rest: str) -> Moment | None:
    """The time of the day; midnight where there is none, None where it is something else."""
    if not rest.strip():
        return Moment(0, False)
    match = _TIME.fullmatch(rest)
    if match is None or rest[0] not in ", t":
        return None
    hour, minute, second = (int(match[part] or 0) for part in ("hour", "minute", "second"))
    if match["half"]:
        hour = hour % 12 + 12 * (match["half"] == "p")
    if hour > 24 or minute > 59 or second > 60 or (hour == 24 and (minute or second)):
        return None
    zone = match["zone"] or ""
    if zone[:1] in ("+", "-"):
        sign = 1 if zone[0] == "+" else -1
        digits = zone[1:].replace(":", "").ljust(4, "0")
        minute -= sign * (int(digits[:2]) * 60 + int(digits[2:]))
    ns = int((match["fraction"] or "").ljust(9, "0"))
    return Moment(((hour * 60 + minute) * 60 + second) * 10**9 + ns, bool(zone))


def common_readings(
    texts: Sequence[str], read: Callable[[str], dict[str, Moment]]
) -> tuple[dict[str, list[Moment]], int]:
    """The ways in which all texts of a column can be read.

    Returns:
        {way: what each text is, read so}, and how many texts were read before none was left.
    """
    ways: dict[str, list[Moment]] = {}
    for place, text in enumerate(texts):
        found = read(text)
        if place == 0:
            ways = {way: [] for way in found}
        if not ways.keys() & found.keys():
            return {}, place
        ways = {way: moments for way, moments in ways.items() if way in found}
        for way, moments in ways.items():
            moments.append(found[way])
    return ways, len(texts)
