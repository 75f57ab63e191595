"""What `sweep` returns: the runs of all settings and seeds, and what came of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from cnnjax.core.html import html_table, paragraphs
from cnnjax.core.table import table
from cnnjax.core.text import counted, suggest
from cnnjax.metrics import Measure, mean_and_deviation, mode_by_name, mode_of, quality
from cnnjax.training.result import Run

Settings = dict[str, Any]


@dataclass(frozen=True)
class Sweep:
    """What `sweep` returns.

    Args:
        seeds: of the runs of every setting.
        settings: the combinations, e.g. ({"learning_rate": 1e-3}, {"learning_rate": 1e-4}); one
            empty one where there is no list.
        runs: for every combination the runs, one a seed; None for one whose loss became NaN or
            infinite.
        metrics: those that were given to `sweep`.
    """

    seeds: tuple[int, ...]
    settings: tuple[Settings, ...]
    runs: tuple[tuple[Run | None, ...], ...]
    metrics: Mapping[str, Measure] = field(default_factory=dict)

    @property
    def finished(self) -> list[Run]:
        """All runs but those that diverged, of which there is at least one."""
        return [run for runs in self.runs for run in runs if run]

    def values(self, metric: str) -> np.ndarray:
        """A metric of every run.

        Args:
            metric: of `Run.metrics`, e.g. "test_accuracy", or, of the chosen epoch, of
                `Run.history`, e.g. "loss".

        Returns:
            float64 [settings, seeds]; NaN for a run that diverged.

        Raises:
            ValueError: for a metric that there is not, or that is a table.
        """
        rows = [[_value(run, metric) if run else np.nan for run in runs] for runs in self.runs]
        return np.array(rows, np.float64)

    def history(self, metric: str) -> np.ndarray:
        """A metric over the epochs of every run; NaN where one stopped early or diverged.

        Args:
            metric: of `Run.history`, e.g. "val_loss".

        Returns:
            float64 [settings, seeds, epochs].
        """
        longest = max(len(run.history["epoch"]) for run in self.finished)
        result = np.full((len(self.runs), len(self.seeds), longest), np.nan)
        for i, j in np.ndindex(*result.shape[:2]):
            if run := self.runs[i][j]:
                values = _known(run.history, metric)
                _check_number(metric, values[0])
                result[i, j, : len(values)] = values
        return result

    def best(self, metric: str = "val_loss", mode: str | None = None) -> Settings:
        """The combination with the best mean of a metric.

        Args:
            metric: as in `values`.
            mode: whether "min" or "max" is best; None as the metric says, or its name: a loss or
                error is best where smallest, an accuracy where largest.

        Raises:
            ValueError: for a metric that there is not, or of which nothing is known to be best, or
                if a run of every combination diverged.
        """
        if mode not in (None, "min", "max"):
            raise ValueError(f"mode must be 'min' or 'max', got {mode!r}")
        means = self.values(metric).mean(axis=1)
        if np.isnan(means).all():
            raise ValueError("no combination is best: of each a run diverged")
        mode = mode or self._mode_of(metric)
        return self.settings[int(np.nanargmin(means) if mode == "min" else np.nanargmax(means))]

    def _mode_of(self, metric: str) -> str:
        measures = {**self.finished[0].model.spec.task.metrics, **self.metrics}
        name = metric.removeprefix("val_").removeprefix("test_")
        try:
            mode = mode_of(name, measures)
        except ValueError:  # the seconds, say
            mode = mode_by_name(name)
        if mode is None:
            raise ValueError(f"{metric} does not say what of it is best: give mode='min' or 'max'")
        return mode

    def __str__(self) -> str:
        return f"{table(self._cells(), '>')}\n{self._note()}"

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        return html_table(self._cells(), "<>") + paragraphs(self._note())

    def _note(self) -> str:
        return f"mean ± standard deviation over {counted(len(self.seeds), 'seed')}"

    def _cells(self) -> list[tuple[str, ...]]:
        """The rows of the table, its head first."""
        first = self.finished[0]
        metric = quality(first.history)
        names = ["loss", metric]
        names += [k for k in (f"val_{metric}", f"test_{metric}") if k in first.metrics]
        rows = [[text_of(settings) for settings in self.settings]]
        rows += [[_cell(row) for row in self.values(name)] for name in names]
        heads = ("", *(name.replace("_", " ") for name in names))
        return [heads, *zip(*rows, strict=True)]


def text_of(settings: Settings) -> str:
    """Settings in words, e.g. learning_rate=0.001."""
    return ",".join(f"{name}={value}" for name, value in settings.items())


def _value(run: Run, metric: str) -> float:
    value = run.metrics.get(metric)
    if value is None:
        value = _known({**run.history, **run.metrics}, metric)[run.best_epoch - 1]
    _check_number(metric, value)
    return float(value)


def _check_number(metric: str, value: Any) -> None:
    if np.ndim(value):
        raise ValueError(
            f"{metric} of a run is an array {list(np.shape(value))}, and a number is needed: take "
            "it from Sweep.runs, or measure an average"
        )


def _known(values: Mapping[str, Any], metric: str) -> Any:
    if metric not in values:
        raise ValueError(
            f"there is no metric {metric!r}. {suggest(metric, list(values), 'metrics')}"
        )
    return values[metric]


def _cell(values: np.ndarray) -> str:
    return "diverged" if np.isnan(values).any() else mean_and_deviation(values)
