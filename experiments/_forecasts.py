"""Forecasts that need no model, and errors of forecasts in the series' own units."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from cnnjax.core.checks import whole_number
from cnnjax.data.series.windows import Series


@dataclass(frozen=True)
class ForecastErrors:
    """How far forecasts are off.

    Args:
        mae: mean absolute error, in the series' own units.
        rmse: root of the mean squared error, likewise.
        mase: mean absolute scaled error; below 1 it is better than the seasonal naive forecast one
            season ahead was on the training part.
    """

    mae: float
    rmse: float
    mase: float


def naive(series: Series, part: str) -> np.ndarray:
    """The last value again and again, [N, horizon]: `y'_{t+h} = y_t`."""
    return seasonal_naive(series, part, 1)


def seasonal_naive(series: Series, part: str, season: int) -> np.ndarray:
    """The value at the same place of the last known season.

    `y'_{t+h} = y_{t+h-km}` with the smallest k for which that is known (Hyndman & Athanasopoulos
    2021, Forecasting: principles and practice, sec. 5.2).

    Args:
        series: what to forecast.
        part: "train", "validation" or "test".
        season: its period m in steps, >= 1.

    Returns:
        float64 [N, horizon], in own units.

    Raises:
        ValueError: if the season is longer than what is known before the first window.

    >>> from cnnjax.data.series.windows import Series
    >>> series = Series(np.arange(20.0), 4, 3, (10, 10, 20))
    >>> seasonal_naive(series, "test", 2)[0].tolist(), series.future("test")[0].tolist()
    ([8.0, 9.0, 8.0], [10.0, 11.0, 12.0])
    """
    origins = series.origins(part)
    season = check_season(
        season, origins.start, f"the {origins.start} values before the first window"
    )
    ahead = np.arange(series.horizon)
    back = season * (ahead // season + 1)
    return series.values[np.arange(origins.start, origins.stop)[:, None] + (ahead - back)[None]]


def moving_average(series: Series, part: str, steps: int) -> np.ndarray:
    """The mean of the last values, again and again.

    Args:
        series, part: as in `seasonal_naive`.
        steps: how many, in [1, length].

    Returns:
        float64 [N, horizon], in own units.

    Raises:
        ValueError: for steps that are no such number.
    """
    steps = whole_number("steps", steps)
    if steps > series.length:
        raise ValueError(f"steps must lie in [1, {series.length}], the window, got {steps}")
    mean = series.past(part)[:, -steps:].mean(axis=1)
    return np.repeat(mean[:, None], series.horizon, axis=1)


def forecast_errors(
    series: Series, part: str, forecast: np.ndarray, season: int = 1
) -> ForecastErrors:
    """Errors of a forecast, over all windows and all steps ahead.

    `MASE = MAE / (sum_{t=m+1}^{n} |y_t - y_{t-m}| / (n - m))` over the n values of the training
    part (Hyndman & Koehler 2006, Another look at measures of forecast accuracy, with m = 1; with
    the period of the season for m Hyndman & Athanasopoulos 2021, sec. 5.8).

    Args:
        series, part: as in `seasonal_naive`.
        forecast: [N, horizon], in own units.
        season: m, >= 1.

    Returns:
        ForecastErrors; mase is infinite where the training part repeats itself exactly.

    Raises:
        ValueError: for a forecast of another shape or not finite, or a season that the training
            part is too short for.

    >>> from cnnjax.data.series.windows import Series
    >>> series = Series(np.arange(20.0), 4, 3, (10, 10, 20))
    >>> forecast_errors(series, "test", naive(series, "test"))
    ForecastErrors(mae=2.0, rmse=2.160246899469287, mase=2.0)
    """
    truth = series.future(part)
    if forecast.shape != truth.shape:
        raise ValueError(
            f"forecast must be {list(truth.shape)}, a row for each window of the {part} part, got "
            f"{list(forecast.shape)}"
        )
    if not np.isfinite(forecast).all():
        raise ValueError("forecast holds NaN or infinity")
    train = series.values[: series.ends[0]]
    season = check_season(season, len(train) - 1, f"the {len(train)} values of the training part")
    off = np.abs(forecast - truth)
    scale = np.abs(train[season:] - train[:-season]).mean()
    mae = float(off.mean())
    mase = mae / float(scale) if scale > 0 else math.inf
    return ForecastErrors(mae, float(np.sqrt((off**2).mean())), mase)


def check_season(season: int, longest: int, what: str) -> int:
    """The season as Python's number; refuses one that is none, or longer than what is known."""
    season = whole_number("season", season)
    if season > longest:
        raise ValueError(f"season={season} is longer than {what}")
    return season
