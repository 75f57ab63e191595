"""The figure of a search for a learning rate."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from cnnjax.plot.figures import new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def learning_rates(
    rates: np.ndarray, losses: np.ndarray, smoothed: np.ndarray, suggestion: float
) -> Figure:
    """Losses over learning rates, with a line at the suggested one.

    Args:
        rates: rising, [T].
        losses, smoothed: of them, [T].
        suggestion: one of the rates.

    Returns:
        A figure of one axes, with a logarithmic scale of the rates.
    """
    figure = new_figure(6, 3.8)
    axes = figure.add_subplot()
    axes.plot(rates, losses, ".", color="#1f77b4", alpha=0.4, label="loss of a batch")
    axes.plot(rates, smoothed, color="#1f77b4", label="smoothed")
    axes.axvline(suggestion, color="#d95f02", linestyle="--", label=f"suggestion {suggestion:.2g}")
    axes.set_xscale("log")
    axes.set(xlabel="learning rate", ylabel="loss")
    axes.grid(alpha=0.3)
    axes.legend()
    return figure
