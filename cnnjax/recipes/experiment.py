"""What an experiment is, and what every one can be told on the command line."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from cnnjax.config import TrainingConfig
from cnnjax.core.places import Place
from cnnjax.metrics import Measure

# --data of every experiment with images.
ImageData = Annotated[
    Place,
    tyro.conf.arg(
        metavar="NAME|FOLDER|FILE",
        help="Name of a data set: digits, which needs no files, or one in a TensorFlow Datasets "
        "directory (mnist, cifar10, ...). Or your own: a folder with a folder of images per "
        "class, or train/, validation/ and test/ with these in each; a folder of idx files "
        "(train-images-idx3-ubyte.gz, ...) or one of them; FILE.npz with x_train, y_train, x_test, "
        "y_test, or images, labels; FILE.csv with paths and labels of images (columns path, "
        "label and perhaps split). Images of any size are brought to that of the model.",
    ),
]


# Share of data of one's own, without a part for testing, that is measured at the end.
_OWN_TEST = 0.15


@dataclass(frozen=True)
class Options:
    """What every experiment can be told on the command line."""

    seed: int = 0
    """Of everything random: weights, order, dropout, augmentation, validation split."""
    seeds: int = 1
    """Number of runs, with the seeds seed, seed + 1, ...; the mean and its spread are printed."""
    epochs: Annotated[int | None, tyro.conf.arg(metavar="INT")] = None
    """Passes over the training data; default: the recipe's."""
    data: ImageData = "mnist"
    data_dir: Annotated[Place | None, tyro.conf.arg(metavar="DIR")] = None
    """Where TensorFlow Datasets keeps its data; default: TFDS_DATA_DIR or ~/tensorflow_datasets."""
    out: Annotated[Place | None, tyro.conf.arg(metavar="DIR")] = None
    """Run directory to write; default: a new one below checkpoints/."""
    resume: bool = False
    """Go on with the run in --out, or with the newest one of this experiment, recipe and seed;
    where nothing was saved yet, start from the beginning."""
    allow_changed: tuple[str, ...] = ()
    """With --resume: what may differ from what the run was started with, of module, loss,
    optimizer, augment, sampler, code, step."""
    checkpoint_every: Annotated[int | None, tyro.conf.arg(metavar="INT")] = None
    """Steps between checkpoints within an epoch; default: at the end of each epoch only."""
    profile: Annotated[Place | None, tyro.conf.arg(metavar="DIR")] = None
    """Measure some steps of each training and trace others, into a folder DIR/NAME-seedN, and print
    what they take of the device."""
    distributed: bool = False
    """One of several processes that train together: those that JAX_COORDINATOR_ADDRESS,
    JAX_NUM_PROCESSES and JAX_PROCESS_ID name, or Slurm, Open MPI or a TPU pod."""


@dataclass(frozen=True)
class RecipeOptions(Options):
    """Options of an experiment that a figure was reported for."""

    recipe: Literal["reported", "tuned"] = "reported"
    """reported: the hyper-parameters of the reported figure, to the letter; tuned: our choice."""


@dataclass(frozen=True)
class Experiment:
    """One training with everything that decides it.

    Args:
        name: of the experiment; the default run directory lies in checkpoints/NAME.
        description: one line for the report.
        model: name for `create_model`.
        training: how to train.
        data: name, folder or file for `data.load`.
        data_dir: for `data.load`.
        images: how images of any size are read, for `data.load`, e.g. {"image_size": (150, 150)};
            {}: as the model takes them by default.
        texts: for data of texts, how they are read, for `data.load_texts`, e.g. {"length": 500}.
        validation, test: fractions of the training data set aside, in [0, 1), where the data have
            no such part. A validation of None leaves out the part that they have.
        validation_last: take the last part for validation, as Keras' `validation_split` does, not
            a random one; of the data named here only, whose order is known to mix the classes.
        train_examples: train on so many of the others only; None: on all.
        arguments: further ones for `create_model`.
        one_logit: for two classes, one logit and sigmoid instead of two and softmax.
        smoothing: of the curves in the report, in [0, 1).
        recipe: "reported" or "tuned"; "" where no figure was reported.
        reported: the figures that were reported with Keras, e.g. {"test_accuracy": 0.9918}.
        changed: what the command line changed of the recipe, e.g. {"epochs": 1}.
        facts: further ones for the record.
        metrics: what is measured beside those of the task, by name, as in `fit`.
        profile: folder in which the training gets one of its own for `cj.training.Profile`; None
            for no profile.
    """

    name: str
    description: str
    model: str
    training: TrainingConfig
    data: str = "mnist"
    data_dir: str | None = None
    images: Mapping[str, Any] = field(default_factory=dict)
    texts: Mapping[str, Any] | None = None
    validation: float | None = 0.0
    validation_last: bool = False
    test: float = 0.0
    train_examples: int | None = None
    arguments: Mapping[str, Any] = field(default_factory=dict)
    one_logit: bool = False
    smoothing: float = 0.0
    recipe: str = ""
    reported: Mapping[str, float] = field(default_factory=dict)
    changed: Mapping[str, Any] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, Measure] = field(default_factory=dict)
    profile: str | None = None

    def __post_init__(self) -> None:
        if self.validation_last and not self.validation:
            raise ValueError(
                f"validation_last=True needs a share of the training data, got validation="
                f"{self.validation!r}"
            )

    def with_options(self, options: Options) -> Experiment:
        """The experiment as the command line wants it, at `options.seed`."""
        training = replace(
            self.training,
            seed=options.seed,
            epochs=self.training.epochs if options.epochs is None else options.epochs,
            checkpoint_every=options.checkpoint_every,
            resume=options.resume,
            allow_changed=options.allow_changed,
        )
        changed = {"epochs": training.epochs} if training.epochs != self.training.epochs else {}
        same = Path(options.data).name == Path(self.data).name
        return replace(
            self,
            training=training,
            changed=changed,
            data=options.data,
            data_dir=options.data_dir,
            profile=options.profile,
            validation_last=self.validation_last and same,
            test=self.test if same else self.test or _OWN_TEST,
            # A figure belongs to the data it was reported on.
            reported=self.reported if same else {},
        )


@dataclass(frozen=True)
class Recipe:
    """An experiment by a name, for `cnnjax train`.

    Args:
        options: what it can be told: a dataclass, whose docstrings are the help.
        experiment: options -> experiment.
    """

    options: type[Options]
    experiment: Callable[[Any], Experiment]
