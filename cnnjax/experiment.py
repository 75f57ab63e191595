"""From a configuration to a trained, drawn and reported run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import jax
import numpy as np
import tyro

from cnnjax import data as data_sources
from cnnjax.config import TrainingConfig
from cnnjax.models import Model, create_model, summary
from cnnjax.report import draw_augmentation, draw_test, percent, write_report
from cnnjax.results import spread
from cnnjax.training import Run, RunDirectory, fit

RUNS = Path("checkpoints")


@dataclass(frozen=True)
class Options:
    """What every experiment can be told on the command line."""

    seed: int = 0
    """Of everything random: weights, order, dropout, augmentation, validation split."""
    seeds: int = 1
    """Number of runs, with the seeds seed, seed + 1, ...; the mean and its spread are printed."""
    epochs: Annotated[int | None, tyro.conf.arg(metavar="INT")] = None
    """Passes over the training data; default: the recipe's."""
    data: str = "mnist"
    """Name of a data set, path of an .npz file, or of a folder with a folder of pictures per
    class."""
    data_dir: Annotated[str | None, tyro.conf.arg(metavar="DIR")] = None
    """Where TensorFlow Datasets keeps its data; default: TFDS_DATA_DIR or ~/tensorflow_datasets."""
    out: Annotated[str | None, tyro.conf.arg(metavar="DIR")] = None
    """Run directory to write; default: a new one below checkpoints/."""
    resume: bool = False
    """Go on with the run in --out, or with the newest one of this experiment, recipe and seed;
    where nothing was saved yet, start from the beginning."""
    checkpoint_every: Annotated[int | None, tyro.conf.arg(metavar="INT")] = None
    """Steps between checkpoints within an epoch; default: at the end of each epoch only."""


@dataclass(frozen=True)
class RecipeOptions(Options):
    """Options of an experiment that a figure was reported for."""

    recipe: Literal["reported", "tuned"] = "reported"
    """reported: the hyper-parameters of the reported figure, to the letter; tuned: our choice."""


AnyOptions = TypeVar("AnyOptions", bound=Options)


@dataclass(frozen=True)
class Experiment:
    """One training with everything that decides it.

    Args:
        name: of the experiment; the default run directory lies in checkpoints/NAME.
        description: one line for the report.
        model: name for `create_model`.
        training: how to train.
        data: name or file for `data.load`.
        data_dir: for `data.load`.
        images: how a folder's pictures are read, for `data.load`, e.g. {"image_size": (150, 150)}.
        validation, test: fractions of the training data set aside, in [0, 1), where the data have
            no such part.
        train_examples: train on so many of the others only; None: on all.
        arguments: further ones for `create_model`.
        one_logit: for two classes, one logit and sigmoid instead of two and softmax.
        smoothing: of the curves in the report, in [0, 1).
        recipe: "reported" or "tuned"; "" where no figure was reported.
        reported: the figures that were reported with Keras, e.g. {"test_accuracy": 0.9918}.
        changed: what the command line changed of the recipe, e.g. {"epochs": 1}.
        facts: further ones for the record.
    """

    name: str
    description: str
    model: str
    training: TrainingConfig
    data: str = "mnist"
    data_dir: str | None = None
    images: Mapping[str, Any] = field(default_factory=dict)
    validation: float = 0.0
    test: float = 0.0
    train_examples: int | None = None
    arguments: Mapping[str, Any] = field(default_factory=dict)
    one_logit: bool = False
    smoothing: float = 0.0
    recipe: str = ""
    reported: Mapping[str, float] = field(default_factory=dict)
    changed: Mapping[str, Any] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)

    def with_options(self, options: Options) -> Experiment:
        """The experiment as the command line wants it, at `options.seed`."""
        training = replace(
            self.training,
            seed=options.seed,
            epochs=self.training.epochs if options.epochs is None else options.epochs,
            checkpoint_every=options.checkpoint_every,
            resume=options.resume,
        )
        changed = {"epochs": training.epochs} if training.epochs != self.training.epochs else {}
        return replace(
            self,
            training=training,
            changed=changed,
            data=options.data,
            data_dir=options.data_dir,
            # A figure belongs to the data it was reported on.
            reported=self.reported if Path(options.data).name == Path(self.data).name else {},
        )


def run_experiment(
    experiment: Experiment,
    out: str | Path | None = None,
    *,
    splits: data_sources.Splits | None = None,
    model: Model | None = None,
    pictures: Any = None,
    verbose: bool = True,
) -> Run:
    """Resolve the data, build the model, train, draw and report.

    Args:
        experiment: what to do.
        out: run directory; None makes a new one in checkpoints/, or with `training.resume` takes
            the newest one of this experiment, recipe and seed.
        splits: the data, instead of what the experiment names.
        model: where to start from, instead of a new one.
        pictures: of the test examples, [N, H, W, C], to show where `splits` holds features.
        verbose: print layer table, progress and result.

    Returns:
        The run; its directory holds figures/ and report.html.
    """
    say: Callable[[str], None] = print if verbose else _silent
    training = experiment.training
    splits = splits or load_data(experiment, say)
    if len(splits.train) < training.batch_size:
        say(f"batch_size={training.batch_size} becomes {len(splits.train)}: there are no more")
        training = replace(training, batch_size=len(splits.train))
    model = model or build_model(experiment, splits)
    directory = Path(out).expanduser() if out else _directory(experiment)
    say(f"{experiment.name}: {experiment.description}")
    say(f"{_count(splits)}\n\n{summary(model)}\n")
    run = fit(
        model,
        splits,
        training,
        directory=directory,
        verbose=verbose,
        record={
            "experiment": experiment.name,
            "description": experiment.description,
            **({"recipe": experiment.recipe} if experiment.recipe else {}),
            "reported": dict(experiment.reported),
            "changed": dict(experiment.changed),
            **experiment.facts,
        },
    )
    if training.augment is not None:
        draw_augmentation(splits.train, training, directory / "figures")
    if splits.test:
        draw_test(run.model, splits.test, directory / "figures", pictures)
    page = write_report(directory, experiment.smoothing)
    say(f"\n{result_line(experiment, [run])}")
    say(f"report: {page}\nmodel:  {directory} (cj.load, cnnjax predict)")
    return run


def load_data(experiment: Experiment, say: Callable[[str], None] = print) -> data_sources.Splits:
    """The data of an experiment, divided as it asks for.

    Args:
        experiment: its data, data_dir, images, validation, test, train_examples and seed.
        say: told what takes long.
    """
    splits = data_sources.load(
        experiment.data, data_dir=experiment.data_dir, progress=say, **experiment.images
    )
    seed = experiment.training.seed
    if experiment.test and splits.test is None:
        # Not the run's seed: all runs are tested on the same examples.
        splits = splits.with_test(experiment.test, 0)
    if experiment.validation and splits.validation is None:
        splits = splits.with_validation(experiment.validation, seed)
    if experiment.train_examples is not None:
        splits = splits.with_train_examples(experiment.train_examples, seed)
    return splits


def build_model(experiment: Experiment, splits: data_sources.Splits) -> Model:
    """The model of an experiment for its data, with random weights from its seed."""
    train = splits.train
    names = train.label_names or tuple(str(i) for i in range(max(int(train.labels.max()) + 1, 2)))
    model = create_model(
        experiment.model,
        input_shape=(train.image_shape[0], train.image_shape[1], train.image_shape[2]),
        num_classes=1 if experiment.one_logit and len(names) == 2 else len(names),
        label_names=names,
        seed=experiment.training.seed,
        **experiment.arguments,
    )
    # Photos that the model is asked about later are brought to its size as those of training were.
    read = (splits.source or {}).get("folder", {})
    same = {k: read[k] for k in ("resize", "interpolation") if k in read}
    return model.replace(spec=replace(model.spec, **same))


def run_seeds(make: Callable[[AnyOptions], Experiment], options: AnyOptions) -> list[Run]:
    """Run an experiment once for every seed that the options ask for.

    Args:
        make: options -> experiment; called with each seed.
        options: of the command line.

    Returns:
        The runs.
    """
    if options.seeds < 1:
        raise ValueError(f"seeds must be at least 1, got {options.seeds}")
    runs = []
    for seed in range(options.seed, options.seed + options.seeds):
        experiment = make(replace(options, seed=seed))
        out = options.out
        if out and options.seeds > 1:
            out = str(Path(out) / f"seed{seed}")
        runs.append(run_experiment(experiment, out))
    if len(runs) > 1:
        print(f"\n{result_line(experiment, runs)}")
    return runs


def run_variants(
    variants: Mapping[str, Callable[[AnyOptions], Experiment]], options: AnyOptions
) -> dict[str, list[Run]]:
    """Run several experiments, each for every seed, and print them side by side.

    Args:
        variants: name -> (options -> experiment).
        options: of the command line; `out` gets a folder per variant.

    Returns:
        name -> runs.
    """
    runs: dict[str, list[Run]] = {}
    for name, make in variants.items():
        out = str(Path(options.out) / name) if options.out else None
        runs[name] = run_seeds(make, replace(options, out=out))
    print(f"\n{comparison(runs)}")
    return runs


def comparison(runs: Mapping[str, Sequence[Run]]) -> str:
    """A table of variants: parameters, accuracies and seconds, mean and spread over the seeds."""
    width = max(map(len, runs))
    lines = [
        f"{'':{width}}  {'parameters':>10}  {'training':>15}  {'validation':>15}  {'test':>15}"
        "  seconds"
    ]
    for name, group in runs.items():
        count = sum(leaf.size for leaf in jax.tree.leaves(group[0].model.params))
        cells = [spread([run.history["accuracy"][run.best_epoch - 1] for run in group])]
        for key in ("val_accuracy", "test_accuracy"):
            known = [run.metrics[key] for run in group if key in run.metrics]
            cells.append(spread(known) if known else "")
        seconds = float(np.mean([run.seconds for run in group]))
        lines.append(
            f"{name:{width}}  {count:>10,}  {cells[0]:>15}  {cells[1]:>15}  {cells[2]:>15}"
            f"  {seconds:7.0f}"
        )
    return "\n".join(lines)


def result_line(experiment: Experiment, runs: Sequence[Run]) -> str:
    """The result beside the reported figure: mean and standard deviation over the seeds."""
    key = next((k for k in ("test_accuracy", "val_accuracy") if k in runs[0].metrics), None)
    if key is None:
        return f"loss {runs[-1].history['loss'][-1]:.4f} on the training data"
    values = np.array([run.metrics[key] for run in runs])
    text = f"{experiment.model} {key.replace('_', ' ')}: {percent(float(values.mean()))}"
    if len(runs) > 1:
        spread = percent(float(values.std(ddof=1)))
        text += f" (standard deviation {spread} over {len(runs)} seeds)"
    if key in experiment.reported:
        text += f"; reported with Keras: {percent(experiment.reported[key])}"
    seconds = float(np.mean([run.seconds for run in runs]))
    recipe = f"recipe {experiment.recipe}, " if experiment.recipe else ""
    text = f"{text}; {recipe}{experiment.training.epochs} epochs, {seconds:.0f} s of training"
    waiting = [run.history["waiting"].mean() for run in runs if "waiting" in run.history]
    return f"{text}, {percent(float(np.mean(waiting)))} of it waiting for data" if waiting else text


def _directory(experiment: Experiment) -> Path:
    seed = experiment.training.seed
    folder = RUNS / experiment.name
    prefix = f"{experiment.recipe}-seed{seed}-".lstrip("-")
    if experiment.training.resume:
        runs = [c for c in folder.glob(f"{prefix}*") if RunDirectory(c).holds_run()]
        if runs:
            return max(runs)
        print(f"no run {folder / prefix}*: starting from the beginning")
    stamp = datetime.now().strftime("%Y%m%d-%H%M%S")
    path, number = folder / f"{prefix}{stamp}", 1
    while path.exists():
        number += 1
        path = folder / f"{prefix}{stamp}-{number}"
    return path


def _count(splits: data_sources.Splits) -> str:
    parts = [f"{len(part):,} {name}" for name, part in splits.parts.items()]
    return f"data: {splits.train.name}; {', '.join(parts)} images"


def _silent(text: str) -> None:
    pass
