"""SimCLR: features learnt without a label, and how far a linear layer on them gets with few.

Two random views of each image are to be nearer to each other than to those of all other images of
the batch (Chen et al. 2020, arXiv:2002.05709). The objective augments the examples itself, twice,
and looks at no label. Then the base is frozen, and a linear layer learns from a few labelled
images: on these features, and on random ones.

Command:   python -m experiments.research.simclr [--out FILE]

Reported:  no figure; an idea in forty lines.

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

    epochs: int = 30
    """Without labels."""
    images: int = 50
    """That the linear layer learns from."""
    probe_epochs: int = 40
    """Of the linear layer."""
    seed: int = 0
    """Of the trainings."""
    out: str = "simclr.png"
    """The figure."""


VIEWS = cj.augment.Augment(width_shift=3, height_shift=3, rotation=20, zoom=0.2)


def contrast(functions: Any, params: Any, state: Any, batch: Any, key: Any) -> Any:
    """The objective: which of all other views is that of the same image?"""
    examples, index = batch["examples"], batch["index"]

    def view(number: int) -> Any:
        key_of_view = jax.random.fold_in(key, number)
        images = cj.augment.for_batch(VIEWS, key_of_view, batch["epoch"], index, examples)
        return functions.preprocess(images)

    both = jnp.concatenate([view(0), view(1)])
    outputs, state = functions.apply_train(params, state, both, key)
    directions = outputs * jax.lax.rsqrt((outputs**2).sum(axis=1, keepdims=True) + 1e-8)
    count = len(index)
    real = jnp.concatenate([batch["mask"], batch["mask"]])[None, :] > 0
    other = real & ~jnp.eye(2 * count, dtype=bool)
    alike = jnp.where(other, directions @ directions.T / 0.2, -1e9)
    partner = jnp.roll(jnp.arange(2 * count), count)
    losses = cj.metrics.softmax_cross_entropy(alike, partner)
    losses = (losses[:count] + losses[count:]) / 2
    hit = cj.metrics.correct(alike, partner)[:count]
    return losses, cj.training.Aux(None, state, {"found": hit})


def probe(base: cj.Model, data: cj.data.Splits, config: Config) -> cj.Run:
    """A linear layer on the frozen features."""
    model = cj.transfer.replace_head(base, cj.transfer.Head(10))
    settings = cj.TrainingConfig(
        epochs=config.probe_epochs, batch_size=25, optimizer="adam", learning_rate=3e-3,
        frozen=("conv*",), seed=config.seed, monitor=None,
    )  # fmt: skip
    return cj.fit(model, data, settings)


def main(config: Config) -> tuple[dict[str, float], Figure]:
    """Train without labels, then with a few; draw the validation of the linear layers."""
    data = cj.data.load("digits")
    few = cj.data.Splits(data.train.subset(slice(config.images)), validation=data.test)
    start = cj.create_model("mnist_convnet", num_classes=32, seed=config.seed)
    settings = cj.TrainingConfig(
        epochs=config.epochs, batch_size=128, optimizer="adam", seed=config.seed, monitor=None
    )
    run = cj.fit(start, data.train, settings, objective=contrast)
    probes = {"random features": start, "SimCLR": run.model}
    lines = {k: probe(m, few, config).history["val_accuracy"] for k, m in probes.items()}
    title = f"a linear layer, {config.images} labels"
    epochs = np.arange(1, config.probe_epochs + 1)
    figure = line_panels({title: lines}, "epoch", "accuracy", epochs)
    figure.savefig(Path(config.out))
    reached = {name: float(values[-1]) for name, values in lines.items()}
    print("  ".join(f"{name} {value:.1%}" for name, value in reached.items()))
    return reached, figure


if __name__ == "__main__":
    command(main, Config, "research.simclr")
