"""Figures; every function returns a matplotlib Figure and touches no global state."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cnnjax.core.storage import write_bytes
from cnnjax.metrics import quality, scalars

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_TRAIN, _VALIDATION = "#1f77b4", "#d95f02"


def save(figure: Figure, path: Path, about: Mapping[str, str] | None = None) -> None:
    """Write a figure as a PNG file, complete or not at all.

    Args:
        figure: to draw.
        path: of the file; its folder is made if needed.
        about: texts that the file keeps, by name.

    Raises:
        OSError: with the path in its text, as on a full disk.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    buffer = io.BytesIO()  # of a file that cannot be written Pillow says neither name nor reason
    figure.savefig(buffer, format="png", metadata=dict(about or {}))
    write_bytes(path, buffer.getbuffer())


def new_figure(width: float, height: float) -> Any:
    """An empty figure; sizes in inches."""
    from cnnjax.plot.shown_figure import ShownFigure

    return ShownFigure(figsize=(width, height), dpi=120, layout="constrained")


def smooth(values: Sequence[float] | np.ndarray, factor: float = 0.8) -> np.ndarray:
    """Exponential moving average, `s_t = f s_{t-1} + (1 - f) v_t`, started at the first value.

    Args:
        values: [N].
        factor: f in [0, 1); 0 changes nothing.

    Returns:
        float64 [N].

    >>> smooth([1.0, 0.0], 0.8).tolist()
    [1.0, 0.8]
    """
    if not 0 <= factor < 1:
        raise ValueError(f"factor must lie in [0, 1), got {factor}")
    result = np.array(values, np.float64)
    for i in range(1, len(result)):
        result[i] = factor * result[i - 1] + (1 - factor) * result[i]
    return result


def curves(history: Mapping[str, Sequence[float] | np.ndarray], smoothing: float = 0.0) -> Figure:
    """Loss and metrics over the epochs: training and, if there is any, validation.

    Args:
        history: of a run: "epoch", "loss", "accuracy" or other metrics, and perhaps the same after
            "val_"; of tables nothing is drawn.
        smoothing: factor of `smooth` for the lines, e.g. 0.8; the dots are always the raw values.

    Returns:
        A figure of two axes in each row, the first ones of loss and accuracy.
    """
    history = {name: np.asarray(values) for name, values in history.items()}
    epochs = history["epoch"]
    drawn = list(dict.fromkeys(("loss", quality(history), *scalars(history))))
    rows = (len(drawn) + 1) // 2
    figure = new_figure(10, 3.8 * rows)
    for position, metric in enumerate(drawn, start=1):
        axes = figure.add_subplot(rows, 2, position)
        for key, label, color in (
            (metric, "training", _TRAIN),
            (f"val_{metric}", "validation", _VALIDATION),
        ):
            if key in history:
                values = history[key]
                axes.plot(epochs, values, ".", color=color, alpha=0.5 if smoothing else 1.0)
                axes.plot(epochs, smooth(values, smoothing), color=color, label=label)
        axes.set(xlabel="epoch", ylabel=metric.replace("_", " "))
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(alpha=0.3)
        axes.legend()
    if smoothing:
        figure.suptitle(f"lines: exponential moving average, factor {smoothing:g}", fontsize=9)
    return figure


def mean_curves(
    panels: Mapping[str, Mapping[str, np.ndarray]], xlabel: str, *, log: bool = False
) -> Figure:
    """Curves of several runs each, as their mean within a band of one standard deviation.

    Args:
        panels: {what is drawn upwards: {name of a curve: [3, X], rows x, mean, deviation}}.
        xlabel: what is drawn to the right, of all panels.
        log: draw x logarithmically, with a tick at every x of the first curve.

    Returns:
        A figure with an axes per panel.
    """
    figure = new_figure(5.5 * len(panels), 3.8)
    for position, (ylabel, lines) in enumerate(panels.items(), start=1):
        axes = figure.add_subplot(1, len(panels), position)
        for name, (x, mean, deviation) in lines.items():
            (line,) = axes.plot(x, mean, ".-", label=name)
            band = mean - deviation, mean + deviation
            axes.fill_between(x, *band, color=line.get_color(), alpha=0.2, linewidth=0)
        axes.set(xlabel=xlabel, ylabel=ylabel)
        if log:
            ticks = next(iter(lines.values()))[0]
            axes.set_xscale("log")
            axes.set_xticks(ticks, [f"{x:,.0f}" for x in ticks], fontsize=7)
            axes.minorticks_off()
        else:
            axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(alpha=0.3)
        axes.legend()
    return figure


def line_panels(
    panels: Mapping[str, Mapping[str, np.ndarray]],
    xlabel: str,
    ylabel: str,
    x: np.ndarray | Sequence[str],
) -> Figure:
    """Lines in panels side by side, with one legend.

    Args:
        panels: {title: {label: [K] values}}.
        xlabel, ylabel: texts.
        x: [K] positions, or names of them.

    Returns:
        A figure.
    """
    figure = new_figure(5.0 * len(panels), 4.2)
    named = isinstance(x[0], str)
    places = np.arange(len(x)) if named else np.asarray(x)
    for position, (title, lines) in enumerate(panels.items(), start=1):
        first = figure.axes[0] if figure.axes else None
        axes = figure.add_subplot(1, len(panels), position, sharey=first)
        for label, values in lines.items():
            axes.plot(places, values, ".-" if named else "-", label=label)
        if named:
            axes.set_xticks(places, [str(name) for name in x], rotation=60, ha="right", fontsize=7)
        axes.set(title=title, xlabel=xlabel, ylabel=ylabel if position == 1 else "")
        axes.grid(alpha=0.3)
    figure.axes[-1].legend(fontsize=7)
    return figure


def confusion_matrix(matrix: np.ndarray, label_names: Sequence[str]) -> Figure:
    """How often each class was taken for which; colours by share of the row, numbers are counts.

    Args:
        matrix: int [K, K], rows the true class, columns the predicted one.
        label_names: K names.

    Returns:
        A figure.
    """
    count = len(label_names)
    size = min(max(4.5, 0.5 * count + 2), 16)
    figure = new_figure(size, size)
    axes = figure.add_subplot()
    share = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    axes.set(xlabel="predicted", ylabel="true")
    turned = 0 if _short(label_names) else 90
    axes.set_xticks(range(count), label_names, rotation=turned, parse_math=False)
    axes.set_yticks(range(count), label_names, parse_math=False)
    if count <= 30:
        for i, j in np.ndindex(*matrix.shape):
            if matrix[i, j]:
                color = "white" if share[i, j] > 0.5 else "black"
                axes.text(
                    j, i, str(matrix[i, j]), ha="center", va="center", color=color, fontsize=8
                )
    return figure


def sparsity(table: Mapping[str, Any]) -> Figure:
    """How the share of zeros and of dead maps grows with depth.

    Args:
        table: {layer: what `explain.sparsity` found}, from the first layer to the last.

    Returns:
        A figure.
    """
    figure = new_figure(max(5.0, 0.22 * len(table) + 2), 3.8)
    axes = figure.add_subplot()
    places = np.arange(len(table))
    for name, label, style in (
        ("zeros", "outputs that are zero", "o-"),
        ("dead_maps", "maps that are zero everywhere, mean over the images", "s-"),
        ("dead_for_all", "maps that are zero everywhere in all images", "^--"),
    ):
        axes.plot(places, [getattr(row, name) for row in table.values()], style, ms=4, label=label)
    axes.set_xticks(places, list(table), rotation=90, fontsize=7)
    axes.set(ylabel="share", ylim=(-0.02, 1.02))
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    return figure


def _short(names: Sequence[str]) -> bool:
    return max(map(len, names), default=0) <= 3


# A text in PNG files that hold pixels of a figure for use elsewhere: a report shows the figure.
BARE = {"Purpose": "pixels of a figure, alone"}
