"""Sparse nets: what of the weights is needed, when each costs what it weighs?

The objective adds `strength * sum |w|` over all kernels to the usual loss (Tibshirani 1996); the
optimiser shrinks towards zero what is not worth its price. Then every weight below a thousandth is
set to zero, and the net is measured again.

Command:   python -m experiments.research.sparse [--seeds 3] [--out DIR]

Reported:  no figure; an idea in six lines.

Ours:      at a price of 1e-4 a share of 0.4100 ± 0.0095 of the weights is zero, and 98.51 ± 0.43 %
           of the test digits are right, at no price 98.61 ± 0.28 (3 seeds); the rows
           research/sparse of RESULTS.md and their claims.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import cnnjax as cj
from cnnjax.cli import command
from cnnjax.metrics import deviation
from cnnjax.plot import figures
from cnnjax.recipes import Measured, run_experiment, write_claims
from cnnjax.runs.results import spread
from experiments import _studies
from experiments.research._ideas import IdeaOptions, measured, planned, run_arms

NAME = "research/sparse"


@dataclass(frozen=True)
class SparseOptions(IdeaOptions):
    """Options of the study."""

    strengths: tuple[float, ...] = (0.0, 1e-5, 3e-5, 1e-4, 3e-4)
    """Prices of a weight of 1."""


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


def train(strength: float, options: SparseOptions) -> cj.Run:
    """One training at a price."""
    settings = cj.TrainingConfig(
        epochs=15, batch_size=32, optimizer="adam", schedule="cosine", monitor=None
    )
    name, text = f"{NAME}/{strength:g}", f"digits, {strength:g} a weight"
    plan = planned(name, text, options, settings, model="mnist_convnet")
    return run_experiment(plan, options.out, objective=penalised(strength))


def left(test: cj.data.Dataset, run: cj.Run) -> tuple[float, float]:
    """Of a pruned model the share of zeros, and the accuracy."""
    small, zeros = pruned(run.model)
    return zeros, float(cj.evaluate(small, test)["accuracy"])


def claims(found: Mapping[str, Sequence[tuple[float, float]]]) -> list[Measured]:
    """That most weights may go, and the net is as good as one at no price; of (zeros, accuracy)."""
    if not {"0", "0.0001"} <= set(found):
        return []
    (zeros, right), (none, before) = (tuple(zip(*found[k], strict=True)) for k in ("0.0001", "0"))
    arms = ("a price of 1e-4", "none")
    return [
        Measured(
            "At a price of 1e-4 a weight over half of the weights are not needed",
            arms[0], zeros, arms[1], none, "seeds", "share of pruned weights", by=0.5,
        ),
        Measured(
            "At a price of 1e-4 a weight the pruned net is as good",
            arms[0], right, arms[1], before, "seeds", "test accuracy when pruned", within=0.01,
        ),
    ]  # fmt: skip


def main(options: SparseOptions) -> dict[str, list[cj.Run]]:
    """Train at every price; print and draw what is left, and how well it does."""
    runs = run_arms({f"{price:g}": partial(train, price) for price in options.strengths}, options)
    test, folder = cj.data.load(options.data).parts["test"], _studies.folder_of(options, NAME)
    found = measured(runs, partial(left, test))
    for price, values in found.items():
        zeros, right = (spread(column) for column in zip(*values, strict=True))
        print(f"{price:>6} a weight: {zeros} % zeros, {right} % right")
    table, places = np.array(list(found.values())), np.arange(len(found))  # [prices, seeds, 2]
    curves = {
        name: np.array([places, *zip(*((v.mean(), deviation(v)) for v in column), strict=True)])
        for name, column in zip(("zeros", "accuracy"), np.moveaxis(table, 2, 0), strict=True)
    }
    label = f"price of a weight: {', '.join(found)}"
    figures.save(figures.mean_curves({"share": curves}, label), folder / "pruned.png")
    if known := claims(found):
        write_claims(folder, known)
    return runs


if __name__ == "__main__":
    command(main, SparseOptions, "research.sparse")
