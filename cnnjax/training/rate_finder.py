"""A learning rate to begin with, from one short training whose rate rises."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
import numpy as np
import optax

from cnnjax import metrics
from cnnjax.config import FILES, TrainingConfig
from cnnjax.core import processes
from cnnjax.core.checks import positive, whole_number
from cnnjax.core.settings import values
from cnnjax.core.text import plain, without_address
from cnnjax.data import Dataset, Splits, as_splits
from cnnjax.models import Model
from cnnjax.training.computation import Computation
from cnnjax.training.dispatch import Dispatcher
from cnnjax.training.facts import recorded_given
from cnnjax.training.given import Given
from cnnjax.training.objective import Objective

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# The loss has left for good where it is so many times the least one.
_DIVERGED = 4.0
# What is smoothed is this share of the range, however many steps it is divided into.
_WINDOW = 0.05
# Of the rates between one and ten times it at least so many are to be tried.
_IN_A_DECADE = 6
# How far the loss must fall, in standard deviations of a batch's.
_CLEARLY = 3.0


@dataclass(frozen=True)
class LearningRates:
    """What `find_learning_rate` returns.

    Args:
        rates: of the steps, rising, [T].
        losses: of their batches before the step, [T].
        smoothed: the losses, smoothed to and fro, so that nothing moves: [T].
        suggestion: the rate at which the smoothed loss falls most steeply.
    """

    rates: np.ndarray
    losses: np.ndarray
    smoothed: np.ndarray
    suggestion: float

    def figure(self) -> Figure:
        """`cnnjax.plot.learning_rates` of them."""
        from cnnjax.plot import learning_rates

        return learning_rates(self.rates, self.losses, self.smoothed, self.suggestion)


def find_learning_rate(
    model: Model,
    data: Splits | Dataset | tuple[np.ndarray, np.ndarray],
    config: TrainingConfig | None = None,
    loss: metrics.Loss | None = None,
    optimizer: Callable[[optax.Schedule], optax.GradientTransformation] | None = None,
    *,
    objective: Objective | None = None,
    lowest: float = 1e-7,
    highest: float = 10.0,
    steps: int = 100,
) -> LearningRates:
    """Try learning rates on one short training, which changes nothing.

    The rate of step t is `lowest (highest / lowest)^(t / (steps - 1))`, until the loss has
    diverged. The suggestion is where the smoothed loss falls most steeply over the logarithm of the
    rate (Smith 2017, Cyclical Learning Rates for Training Neural Networks, sec. 3.3).

    Args:
        model, data, loss, objective: as in `fit`.
        config: of the training to come. What it says of rate, schedule, epochs, monitor and files
            has no part in this.
        optimizer: a function of the learning rate instead of the configured one, e.g. optax.lion.
        lowest, highest: rates to try, > 0.
        steps: between them, at least 10, and 6 for each factor of ten: with fewer the loss diverges
            before it has fallen.

    Returns:
        LearningRates; `figure()` draws them.

    Raises:
        ValueError: if the loss fell at none of the rates, or not clearly, beside what batches
            differ by.

    >>> import cnnjax as cj
    >>> config = cj.TrainingConfig(optimizer="adam", batch_size=32)
    >>> model = cj.create_model("mlp", units=(32,))
    >>> found = cj.training.find_learning_rate(model, cj.data.load("digits"), config)
    >>> 1e-4 < found.suggestion < 1e-1
    True
    """
    lowest, highest = positive("lowest", lowest), positive("highest", highest)
    if not lowest < highest:
        raise ValueError(f"highest must be above lowest={lowest!r}, got {highest!r}")
    ramp = _Ramp(lowest, highest, whole_number("steps", steps, least=10))
    least_steps = math.ceil(_IN_A_DECADE * math.log10(highest / lowest))
    if steps < least_steps:
        raise ValueError(
            f"steps={steps} are too few between lowest={lowest:g} and highest={highest:g}, so that "
            f"the loss would diverge before it has fallen: give {least_steps} or more, or a "
            "narrower range"
        )
    computation = _computation(
        model,
        as_splits(data, model.spec.task),
        config or TrainingConfig(),
        Given(loss, None, objective),
        optimizer,
        ramp,
    )
    losses: list[float] = []
    average = least = math.inf
    kept = ramp.smoothing
    with processes.together("find_learning_rate"):
        if processes.count() > 1:
            here = {"lowest": lowest, "highest": highest, "steps": steps}
            processes.check_alike("find_learning_rate", recorded_given(computation) | here)
        for value in _losses(computation, ramp.steps):
            average = kept * average + (1 - kept) * value if losses else value
            least = min(least, average)
            losses.append(value)
            if not average <= _DIVERGED * least:  # nor is NaN
                break
    computation.loader.close()
    count = len(losses) - (not math.isfinite(losses[-1]))
    rates = np.array([ramp.exactly(step) for step in range(count)])
    tried = np.array(losses[:count])
    smoothed = _smoothed(tried, kept)
    return LearningRates(rates, tried, smoothed, _steepest(rates, tried, smoothed, ramp.steps))


@dataclass(frozen=True)
class _Ramp:
    """The schedule; equal ones are one to `make_steps`, which compiles once for them."""

    lowest: float
    highest: float
    steps: int

    def __call__(self, step: Any) -> Any:
        share = jnp.minimum(step / (self.steps - 1), 1.0)
        return self.lowest * (self.highest / self.lowest) ** share

    @property
    def smoothing(self) -> float:
        """The share of what came before in a moving average, 0.8 for 100 steps."""
        return 1.0 - 1.0 / max(_WINDOW * self.steps, 1.0)

    def exactly(self, step: int) -> float:
        return self.lowest * (self.highest / self.lowest) ** (step / (self.steps - 1))


def _computation(
    model: Model,
    splits: Splits,
    config: TrainingConfig,
    given: Given,
    optimizer: Callable[[optax.Schedule], optax.GradientTransformation] | None,
    ramp: _Ramp,
) -> Computation:
    unused: dict[str, Any] = values(TrainingConfig, FILES)
    of_rate = ("learning_rate", "schedule", "warmup", "rate_decay", "rate_drops", "rate_patience")
    unused |= {name: getattr(TrainingConfig, name) for name in of_rate}
    unused |= {"monitor": None, "early_stopping": None, "steps_per_dispatch": 1}
    config = replace(config, **unused)
    if optimizer is None:
        config = replace(config, schedule=ramp)
    elif callable(optimizer):
        given = replace(given, optimizer=optimizer(ramp))
    else:
        raise ValueError(
            "optimizer must be a function of the learning rate, e.g. optax.lion, got "
            f"{plain(without_address(str(optimizer)))}"
        )
    return Computation.of(model, Splits(splits.train), config, given)


def _losses(computation: Computation, steps: int) -> Iterator[float]:
    """The mean loss of each step's batch, over as many epochs as it takes."""
    loader, devices = computation.loader, computation.devices
    state = processes.same_everywhere(computation.first_state())
    layout = devices.layout(state)
    step, config = computation.steps.train, computation.config
    dispatcher = Dispatcher(step, loader, config, devices, layout=layout)
    state = devices.spread(state)
    for epoch in range(math.ceil(steps / loader.steps)):
        for dispatched in dispatcher.run(state, epoch, 0):
            state = dispatched.state
            sums = dispatched.sums
            yield float(sums["loss"]) / float(sums["count"])
            if epoch * loader.steps + dispatched.step == steps:
                return


def _smoothed(losses: np.ndarray, kept: float) -> np.ndarray:
    """An exponential moving average there, and one back, which together move nothing."""
    result = losses.astype(np.float64)
    for order in (result, result[::-1]):
        for i in range(1, len(order)):
            order[i] = kept * order[i - 1] + (1 - kept) * order[i]
    return result


def _steepest(rates: np.ndarray, losses: np.ndarray, smoothed: np.ndarray, steps: int) -> float:
    """The rate of the steepest descent before the least loss."""
    end = int(np.argmin(smoothed)) + 1 if len(smoothed) else 0
    if end < 3:
        reach = f"{rates[0]:g} to {rates[-1]:g}" if len(rates) else "the lowest on"
        raise ValueError(
            f"the loss fell at none of the learning rates from {reach}: give more steps or a "
            "smaller lowest, or look for a fault in model, labels or loss"
        )
    fall, noise = float(smoothed[0] - smoothed[end - 1]), _noise(losses[:end])
    if fall < _CLEARLY * noise:
        raise ValueError(
            f"the loss fell by {fall:.3g}, which does not stand out of what batches differ by "
            f"({noise:.3g}): give more steps than {steps}, or a larger batch_size"
        )
    slope = np.gradient(smoothed[:end], np.log(rates[:end]))
    return float(rates[int(np.argmin(slope))])


def _noise(losses: np.ndarray) -> float:
    """The standard deviation of a batch's loss around a smooth curve, by its second differences.

    Of normal noise they have sqrt(6) its deviation, and half of them are below 0.6745 of that.
    """
    bends = np.abs(np.diff(losses, 2))
    return float(np.median(bends)) / (0.6745 * math.sqrt(6)) if len(bends) else 0.0
