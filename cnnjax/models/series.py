"""Nets that forecast time series: dilated causal convolutions, a GRU, a bag of windows."""

from __future__ import annotations

from flax import linen
from jax import Array
from jax.nn import relu

from cnnjax.nn import GRU, Add, Conv1D, Dense, GlobalAveragePooling1D


class LastStep(linen.Module):
    """The last of the steps: [N, T, C] -> [N, C]."""

    @linen.compact
    def __call__(self, inputs: Array) -> Array:
        """Apply to [N, T, C]."""
        return inputs[:, -1]


class SeriesConv1D(linen.Module):
    """Causal convolutions of growing dilation; the forecast is made of the last step.

    The dilations double as in WaveNet (van den Oord et al. 2016, arXiv:1609.03499), and every
    convolution but the first adds to what it gets. The last step sees `1 + sum(dilations)` values
    with kernels of 2 taps, and nothing of what is older.

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
        x = inputs
        for i, dilation in enumerate(self.dilations, start=1):
            conv = Conv1D(
                self.filters, self.kernel_size, padding="causal", dilation_rate=dilation,
                activation=relu, name=f"conv{i}",
            )  # fmt: skip
            x = conv(x) if i == 1 else Add(name=f"add{i}")([x, conv(x)])
        x = LastStep(name="last_step")(x)
        return Dense(self.num_classes, name="forecast")(x)


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
