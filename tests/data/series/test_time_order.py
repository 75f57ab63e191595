"""Series in files: sorted by time, or an error that says which argument decides."""

import warnings
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cnnjax.data import load_series, reload
from cnnjax.data.series.dates import DAY_NS, readings
from cnnjax.data.series.windows import Series

N = 60
START = datetime(2020, 1, 1)
DAYS = [START + timedelta(i) for i in range(N)]
HOURS = [START + timedelta(hours=i) for i in range(N)]


def write(path: Path, header: str, rows: list[str]) -> Path:
    path.write_text("\n".join([header, *rows, ""]), encoding="utf-8")
    return path


def loaded(path: Path, **options: Any) -> tuple[np.ndarray, list[str], dict[str, Any]]:
    """The values of a series, what was warned of, and its facts."""
    with warnings.catch_warnings(record=True) as remarks:
        warnings.simplefilter("always")
        series = load_series(path, "load", length=5, horizon=2, **options)
    assert series.source is not None
    facts = series.source["order"]
    assert [str(r.message) for r in remarks] == facts["remarks"]
    return series.values, facts["remarks"], facts


@pytest.mark.parametrize(
    ("name", "form", "times", "step"),
    [
        ("date", lambda t: t.strftime("%Y-%m-%d"), DAYS, "1 day"),
        ("Date", lambda t: t.strftime("%m/%d/%Y"), DAYS, "1 day"),
        ("Datum", lambda t: t.strftime("%d.%m.%Y"), DAYS, "1 day"),
        ("when", lambda t: t.strftime("%d/%m/%Y %H:%M"), HOURS + DAYS[5:], ""),
        ("x", lambda t: t.strftime("%d-%b-%y"), DAYS, "1 day"),
        ("x", lambda t: t.strftime('"%b %d, %Y"'), DAYS, "1 day"),
        ("x", lambda t: t.strftime("%A, %d %B %Y").replace(", ", " ", 0), None, ""),
        ("x", lambda t: t.strftime("%Y/%m/%d"), DAYS, "1 day"),
        ("date", lambda t: t.strftime("%Y%m%d"), DAYS, "1 day"),
        ("time", lambda t: t.isoformat() + "Z", HOURS, "1 hour"),
        ("time", lambda t: t.isoformat() + "+02:00", HOURS, "1 hour"),
        ("time", lambda t: t.strftime("%m/%d/%Y %I:%M %p"), HOURS + DAYS[20:], ""),
        ("timestamp", lambda t: str(int(t.replace(tzinfo=UTC).timestamp())), DAYS, "86400"),
        ("open_time", lambda t: str(int(t.replace(tzinfo=UTC).timestamp()) * 1000), DAYS, None),
        ("month", lambda t: t.strftime("%Y-%m"), [START.replace(year=y, month=m)
                                                 for y in range(2000, 2005) for m in range(1, 13)],
         "1 month"),
        ("x", lambda t: f"{t.year}Q{(t.month + 2) // 3}",
         [START.replace(year=y, month=m) for y in range(2000, 2015) for m in (1, 4, 7, 10)],
         "3 months"),
        ("year", lambda t: str(t.year), [START.replace(year=y) for y in range(1950, 2010)], "1"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("how", ["reversed", "shuffled"])
def test_rows_are_sorted_by_time(
    tmp_path: Path, name: str, form: Callable[[datetime], str], times: list[datetime] | None,
    step: str | None, how: str,
) -> None:  # fmt: skip
    times = sorted(set(times or DAYS))
    order = np.arange(len(times))[::-1] if how == "reversed" else None
    order = np.random.default_rng(0).permutation(len(times)) if order is None else order
    cells = [form(t) for t in times]
    if any("," in cell and not cell.startswith('"') for cell in cells):
        cells = [f'"{cell}"' for cell in cells]
    file = write(tmp_path / "a.csv", f"load,{name}", [f"{i}.5,{cells[i]}" for i in order])
    values, remarks, facts = loaded(file)
    np.testing.assert_array_equal(values, np.arange(len(times)) + 0.5)
    said = "newest rows stand first" if how == "reversed" else "are not in the order of time, they"
    assert said in remarks[0]
    assert facts["time_column"] == name
    if step:
        assert facts["step"] == step


@pytest.mark.parametrize(
    ("header", "form"),
    [
        ("date,time,load", lambda t: f"{t:%d/%m/%Y},{t:%H:%M:%S},"),
        ("dteday,hr,load", lambda t: f"{t:%Y-%m-%d},{t.hour},"),
        ("year,month,day,hour,load", lambda t: f"{t.year},{t.month},{t.day},{t.hour},"),
        ("Year,Month,Day,load", lambda t: f"{t.year},{t.month},{t.day},"),
    ],
)
def test_a_time_in_several_columns_is_put_together(
    tmp_path: Path, header: str, form: Callable[[datetime], str]
) -> None:
    times = DAYS if header.startswith("Year") else HOURS
    rows = [form(t) + str(i) for i, t in enumerate(times)]
    values, _, facts = loaded(write(tmp_path / "a.csv", header, rows[::-1]))
    np.testing.assert_array_equal(values, np.arange(N))
    assert facts["step"] == ("1 day" if times is DAYS else "1 hour")


@pytest.mark.parametrize(
    ("form", "step"),
    [
        (lambda i: f"2021-W{i + 1:02d}", "1 week"),
        (lambda i: f"{i % 4 + 1}Q{1990 + i // 4}", "3 months"),
        (lambda i: f"Q{i % 4 + 1}'{90 + i // 4 - 100 * (i >= 40):02d}", "3 months"),
        (lambda i: f"{2015 + i // 12} {START.replace(month=i % 12 + 1, day=1):%b}", "1 month"),
        (lambda i: f"{START + timedelta(days=i):%Y%m%d}.0", "1 day"),
        (lambda i: f'"{START + timedelta(hours=i):%d/%m/%Y, %H:%M:%S}"', "1 hour"),
        (lambda i: f"{datetime(2021, 1, 1) + timedelta(days=i):%d.%m.%y}", "1 day"),
        (lambda i: f"{datetime(2021, 1, 1) + timedelta(days=i):%y-%m-%d}", "1 day"),
    ],
)  # fmt: skip
def test_weeks_quarters_and_years_of_two_digits_are_sorted(
    tmp_path: Path, form: Callable[[int], str], step: str
) -> None:
    rows = [f"{form(i)},{i}" for i in reversed(range(50))]
    values, _, facts = loaded(write(tmp_path / "a.csv", "date,load", rows))
    np.testing.assert_array_equal(values, np.arange(50))
    assert facts["step"] == step


@pytest.mark.parametrize(
    ("column", "form"),
    [
        ("year", lambda i: f"{1960 + i}-{1961 + i}"),
        ("week", lambda i: f"KW {i + 1}"),
        ("period", lambda i: f"P{i}"),
    ],
)
def test_a_column_of_time_that_is_not_understood_does_not_run_backwards(
    tmp_path: Path, column: str, form: Callable[[int], str]
) -> None:
    rows = [f"{form(i)},{i}" for i in range(40)]
    values, *_ = loaded(write(tmp_path / "a.csv", f"{column},load", rows))
    np.testing.assert_array_equal(values, np.arange(40))
    file = write(tmp_path / "b.csv", f"{column},load", rows[::-1])
    with pytest.raises(ValueError, match=f"column '{column}' runs backwards, from '.*time_column"):
        loaded(file)


def test_rows_in_order_say_nothing_and_files_without_dates_stay_as_they_are(tmp_path: Path) -> None:
    rows = [f"{t:%Y-%m-%d},{i % 7}" for i, t in enumerate(DAYS)]
    values, remarks, facts = loaded(write(tmp_path / "a.csv", "date,load", rows))
    assert (remarks, facts) == ([], {"time_column": "date", "step": "1 day", "remarks": []})
    np.testing.assert_array_equal(values, np.arange(N) % 7)
    shuffled = np.random.default_rng(0).permutation(N)
    rows = [f"{i},{i % 5},{i % 3},red" for i in shuffled]  # temperature is no time
    values, remarks, facts = loaded(write(tmp_path / "b.csv", "load,temperature,day,colour", rows))
    assert (remarks, facts["time_column"]) == ([], "")
    np.testing.assert_array_equal(values, shuffled)


def test_steps_that_are_not_equal_are_said(tmp_path: Path) -> None:
    """As those of a market, which is closed on weekends."""
    open_days = [t for t in DAYS if t.weekday() < 5]
    rows = [f"{t:%Y-%m-%d},{i}" for i, t in enumerate(open_days)]
    _, remarks, facts = loaded(write(tmp_path / "a.csv", "date,load", rows))
    assert remarks[0].endswith(
        "steps are not equal: 34 of 42 are 1 day, the shortest 1 day and the longest 3 days; "
        "windows take them as equal"
    )
    assert facts["step"] == ""
    rows = [f"{t:%Y-%m-%d},{i}" for i, t in enumerate(DAYS) if i != 30]
    assert "57 of 58 are 1 day" in loaded(write(tmp_path / "b.csv", "date,load", rows))[1][0]


@pytest.mark.parametrize(
    ("column", "rows", "message"),
    [
        ("date", ["01/02/2020", "02/01/2020", "03/03/2020"],
         r"dates such as '01/02/2020' can be read as day/month/year or month/day/year, which order "
         r"the rows differently: give date_format=, e\.g\. '%d/%m/%Y'"),
        ("date", ["1-2-20", "2-1-20", "3-3-20"], "can be read as .* give date_format="),
        ("date", ["2020-01-01", "2020-01-02", "2020-01-01"],
         "'2020-01-01' in line 2 and '2020-01-01' in line 4 are one point of time"),
        ("t", ["2020-01-01T00:00Z", "2020-01-02T00:00Z", "2020-01-01T02:00+02:00"], "are one poin"),
        ("date", ["2020-01-01", "", "2020-01-03"], "line 3: the date is missing"),
        ("date", ["2020-01-01", "2020-01-02", "Total"], "line 4: 'Total' is no date of the form"),
        ("date", ["31/01/2020", "01/31/2020", "02/02/2020"], "line 3: '01/31/2020' is no date of"),
        ("date", ["2020-01-01", "2020-02-30", "2020-03-01"], "line 3: '2020-02-30' is no date"),
        ("t", ["2020-01-01T00:00Z", "2020-01-02T00:00", "2020-01-03T00:00Z"],
         "line 2 and line 3 differ in whether they have a time zone"),
        ("Date", ["yesterday", "today", "now"], "holds 'yesterday', which is no date of a known"),
        ("timestamp", ["1580000000", "1580000000", "1580000060"], "are one point of time"),
    ],
)  # fmt: skip
def test_dates_that_are_in_doubt_are_named(
    tmp_path: Path, column: str, rows: list[str], message: str
) -> None:
    file = write(tmp_path / "a.csv", f"{column},load", [f"{d},{i}" for i, d in enumerate(rows)])
    with pytest.raises(ValueError, match=message) as caught:
        load_series(file, "load", length=5, horizon=2)
    assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match="has 3 values, of which its train part"):
        load_series(file, "load", length=5, horizon=2, time_column="")  # as the rows stand


def test_the_form_of_dates_can_be_given(tmp_path: Path) -> None:
    days = [START + timedelta(days=31 * i) for i in range(12)]
    days = [t.replace(day=1 + i) for i, t in enumerate(days)]  # 1 to 12, so that both ways fit
    rows = [f"{t:%d/%m/%Y},{i}" for i, t in enumerate(days)]
    rows[3], rows[4] = rows[4], rows[3]
    file = write(tmp_path / "a.csv", "when,load", rows)
    series = {"length": 2, "horizon": 1}
    with warnings.catch_warnings(record=True) as remarks:
        warnings.simplefilter("always")
        found = load_series(file, "load", **series, date_format="%d/%m/%Y")
        again = reload(found.splits.source)
    assert "they are sorted (2 of 12 move)" in str(remarks[0].message)
    np.testing.assert_array_equal(found.values, np.arange(12))
    assert again.train.fingerprint == found.splits.train.fingerprint
    with pytest.raises(ValueError, match=r"line 2: '01/01/2020' is not of date_format='%Y'"):
        load_series(file, "load", **series, date_format="%Y")
    with pytest.raises(ValueError, match=r"has no column 'wen'\. Did you mean 'when'"):
        load_series(file, "load", **series, time_column="wen")
    with pytest.raises(ValueError, match="time_column='when' is for a file, and none is given"):
        load_series(time_column="when")


@pytest.mark.parametrize(
    ("text", "oracle"),
    [
        ("2024-02-29", "2024-02-29"), ("29.2.2024", "2024-02-29"), ("2/29/2024", "2024-02-29"),
        ("29 Feb 2024", "2024-02-29"), ("February 29, 2024", "2024-02-29"),
        ("2024-02-29T12:34:56.789Z", "2024-02-29T12:34:56.789"),
        ("2024-02-29 24:00", "2024-03-01"), ("2/29/2024 12:05 AM", "2024-02-29T00:05"),
        ("2/29/2024 1:05 pm", "2024-02-29T13:05"), ("2024-02-29T01:00-05:30", "2024-02-29T06:30"),
        ("Thu, 29 Feb 2024 08:00 GMT", "2024-02-29T08:00"), ("Q2 2024", "2024-04-01"),
        ("2024M03", "2024-03-01"), ("2024-2", "2024-02-01"), ("29/02/24", "2024-02-29"),
    ],
)  # fmt: skip
def test_dates_are_those_of_pythons_datetime(text: str, oracle: str) -> None:
    wanted = datetime.fromisoformat(oracle)
    ns = (wanted.toordinal() * DAY_NS) + round(
        (wanted - datetime(wanted.year, wanted.month, wanted.day)).total_seconds() * 1e9
    )
    assert ns in [moment.ns for moment in readings(text).values()]


@pytest.mark.parametrize(
    "text", ["", "cat", "12", "3.5", "1,5", "2020", "13:00", "2023-02-29", "99/99/2020", "1.2.3",
             "2020-01-01 25:00", "2020-01-01 12:61", "2020-01-01x", "192.168.1.1"],
)  # fmt: skip
def test_texts_that_are_no_dates(text: str) -> None:
    assert readings(text) == {}


# Series of values


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_named(value: float) -> None:
    values = np.arange(20.0)
    values[15] = value
    with pytest.raises(ValueError, match=r"series: values\[15\] is (nan|inf|-inf), not finite"):
        Series(values, 4, 3, (10, 10, 20))


@pytest.mark.parametrize("values", [np.arange(20), np.zeros((20, 2)), np.array(["a"] * 20)])
def test_values_are_a_line_of_floating_numbers(values: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"values must be floating \[T\], got "):
        Series(values, 4, 3, (10, 10, 20))
