"""What is claimed of forecasts: paired values, one pair a seed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

import cnnjax as cj
from cnnjax.recipes import Measured
from experiments._forecasts import forecast_errors
from experiments._shuffling import Shuffling

# The convolutions and the GRU are alike if their errors differ by no more than this.
ALIKE = 0.05


def measured(
    what: str,
    series: cj.data.Series,
    simple: Mapping[str, np.ndarray],
    nets: Mapping[str, Sequence[np.ndarray]],
    found: Sequence[Sequence[Shuffling]],
) -> list[Measured]:
    """The claims on errors and on shuffled inputs.

    Args:
        what: the series, in words.
        series: that was forecast.
        simple: forecasts of the test windows without a net, by name, [N, horizon].
        nets: the nets' by name, one a seed.
        found: what shuffling did, for each seed.
    """
    errors = {name: forecast_errors(series, "test", f).mae for name, f in simple.items()}
    best = min(errors, key=errors.__getitem__)
    shares = {
        name: [forecast_errors(series, "test", f).mae / errors[best] for f in group]
        for name, group in nets.items()
    }
    conv, gru = shares["series_conv1d"], shares["series_gru"]
    metric = f"mean absolute error / that of {best}"
    beaten = [
        Measured(
            f"{what}: {name} forecast better than every forecast without a net",
            f"best without a net ({best})", [1.0] * len(values), name, values,
            pairs="seeds", metric=metric,
        )
        for name, values in (("the convolutions", conv), ("the GRU", gru))
    ]  # fmt: skip
    alike = Measured(
        f"{what}: convolutions and GRU forecast alike, within {100 * ALIKE:g} % of that error",
        "GRU", gru, "convolutions", conv, pairs="seeds", metric=metric, within=ALIKE,
    )  # fmt: skip
    return [*beaten, alike, *_order(what, found)]


def _order(what: str, found: Sequence[Sequence[Shuffling]]) -> list[Measured]:
    """That order counts within the window of a convolution, and beyond it only for the GRU."""
    older, inside = (
        [_changes(one, "series_conv1d", part) for one in found] for part in ("older", "in the last")
    )
    gru = [_changes(one, "series_gru", "older") for one in found]
    claims = []
    for text, first_name, first in (
        ("blocks beyond the convolutions' window matter to the GRU, not to them", "GRU", gru),
        ("the order of blocks within their window matters to the convolutions",
         "convolutions, blocks within their window", inside),
    ):  # fmt: skip
        if any(value is None for value in (*first, *older)):
            continue  # the past is too short for two such blocks
        claims.append(
            Measured(
                f"{what}: {text}", first_name, [float(v) for v in first if v is not None],
                "convolutions, blocks beyond their window",
                [float(v) for v in older if v is not None],
                pairs="seeds", metric="mean change of the forecast",
            )
        )  # fmt: skip
    return claims


def _changes(found: Sequence[Shuffling], net: str, part: str) -> float | None:
    """How far shuffling a part of the past moves the forecasts of a net; None where it was not."""
    return next((s.change for s in found if s.net == net and part in s.what), None)
