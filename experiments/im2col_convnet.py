"""A convnet on hand-written layers: 5x5 convolution, pooling, two dense layers, trained in NumPy.

The layers of `cnnjax.nn.numpy_reference`, whose backward passes are derived by hand, are put
together to simple_convnet (C(30,5) relu MP2 D100 relu D10, kernels ~ 0.01 N(0,1), or He's or
Xavier's) and trained by a plain loop, the learning rate falling along a cosine. Before that, its
gradients are compared with central differences and with the JAX model's. The JAX model is trained
beside it, from the same weights, on the same batches, by the same optimiser; into its run directory
comes a folder numpy/ with figures, results.json, and weights.npz, which
`cj.create_model("simple_convnet", weights=FILE)` loads. On a busy machine NumPy is faster on one
core: OPENBLAS_NUM_THREADS=1.

Command:   python -m experiments.im2col_convnet --data-dir DIR [--seeds 3] [--init he]
           python -m experiments.im2col_convnet --data-dir DIR --init all --epochs 1

Reported:  no figure; at least 98.8 % on the test data is expected.

Ours:      backpropagation against numerical differentiation (float64) at most 1.1e-7 of the largest
           entry, against JAX 2e-15. MNIST, 10 epochs, 3 seeds: 98.86 ± 0.08 % in NumPy (564 s),
           98.79 ± 0.12 % in JAX (423 s; one busy core each). Saved and loaded into JAX: the same
           predictions.
"""

import json
import math
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import tyro
from matplotlib.figure import Figure

import cnnjax as cj
from cnnjax.cli import command
from cnnjax.core import trees
from cnnjax.core.storage import write_text
from cnnjax.core.table import table
from cnnjax.plot import save_image
from cnnjax.plot.figures import smooth
from cnnjax.recipes import RUNS, Experiment, ImageData, build_model, load_data, run_experiment
from cnnjax.runs.results import spread
from cnnjax.training import NonFiniteLoss, make_schedule
from cnnjax.weights import save_npz
from cnnjax.weights.arrays import load_npz
from experiments import _studies
from experiments._numpy_net import (
    Parameters,
    against_differences,
    against_jax,
    largest_difference,
    logits_of,
    loss_and_gradients,
    make_optimizer,
    unit,
)

Init = Literal["normal", "he", "xavier"]
INITS: tuple[Init, ...] = ("normal", "he", "xavier")
CHECKED = 4  # images on which gradients are compared


@dataclass(frozen=True)
class Config:
    """Options of the experiment."""

    seed: int = 0
    """Of the weights and the order of the images."""
    seeds: int = 1
    """Number of runs, with the seeds seed, seed + 1, ...; the mean and its spread are printed."""
    init: Init | Literal["all"] = "normal"
    """Spread of the kernels: 0.01, He's or Xavier's; all: a run of each, and their losses drawn."""
    optimizer: Literal["adam", "adamw", "sgd"] = "adam"
    """Of both nets."""
    learning_rate: float = 1e-3
    """At the beginning."""
    weight_decay: float = 0.0
    """Of the kernels, by AdamW."""
    schedule: Literal["cosine", "constant"] = "cosine"
    """How the learning rate falls, to zero at the end, or does not."""
    epochs: int = 10
    """Passes over the training data."""
    batch_size: int = 100
    """Images a step."""
    data: ImageData = "mnist"
    data_dir: Annotated[str | None, tyro.conf.arg(metavar="DIR")] = None
    """Where TensorFlow Datasets keeps its data; default: TFDS_DATA_DIR or ~/tensorflow_datasets."""
    out: Annotated[str | None, tyro.conf.arg(metavar="DIR")] = None
    """Run directory to write; default: a new one below checkpoints/."""


@dataclass(frozen=True)
class Result:
    """Of one run.

    Args:
        folder: with the figures, results.json and weights.npz.
        losses: of the NumPy net at every step.
        facts: what results.json holds.
    """

    folder: Path
    losses: list[float]
    facts: dict[str, Any]


def experiment(config: Config) -> Experiment:
    """The training of the JAX model."""
    training = cj.TrainingConfig(
        epochs=config.epochs,
        batch_size=config.batch_size,
        optimizer=config.optimizer,
        learning_rate=config.learning_rate,
        weight_decay=config.weight_decay,
        schedule=config.schedule,
        monitor=None,
        seed=config.seed,
    )
    settings = (
        "epochs", "batch_size", "optimizer", "learning_rate", "weight_decay", "schedule"
    )  # fmt: skip
    default = Config()
    defaults = {name: getattr(default, name) for name in settings}
    return Experiment(
        name="simple_convnet" + ("" if config.init == default.init else f"/{config.init}"),
        description=f"one convolution, beside the same net in NumPy; kernels: {config.init}",
        model="simple_convnet",
        arguments={"initializer": config.init},
        training=training,
        data=config.data,
        data_dir=config.data_dir,
        test=0.2,
        changed=_studies.other_than(defaults, config),
    )


def train(
    params: Parameters, splits: cj.data.Splits, config: Config
) -> tuple[list[dict[str, float]], list[float]]:
    """Train in place, on the batches that `cj.fit` takes; returns epochs and losses of steps."""
    loader = cj.data.Loader(splits.train, config.batch_size, shuffle=True, seed=config.seed)
    optimizer = make_optimizer(config.optimizer, config.weight_decay)
    rate = make_schedule(experiment(config).training, config.epochs * loader.steps)
    epochs: list[dict[str, float]] = []
    losses: list[float] = []
    for epoch in range(config.epochs):
        began, total, right = time.perf_counter(), 0.0, 0
        for step, batch in enumerate(loader.epoch(epoch), start=1):
            real = batch["mask"]  # the last batch may be filled up
            x, labels = unit(batch["inputs"][real]), batch["labels"][real]
            loss, logits, gradients = loss_and_gradients(params, x, labels)
            if not math.isfinite(loss):
                raise NonFiniteLoss(
                    f"loss became {loss} in epoch {epoch + 1}, step {step} of {loader.steps}. Try "
                    f"a smaller learning_rate (it was {config.learning_rate:g})"
                )
            optimizer.update(params, gradients, float(rate(len(losses))))
            losses.append(loss)
            total += loss * len(labels)
            right += int((logits.argmax(axis=1) == labels).sum())
        seconds, count, test = time.perf_counter() - began, len(splits.train), splits.parts["test"]
        predicted = logits_of(params, test).argmax(axis=1)
        record = {
            "epoch": epoch + 1,
            "loss": total / count,
            "accuracy": right / count,
            "test_accuracy": float((predicted == test.labels).mean()),
            "seconds": seconds,
        }
        epochs.append(record)
        print("NumPy " + "  ".join(f"{k} {v:.4g}" for k, v in record.items()), flush=True)
    return epochs, losses


def check(model: cj.Model, start: Parameters, data: cj.data.Dataset) -> dict[str, Any]:
    """Compare the gradients at the first weights, print and return the comparison."""
    rng = np.random.default_rng(0)
    params = {path: value.astype(np.float64) for path, value in start.items()}
    for path, value in params.items():
        # With biases of zero every black pixel would stand exactly on ReLU's kink.
        if path.endswith("bias"):
            value[...] = 0.01 * rng.standard_normal(value.shape)
    x, labels = unit(data.inputs[:CHECKED]).astype(np.float64), data.labels[:CHECKED]
    differences = against_differences(params, x, labels)
    other = against_jax(model, params, x, labels)
    rows = [[path, *row.values(), other[path]] for path, row in differences.items()]
    rows += [[name, "", "", "", other[name]] for name in ("loss", "logits")]
    head = ("float64", "numerical", "entries", "at a kink", "JAX")
    print(f"\nlargest relative difference of backpropagation\n{table([head, *rows], rules=[1])}\n")
    return {"numerical": differences, "jax": other}


def reloaded(
    file: Path, params: Parameters, model: cj.Model, test: cj.data.Dataset
) -> dict[str, Any]:
    """Load the file into NumPy and into the JAX model, and compare predictions of both."""
    stored = trees.flatten(load_npz(file))
    spec = model.spec
    twin = cj.create_model(
        "simple_convnet", input_shape=spec.input_shape, num_classes=spec.num_classes, weights=file
    )
    ours = logits_of(stored, test)
    theirs = np.concatenate(
        [np.asarray(twin(unit(test.inputs[i : i + 500]))) for i in range(0, len(test), 500)]
    )
    return {
        "bitwise": trees.tree_hash(stored) == trees.tree_hash(params),
        "logits": largest_difference(ours, theirs),
        "other_predictions": int((ours.argmax(axis=1) != theirs.argmax(axis=1)).sum()),
    }


def run_one(config: Config) -> Result:
    """Check, train both nets, save, load, draw."""
    plan = experiment(config)
    splits = load_data(plan)
    model = build_model(plan, splits)
    params = {path: np.array(value) for path, value in trees.flatten(model.params).items()}
    checks = check(model, params, splits.train)
    twin = run_experiment(plan, config.out, splits=splits, model=model)
    if twin.directory is None:
        raise ValueError("the run has no directory")
    folder = twin.directory / "numpy"
    folder.mkdir()
    epochs, losses = train(params, splits, config)
    save_npz(trees.unflatten(params), folder / "weights.npz")
    facts = {
        "gradients": checks,
        "epochs": epochs,
        "test_accuracy": epochs[-1]["test_accuracy"],
        "jax_test_accuracy": twin.metrics["test_accuracy"],
        "seconds": sum(record["seconds"] for record in epochs),
        "jax_seconds": twin.seconds,
        "reloaded": reloaded(folder / "weights.npz", params, model, splits.parts["test"]),
    }
    write_text(folder / "results.json", json.dumps({**facts, "losses": losses}, indent=1) + "\n")
    save_image(folder, "training", draw_training(epochs, twin))
    print(summary(facts) + f"\nresults: {folder}")
    return Result(folder, losses, facts)


def summary(facts: dict[str, Any]) -> str:
    """The result in two lines."""
    again = facts["reloaded"]
    return (
        f"\nNumPy test accuracy {100 * facts['test_accuracy']:.2f} % in {facts['seconds']:.0f} s, "
        f"JAX {100 * facts['jax_test_accuracy']:.2f} % in {facts['jax_seconds']:.0f} s\n"
        f"weights.npz loaded: {'the same bits' if again['bitwise'] else 'OTHER BITS'}; in the JAX "
        f"model logits differ by {again['logits']:.1e} of the largest, "
        f"{again['other_predictions']} predictions differ"
    )


def draw_training(epochs: list[dict[str, float]], twin: cj.Run) -> Figure:
    """Loss and accuracy of both nets over the epochs."""
    figure = Figure((10, 3.8), dpi=120, layout="constrained")
    numbers = [record["epoch"] for record in epochs]
    for position, metric in enumerate(("loss", "accuracy"), start=1):
        axes: Any = figure.add_subplot(1, 2, position)
        ours = [record[metric] for record in epochs]
        axes.plot(numbers, ours, color="C0", label="NumPy, training")
        axes.plot(numbers, twin.history[metric], "x", color="C1", label="JAX, training")
        if metric == "accuracy":
            tested = [record["test_accuracy"] for record in epochs]
            axes.plot(numbers, tested, "--", color="C0", label="NumPy, test")
            axes.plot(numbers[-1], twin.metrics["test_accuracy"], "o", color="C1", mfc="none",
                      label="JAX, test")  # fmt: skip
        axes.set(xlabel="epoch", ylabel=metric)
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(alpha=0.3)
        axes.legend()
    return figure


def draw_inits(losses: dict[str, list[float]]) -> Figure:
    """Losses of the first epoch for each spread of the kernels."""
    figure = Figure((7, 4.2), dpi=120, layout="constrained")
    axes: Any = figure.add_subplot()
    for number, (init, values) in enumerate(losses.items()):
        steps = np.arange(1, len(values) + 1)
        axes.plot(steps, values, color=f"C{number}", alpha=0.25, linewidth=0.7)
        axes.plot(steps, smooth(values, 0.9), color=f"C{number}", label=init)
    axes.set(xlabel="step of the first epoch", ylabel="loss", yscale="log")
    axes.set_title("lines: exponential moving average, factor 0.9", fontsize=9)
    axes.grid(alpha=0.3)
    axes.legend()
    return figure


def main(config: Config) -> dict[str, list[Result]]:
    """Run every spread and seed that is asked for; returns {init: results}."""
    results: dict[str, list[Result]] = {}
    inits = INITS if config.init == "all" else (config.init,)
    for init in inits:
        results[init] = []
        for seed in range(config.seed, config.seed + config.seeds):
            out = Path(config.out) if config.out else None
            if out and len(inits) > 1:
                out /= init
            if out and config.seeds > 1:
                out /= f"seed{seed}"
            one = replace(config, init=init, seed=seed, out=str(out) if out else None)
            results[init].append(run_one(one))
    for name, found in results.items():
        tested = spread([result.facts["test_accuracy"] for result in found])
        print(f"{name}: NumPy test accuracy {tested} %, {config.epochs} epochs, {len(found)} runs")
    if len(inits) > 1:
        steps = len(found[0].losses) // config.epochs
        image = draw_inits({name: found[0].losses[:steps] for name, found in results.items()})
        print(save_image(config.out or RUNS / "simple_convnet", "inits", image))
    return results


if __name__ == "__main__":
    command(main, Config, "im2col_convnet")
