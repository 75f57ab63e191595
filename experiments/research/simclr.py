"""SimCLR: features learnt without a label, and how far a linear layer on them gets with few.

Two random views of each image are to be nearer to each other than to those of all other images of
the batch (Chen et al. 2020, arXiv:2002.05709). The objective augments the examples itself, twice,
and looks at no label. Then the base is frozen, and a linear layer learns from a few labelled
images: on these features, and on random ones.

Command:   python -m experiments.research.simclr [--seeds 5] [--out DIR]

Reported:  no figure; an idea in forty lines.

Ours:      on learnt features 70.97 ± 5.07 % of the test digits, on random ones 59.39 ± 4.52 (5
           seeds); the rows research/simclr of RESULTS.md and their claim.
"""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

import cnnjax as cj
from cnnjax.cli import command
from cnnjax.recipes import Claim, run_experiment, write_claims
from experiments import _studies
from experiments.research._ideas import IdeaOptions, planned, run_arms

NAME = "research/simclr"


@dataclass(frozen=True)
class SimclrOptions(IdeaOptions):
    """Options of the study."""

    images: int = 50
    """That the linear layer learns from."""
    without_labels: int = 30
    """Epochs on all images, before that."""


CLAIM = Claim(
    "A linear layer gets more right on features learnt without labels than on random ones",
    f"{NAME}/learnt",
    f"{NAME}/random",
    "test_accuracy",
)

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


def learnt(options: SimclrOptions) -> cj.Model:
    """A base that has seen all training images, and no label."""
    settings = cj.TrainingConfig(
        epochs=options.without_labels, batch_size=128, optimizer="adam", seed=options.seed,
        monitor=None, resume=options.resume and options.out is not None,
    )  # fmt: skip
    start = cj.create_model("mnist_convnet", num_classes=32, seed=options.seed)
    folder = Path(f"{options.out}-base") if options.out else None
    train = cj.data.load(options.data).train
    return cj.fit(start, train, settings, objective=contrast, directory=folder).model


def probe(arm: str, options: SimclrOptions) -> cj.Run:
    """A linear layer on frozen features, learnt or random, which learns from few images."""
    data, count = cj.data.load(options.data), options.images
    few = cj.data.Splits(
        data.train.subset(slice(count)), data.train.subset(slice(count, None)), data.test
    )
    settings = cj.TrainingConfig(
        epochs=40, batch_size=25, optimizer="adam", learning_rate=3e-3, frozen=("conv*",),
        monitor=None,
    )  # fmt: skip
    plan = planned(
        f"{NAME}/{arm}", f"a linear layer on {arm} features", options, settings,
        model="mnist_convnet",
    )  # fmt: skip
    random = cj.create_model("mnist_convnet", num_classes=32, seed=options.seed)
    base = learnt(options) if arm == "learnt" else random
    model = cj.transfer.replace_head(base, cj.transfer.Head(10))
    return run_experiment(plan, options.out, splits=few, model=model)


def main(options: SimclrOptions) -> dict[str, list[cj.Run]]:
    """Train for every seed a linear layer on random features, and on learnt ones."""
    runs = run_arms({arm: partial(probe, arm) for arm in ("random", "learnt")}, options)
    folder = _studies.folder_of(options, NAME)
    _studies.draw(folder / "probes.png", runs, _studies.CURVES)
    write_claims(folder, [CLAIM])
    return runs


if __name__ == "__main__":
    command(main, SimclrOptions, "research.simclr")
