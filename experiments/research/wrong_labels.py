"""Which labels are wrong? Those whose examples the predictions would do better without.

A tenth of the training labels of the digits are exchanged for others, and a small dense net is
trained on them. Then the training examples are put in order, the most suspicious first, in two
ways, and the wrong labels among the first tenth are counted:

- influence: by how much the mean loss of other digits, rightly labelled, would fall without it;
- loss: its own loss, for which no right labels are needed.

Command:   python -m experiments.research.wrong_labels [--epochs 5] [--seeds 5] [--out DIR]

Reported:  influence functions find wrong labels (Koh & Liang 2017, sec. 5.4).

Ours:      of the wrong labels a share of 0.8889 ± 0.0273 is found by influence, and more by the
           example's own loss, the simpler way: 0.9194 ± 0.0200 (5 seeds); the claims of RESULTS.md
           that its command makes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

import cnnjax as cj
from cnnjax.cli import command
from cnnjax.plot import figures
from cnnjax.recipes import Measured, for_every_seed, run_experiment, write_claims
from experiments._studies import folder_of
from experiments.research._ideas import IdeaOptions, planned

NAME = "research/wrong_labels"


@dataclass(frozen=True)
class WrongLabelOptions(IdeaOptions):
    """Options of the study."""

    share: float = 0.1
    """Of the training labels that are wrong, in (0, 1)."""
    damping: float = 0.1
    """Of the influence."""


def main(options: WrongLabelOptions) -> dict[str, np.ndarray]:
    """Find the wrong labels of every seed, print the shares and draw the curves."""
    found, folder = for_every_seed(options, find), folder_of(options, NAME)
    curves = {way: np.stack([one[way] for one in found]) for way in found[0]}
    shares = {way: c[:, round(options.share * c.shape[1])].tolist() for way, c in curves.items()}
    for way, values in shares.items():
        found_by = cj.metrics.mean_and_deviation(100 * np.array(values), 1)
        print(f"{way}: {found_by} % of the wrong labels")
    figures.save(draw(curves), folder / "found.png")
    print(f"figure: {folder / 'found.png'}")
    write_claims(folder, claims(shares, options.share))
    return curves


def claims(shares: Mapping[str, Sequence[float]], wrong: float) -> list[Measured]:
    """That either way finds most of them, and influence more; of what stands in the first part."""
    metric = f"wrong labels that stand among the first {100 * wrong:g} %"
    chance = [wrong] * len(shares["loss"])
    return [
        Measured(
            f"{way} finds over half of the wrong labels, by far more than chance",
            way, values, "chance", chance, "seeds", metric, by=0.5 - wrong,
        )
        for way, values in shares.items()
    ] + [
        Measured(
            "influence finds more wrong labels than an example's own loss",
            "influence", shares["influence"], "loss", shares["loss"], "seeds", metric,
        )
    ]  # fmt: skip


def find(options: WrongLabelOptions) -> dict[str, np.ndarray]:
    """Of each way the share of the wrong labels that stand among the first n: [N + 1]."""
    digits, rng = cj.data.load(options.data), np.random.default_rng(options.seed)
    images, labels = np.asarray(digits.train.inputs), np.asarray(digits.train.labels)
    wrong = rng.permutation(len(labels)) < round(options.share * len(labels))
    given = np.where(wrong, (labels + rng.integers(1, 10, len(labels))) % 10, labels)

    settings = cj.TrainingConfig(epochs=5, batch_size=32)
    plan = planned(
        NAME, f"digits, {options.share:g} of the labels are wrong", options, settings,
        model="mlp", arguments={"units": (32,)},
    )  # fmt: skip
    train_part = cj.data.from_arrays(images, given, name="digits with wrong labels")
    data = cj.data.Splits(train_part, test=digits.test)
    model = run_experiment(plan, options.out, splits=data).model

    train = {"inputs": images, "labels": given}
    test = digits.parts["test"]
    right = {"inputs": test.inputs, "labels": test.labels}
    scores = cj.research.influence(model, train, right, damping=options.damping, average=True)
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
    command(main, WrongLabelOptions, "research.wrong_labels")
