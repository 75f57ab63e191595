"""Activation functions beside their slopes: how far they reach, how steep they are, where flat.

A unit whose slope is zero passes no gradient: sigmoid and tanh are flat wherever the input is
large, ReLU wherever it is negative; leaky ReLU and ELU are not quite. Each function is drawn with
its derivative by `jax.grad`. The table says from where to where it goes, the largest slope, the
slope at zero, and the share of inputs at which the slope is below 1e-3 in size, for inputs that are
normal with a deviation of 1 and of 5, at their 100,000 quantiles.

Command:   python -m experiments.activation_functions [--out DIR]

Reported:  no figure; functions differ in range and slope, and sigmoid's slope is at most 1/4.

Ours:      the steepest slope is .250 of sigmoid, 1.129 of GELU, 1.100 of swish, else 1. Flat, of
           inputs with a deviation of 5: ReLU 50.0, tanh 40.7, GELU 22.3, sigmoid 16.7, softplus and
           ELU 8.4, swish 3.7 %, leaky ReLU none; of 1 only ReLU, 50.0 %, the others below .3 %.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from jax import Array
from matplotlib.figure import Figure
from scipy import stats

from cnnjax.cli import command
from experiments import _studies
from experiments._images import Gallery, ImageOptions

FUNCTIONS: dict[str, Callable[[Array], Array]] = {
    "ReLU": jax.nn.relu,
    "leaky ReLU (0.01)": jax.nn.leaky_relu,
    "ELU": jax.nn.elu,
    "sigmoid": jax.nn.sigmoid,
    "tanh": jnp.tanh,
    "softplus": jax.nn.softplus,
    "GELU": lambda x: jax.nn.gelu(x, approximate=False),
    "swish": jax.nn.swish,
}
SPREADS = (1.0, 5.0)
FLAT = 1e-3
_DRAWN = 8.0  # from minus to plus
_FAR, _LARGE = 1e6, 1e3  # an output beyond the second, of an input of the first, has no bound
_QUANTILES = 100_000


@dataclass(frozen=True)
class Config(ImageOptions):
    """Options of the experiment."""

    photo: Annotated[str | None, tyro.conf.Suppress] = None


class Facts(NamedTuple):
    """What the table says of a function.

    Args:
        low, high: bounds of its values; infinite where there is none.
        steepest: the largest slope.
        at_zero: the slope at zero, as `jax.grad` has it where there are two.
        flat: for each of `SPREADS` the share of inputs with a slope below `FLAT` in size.
    """

    low: float
    high: float
    steepest: float
    at_zero: float
    flat: tuple[float, ...]


def slopes(function: Callable[[Array], Array], x: np.ndarray) -> np.ndarray:
    """The derivative at each of the inputs [N]."""
    return np.asarray(jax.vmap(jax.grad(function))(jnp.asarray(x, jnp.float32)))


def facts_of(function: Callable[[Array], Array]) -> Facts:
    """Bounds and slopes, found by looking."""
    near = np.linspace(-20, 20, 40_001)
    values = np.asarray(function(jnp.asarray(np.r_[near, -_FAR, _FAR], jnp.float32)))
    low, high = float(values.min()), float(values.max())
    shares = []
    for spread in SPREADS:
        inputs = stats.norm.ppf((np.arange(_QUANTILES) + 0.5) / _QUANTILES, scale=spread)
        shares.append(float((np.abs(slopes(function, inputs)) < FLAT).mean()))
    return Facts(
        -np.inf if low < -_LARGE else low,
        np.inf if high > _LARGE else high,
        float(slopes(function, near).max()),
        float(slopes(function, np.zeros(1))[0]),
        tuple(shares),
    )


def draw() -> Figure:
    """Each function with its derivative."""
    figure = Figure((13, 6.4), dpi=120, layout="constrained")
    x = np.linspace(-_DRAWN, _DRAWN, 1201)
    for position, (name, function) in enumerate(FUNCTIONS.items(), start=1):
        axes: Any = figure.add_subplot(2, 4, position)
        axes.axhline(0, color="black", linewidth=0.6)
        axes.axvline(0, color="black", linewidth=0.6)
        axes.plot(x, np.asarray(function(jnp.asarray(x, jnp.float32))), label="value")
        slope = slopes(function, x)
        axes.plot(x, slope, "--", label="slope")
        flat = np.abs(slope) < FLAT
        axes.fill_between(x, 0, 1, where=flat, transform=axes.get_xaxis_transform(), color="0.9")
        axes.set(title=name, ylim=(-1.5, 3), xlim=(-_DRAWN, _DRAWN))
        axes.grid(alpha=0.3)
    figure.axes[0].legend(loc="upper left", fontsize=8)
    figure.suptitle(f"Activation functions and their slopes; grey: slopes below {FLAT:g}", size=11)
    return figure


def _row(name: str, facts: Facts) -> list[str]:
    bounds = f"{facts.low:.3g} to {facts.high:.3g}"
    shares = [f"{100 * share:.1f} %" for share in facts.flat]
    return [name, bounds, f"{facts.steepest:.3f}", f"{facts.at_zero:.3f}", *shares]


def main(config: Config) -> dict[str, Facts]:
    """Look, draw, write the table."""
    found = {name: facts_of(function) for name, function in FUNCTIONS.items()}
    gallery = Gallery(config, "activation_functions")
    gallery.add("functions", draw())
    head = ["", "values", "steepest", "slope at 0"]
    head += [f"flat, inputs N(0, {spread:g})" for spread in SPREADS]
    rows = [_row(name, facts) for name, facts in found.items()]
    _studies.write_table(gallery.folder / "functions.md", head, rows)
    gallery.report()
    return found


if __name__ == "__main__":
    command(main, Config, "activation_functions")
