"""A search for settings by Optuna, which gives up trainings that do worse than others did.

After every epoch a callback reports the validation loss; a training whose loss is worse than the
median of the earlier ones at that epoch is stopped (Akiba et al. 2019, Optuna: A Next-generation
Hyperparameter Optimization Framework). Prints the trials, and draws their losses.

Command:   python -m experiments.research.optuna_pruning [--data digits] [--trials 20]

Reported:  no figure; an idea in fifteen lines.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import optuna
import tyro

import cnnjax as cj
from cnnjax.cli import command
from cnnjax.plot import figures
from cnnjax.recipes import RUNS, ImageData, images_for

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class SearchOptions:
    """Options of the search."""

    data: ImageData = "digits"
    data_dir: Annotated[str | None, tyro.conf.arg(metavar="DIR")] = None
    """Where TensorFlow Datasets keeps its data; default: TFDS_DATA_DIR or ~/tensorflow_datasets."""
    trials: int = 20
    """Number of trainings."""
    epochs: int = 10
    """Passes over the training data of one that is not given up."""
    seed: int = 0
    """Of the search; every training has seed 0."""
    out: Annotated[str | None, tyro.conf.arg(metavar="DIR")] = None
    """Folder for the figure; default: checkpoints/optuna_pruning."""


def loss_of(trial: optuna.Trial, data: cj.data.Splits, epochs: int) -> float:
    """The validation loss of one training, which is given up where it is behind."""

    def prune(moment: cj.training.Moment) -> None:
        trial.report(moment.record["val_loss"], moment.epoch)
        if trial.should_prune():
            moment.stop()

    rate = trial.suggest_float("learning_rate", 1e-5, 1e-1, log=True)
    units = trial.suggest_int("units", 4, 64, log=True)
    model = cj.create_model("mlp", units=(units,), input_shape=data.train.input_shape)
    config = cj.TrainingConfig(epochs=epochs, optimizer="adam", learning_rate=rate)
    run = cj.fit(model, data, config, callbacks=[prune], verbose=False)
    if len(run.history["epoch"]) < epochs:
        raise optuna.TrialPruned
    return run.metrics["val_loss"]


def main(options: SearchOptions) -> optuna.Study:
    """Search, print and draw."""
    data = cj.data.load(
        options.data,
        data_dir=options.data_dir,
        validation=0.2,
        progress=print,
        **images_for("mlp"),
    )
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(
        sampler=optuna.samplers.TPESampler(seed=options.seed),
        pruner=optuna.pruners.MedianPruner(n_startup_trials=4),
    )
    study.optimize(
        partial(loss_of, data=data, epochs=options.epochs),
        options.trials,
        catch=(cj.training.NonFiniteLoss,),
    )
    for trial in study.trials:
        losses = list(trial.intermediate_values.values())
        print(f"trial {trial.number:>3}  {_text(trial)}  epochs {len(losses):>3}", end="")
        print(f"  val_loss {losses[-1]:.4f}" if losses else "", f" {trial.state.name.lower()}")
    print(f"best: trial {study.best_trial.number}, {_text(study.best_trial)}")
    path = Path(options.out or RUNS / "optuna_pruning") / "trials.png"
    figures.save(draw(study), path)
    print(f"figure: {path}")
    return study


def draw(study: optuna.Study) -> Figure:
    """The validation losses of all trials over the epochs; of those given up dotted."""
    figure = figures.new_figure(6, 3.8)
    axes = figure.add_subplot()
    for trial in study.trials:
        pruned = trial.state is optuna.trial.TrialState.PRUNED
        best = trial.number == study.best_trial.number
        axes.plot(
            list(trial.intermediate_values),
            list(trial.intermediate_values.values()),
            "x:" if pruned else "-",
            color="#d95f02" if best else "#1f77b4",
            alpha=1.0 if best else 0.5,
            label=f"best: {_text(trial)}" if best else None,
        )
    axes.set_yscale("log")
    axes.set(xlabel="epoch", ylabel="validation loss")
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.grid(alpha=0.3)
    axes.legend()
    return figure


def _text(trial: optuna.trial.FrozenTrial) -> str:
    return f"learning_rate {trial.params['learning_rate']:.2e}, units {trial.params['units']:>2}"


if __name__ == "__main__":
    command(main, SearchOptions, "optuna_pruning")
