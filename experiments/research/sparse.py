"""Sparse nets: what of the weights is needed, when each costs what it weighs?

The objective adds `strength * sum |w|` over all kernels to the usual loss (Tibshirani 1996); the
optimiser shrinks towards zero what is not worth its price. Then every weight below a thousandth is
set to zero, and the net is measured again.

Command:   python -m experiments.research.sparse [--out FILE]

Reported:  no figure; an idea in six lines.

Ours:      the figure shows one seed; over several nothing is measured yet.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

import cnnjax as cj
from cnnjax.cli import command
from cnnjax.plot.figures import line_panels


@dataclass(frozen=True)
class Config:
    """Options of the example."""

    strengths: tuple[float, ...] = (0.0, 1e-5, 3e-5, 1e-4, 3e-4)
    """Prices of a weight of 1."""
    epochs: int = 15
    """Of each training."""
    seed: int = 0
    """Of the trainings."""
    out: str = "sparse.png"
    """The figure."""


def penalised(strength: float) -> Any:
    """The usual objective with a price on every kernel."""
    usual = cj.training.supervised(cj.metrics.cross_entropy)

    def objective(functions: Any, params: Any, state: Any, batch: Any, key: Any) -> Any:
        losses, aux = usual(functions, params, state, batch, key)
        sizes = [jnp.abs(leaf).sum() for leaf in jax.tree.leaves(params) if leaf.ndim > 1]
        return losses + strength * sum(sizes), aux

    return objective


def pruned(model: cj.Model, least: float = 1e-3) -> tuple[cj.Model, float]:
    """The model without its smallest weights, and the share of kernels that is zero then."""
    params = jax.tree.map(lambda w: jnp.where(jnp.abs(w) < least, 0.0, w), model.params)
    kernels = [leaf for leaf in jax.tree.leaves(params) if leaf.ndim > 1]
    zeros = sum(int((leaf == 0).sum()) for leaf in kernels) / sum(leaf.size for leaf in kernels)
    return model.replace(variables={**model.variables, "params": params}), zeros


def main(config: Config) -> tuple[dict[str, np.ndarray], Figure]:
    """Train at every price; draw what is left, and how well it does."""
    data = cj.data.load("digits")
    settings = cj.TrainingConfig(
        epochs=config.epochs, batch_size=32, optimizer="adam", schedule="cosine", seed=config.seed,
        monitor=None,
    )  # fmt: skip
    zeros, right = [], []
    for strength in config.strengths:
        model = cj.create_model("mnist_convnet", seed=config.seed)
        run = cj.fit(model, data.train, settings, objective=penalised(strength))
        small, share = pruned(run.model)
        zeros.append(share)
        right.append(cj.evaluate(small, data.parts["test"])["accuracy"])
        print(f"strength {strength:g}: {share:.1%} zeros, {right[-1]:.1%} right")
    lines = {"zeros among the weights": np.array(zeros), "accuracy": np.array(right)}
    names = [f"{strength:g}" for strength in config.strengths]
    figure = line_panels({"pruned below 0.001": lines}, "price of a weight", "share", names)
    figure.savefig(Path(config.out))
    return lines, figure


if __name__ == "__main__":
    command(main, Config, "research.sparse")
