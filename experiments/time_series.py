"""Forecasts of a time series: dilated causal convolutions, a GRU, a bag of windows, no net at all.

The series is generated (trend, a day and a week of 24 and 168 steps, noise), or a column of a CSV
file. From the last two weeks the next day is forecast. The oldest 70 % of the series are trained
on, the next 10 % select the epoch, the newest 20 % test; errors are in the series' own units, MASE
is relative to the seasonal naive forecast on the training part.

A convolution is blind to order beyond its window. Blocks of a day are shuffled in the inputs: those
older than the 256 steps that the convolutions see change nothing in their forecast, not to the bit,
those within do. A GRU sees all of them, if faintly what lies far back. A net that takes the mean
over windows of a day (global pooling) answers the same whatever the order of the days.

Command:   python -m experiments.time_series [--data FILE.csv --column NAME --seasons 24 168]
           [--seeds 3] [--epochs N]

Reported:  no figure; better than the naive and seasonal naive forecasts, like the GRU and faster.

Ours:      mean absolute error, 3 seeds, 15 epochs each: convolutions 10.28 ± 0.11, GRU
           16.27 ± 0.45, windows 25.31 ± 0.30; without a net 10.51 (a week before), 23.56 (a day
           before), 66.09 (the last value). The noise of the series has a mean absolute value of 8.
           An epoch of the convolutions takes 0.9 s, one of the GRU 10.9 (two cores); on an H200,
           other work beside, 0.1 and 3.9.
"""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro

import cnnjax as cj
from cnnjax.cli import command
from cnnjax.data.forecasts import (
    check_season,
    forecast_errors,
    moving_average,
    naive,
    seasonal_naive,
)
from cnnjax.experiment import Experiment, Options, build_model, run_variants
from cnnjax.gallery import save_picture
from cnnjax.metrics import mean_and_deviation
from cnnjax.report import write_report
from experiments._series_pictures import draw_forecasts
from experiments._shuffling import Shuffling, draw_shuffled, shufflings
from experiments._studies import folder_of, write_table

GENERATED = "generated"

NETS = {
    "series_conv1d": "dilated causal convolutions",
    "series_gru": "GRU",
    "series_windows": "mean over windows",
}


@dataclass(frozen=True)
class SeriesOptions(Options):
    """Options of the experiment."""

    data: str = GENERATED
    """generated, or a CSV file with a line of column names."""
    data_dir: Annotated[str | None, tyro.conf.Suppress] = None
    """Not needed."""
    column: Annotated[str | None, tyro.conf.arg(metavar="NAME")] = None
    """Of the file: what to forecast."""
    length: int = 336
    """Past values that a forecast is made of."""
    horizon: int = 24
    """Next values to forecast."""
    seasons: tuple[int, ...] = (24, 168)
    """Periods in steps, of which the seasonal naive forecasts repeat the last one; the first is the
    one of MASE, of the moving average, and of the blocks that are shuffled."""


def load(options: SeriesOptions) -> cj.data.Series:
    """The series that the options name."""
    file = None if options.data == GENERATED else options.data
    series = cj.data.load_series(
        file, options.column, length=options.length, horizon=options.horizon
    )
    if not options.seasons:
        raise ValueError("seasons must name at least one period, e.g. --seasons 24")
    for season in options.seasons:
        known = series.ends[0] - 1
        check_season(season, known, f"the {known + 1} values of the training part")
    return series


def experiment(net: str, options: SeriesOptions) -> Experiment:
    """The training of one net."""
    arguments = {"window": options.seasons[0]} if net == "series_windows" else {}
    return Experiment(
        name=f"time_series/{net}",
        description=f"a time series forecast by {NETS[net]}",
        model=net,
        arguments=arguments,
        training=cj.TrainingConfig(
            epochs=15,
            batch_size=64,
            optimizer="adam",
            learning_rate=2e-3,
            schedule="one_cycle",
            clip_norm=1.0,
            monitor="loss",
        ),
        data=GENERATED,
    ).with_options(options)


def forecast(run: cj.Run, series: cj.data.Series) -> np.ndarray:
    """What a net forecasts for the test windows, [N, horizon], in the series' units."""
    assert series.splits.test is not None
    return series.unscaled(cj.predict(run.model, series.splits.test.images))


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
        for measure, digits in (("mae", 2), ("rmse", 2), ("mase", 3)):
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
) -> list[Shuffling]:
    """Tables and pictures of all nets beside each other."""
    folder, season = folder_of(options, "time_series"), options.seasons[0]
    simple = baselines(series, options.seasons)
    nets = {name: [forecast(run, series) for run in group] for name, group in runs.items()}
    head = ["forecast", "MAE", "RMSE", "MASE", "parameters", "seconds an epoch"]
    write_table(folder / "errors.md", head, error_rows(series, season, simple, nets, runs))
    best = min(simple, key=lambda name: forecast_errors(series, "test", simple[name]).mae)
    shown = {best: simple[best], **{name: group[0] for name, group in nets.items()}}
    pictures = {"forecast": draw_forecasts(series, shown)}
    captions = {
        "forecast": "Forecasts of the newest steps of the test part, one after the other",
        "shuffling": "A test window with blocks in another order, and the forecasts made of it",
    }
    models = {name: group[0].model for name, group in runs.items()}
    found = shufflings(series, models, season, options.seed)
    head = ["net", "shuffled", "mean change of the forecast", "MAE before", "MAE after"]
    write_table(folder / "shuffling.md", head, [s.row(series) for s in found])
    if found:
        pictures["shuffling"] = draw_shuffled(series, found)
    for name, figure in pictures.items():
        for place in (folder, *(_figures(run) for group in runs.values() for run in group)):
            save_picture(place, name, figure, caption=captions[name])
    for group in runs.values():
        for run in group:
            write_report(_figures(run).parent)
    return found


def _figures(run: cj.Run) -> Path:
    assert run.directory is not None
    return run.directory / "figures"


def main(options: SeriesOptions) -> dict[str, list[cj.Run]]:
    """Train all nets, compare, shuffle, draw."""
    series = load(options)
    for net in NETS:  # a net that the options do not fit is to be refused before any is trained
        build_model(experiment(net, options), series.splits)
    variants = {net: partial(experiment, net) for net in NETS}
    runs = run_variants(variants, options, series.splits)
    report(options, series, runs)
    return runs


if __name__ == "__main__":
    command(main, SeriesOptions, "time_series")
