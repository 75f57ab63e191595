"""Which labels are wrong? Those whose examples the predictions would do better without.

A tenth of the training labels of the digits are exchanged for others, and a small dense net is
trained on them. Then the training examples are put in order, the most suspicious first, in two
ways, and the wrong labels among the first tenth are counted:

- influence: by how much the mean loss of other digits, rightly labelled, would fall without it;
- loss: its own loss, for which no right labels are needed.

Command:   python -m experiments.research.wrong_labels [--epochs 5] [--seeds 3]

Reported:  influence functions find wrong labels (Koh & Liang 2017, sec. 5.4).

Ours:      printed over three seeds, of which no record is kept yet; an example's own loss was the
           simpler way, and no worse.
"""

from dataclasses import dataclass
from pathlib import Path

import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

import cnnjax as cj
from cnnjax.cli import command
from cnnjax.plot import figures

NAME = "wrong_labels"


@dataclass(frozen=True)
class Config:
    """Options of the study."""

    share: float = 0.1
    """Of the training labels that are wrong, in (0, 1)."""
    epochs: int = 5
    """Of training."""
    damping: float = 0.1
    """Of the influence."""
    seeds: int = 3
    """How often it is done anew."""
    figure: Path = Path("checkpoints") / f"{NAME}.png"
    """Where the figure is written."""


def main(config: Config) -> dict[str, np.ndarray]:
    """Find the wrong labels of every seed, print the shares and draw the curves."""
    found = [find(config, seed) for seed in range(config.seeds)]
    curves = {way: np.stack([one[way] for one in found]) for way in found[0]}
    for way, curve in curves.items():
        shares = curve[:, round(config.share * curve.shape[1])]
        print(f"{way}: {cj.metrics.mean_and_deviation(100 * shares, 1)} % of the wrong labels")
    figures.save(draw(curves), config.figure)
    print(f"figure: {config.figure}")
    return curves


def find(config: Config, seed: int) -> dict[str, np.ndarray]:
    """Of each way the share of the wrong labels that stand among the first n: [N + 1]."""
    digits, rng = cj.data.load("digits"), np.random.default_rng(seed)
    images, labels = np.asarray(digits.train.inputs), np.asarray(digits.train.labels)
    wrong = rng.permutation(len(labels)) < round(config.share * len(labels))
    given = np.where(wrong, (labels + rng.integers(1, 10, len(labels))) % 10, labels)

    model = cj.create_model("mlp", units=(32,), seed=seed)
    data = cj.data.Splits(train=cj.data.from_arrays(images, given))
    training = cj.TrainingConfig(epochs=config.epochs, batch_size=32, seed=seed)
    model = cj.fit(model, data, training, verbose=False).model

    train = {"inputs": images, "labels": given}
    test = digits.parts["test"]
    right = {"inputs": test.inputs, "labels": test.labels}
    scores = cj.research.influence(model, train, right, damping=config.damping, average=True)
    outputs = model(model.spec.preprocess(jnp.asarray(images)))
    losses = model.spec.task.loss(outputs, jnp.asarray(given))
    orders = {"influence": np.argsort(scores), "loss": np.argsort(-losses)}
    return {way: np.cumsum(np.r_[0, wrong[order]]) / wrong.sum() for way, order in orders.items()}


def draw(curves: dict[str, np.ndarray]) -> Figure:
    """Share of the wrong labels that are found, over the share of the examples looked at."""
    figure = figures.new_figure(5, 4)
    axes = figure.add_subplot(xlabel="examples looked at", ylabel="wrong labels found")
    for way, curve in curves.items():
        axes.plot(np.linspace(0, 1, curve.shape[1]), curve.mean(axis=0), label=way)
    axes.plot([0, 1], [0, 1], ":", color="grey", label="chance")
    axes.legend()
    return figure


if __name__ == "__main__":
    command(main, Config, f"research.{NAME}")
