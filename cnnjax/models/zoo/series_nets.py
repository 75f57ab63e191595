"""Nets that forecast time series: dilated causal convolutions, a GRU, a bag of windows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from flax import linen
from jax import Array
from jax.nn import relu

from cnnjax.models.registry import register
from cnnjax.nn import (
    GRU,
    Add,
    Conv1D,
    Dense,
    GlobalAveragePooling1D,
    LastStep,
    Reshape,
    Slice1D,
    ZeroPadding1D,
)


@register(
    "series_conv1d",
    (336, 1),
    num_classes=24,
    preprocessing="none",
    head=("forecast",),
    task="values",
    paper="van den Oord et al. 2016, WaveNet: a generative model for raw audio",
)
class SeriesConv1D(linen.Module):
    """Causal convolutions of growing dilation; the forecast is made of the last step.

    The dilations double as in WaveNet (van den Oord et al. 2016, arXiv:1609.03499), and every
    convolution but the first adds to what it gets. The last step sees `1 + sum(dilations)` values
    with kernels of 2 taps, and nothing of what is older.

    Only steps that the last one sees are computed, to the outputs of convolutions over all steps:
    with doubling dilations half as many from layer to layer, 255 in all for 8 layers, where 8 times
    the length of the past would be.

    Args:
        num_classes: how many values to forecast.
        filters: of each convolution.
        dilations: of the convolutions.
        kernel_size: >= 2; the last step sees `1 + (kernel_size - 1) sum(dilations)` values.
    """

    num_classes: int = 24
    filters: int = 32
    dilations: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 64, 128)
    kernel_size: int = 2

    @linen.compact
    def __call__(self, inputs: Array) -> Array:
        """[N, T, C] -> [N, num_classes]."""
        size, length = self.kernel_size, inputs.shape[1]
        spacing, plan = _plan(self.dilations, size)
        x = _last(inputs, (length - 1) // spacing + 1, spacing, "every")
        for i, layer in enumerate(plan, start=1):
            # What lies before the first step is zeros to every convolution, and is not computed.
            outputs = min(layer.outputs, (length - 1) // layer.spacing + 1)
            taken = (outputs - 1) * layer.strides + (size - 1) * layer.dilation + 1
            x = _last(x, min(taken, x.shape[1]), 1, f"past{i}")
            if taken > x.shape[1]:
                x = ZeroPadding1D((taken - x.shape[1], 0), name=f"zeros{i}")(x)
            conv = Conv1D(
                self.filters, size, strides=layer.strides, dilation_rate=layer.dilation,
                activation=relu, name=f"conv{i}",
            )  # fmt: skip
            y = conv(x)
            if i > 1:
                y = Add(name=f"add{i}")([_last(x, outputs, layer.strides, f"skip{i}"), y])
            x = y
        x = LastStep(name="last_step")(x)
        return Dense(self.num_classes, name="forecast")(x)


class _Layer(NamedTuple):
    """A convolution over some of the steps: which of its inputs it takes, and what comes out."""

    strides: int
    dilation: int
    spacing: int  # of its outputs, in steps of the series
    outputs: int


def _plan(dilations: Sequence[int], kernel_size: int) -> tuple[int, list[_Layer]]:
    """Evenly spaced steps for every convolution, among them all that the last one sees.

    Returns:
        The spacing of the inputs that are needed, and the convolutions.

    >>> for layer in _plan((1, 2, 4), 2)[1]:
    ...     layer
    _Layer(strides=2, dilation=1, spacing=2, outputs=4)
    _Layer(strides=2, dilation=1, spacing=4, outputs=2)
    _Layer(strides=1, dilation=1, spacing=4, outputs=1)
    """
    plan: list[_Layer] = []
    spacing, outputs = 0, 1
    for dilation in reversed(dilations):
        inner = math.gcd(dilation, spacing)  # of no spacing, of a single output: the dilation
        strides = max(spacing // inner, 1)
        plan.insert(0, _Layer(strides, dilation // inner, spacing or inner, outputs))
        outputs = ((outputs - 1) * spacing + (kernel_size - 1) * dilation) // inner + 1
        spacing = inner
    return max(spacing, 1), plan


def _last(x: Array, count: int, spacing: int, name: str) -> Array:
    """Inside a compact module: so many steps up to the last, by a layer of that name if not all."""
    start = x.shape[1] - 1 - (count - 1) * spacing
    return Slice1D(start, x.shape[1], spacing, name=name)(x) if start or spacing > 1 else x


@register(
    "series_gru", (336, 1), num_classes=24, preprocessing="none", head=("forecast",), task="values"
)
class SeriesGRU(linen.Module):
    """A GRU, and the forecast made of its last state.

    A series of 336 values is as many steps of a recurrence, over which little is remembered. Read a
    season at a time it is 14 steps, as in Lin et al. 2023 (SegRNN, arXiv:2308.11200).

    Args:
        num_classes: how many values to forecast.
        units: size of the state.
        values_per_step: that the GRU reads at once, >= 1; a divisor of the length.
    """

    num_classes: int = 24
    units: int = 64
    values_per_step: int = 1

    @linen.compact
    def __call__(self, inputs: Array) -> Array:
        """[N, T, C] -> [N, num_classes]."""
        length, channels = inputs.shape[1:]
        steps, rest = divmod(length, self.values_per_step)
        if rest:
            raise ValueError(
                f"values_per_step must divide the length of the series, {length}, got "
                f"{self.values_per_step}"
            )
        x = inputs
        if self.values_per_step > 1:
            x = Reshape((steps, self.values_per_step * channels), name="steps")(x)
        x = GRU(self.units, name="gru")(x)
        return Dense(self.num_classes, name="forecast")(x)


@register(
    "series_windows",
    (336, 1),
    min_size=24,
    num_classes=24,
    preprocessing="none",
    head=("dense1", "forecast"),
    task="values",
)
class SeriesWindows(linen.Module):
    """One convolution over windows that do not overlap, and the mean over all of them.

    The mean is the same in whatever order the windows come: the net knows what is in each, and not
    when it was.

    Args:
        num_classes: how many values to forecast.
        filters: of the convolution.
        window: its size and its stride, in steps.
        units: width of the dense layer behind the mean.
    """

    num_classes: int = 24
    filters: int = 64
    window: int = 24
    units: int = 64

    @linen.compact
    def __call__(self, inputs: Array) -> Array:
        """[N, T, C] -> [N, num_classes]."""
        x = Conv1D(self.filters, self.window, strides=self.window, activation=relu, name="conv1")(
            inputs
        )
        x = GlobalAveragePooling1D(name="global_average_pooling")(x)
        x = Dense(self.units, activation=relu, name="dense1")(x)
        return Dense(self.num_classes, name="forecast")(x)
