"""Nets that forecast time series: dilated causal convolutions, a GRU, a bag of windows."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from flax import linen
from jax import Array
from jax.nn import relu

from cnnjax.nn import GRU, Add, Conv1D, Dense, GlobalAveragePooling1D, LastStep, Slice1D


class SeriesConv1D(linen.Module):
    """Causal convolutions of growing dilation; the forecast is made of the last step.

    The dilations double as in WaveNet (van den Oord et al. 2016, arXiv:1609.03499), and every
    convolution but the first adds to what it gets. The last step sees `1 + sum(dilations)` values
    with kernels of 2 taps, and nothing of what is older.

    Only the steps that the last one sees are computed, to the outputs of convolutions over all
    steps: with doubling dilations half as many from layer to layer, 255 in all for 8 layers,
    where 8 times the length of the past would be.

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
        x, known = inputs, np.arange(-length, 0)
        needed = _needed_steps(self.dilations, size)
        for i, dilation in enumerate(self.dilations, start=1):
            steps = needed[i][needed[i] >= -length]
            windows = steps[:, None] - dilation * np.arange(size)[::-1]
            conv = Conv1D(self.filters, size, strides=size, activation=relu, name=f"conv{i}")
            y = conv(_at(x, known, windows.ravel(), f"windows{i}"))
            x = y if i == 1 else Add(name=f"add{i}")([_at(x, known, steps, f"skip{i}"), y])
            known = steps
        x = LastStep(name="last_step")(x)
        return Dense(self.num_classes, name="forecast")(x)


def _needed_steps(dilations: tuple[int, ...], kernel_size: int) -> list[np.ndarray]:
    """Of the inputs and of every convolution: the steps that the last one sees, -1 being the last.

    >>> [steps.tolist() for steps in _needed_steps((1, 2), 2)]
    [[-4, -3, -2, -1], [-3, -1], [-1]]
    """
    needed = [np.array([-1])]
    for dilation in reversed(dilations):
        needed.insert(0, np.unique(needed[0][:, None] - dilation * np.arange(kernel_size)))
    return needed


def _at(x: Array, known: np.ndarray, steps: np.ndarray, name: str) -> Array:
    """Inside a compact module: [N, len(steps), C] of a sequence of which some steps are known.

    Those before the first known one are zeros. Evenly spaced ones are taken by a layer of that
    name, if it is not all of them.
    """
    index, before = np.searchsorted(known, steps), steps < known[0]
    if before.any():
        x = jnp.pad(x, ((0, 0), (1, 0), (0, 0)))
        index = np.where(before, 0, index + 1)
    strides = np.diff(index) if len(index) > 1 else np.array([x.shape[1]])
    if (strides != strides[0]).any() or strides[0] < 1:
        return x[:, index]  # with a slower gradient
    start, stop = int(index[0]), int(index[-1]) + 1
    if (start, stop, strides[0]) == (0, x.shape[1], 1):
        return x
    return Slice1D(start, stop, int(strides[0]), name=name)(x)


class SeriesGRU(linen.Module):
    """A GRU, and the forecast made of its last state.

    Args:
        num_classes: how many values to forecast.
        units: size of the state.
    """

    num_classes: int = 24
    units: int = 64

    @linen.compact
    def __call__(self, inputs: Array) -> Array:
        """[N, T, C] -> [N, num_classes]."""
        x = GRU(self.units, name="gru")(inputs)
        return Dense(self.num_classes, name="forecast")(x)


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
