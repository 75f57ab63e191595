"""Forecasts of a time series: dilated causal convolutions, a GRU, a bag of windows, no net at all.

The series is generated (trend, a day and a week of 24 and 168 steps, noise); real, `--data
google_volume`, the logarithm of how many Google shares were traded on each of 1,047 days (2004 to
2008, a file that comes with Matplotlib); or a column of a CSV file. From the last two weeks the
next day is forecast (of google_volume from 60 days the next 5). The oldest 70 % of the series are
trained on, the next 10 % select the epoch, the newest 20 % test; errors are in the series' own
units, MASE is relative to the seasonal naive forecast on the training part.

Every net tries the same settings with a seed of the search, the validation part chooses, and the
choice is trained again on fresh seeds. The GRU reads a season, the first of --seasons, at each of
its steps: value by value it forgets what was a week ago, and is worse than the seasonal naive
forecast.

A convolution is blind to order beyond its window. Blocks of a day are shuffled in the inputs: those
older than the 256 steps that the convolutions see (of google_volume 32) change nothing in their
forecast, not to the bit, those within do. A GRU sees all of them. A net that takes the mean over
windows of a day (global pooling) answers the same whatever the order of the days.

Command:   python -m experiments.time_series [--data google_volume] [--seeds 5] [--epochs N]
           [--data FILE.csv --column NAME --seasons 24 168]

Reported:  no figure; better than the naive and seasonal naive forecasts, like the GRU and faster;
           blind to order beyond the window.

Ours:      generated series, 5 seeds: a mean absolute error of 8.94 by convolutions, 8.73 by the
           GRU, 10.51 by the value of a week before. Google's volume, 8 seeds: .287, .280, and
           .305 by a moving average. Both nets beat all forecasts without one and are alike
           within 5 %, the GRU a little better; order beyond the convolutions' window does not touch
           them by a bit. The claims in RESULTS.md; search.md, errors.md and shuffling.md are in the
           folder of the runs.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Annotated, Any

import numpy as np
import tyro
from matplotlib.cbook import get_sample_data

import cnnjax as cj
from cnnjax.cli import command
from cnnjax.metrics import mean_and_deviation
from cnnjax.plot import save_image
from cnnjax.recipes import Claim, Experiment, Options, build_model, run_variants, write_claims
from cnnjax.runs import RunDirectory, write_report
from experiments import _tuning
from experiments._forecasts import (
    check_season,
    forecast_errors,
    moving_average,
    naive,
    seasonal_naive,
)
from experiments._series_claims import measured
from experiments._series_images import draw_forecasts
from experiments._shuffling import Shuffling, draw_shuffled, shufflings
from experiments._studies import folder_of, write_table

GENERATED, GOOGLE = "generated", "google_volume"

NETS = {
    "series_conv1d": "dilated causal convolutions",
    "series_gru": "GRU",
    "series_windows": "mean over windows",
}


# A run of another series has another name.
CLAIMS = {
    data: (
        Claim(
            f"{what}: an epoch of the GRU takes longer than one of the convolutions",
            f"{prefix}/series_gru", f"{prefix}/series_conv1d", "seconds",
        ),
    )
    for data, prefix, what in (
        (GENERATED, "time_series", "Generated series"),
        (GOOGLE, f"time_series/{GOOGLE}", "Google's volume"),
    )
}  # fmt: skip

GRID: dict[str, dict[str, Any]] = {
    f"{rate:g}{words}": {"learning_rate": rate, "weight_decay": decay}
    for words, decay in (("", 0.0), (", decay 0.1", 0.1))
    for rate in (2e-3, 4e-3, 8e-3)
}


@dataclass(frozen=True)
class SeriesOptions(Options):
    """Options of the experiment."""

    data: str = GENERATED
    """generated; google_volume; or a CSV file with a line of column names."""
    data_dir: Annotated[str | None, tyro.conf.Suppress] = None
    """Not needed."""
    column: Annotated[str | None, tyro.conf.arg(metavar="NAME")] = None
    """Of the file: what to forecast."""
    length: Annotated[int | None, tyro.conf.arg(metavar="INT")] = None
    """Past values that a forecast is made of; default: 336, of google_volume 60."""
    horizon: Annotated[int | None, tyro.conf.arg(metavar="INT")] = None
    """Next values to forecast; default: 24, of google_volume 5."""
    seasons: tuple[int, ...] | None = None
    """Periods in steps, of which the seasonal naive forecasts repeat the last one; the first is the
    one of MASE, of the moving average, of the GRU's steps, and of the blocks that are shuffled.
    Default: 24 168, of google_volume 5 20."""


def resolved(options: SeriesOptions) -> SeriesOptions:
    """The options with the numbers that are usual for their series."""
    usual: dict[str, Any] = {"length": 336, "horizon": 24, "seasons": (24, 168)}
    if options.data == GOOGLE:
        usual = {"length": 60, "horizon": 5, "seasons": (5, 20)}
    return replace(options, **{k: v for k, v in usual.items() if getattr(options, k) is None})


def google_volume(length: int, horizon: int) -> cj.data.Series:
    """The logarithm of Google's daily trading volume, which Matplotlib ships, cut as any other."""
    file: Any = get_sample_data("goog.npz")
    prices = file["price_data"]
    values = np.log(prices["volume"].astype(np.float64))
    total = len(values)
    ends = (round(0.7 * total), round(0.8 * total), total)
    return cj.data.Series(values, length, horizon, ends, GOOGLE)


def load(options: SeriesOptions) -> cj.data.Series:
    """The series that the options name."""
    options = resolved(options)
    assert options.length is not None
    assert options.horizon is not None
    length, horizon = options.length, options.horizon
    if options.data == GOOGLE:
        if options.column is not None:
            raise ValueError(f"column={options.column!r} is for a file, and {GOOGLE} is none")
        series = google_volume(length, horizon)
    else:
        file = None if options.data == GENERATED else options.data
        series = cj.data.load_series(file, options.column, length=length, horizon=horizon)
    if not options.seasons:
        raise ValueError("seasons must name at least one period, e.g. --seasons 24")
    for season in options.seasons:
        known = series.ends[0] - 1
        check_season(season, known, f"the {known + 1} values of the training part")
    return series


def experiment(net: str, settings: Mapping[str, Any], options: SeriesOptions) -> Experiment:
    """The training of one net with settings of the grid."""
    options = resolved(options)
    assert options.length is not None
    assert options.seasons is not None
    season, real = options.seasons[0], options.data == GOOGLE
    arguments: dict[str, Any] = {}
    if net == "series_windows":
        arguments["window"] = season
    elif net == "series_gru" and options.length % season == 0:
        arguments["values_per_step"] = season
    elif net == "series_conv1d" and real:
        arguments["dilations"] = (1, 2, 4, 8, 16)
    return Experiment(
        name=f"time_series/{GOOGLE}/{net}" if real else f"time_series/{net}",
        description=f"a time series forecast by {NETS[net]}",
        model=net,
        arguments=arguments,
        training=cj.TrainingConfig(
            epochs=30 if real else 15,
            batch_size=64,
            optimizer="adamw",
            schedule="one_cycle",
            clip_norm=1.0,
            monitor="loss",
            **settings,
        ),
        data=GENERATED,
    ).with_options(options)


def forecast(run: cj.Run, series: cj.data.Series) -> np.ndarray:
    """What a net forecasts for the test windows, [N, horizon], in the series' units."""
    assert series.splits.test is not None
    return series.unscaled(cj.predict(run.model, series.splits.test.inputs))


def baselines(series: cj.data.Series, seasons: tuple[int, ...]) -> dict[str, np.ndarray]:
    """Forecasts of the test windows without a net."""
    found = {
        "naive": naive(series, "test"),
        f"moving average of {seasons[0]}": moving_average(
            series, "test", min(seasons[0], series.length)
        ),
    }
    for season in seasons:
        found[f"seasonal naive, {season}"] = seasonal_naive(series, "test", season)
    return found


def error_rows(
    series: cj.data.Series, season: int, simple: dict[str, np.ndarray],
    nets: dict[str, list[np.ndarray]], runs: dict[str, list[cj.Run]],
) -> list[list[str]]:  # fmt: skip
    """A row a forecast: MAE, RMSE, MASE, parameters and seconds an epoch."""
    rows = []
    for name, forecasts in {**{k: [v] for k, v in simple.items()}, **nets}.items():
        errors = [forecast_errors(series, "test", f, season) for f in forecasts]
        row = [name]
        fine = 2 if series.deviation > 10 else 4
        for measure, digits in (("mae", fine), ("rmse", fine), ("mase", 3)):
            row.append(mean_and_deviation([getattr(e, measure) for e in errors], digits))
        if name in runs:
            seconds = np.mean([np.median(run.history["seconds"]) for run in runs[name]])
            row += [f"{cj.summary(runs[name][0].model).trainable:,}", f"{seconds:.1f}"]
        rows.append(row + [""] * (6 - len(row)))
    return rows


def report(
    options: SeriesOptions,
    series: cj.data.Series,
    runs: dict[str, list[cj.Run]],
) -> list[list[Shuffling]]:
    """Tables and images of all nets beside each other; returns the shufflings of each seed."""
    assert options.seasons is not None
    folder, season = folder_of(options, "time_series"), options.seasons[0]
    simple = baselines(series, options.seasons)
    nets = {name: [forecast(run, series) for run in group] for name, group in runs.items()}
    head = ["forecast", "MAE", "RMSE", "MASE", "parameters", "seconds an epoch"]
    write_table(folder / "errors.md", head, error_rows(series, season, simple, nets, runs))
    best = min(simple, key=lambda name: forecast_errors(series, "test", simple[name]).mae)
    shown = {best: simple[best], **{name: group[0] for name, group in nets.items()}}
    drawn = {"forecast": draw_forecasts(series, shown)}
    captions = {
        "forecast": "Forecasts of the newest steps of the test part, one after the other",
        "shuffling": "A test window with blocks in another order, and the forecasts made of it",
    }
    found = [
        shufflings(series, dict(zip(runs, (run.model for run in one), strict=True)), season, seed)
        for seed, one in enumerate(zip(*runs.values(), strict=True), start=options.seed)
    ]
    head = ["net", "shuffled", "mean change of the forecast", "MAE before", "MAE after"]
    write_table(folder / "shuffling.md", head, [s.row(series) for s in found[0]])
    if found[0]:
        drawn["shuffling"] = draw_shuffled(series, found[0])
    directories = [RunDirectory(run.directory or ".") for group in runs.values() for run in group]
    for name, figure in drawn.items():
        for place in (folder, *(directory.figures for directory in directories)):
            save_image(place, name, figure, caption=captions[name])
    for directory in directories:
        write_report(directory.path)
    what = "Google's volume" if options.data == GOOGLE else "Generated series"
    claims = list(CLAIMS.get(options.data, ()))
    if claims:
        write_claims(folder, [*claims, *measured(what, series, simple, nets, found)])
    return found


def main(options: SeriesOptions) -> dict[str, list[cj.Run]]:
    """Search, train all nets, compare, shuffle, draw."""
    options = resolved(options)
    series = load(options)
    first = next(iter(GRID.values()))
    for net in NETS:  # a net that the options do not fit is to be refused before any is trained
        build_model(experiment(net, first, options), series.splits)
    folder = folder_of(options, "time_series")
    best = _tuning.search(folder, NETS, GRID, experiment, options, series.splits)
    variants = {net: partial(experiment, net, best[net]) for net in NETS}
    runs = run_variants(variants, options, series.splits)
    report(options, series, runs)
    return runs


if __name__ == "__main__":
    command(main, SeriesOptions, "time_series")
