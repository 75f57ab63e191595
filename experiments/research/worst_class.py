"""Rare classes: a loss, a metric and an optimiser of one's own in one call of `fit`.

Of half of the digits nine tenths are taken away. How well is the class found that is found worst?
That is a metric, the least recall of all classes, by which the best epoch is chosen. Compared are
the usual loss and one that adds the logarithm of a class's share to its logit in training, so that
the net need not learn who is frequent (Menon et al. 2021, Long-tail learning via logit adjustment);
the optimiser is Lion (Chen et al. 2023).

Command:   python -m experiments.research.worst_class [--out FILE]

Reported:  no figure; an idea in fifteen lines.

Ours:      printed as mean and deviation over three seeds; no record of it is kept yet.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import optax
from matplotlib.figure import Figure

import cnnjax as cj
from cnnjax.cli import command
from cnnjax.plot.figures import line_panels


@dataclass(frozen=True)
class Config:
    """Options of the example."""

    kept: float = 0.1
    """Share of the training examples of digits 0 to 4 that stays."""
    epochs: int = 30
    """Of each training."""
    seeds: int = 3
    """Trainings with each loss."""
    out: str = "worst_class.png"
    """The figure."""


def adjusted(shares: tuple[float, ...]) -> Any:
    """The usual loss of logits to which the shares of the classes are added."""

    def loss(outputs: Any, labels: Any) -> Any:
        return cj.metrics.cross_entropy(outputs + jnp.log(jnp.array(shares))[None], labels)

    return loss


def found(outputs: Any, batch: Any) -> Any:
    """Of each class how many are right, and how many there are."""
    right = cj.metrics.correct(outputs, batch["labels"]) * batch["mask"]
    none = jnp.zeros(outputs.shape[1])
    return none.at[batch["labels"]].add(right), none.at[batch["labels"]].add(batch["mask"])


def least(sums: Any) -> Any:
    """The recall of the class that is found worst."""
    return (sums[0] / np.maximum(sums[1], 1)).min()


WORST = cj.metrics.Metric(lambda: (0.0, 0.0), found, least, mode="max")


def train(data: cj.data.Splits, loss: Any, config: Config, seed: int) -> cj.Run:
    """One training, whose best epoch is that of the highest least recall."""
    settings = cj.TrainingConfig(epochs=config.epochs, monitor="worst", seed=seed)
    return cj.fit(
        cj.create_model("mlp", units=(64,), seed=seed),
        data,
        settings,
        loss=loss,
        optimizer=optax.lion(3e-4),
        metrics={"worst": WORST, "each": cj.metrics.recall(average=None)},
        verbose=False,
    )


def rare(kept: float) -> cj.data.Splits:
    """Digits, of which the first five classes are rare in training."""
    data = cj.data.load("digits")
    labels = np.asarray(data.train.labels)
    keep = (labels > 4) | (np.random.default_rng(0).random(len(labels)) < kept)
    images = np.asarray(data.train.inputs)[keep]
    train_part = cj.data.from_arrays(images, labels[keep], name="rare digits")
    parts = train_part.split(0.3, stratify=True)
    return cj.data.Splits(*parts, data.test)


def main(config: Config) -> Figure:
    """Train with both losses, print and draw what of each class is found."""
    data = rare(config.kept)
    counts = np.bincount(np.asarray(data.train.labels))
    shares = tuple((counts / counts.sum()).tolist())
    recalls = {}
    for name, loss in (("cross-entropy", None), ("adjusted", adjusted(shares))):
        runs = [train(data, loss, config, seed) for seed in range(config.seeds)]
        worst = [run.metrics["test_worst"] for run in runs]
        right = [run.metrics["test_accuracy"] for run in runs]
        recalls[name] = np.mean([run.metrics["test_each"] for run in runs], axis=0)
        told = (cj.metrics.mean_and_deviation(values) for values in (worst, right))
        print("{:13}  least recall {}  accuracy {}".format(name, *told), flush=True)
    figure = line_panels({"test digits": recalls}, "class", "recall", [str(k) for k in range(10)])
    figure.savefig(Path(config.out))
    return figure


if __name__ == "__main__":
    command(main, Config, "research.worst_class")
