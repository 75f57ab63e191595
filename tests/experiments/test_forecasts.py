"""Forecasts that need no net, and their errors."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import mean_absolute_error, root_mean_squared_error

from cnnjax.data import Series
from experiments._forecasts import (
    forecast_errors,
    moving_average,
    naive,
    seasonal_naive,
)

pytestmark = pytest.mark.thorough


def series_of(values: Any, length: int = 4, horizon: int = 3, cuts: Any = None) -> Series:
    values = np.asarray(values, np.float64)
    total = len(values)
    return Series(values, length, horizon, cuts or (total // 2, total // 2, total))


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 9), st.integers(1, 12))
def test_seasonal_naive_repeats_the_last_known_season(season: int, horizon: int) -> None:
    series = series_of(np.random.default_rng(0).normal(size=60), horizon=horizon)
    for origin, row in zip(
        series.origins("test"), seasonal_naive(series, "test", season), strict=True
    ):
        known = series.values[:origin].tolist()
        for ahead in range(horizon):
            known.append(known[origin + ahead - season])
            assert row[ahead] == known[-1]


def test_naive_and_moving_average() -> None:
    series = series_of(np.random.default_rng(0).normal(size=60))
    past = series.past("test")
    np.testing.assert_array_equal(naive(series, "test"), np.repeat(past[:, -1:], 3, axis=1))
    wanted = [[np.mean(row[-3:])] * 3 for row in past]
    np.testing.assert_allclose(moving_average(series, "test", 3), wanted)


def test_errors_are_those_of_scikit_learn_and_mase_is_its_formula() -> None:
    series = series_of(np.random.default_rng(0).normal(size=80).cumsum(), 5, 4)
    forecast = moving_average(series, "test", 2)
    truth, train = series.future("test"), series.values[:40]
    for season in (1, 7):
        errors = forecast_errors(series, "test", forecast, season)
        assert errors.mae == pytest.approx(mean_absolute_error(truth, forecast))
        assert errors.rmse == pytest.approx(
            root_mean_squared_error(truth.ravel(), forecast.ravel())
        )
        scale = sum(abs(train[t] - train[t - season]) for t in range(season, 40)) / (40 - season)
        assert errors.mase == pytest.approx(errors.mae / scale)
    assert forecast_errors(series, "test", truth).mase == 0


def test_a_series_that_repeats_itself_has_no_scale_for_mase() -> None:
    series = series_of([1.0, 2.0] * 20)
    assert forecast_errors(series, "test", naive(series, "test"), 2).mase == math.inf
    assert forecast_errors(series, "test", seasonal_naive(series, "test", 2), 1).mae == 0


@pytest.mark.parametrize("season", [0, 2.0, True])
def test_a_season_that_is_none(season: Any) -> None:
    with pytest.raises(ValueError, match="season must be a whole number >= 1"):
        seasonal_naive(series_of(range(20)), "test", season)


def test_forecasts_that_cannot_be_are_named() -> None:
    series = series_of(range(20))
    with pytest.raises(ValueError, match="season=11 is longer than the 10 values before the first"):
        seasonal_naive(series, "test", 11)
    with pytest.raises(ValueError, match="season=10 is longer than the 10 values of the training"):
        forecast_errors(series, "test", naive(series, "test"), 10)
    with pytest.raises(ValueError, match=r"steps must lie in \[1, 4\], the window, got 5"):
        moving_average(series, "test", 5)
    with pytest.raises(ValueError, match=r"steps must be a whole number >= 1, got 1\.5"):
        moving_average(series, "test", 1.5)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"forecast must be \[8, 3\], .* got \[7, 3\]"):
        forecast_errors(series, "test", naive(series, "test")[1:])


def test_a_season_of_numpy_is_pythons() -> None:
    series = series_of(np.random.default_rng(0).normal(size=600), length=30)
    season: Any = np.uint8(24)  # whose negative is 232
    errors = forecast_errors(series, "test", naive(series, "test"), 24)
    assert forecast_errors(series, "test", naive(series, "test"), season) == errors
    np.testing.assert_array_equal(
        moving_average(series, "test", season), moving_average(series, "test", 24)
    )
