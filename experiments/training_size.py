"""Dense net against convnet at growing numbers of training images.

The dense net of 512 units and LeNet, both with Adam, on 100 to 60,000 images. One seed takes the
images of a smaller size from those of the next larger one, and both models the same. A batch is 64
images, or a tenth of them if that is less. Both models train for 10 epochs, or for as many more as
600 steps need, so that a small set does not mean an untrained net: 60 epochs of 100 and of 300
images, 38 of 1,000, 13 of 3,000. All test images are used at every size.

Table and figure are made from the records of the runs; `--draw-only` makes them again from those
that lie in --out, of as many seeds as there are.

Command:   python -m experiments.training_size --data-dir DIR --seeds 3 [--sizes 100 1000 10000]

Reported:  the convnet is ahead at every size, the more so the less data.

Ours:      3 seeds: LeNet is ahead at every size, by 8.7 points on 100 images
           (84.42 ± 1.08 against 75.75 ± 0.53 %), 5.2 on 1,000, 1.9 on 12,000 and 1.0
           on 60,000 (99.22 ± 0.19 against 98.19 ± 0.17 %).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

import cnnjax as cj
from cnnjax.cli import command
from cnnjax.metrics import deviation
from cnnjax.plot import figures
from cnnjax.recipes import (
    Claim,
    Experiment,
    Measured,
    Options,
    load_data,
    run_variants,
    write_claims,
)
from cnnjax.runs.results import Result, collect, spread
from experiments import _studies

MODELS = {"mlp": "dense net of 512 units", "lenet": "LeNet"}

SIZES = (100, 300, 1000, 3000, 6000, 12_000, 30_000, 60_000)

BATCH, LEAST_EPOCHS, LEAST_STEPS = 64, 10, 600


def claim_of(size: int) -> Claim:
    """That the convnet is ahead at a size."""
    return Claim(
        f"LeNet is ahead of the dense net on {size:,} training images",
        f"training_size/lenet/{size}", f"training_size/mlp/{size}", "test_accuracy",
    )  # fmt: skip


CLAIMS = tuple(map(claim_of, SIZES))


@dataclass(frozen=True)
class SizeOptions(Options):
    """Options of the experiment."""

    sizes: tuple[int, ...] = SIZES
    """Numbers of training images."""
    draw_only: bool = False
    """Train nothing; make table and figure again from the runs that lie in --out."""


def experiment(model: str, size: int, options: SizeOptions) -> Experiment:
    """The training of a model on so many images."""
    batch = min(BATCH, max(size // 10, 1))
    epochs = max(LEAST_EPOCHS, math.ceil(LEAST_STEPS / math.ceil(size / batch)))
    return Experiment(
        name=f"training_size/{model}/{size}",
        description=f"{MODELS[model]} on {size:,} images",
        model=model,
        training=cj.TrainingConfig(epochs=epochs, batch_size=batch, optimizer="adam", monitor=None),
        train_examples=size,
        test=0.15,
    ).with_options(options)


def main(options: SizeOptions) -> Path:
    """Train both models at all sizes, then write table and figure; returns the figure's path."""
    folder = _studies.folder_of(options, "training_size")
    if options.draw_only:
        return draw(collect([folder]), folder)
    if not options.sizes or min(options.sizes) < 1:
        raise ValueError(f"sizes must be whole numbers >= 1, got {options.sizes}")
    load_data(experiment("mlp", max(options.sizes), options))  # too many: an error before training
    variants = {
        f"{model}/{size}": partial(experiment, model, size)
        for size in options.sizes
        for model in MODELS
    }
    runs = [run for group in run_variants(variants, options).values() for run in group]
    return draw(collect([run.directory for run in runs if run.directory]), folder)


def draw(results: Sequence[Result], folder: Path) -> Path:
    """Write table and figure of the study into a folder.

    Args:
        results: of `collect`; those of other experiments are passed over.
        folder: to write to.

    Returns:
        Path of the figure.

    Raises:
        ValueError: if there are none, or several of a model and size.
    """
    found: dict[str, dict[int, Result]] = {model: {} for model in MODELS}
    for result in results:
        study, _, rest = result.common("experiment").partition("/")
        if study != "training_size":
            continue
        model, _, size = rest.partition("/")
        if int(size) in found[model]:
            raise ValueError(
                f"{folder} holds runs of {rest} that differ in more than the seed (epochs or "
                "data): give every such set of runs an --out of its own"
            )
        found[model][int(size)] = result
    if not any(found.values()):
        raise ValueError(f"{folder} holds no finished run of training_size: nothing to draw")
    curves = {MODELS[model]: _curve(by_size) for model, by_size in found.items() if by_size}
    sizes = sorted({size for by_size in found.values() for size in by_size})
    rows = [_row(size, found) for size in sizes]
    head = ["images", "epochs", *(f"{name}, test" for name in MODELS.values()), "difference"]
    _studies.write_table(folder / "training_size.md", head, rows)
    figure = folder / "training_size.png"
    figures.save(
        figures.mean_curves({"test accuracy": curves}, "training images", log=True), figure
    )
    print(f"figure: {figure}")
    if claims := _claims(found):
        write_claims(folder, claims)
    return figure


def _claims(found: dict[str, dict[int, Result]]) -> list[Claim | Measured]:
    """The convnet's lead at every size that both models have, and that it grows as data get few."""
    leads: dict[int, dict[int, float]] = {}
    for size in sorted(set.intersection(*map(set, found.values()))):
        first, last = (_by_seed(by_size[size]) for by_size in found.values())
        leads[size] = {seed: last[seed] - first[seed] for seed in first if seed in last}
    claims: list[Claim | Measured] = [claim_of(size) for size in leads]
    if len(leads) < 2:
        return claims
    least, most = min(leads), max(leads)
    if seeds := [seed for seed in leads[least] if seed in leads[most]]:
        small, large = ([leads[size][seed] for seed in seeds] for size in (least, most))
        text = f"LeNet's lead is larger on {least:,} training images than on {most:,}"
        names = (f"lead on {size:,} images" for size in (least, most))
        claims.append(
            Measured(text, next(names), small, next(names), large, "seeds", "test accuracy")
        )
    return claims


def _by_seed(result: Result) -> dict[int, float]:
    return {run["seed"]: run["metrics"]["test_accuracy"] for run in result.runs}


def _curve(by_size: dict[int, Result]) -> np.ndarray:
    """[3, sizes]: number of images, mean accuracy and its deviation."""
    values = {size: by_size[size].values("test_accuracy") for size in sorted(by_size)}
    return np.array([[size, np.mean(v), deviation(v)] for size, v in values.items()]).T


def _row(size: int, found: dict[str, dict[int, Result]]) -> list[str]:
    """A size's line of the table; the difference is the last model's lead over the first."""
    here = [by_size.get(size) for by_size in found.values()]
    values = [result.values("test_accuracy") if result else [] for result in here]
    first, last = values[0], values[-1]
    lead = f"{100 * (np.mean(last) - np.mean(first)):+.2f}" if first and last else ""
    epochs = next(result.common("epochs") for result in here if result)
    return [f"{size:,}", epochs, *map(spread, values), lead]


if __name__ == "__main__":
    command(main, SizeOptions, "training_size")
