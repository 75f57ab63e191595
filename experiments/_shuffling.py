"""Blocks of a series in another order, and what that does to the forecasts of a net."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure

import cnnjax as cj
from cnnjax.core import rng
from cnnjax.models.layers.receptive_fields import receptive_fields
from cnnjax.models.zoo.series_nets import SeriesConv1D, SeriesWindows


@dataclass(frozen=True)
class Shuffling:
    """A net, and its forecasts of the test windows before and after.

    Args:
        net: its name.
        what: is shuffled, in words.
        start, stop: the steps of the window that it concerns.
        past: [N, length], shuffled, in the series' units.
        before, after: forecasts [N, horizon], likewise.
    """

    net: str
    what: str
    start: int
    stop: int
    past: np.ndarray
    before: np.ndarray
    after: np.ndarray

    @property
    def change(self) -> float:
        """Mean absolute difference of the forecasts."""
        return float(np.abs(self.after - self.before).mean())

    def row(self, series: cj.data.Series) -> list[str]:
        """Of a table."""
        truth = series.future("test")
        before, after = (np.abs(f - truth).mean() for f in (self.before, self.after))
        change = "0 (same bits)" if (self.after == self.before).all() else f"{self.change:.3g}"
        return [self.net, self.what, change, f"{before:.4g}", f"{after:.4g}"]


def shuffled_blocks(
    past: np.ndarray, start: int, stop: int, block: int, seed: int = 0
) -> np.ndarray:
    """Windows with the blocks between two steps in an order of their own.

    Args:
        past: [N, T].
        start, stop: in [0, T]; a multiple of the block apart.
        block: steps that stay together, >= 1.
        seed: of the orders.

    Returns:
        [N, T], a copy.
    """
    result = past.copy()
    count = (stop - start) // block
    for i, row in enumerate(result):
        order = rng.permutation(count, seed, "shuffling", i)
        row[start:stop] = row[start:stop].reshape(count, block)[order].ravel()
    return result


def shuffled_within(past: np.ndarray, block: int, seed: int = 0) -> np.ndarray:
    """Windows [N, T] whose steps are in another order within each block, the same in all blocks."""
    result = past.copy()
    for i, row in enumerate(result):
        order = rng.permutation(block, seed, "shuffling within", i)
        row[:] = row.reshape(-1, block)[:, order].ravel()
    return result


def receptive_field(model: cj.Model) -> int:
    """How many of the last values the forecast of a dilated convolutional net sees."""
    field = receptive_fields(model)["forecast"]
    assert field is not None
    return int(field.size[0])


def shufflings(
    series: cj.data.Series, models: Mapping[str, cj.Model], block: int, seed: int = 0
) -> list[Shuffling]:
    """What shuffling does to each net.

    Args:
        series: whose test windows are shuffled.
        models: by name; one of them is a `SeriesConv1D`, whose window divides the past in two.
        block: steps that stay together.
        seed: of the orders.
    """
    past, length = series.past("test"), series.length
    field = next(receptive_field(m) for m in models.values() if isinstance(m.module, SeriesConv1D))
    seen = min(field, length)
    older, inside = (length - seen) // block * block, seen // block * block
    ways = []
    if older >= 2 * block:
        text = f"blocks of {block} older than {seen} steps"
        ways.append((text, 0, older, shuffled_blocks(past, 0, older, block, seed)))
    if inside >= 2 * block:
        text = f"blocks of {block} in the last {seen} steps"
        start = length - inside
        ways.append((text, start, length, shuffled_blocks(past, start, length, block, seed)))
    whole = []
    if length % block == 0 and length >= 2 * block:
        text = f"all {length // block} blocks of {block}"
        whole.append((text, 0, length, shuffled_blocks(past, 0, length, block, seed)))
        text = f"the steps within each block of {block}"
        whole.append((text, 0, length, shuffled_within(past, block, seed)))
    found = []
    for name, model in models.items():
        before = _forecast(model, series, past)
        for text, start, stop, changed in whole if _pools(model) else ways:
            after = _forecast(model, series, changed)
            found.append(Shuffling(name, text, start, stop, changed, before, after))
    return found


def _pools(model: cj.Model) -> bool:
    return isinstance(model.module, SeriesWindows)


def _forecast(model: cj.Model, series: cj.data.Series, past: np.ndarray) -> np.ndarray:
    return series.unscaled(cj.predict(model, series.scaled(past)[..., None]))


def draw_shuffled(series: cj.data.Series, found: list[Shuffling], window: int = 0) -> Figure:
    """One test window: above what was shuffled of it, below the forecasts before and after."""
    figure = Figure((3.4 * len(found), 4.6), dpi=110, layout="constrained")
    upper, lower = figure.subplots(2, len(found), squeeze=False)
    past, truth = series.past("test")[window], series.future("test")[window]
    for above, below, one in zip(upper, lower, found, strict=True):
        above.axvspan(one.start, one.stop - 1, color="0.92")
        above.plot(past, color="0.6", lw=0.8, label="as it was")
        above.plot(one.past[window], color="C3", lw=0.8, label="shuffled")
        above.set_title(f"{one.net}\n{one.what}", fontsize=8)
        below.plot(truth, color="0.6", label="truth")
        below.plot(one.before[window], color="C0", lw=2.5, label="forecast")
        below.plot(one.after[window], color="C3", ls="--", label="forecast, shuffled")
        below.set_xlabel(f"steps ahead; mean change {one.change:.3g}", fontsize=8)
        for axes in (above, below):
            axes.tick_params(labelsize=7)
    upper[0].legend(fontsize=7)
    lower[0].legend(fontsize=7)
    return figure
