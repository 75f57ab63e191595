"""Images of forecasts."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure

import cnnjax as cj

_STRETCH = 8  # forecasts beside each other


def draw_forecasts(series: cj.data.Series, forecasts: Mapping[str, np.ndarray]) -> Figure:
    """The newest stretch of the test part with forecasts, one beginning where the last one ends.

    Args:
        series: with the truth.
        forecasts: of the test windows by name, [N, horizon], in the series' units.
    """
    origins = np.array(series.origins("test"))
    chosen = np.arange(len(origins) - 1, -1, -series.horizon)[:_STRETCH][::-1]
    steps = origins[chosen[0]] + np.arange(len(chosen) * series.horizon)
    figure = Figure((11, 1.0 + 2.0 * len(forecasts)), dpi=110, layout="constrained")
    rows = figure.subplots(len(forecasts), 1, sharex=True, squeeze=False)[:, 0]
    for axes, (name, values) in zip(rows, forecasts.items(), strict=True):
        axes.plot(steps, series.values[steps], color="0.5", lw=1.5, label="truth")
        for i, row in enumerate(values[chosen]):
            ahead = origins[chosen[i]] + np.arange(series.horizon)
            axes.plot(ahead, row, color="C3", lw=1.2, label=name if i == 0 else None)
            axes.axvline(ahead[0], color="0.85", lw=0.8, zorder=0)
        axes.legend(loc="upper left", fontsize=8)
        axes.grid(alpha=0.3, axis="y")
    rows[-1].set_xlabel("step; a vertical line where a forecast is made")
    return figure
