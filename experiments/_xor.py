"""Points whose class is whether exactly one of their two features is positive; dense layers."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array
from matplotlib.figure import Figure

from cnnjax.core import rng
from cnnjax.metrics import sigmoid_cross_entropy
from cnnjax.plot import figures
from cnnjax.runs.results import spread
from experiments import _studies

UNITS, STEPS, RATE = 8, 600, 0.03
CORNERS = np.array([[-1, -1], [-1, 1], [1, -1], [1, 1]], np.float32)

Parameters = dict[str, Array]


def points(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Points around the four corners: float32 [N, 2], and their classes, int32 [N]."""
    source = np.random.default_rng(seed)
    corners = CORNERS[source.integers(0, 4, count)]
    return corners + source.normal(0, 0.3, (count, 2)).astype(np.float32), classes(corners)


def classes(x: np.ndarray) -> np.ndarray:
    """1 where exactly one of the features is positive: int32 [N]."""
    found: np.ndarray = ((x[:, 0] > 0) != (x[:, 1] > 0)).astype(np.int32)
    return found


def initial(layers: int, seed: int) -> Parameters:
    """Weights of one dense layer of a logit, or of two, the first with ReLU."""
    key = rng.stream(seed, "xor")
    inputs = 2 if layers == 1 else UNITS
    params = {"logits": jax.random.normal(rng.named(key, "logits"), (inputs, 1)) * inputs**-0.5}
    params["bias"] = jnp.zeros((1, 1))
    if layers == 2:
        params["hidden"] = jax.random.normal(rng.named(key, "hidden"), (2, UNITS))
        params["hidden_bias"] = jnp.zeros((1, UNITS))
    return params


def logits(params: Parameters, x: Array) -> Array:
    """Of points [N, 2]: [N, 1]."""
    if "hidden" in params:
        x = jax.nn.relu(x @ params["hidden"] + params["hidden_bias"])
    return x @ params["logits"] + params["bias"]


def loss(params: Parameters, x: Array, y: Array) -> Array:
    """Mean cross-entropy."""
    return sigmoid_cross_entropy(logits(params, x), y).mean()


@partial(jax.jit, static_argnames="steps")
def trained(params: Parameters, x: Array, y: Array, steps: int = STEPS) -> Parameters:
    """The parameters after so many steps of Adam on all points."""
    optimizer = optax.adam(RATE)

    def step(carry: tuple, _: None) -> tuple[tuple, None]:
        params, state = carry
        updates, state = optimizer.update(jax.grad(loss)(params, x, y), state)
        return (optax.apply_updates(params, updates), state), None

    (result, _), _ = jax.lax.scan(step, (params, optimizer.init(params)), None, steps)
    return result


def accuracy(params: Parameters, x: np.ndarray, y: np.ndarray) -> float:
    """Share of points on the right side of zero."""
    return float(((np.asarray(logits(params, jnp.asarray(x)))[:, 0] > 0) == y).mean())


def study(seeds: Iterable[int], folder: Path) -> dict[int, list[float]]:
    """Train one and two layers for each seed, write a table and a figure.

    Returns:
        Number of layers -> accuracy on 1,000 new points, of every seed.
    """
    found: dict[int, list[float]] = {1: [], 2: []}
    last: dict[int, Parameters] = {}
    for seed in seeds:
        x, y = points(400, seed)
        for layers, values in found.items():
            last[layers] = trained(initial(layers, seed), x, y)
            values.append(accuracy(last[layers], *points(1000, 10_000 + seed)))
    corners = trained(initial(1, 0), CORNERS, classes(CORNERS))
    least = float(loss(corners, jnp.asarray(CORNERS), jnp.asarray(classes(CORNERS))))
    rows = [[str(layers), spread(values)] for layers, values in found.items()]
    _studies.write_table(folder / "xor.md", ["dense layers", "right of new points, %"], rows)
    print(f"loss of one layer on the four corners alone: {least:.6f}, log 2 is {np.log(2):.6f}")
    figures.save(draw(last, *points(400, 0)), folder / "xor.png")
    return found


def draw(nets: dict[int, Parameters], x: np.ndarray, y: np.ndarray) -> Figure:
    """The points over the probability that each net gives every place."""
    figure = Figure((8, 3.8), dpi=110, layout="constrained")
    line = np.linspace(-2.2, 2.2, 121, dtype=np.float32)
    grid = np.stack(np.meshgrid(line, line), axis=-1).reshape(-1, 2)
    for place, (layers, params) in enumerate(nets.items(), start=1):
        axes = figure.add_subplot(1, 2, place)
        values = np.asarray(jax.nn.sigmoid(logits(params, jnp.asarray(grid))))
        axes.imshow(values.reshape(121, 121), origin="lower", extent=(-2.2, 2.2, -2.2, 2.2),
                    cmap="RdBu_r", vmin=0, vmax=1, alpha=0.6)  # fmt: skip
        for label, color in enumerate(("C0", "C3")):
            axes.plot(*x[y == label].T, ".", color=color, markersize=4)
        axes.set_title(f"{layers} dense layer{'s' * (layers > 1)}", fontsize=10)
        axes.set(xlabel="first feature", ylabel="second feature")
    return figure
