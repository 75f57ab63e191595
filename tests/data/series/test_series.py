"""Series: generated from a seed or read from a file, cut by time, never across it; their errors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import signal, stats

from cnnjax.data import DataNotFound, Series, load_series, reload
from cnnjax.data.series.windows import _normal, generate_series, read_column

SHORT: dict[str, Any] = {"steps": 600, "length": 30, "horizon": 6}


def series_of(values: Any, length: int = 4, horizon: int = 3, cuts: Any = None) -> Series:
    values = np.asarray(values, np.float64)
    total = len(values)
    return Series(values, length, horizon, cuts or (total // 2, total // 2, total))


# The generated series


def test_a_generated_series_is_a_function_of_its_seed() -> None:
    long = generate_series(500, seed=2)
    np.testing.assert_array_equal(long[:200], generate_series(200, seed=2))
    np.testing.assert_array_equal(long, generate_series(500, seed=2))
    assert np.abs(long - generate_series(500, seed=3)).max() > 1


def test_it_has_a_trend_a_day_and_a_week() -> None:
    values = generate_series(50 * 168)
    weeks = values.reshape(50, 168).mean(axis=1)
    slope = stats.linregress(np.arange(50) * 168, weeks)
    assert slope.slope == pytest.approx(40 / 8760, rel=0.1)
    frequencies, power = signal.periodogram(signal.detrend(values))
    peaks = 1 / frequencies[np.argsort(power)[-6:]]
    for period in (24, 168):
        assert np.isclose(peaks, period, rtol=1e-6).any(), peaks


def test_its_noise_is_normal() -> None:
    noise = _normal(20_000, 0)
    assert stats.kstest(noise, "norm").pvalue > 1e-3
    assert abs(np.corrcoef(noise[1:], noise[:-1])[0, 1]) < 0.03


# Files


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8-sig")
    return path


def test_a_column_is_numpys(tmp_path: Path) -> None:
    file = write(tmp_path / "a.csv", "day, load,note\n1,3.5,a\n2,-1e3,\n3, 7 ,c\n\n\n")
    wanted = np.genfromtxt(file, delimiter=",", names=True, encoding="utf-8-sig", usecols=(0, 1))[
        "load"
    ]
    np.testing.assert_array_equal(read_column(file, "load"), wanted)
    np.testing.assert_array_equal(read_column(file, "day"), [1, 2, 3])


@pytest.mark.parametrize(
    ("text", "column", "message"),
    [
        ("load,temp\n1,2\n", "lod", r"has no column 'lod'\. Did you mean 'load'\?"),
        ("load,temp\n1,2\n", None, r"has columns: name one\. Known columns: load, temp\."),
        ("", "load", r"has no column 'load'\. There are no known columns"),
        ("load\n1\n2.5\nx7\n", "load", "line 4: column 'load' has 'x7', which is no finite number"),
        ("load\n1\n2,5\n3\n", "load", "line 3 has 2 values, the header has 1"),
        (
            "load\n1\n1_000\n",
            "load",
            "line 3: column 'load' has '1_000', which is no finite number",
        ),
        ("load\n1\n$5\n", "load", r"line 3: column 'load' has '\$5', which is no finite number"),
        ('load\n1\n"1,234"\n', "load", "line 3: column 'load' has '1,234', which is no finite"),
        ("load\n1\nnan\n", "load", "line 3: column 'load' has 'nan', which is no finite number"),
        ("load\n1\n\n2\n", "load", "line 3: the line is empty, and rows follow"),
        ("day,load\n1,1\n2\n", "load", "line 3 has 1 values, the header has 2"),
        ("day,load\n1,1\n2, \n", "load", "line 3: column 'load' has no value"),
        ("load\n\n\n", "load", "holds no rows below its header"),
        ("y,y\n1,2\n", "y", "has 2 columns 'y': one is needed"),
        ("day;load\n1;2\n", "load", r"a\.csv is separated by ';'\? Commas are needed"),
        ("day;load\n1;2\n", None, r"a\.csv is separated by ';'\? Commas are needed"),
    ],
)
def test_a_column_that_cannot_be_read_is_named(
    tmp_path: Path, text: str, column: str | None, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        read_column(write(tmp_path / "a.csv", text), column)


def test_a_semicolon_in_the_name_of_a_column_is_no_separator(tmp_path: Path) -> None:
    file = write(tmp_path / "a.csv", "load; MW\n1\n2\n")
    assert read_column(file, "load; MW").tolist() == [1, 2]


def test_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(DataNotFound, match=r"data file .*none\.csv does not exist"):
        load_series(tmp_path / "none.csv", "load")
    (tmp_path / "bytes.csv").write_bytes(b"load\n\xff\xfe\n")
    with pytest.raises(ValueError, match=r"bytes\.csv is not UTF-8 text \(byte 0xff in line 2"):
        load_series(tmp_path / "bytes.csv", "load")


# Windows


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 9), st.integers(1, 5), st.integers(40, 70), st.sampled_from([0.0, 0.2]))
def test_windows_are_those_cut_out_one_by_one(
    length: int, horizon: int, total: int, validation: float
) -> None:
    series = load_series(
        steps=total, length=length, horizon=horizon, validation=validation, test=0.3
    )
    starts = dict(zip(("train", "validation", "test"), (0, *series.ends), strict=False))
    ends = dict(zip(starts, series.ends, strict=True))
    assert ends["test"] == total
    assert (series.splits.validation is None) == (validation == 0)
    for part, data in series.splits.parts.items():
        wanted = [
            (series.values[t - length : t], series.values[t : t + horizon])
            for t in range(total)
            if t >= length and starts[part] <= t and t + horizon <= ends[part]
        ]
        past, future = (np.stack(column) for column in zip(*wanted, strict=True))
        np.testing.assert_array_equal(series.past(part), past)
        np.testing.assert_array_equal(series.future(part), future)
        assert (data.inputs.dtype, data.labels.dtype) == (np.float32, np.float32)
        scaled = (past - series.mean) / series.deviation
        np.testing.assert_allclose(data.inputs[..., 0], scaled, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(series.unscaled(data.labels), future, rtol=1e-5)


def test_nothing_of_what_comes_later_is_learned_from() -> None:
    values = generate_series(600)
    ends = (420, 480, 600)
    later = values.copy()
    later[420:] = 1e6
    before, after = (Series(v, 30, 6, ends) for v in (values, later))
    assert (before.mean, before.deviation) == (after.mean, after.deviation)
    assert before.mean == pytest.approx(values[:420].mean())
    assert before.splits.train.fingerprint == after.splits.train.fingerprint
    last = before.origins("train")[-1] + 6
    assert last == 420 == before.origins("validation")[0]


def test_windows_copy_nothing() -> None:
    series = load_series(steps=5000)
    parts = series.splits.parts.values()
    assert all(np.may_share_memory(part.inputs, part.labels) for part in parts)


def test_a_record_makes_them_again(tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    np.savetxt(file, generate_series(300), header="load", comments="")
    for series in (load_series(**SHORT, seed=4), load_series(file, "load", length=9, horizon=2)):
        again = reload(json.loads(json.dumps(series.splits.source)))
        assert {k: v.fingerprint for k, v in again.parts.items()} == {
            k: v.fingerprint for k, v in series.splits.parts.items()
        }


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"length": 0}, "length must be a whole number >= 1, got 0"),
        ({"horizon": 0}, "horizon must be a whole number >= 1, got 0"),
        ({"horizon": 1.5}, r"horizon must be a whole number >= 1, got 1\.5"),
        ({"steps": 0}, "steps must be a whole number >= 1, got 0"),
        ({"test": 0.0}, r"validation and test must be fractions .* got 0\.1 and 0\.0"),
        ({"test": 0.9}, r"validation and test must be fractions .* got 0\.1 and 0\.9"),
        ({"validation": -0.1}, r"validation and test must be fractions .* got -0\.1"),
        ({"validation": "0.1"}, r"validation and test must be fractions .* got '0\.1' and 0\.2"),
        ({"test": None}, r"validation and test must be fractions .* got 0\.1 and None"),
        ({"seed": -1}, "seed must be a whole number >= 0, got -1"),
        ({"seed": 0.5}, r"seed must be a whole number >= 0, got 0\.5"),
        ({"column": "load"}, "column='load' is for a file, and none is given"),
        ({"steps": 50}, "has 50 values, of which its train part gets 35; .* need 36"),
        ({"steps": 100, "validation": 0.05}, "its validation part gets 5; .* need 6"),
        ({"steps": 100, "test": 0.05}, "its test part gets 5; .* need 6"),
    ],
)
def test_what_cannot_be_cut_is_named(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load_series(**{**SHORT, **arguments})


def test_a_constant_training_part_has_no_scale() -> None:
    with pytest.raises(ValueError, match="all values of the training part are 3"):
        series_of([3.0] * 10 + [4.0] * 10)


def test_equal_values_are_constant_where_their_mean_is_rounded(tmp_path: Path) -> None:
    values = np.full(1000, 0.1)
    assert values[:700].std() > 0
    file = write(tmp_path / "a.csv", "\n".join(["load", *["0.1"] * 1000]))
    with pytest.raises(ValueError, match=r"all values of the training part are 0\.1"):
        load_series(file, "load", length=9, horizon=2)
    values[::2] = np.nextafter(0.1, 1)
    with pytest.raises(ValueError, match=r"all values of the training part are 0\.1"):
        series_of(values)
    values[::2] += 1e-12  # which is small, and no rounding
    assert np.abs(series_of(values).splits.train.inputs).max() < 2


@pytest.mark.parametrize("unit", [1e202, 1e306, 1e-202])
def test_values_that_cannot_be_scaled_are_named(unit: float) -> None:
    values = np.random.default_rng(0).uniform(size=40)
    with pytest.raises(ValueError, match=r"values from .* are too large or too small to scale"):
        series_of(values * unit)
    later = np.where(np.arange(40) < 20, values, values * 1e202)
    with pytest.raises(ValueError, match=r"to .*e\+20. are too large or too small to scale: give"):
        series_of(later)


def test_numpys_whole_numbers_are_pythons() -> None:
    plain = load_series(steps=600, length=30, horizon=6, validation=0.125, test=0.25, seed=3)
    numpys: dict[str, Any] = {
        "steps": np.int64(600), "length": np.int32(30), "horizon": np.uint8(6),
        "validation": np.float32(0.125), "test": np.float64(0.25), "seed": np.int64(3),
    }  # fmt: skip
    source = load_series(**numpys).splits.source
    assert json.dumps(source) == json.dumps(plain.splits.source)
