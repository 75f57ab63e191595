"""From a configuration to a trained, drawn and reported run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any, cast

import numpy as np

from cnnjax import data as data_sources
from cnnjax.core import processes
from cnnjax.core.places import expanded
from cnnjax.core.text import plain
from cnnjax.data.foreign.stream import check_at_hand
from cnnjax.data.splits import with_class_names
from cnnjax.models import BUILDERS, Model, create_model, summary
from cnnjax.plot.results import draw_augmentation, draw_test
from cnnjax.recipes.experiment import Experiment
from cnnjax.recipes.lines import result_line
from cnnjax.runs import RunDirectory, holds_run, write_report
from cnnjax.task import Task
from cnnjax.training import Profile, Run, fit

RUNS = Path("checkpoints")

_LONGEST = 8192  # letters of a line


def run_experiment(
    experiment: Experiment,
    out: str | Path | None = None,
    *,
    splits: data_sources.Splits | None = None,
    model: Model | None = None,
    test_images: Any = None,
    verbose: bool = True,
    **given: Any,
) -> Run:
    """Resolve the data, build the model, train, draw and report.

    Args:
        experiment: what to do.
        out: run directory; None makes a new one in checkpoints/, or with `training.resume` takes
            the newest one of this experiment, recipe and seed.
        splits: the data, instead of what the experiment names.
        model: where to start from, instead of a new one.
        test_images: of the test examples, [N, H, W, C], to show where `splits` holds features.
        verbose: print layer table, progress and result.
        given: what else `fit` is to be given: loss, optimizer, objective, step, opt_state.

    Returns:
        The run; its directory holds figures/ and report.html.
    """
    say: Callable[[str], None] = print if verbose and processes.is_first() else _silent
    training = experiment.training
    splits = splits or processes.first_then_others(lambda: load_data(experiment, say))
    if len(splits.train) < training.batch_size:
        say(f"batch_size={training.batch_size} becomes {len(splits.train)}: there are no more")
        training = replace(training, batch_size=len(splits.train))
    model = model or build_model(experiment, splits)
    if out is None:  # the clock of the first process names it
        out = processes.agreed(lambda: str(_directory(experiment)))
    directory = expanded(out)
    say(plain(f"{experiment.name}: {experiment.description}", _LONGEST))
    say(f"{plain(_count(splits), _LONGEST)}\n\n{summary(model)}\n")
    run = fit(
        model,
        splits,
        training,
        directory=directory,
        verbose=verbose,
        report=False,  # once its figures are there
        metrics=experiment.metrics,
        callbacks=_callbacks(experiment),
        record={
            "experiment": experiment.name,
            "description": experiment.description,
            **({"recipe": experiment.recipe} if experiment.recipe else {}),
            "reported": dict(experiment.reported),
            "changed": dict(experiment.changed),
            **experiment.facts,
        },
        **given,
    )
    if processes.is_first():
        with processes.alone():
            _report(replace(experiment, training=training), splits, run, test_images, say)
    return run


def _report(
    experiment: Experiment,
    splits: data_sources.Splits,
    run: Run,
    test_images: Any,
    say: Callable[[str], None],
) -> None:
    """Draw and report a run in its directory; arguments as in `run_experiment`."""
    directory = cast(Path, run.directory)
    figures, spec = RunDirectory(directory).figures, run.model.spec
    if experiment.training.augment is not None and isinstance(splits.train, data_sources.Dataset):
        draw_augmentation(splits.train, experiment.training, figures)
    if splits.test and spec.takes_images and _has_one_class(spec.task, splits.test):
        draw_test(run.model, splits.test, figures, test_images)
    page = write_report(directory, experiment.smoothing)
    say(f"\n{plain(result_line(experiment, [run]), _LONGEST)}")
    say(plain(f"report: {page}", _LONGEST))
    say(plain(f"model:  {directory} (cj.load, cnnjax predict)", _LONGEST))


def _has_one_class(task: Task, data: data_sources.Dataset | data_sources.Stream) -> bool:
    """Whether every example has one class of several, and is at hand."""
    one = task.of_classes and task.labels == ("N",)
    if not one or not isinstance(data, data_sources.Dataset):
        return False
    return np.issubdtype(data.labels.dtype, np.integer)


def load_data(experiment: Experiment, say: Callable[[str], None] = print) -> data_sources.Splits:
    """The data of an experiment, divided as it asks for.

    Args:
        experiment: its data, data_dir, images or texts, validation, validation_last, test,
            train_examples and seed.
        say: told what takes long.
    """
    common: dict[str, Any] = {"data_dir": experiment.data_dir, "progress": say}
    if experiment.texts is not None:
        splits = data_sources.load_texts(experiment.data, **common, **experiment.texts)
    else:
        images = experiment.images or images_for(experiment.model)
        splits = data_sources.load(experiment.data, **common, **images)
    seed = experiment.training.seed
    if experiment.test and splits.test is None:
        # Not the run's seed: all runs are tested on the same examples.
        splits = splits.with_test(experiment.test, 0)
    if experiment.validation is None:
        splits = splits.without_validation()
    elif experiment.validation and splits.validation is None:
        if experiment.validation_last:
            splits = splits.with_last_for_validation(experiment.validation)
        else:
            splits = splits.with_validation(experiment.validation, seed)
    if experiment.train_examples is not None:
        splits = splits.with_train_examples(experiment.train_examples, seed)
    return splits


def images_for(model: str) -> dict[str, Any]:
    """How images of any size are read for a model, by its default input, for `data.load`.

    Args:
        model: a name for `create_model`.

    Returns:
        image_size and channels; {} where the model takes no images, or there is no such model.

    >>> images_for("lenet")
    {'image_size': (28, 28), 'channels': 1}
    """
    shape = BUILDERS[model].input_shape if model in BUILDERS else ()
    if len(shape) != 3:
        return {}
    height, width, channels = shape
    return {"image_size": (height, width), "channels": channels}


def build_model(experiment: Experiment, splits: data_sources.Splits) -> Model:
    """The model of an experiment for its data, with random weights from its seed."""
    train = splits.train
    check_at_hand(train, "a model made for the data")
    if isinstance(train.inputs, Mapping) or isinstance(train.labels, Mapping):
        raise ValueError(
            f"{train.name} has inputs or labels by name, which {experiment.model} does not: give "
            "model= a model of several"
        )
    names: tuple[str, ...] = ()
    if np.issubdtype(train.labels.dtype, np.floating):  # values have no names
        outputs = int(train.labels.shape[1])
    else:
        names = with_class_names(splits.parts).train.label_names
        outputs = 1 if experiment.one_logit and len(names) == 2 else len(names)
    model = create_model(
        experiment.model,
        input_shape=tuple(train.input_shape),
        num_classes=outputs,
        label_names=names,
        vocabulary=train.vocabulary,
        seed=experiment.training.seed,
        **experiment.arguments,
    )
    # Photos that the model is asked about later are brought to its size as those of training were.
    read = data_sources.images_read(splits.source or {})
    same = {k: read[k] for k in ("resize", "interpolation") if k in read}
    return model.replace(spec=replace(model.spec, **same))


def _callbacks(experiment: Experiment) -> list[Profile]:
    if experiment.profile is None:
        return []
    name = f"{experiment.name.replace('/', '-')}-seed{experiment.training.seed}"
    return [Profile(_unused(expanded(experiment.profile) / name))]


def _directory(experiment: Experiment) -> Path:
    seed = experiment.training.seed
    folder = RUNS / experiment.name
    prefix = f"{experiment.recipe}-seed{seed}-".lstrip("-")
    if experiment.training.resume:
        runs = [c for c in folder.glob(f"{prefix}*") if holds_run(c)]
        if runs:
            return max(runs)
        print(f"no run {plain(folder / prefix)}*: starting from the beginning")
    stamp = datetime.now().strftime("%Y%m%d-%H%M%S")
    return _unused(folder / f"{prefix}{stamp}")


def _unused(path: Path) -> Path:
    """A path, or the first of path-2, path-3, ... where nothing is."""
    free, number = path, 1
    while free.exists():
        number += 1
        free = path.with_name(f"{path.name}-{number}")
    return free


def _count(splits: data_sources.Splits) -> str:
    parts = [f"{len(part):,} {name}" for name, part in splits.parts.items()]
    what = "images" if splits.train.holds_images else "examples"
    return f"data: {splits.train.name}; {', '.join(parts)} {what}"


def _silent(text: str) -> None:
    pass
