"""One training for many seeds and for lists of settings, in one process.

Every combination of the listed learning rates, weight decays and dropouts is trained for every
seed; all seeds of a combination share one compiled step. Prints a table with mean and standard
deviation, and draws the curves with a band of one standard deviation.

Command:   python -m experiments.sweep --model lenet --data mnist --seeds 8
           python -m experiments.sweep --learning-rates 1e-3 3e-4 --weight-decays 0 1e-4

Reported:  no figure; yours.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

import cnnjax as cj
from cnnjax.cli import command
from cnnjax.core.storage import write_text
from cnnjax.metrics import quality
from cnnjax.plot import figures
from cnnjax.recipes import RUNS, ImageData, images_for, mean_curve


@dataclass(frozen=True)
class SweepOptions:
    """Options of the experiment."""

    model: str = "mnist_convnet"
    """A name from `cnnjax list`."""
    data: ImageData = "digits"
    data_dir: Annotated[str | None, tyro.conf.arg(metavar="DIR")] = None
    """Where TensorFlow Datasets keeps its data; default: TFDS_DATA_DIR or ~/tensorflow_datasets."""
    seed: int = 0
    """The first seed."""
    seeds: int = 8
    """Number of seeds."""
    learning_rates: tuple[float, ...] = ()
    """To try."""
    weight_decays: tuple[float, ...] = ()
    """To try."""
    dropouts: tuple[float, ...] = ()
    """To try, of a model with an argument dropout (mlp, cats_convnet)."""
    optimizer: Literal["rmsprop", "rmsprop_keras3", "adam", "adamw", "sgd"] = "rmsprop"
    """With Keras' constants."""
    epochs: int = 5
    """Passes over the training data."""
    batch_size: int = 64
    """Examples per step."""
    validation: float = 0.1
    """Fraction of the training data that is set aside, by which settings are compared."""
    out: Annotated[str | None, tyro.conf.arg(metavar="DIR")] = None
    """Folder for the runs, the table and the figure; default: checkpoints/sweep/MODEL-DATA."""
    resume: bool = False
    """Take the finished runs in the folder as they are and go on with the others."""


def main(options: SweepOptions) -> cj.Sweep:
    """Train all, print and draw."""
    splits = cj.data.load(
        options.data,
        data_dir=options.data_dir,
        validation=options.validation,
        seed=options.seed,
        progress=print,
        **images_for(options.model),
    )
    config = cj.TrainingConfig(
        epochs=options.epochs,
        batch_size=options.batch_size,
        optimizer=options.optimizer,
        seed=options.seed,
        monitor=None,
    )
    lists: dict[str, Any] = {
        "learning_rate": options.learning_rates,
        "weight_decay": options.weight_decays,
        "dropout": options.dropouts,
    }
    shape = splits.train.input_shape
    classes = len(splits.train.label_names) or int(splits.train.labels.max()) + 1
    folder = Path(options.out or RUNS / "sweep" / f"{options.model}-{Path(options.data).stem}")
    folder = folder.expanduser()
    found = cj.sweep(
        partial(cj.create_model, options.model, input_shape=shape, num_classes=classes),
        splits,
        config,
        seeds=options.seeds,
        directory=folder,
        resume=options.resume,
        **{name: values for name, values in lists.items() if values},
    )
    print(f"\n{found}\n")
    write_text(folder / "sweep.txt", f"{found}\n")
    figures.save(draw(found), folder / "sweep.png")
    print(f"table:  {folder / 'sweep.txt'}\nfigure: {folder / 'sweep.png'}")
    return found


def draw(found: cj.Sweep) -> Any:
    """Validation curves of every setting; of a single one, the training curves beside them."""
    history = found.finished[0].history
    metric = quality(history)
    lonely = len(found.settings) == 1
    panels = {}
    for name in ("loss", metric):
        keys = [name] * lonely
        keys += [k for k in (f"val_{name}",) if k in history]
        panels[name.replace("_", " ")] = {
            _title(settings, key, lonely): mean_curve(finished, key)
            for settings, runs in zip(found.settings, found.runs, strict=True)
            if (finished := [run for run in runs if run])
            for key in keys
        }
    return figures.mean_curves(panels, "epoch")


def _title(settings: dict[str, Any], key: str, lonely: bool) -> str:
    if lonely:
        return "validation" if key.startswith("val_") else "training"
    return ", ".join(f"{name.replace('_', ' ')} {value:g}" for name, value in settings.items())


if __name__ == "__main__":
    command(main, SweepOptions, "sweep")
