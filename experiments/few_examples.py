"""Few examples: what regularisation and augmentation do for a small net, and not for images alone.

A curve of the training size for each of four tasks, every net trained for the same number of steps
at every size and in every way, and taken after the last one; one seed takes the examples of a
smaller size from those of the next larger one, and all ways the same.

- digits: LeNet on MNIST, from 10 images a class on; plain, with weight decay and label smoothing,
  and with shifts and turns beside.
- pets: the convnet of `cats_vs_dogs` on photos of 64x64 pixels, from 50 a class on; plain, with
  dropout, and with mirroring, shifts and zoom beside.
- reviews: the convolutions of `imdb_conv1d` on IMDB, 200 words each, from 250 a class on; plain,
  and with a fifth of the words dropped at random.
- series: the dilated convolutions of `time_series` on Google's daily trading volume, from the
  newest 100 windows before the validation part on; plain, with jitter, and with stretches warped
  in time.

Augmentation of words and series are functions of a key and one example as that of images is:
`cj.augment.WordDropout`, `Jitter`, `WindowWarp`.

Command:   python -m experiments.few_examples --task digits --data-dir DIR --seeds 5
           python -m experiments.few_examples --task digits --data digits --sizes 100 500
           python -m experiments.few_examples --task pets --data FOLDER --seeds 5
           python -m experiments.few_examples --task reviews --data-dir DIR --seeds 5
           python -m experiments.few_examples --task series --seeds 10

Reported:  a few hundred images suffice for a small, regularised net on a simple task;
           augmentation is not only for images.

Ours:      the study writes few_examples.md and few_examples.png.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Annotated, Any, Literal

import numpy as np
import tyro

import cnnjax as cj
from cnnjax.augment import Augment, Jitter, WindowWarp, WordDropout
from cnnjax.cli import command
from cnnjax.metrics import deviation, mean_and_deviation
from cnnjax.plot import figures
from cnnjax.recipes import Claim, Experiment, Measured, Options, run_variants, write_claims
from experiments import _studies, time_series

NAME = "few_examples"


@dataclass(frozen=True)
class Task:
    """A task, and the ways to train a net on few of its examples.

    Args:
        model: name for `create_model`.
        sizes: numbers of training examples, growing.
        ways: name -> settings of the training; the first is plain.
        batch_size: largest one; of few examples a tenth of them, as 8 at the least.
        steps: of every training.
        metric: of the test part.
        learning_rate: of Adam.
        arguments: way -> arguments of the model.
        data: usual name; "" for a folder that has to be given.
        experiment: further fields of the `Experiment`.
    """

    model: str
    sizes: tuple[int, ...]
    ways: Mapping[str, Mapping[str, Any]]
    batch_size: int
    steps: int
    metric: str = "test_accuracy"
    learning_rate: float = 1e-3
    arguments: Mapping[str, Mapping[str, Any]] | None = None
    data: str = ""
    experiment: Mapping[str, Any] | None = None


_DECAY = {"weight_decay": 0.1, "label_smoothing": 0.1}
_DROPOUT = {"weight_decay": 0.1}

TASKS = {
    "digits": Task(
        "lenet",
        (100, 500, 2000),
        {
            "plain": {},
            "regularised": _DECAY,
            "augmented": {
                **_DECAY, "augment": Augment(rotation=10, width_shift=2, height_shift=2),
            },
        },
        batch_size=64,
        steps=600,
        data="mnist",
        experiment={"test": 0.2},  # of data that have no such part
    ),
    "pets": Task(
        "cats_convnet",
        (100, 400),
        {
            "plain": {},
            "regularised": _DROPOUT,
            "augmented": {
                **_DROPOUT,
                "augment": Augment(
                    horizontal_flip=True, width_shift=0.1, height_shift=0.1, zoom=0.15
                ),
            },
        },
        batch_size=20,
        steps=600,
        arguments={"regularised": {"dropout": 0.5}, "augmented": {"dropout": 0.5}},
        experiment={"images": {"image_size": (64, 64)}, "one_logit": True, "test": 0.2},
    ),
    "reviews": Task(
        "imdb_conv1d",
        (500, 2500),
        {"plain": {}, "words dropped": {"augment": WordDropout(0.2)}},
        batch_size=32,
        steps=400,
        data="imdb_reviews",
        experiment={
            "texts": {"vocabulary_size": 10_000, "length": 200}, "one_logit": True, "test": 0.2,
        },
    ),
    "series": Task(
        "series_conv1d",
        (100, 250, 669),
        {
            "plain": {},
            "jitter": {"augment": Jitter(0.3)},
            "warped": {"augment": WindowWarp(0.3, (0.5, 2.0))},
        },
        batch_size=32,
        steps=300,
        metric="test_absolute_error",
        arguments={
            way: {"dilations": (1, 2, 4, 8, 16)} for way in ("plain", "jitter", "warped")
        },
        data=time_series.GOOGLE,
    ),
}  # fmt: skip


@dataclass(frozen=True)
class FewOptions(Options):
    """Options of the experiment."""

    task: Literal["digits", "pets", "reviews", "series"] = "digits"
    """What is learned."""
    data: Annotated[str | None, tyro.conf.arg(metavar="NAME|FOLDER|FILE")] = None  # type: ignore[assignment]
    """Another data set than the task's usual one; pets: the folder of photos."""
    sizes: tuple[int, ...] = ()
    """Numbers of training examples; default: the task's."""
    steps: Annotated[int | None, tyro.conf.arg(metavar="INT")] = None
    """Of every training; default: the task's."""
    epochs: Annotated[int | None, tyro.conf.Suppress] = None
    """Of as many as the steps make."""


def name_of(task: str, way: str, size: int) -> str:
    """The name of an experiment."""
    return f"{NAME}/{task}/{way.replace(' ', '_')}/{size}"


def claims_of(task: str, sizes: Sequence[int]) -> list[Claim]:
    """That every way but the plain one helps, at every size; of errors the smaller is better."""
    made, plain = TASKS[task], next(iter(TASKS[task].ways))
    claims = []
    for way in list(made.ways)[1:]:
        for size in sizes:
            pair = [name_of(task, one, size) for one in (way, plain)]
            if made.metric != "test_accuracy":
                pair.reverse()
            text = f"{task}, {size:,} examples to train on: {way} is better than plain"
            claims.append(Claim(text, pair[0], pair[1], made.metric))
    return claims


CLAIMS = {task: claims_of(task, made.sizes) for task, made in TASKS.items()}

# A few hundred suffice: the last way at this size gets so many right.
ENOUGH = {"digits": (500, 0.95)}


def experiment(way: str, size: int, options: FewOptions) -> Experiment:
    """The training of one way on so many examples."""
    task = TASKS[options.task]
    batch = min(task.batch_size, max(size // 10, 8), size)
    steps = task.steps if options.steps is None else options.steps
    training = cj.TrainingConfig(
        epochs=math.ceil(steps / math.ceil(size / batch)),
        batch_size=batch,
        optimizer="adamw",
        learning_rate=task.learning_rate,
        schedule="one_cycle",
        monitor=None,
        **{"weight_decay": 0.0, **task.ways[way]},
    )
    return Experiment(
        name=name_of(options.task, way, size),
        description=f"{options.task} learned from {size:,} examples, {way}",
        model=task.model,
        arguments=(task.arguments or {}).get(way, {}),
        training=training,
        train_examples=size,
        **(task.experiment or {}),
    ).with_options(options)


def newest_windows(count: int) -> cj.data.Splits:
    """The series with so many windows to train on, the newest before the validation part.

    Raises:
        ValueError: if there are fewer.
    """
    series = time_series.load(time_series.SeriesOptions(data=time_series.GOOGLE))
    older = len(series.origins("train")) - count
    if older < 0 or count < 1:
        raise ValueError(
            f"sizes must be between 1 and {len(series.origins('train'))} for the series, "
            f"got {count}"
        )
    train, validation, total = (end - older for end in series.ends)
    shorter = replace(series, values=series.values[older:], ends=(train, validation, total))
    return replace(shorter.splits, validation=None)


def main(options: FewOptions) -> dict[str, list[cj.Run]]:
    """Train all ways at all sizes, then write table, figure and claims."""
    task, sizes = TASKS[options.task], options.sizes or TASKS[options.task].sizes
    data = options.data or task.data
    if not data:
        raise ValueError(f"data must be given for {options.task}, e.g. --data FOLDER")
    options = replace(options, data=data)
    runs: dict[str, list[cj.Run]] = {}
    for size in sizes:
        splits = newest_windows(size) if options.task == "series" else None
        variants = {f"{way}/{size}": partial(experiment, way, size) for way in task.ways}
        runs |= run_variants(variants, options, splits)
    report(options, sizes, runs)
    return runs


def report(options: FewOptions, sizes: Sequence[int], runs: Mapping[str, list[cj.Run]]) -> None:
    """Write table, figure and claims."""
    task, folder = TASKS[options.task], _studies.folder_of(options, f"{NAME}/{options.task}")
    values = {
        way: [[run.metrics[task.metric] for run in runs[f"{way}/{size}"]] for size in sizes]
        for way in task.ways
    }
    right = task.metric == "test_accuracy"
    cell = partial(mean_and_deviation, digits=2 if right else 4)
    rows = [
        [
            f"{size:,}",
            *(cell([(100 if right else 1) * v for v in row[i]]) for row in values.values()),
        ]
        for i, size in enumerate(sizes)
    ]
    what = "test accuracy, %" if right else task.metric.replace("_", " ")
    _studies.write_table(folder / f"{NAME}.md", [f"examples; {what}", *task.ways], rows)
    curves = {
        way: np.array([sizes, [np.mean(v) for v in row], [deviation(v) for v in row]])
        for way, row in values.items()
    }
    figure = folder / f"{NAME}.png"
    label = task.metric.replace("_", " ")
    figures.save(figures.mean_curves({label: curves}, "training examples", log=True), figure)
    print(f"figure: {figure}")
    write_claims(folder, [*claims_of(options.task, sizes), *enough(options.task, sizes, values)])


def enough(
    task: str, sizes: Sequence[int], values: Mapping[str, Sequence[Sequence[float]]]
) -> list[Measured]:
    """That a few hundred suffice."""
    if task not in ENOUGH or ENOUGH[task][0] not in sizes:
        return []
    (size, level), way = ENOUGH[task], list(values)[-1]
    accuracies = values[way][list(sizes).index(size)]
    return [
        Measured(
            f"{task}: {size:,} examples are enough for {100 * level:g} %, {way}",
            way, accuracies, "asked for", [level] * len(accuracies), pairs="seeds",
            metric="test accuracy",
        )
    ]  # fmt: skip


if __name__ == "__main__":
    command(main, FewOptions, NAME)
