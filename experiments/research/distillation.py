"""Distillation: a small net learns what a larger one makes of the images, not their labels alone.

The teacher's logits are computed inside the objective, of the same, augmented images, softened by a
temperature T; the student's loss is `T^2 CE(softmax(t / T), s / T)` and a share of the usual one
(Hinton, Vinyals & Dean 2015, arXiv:1503.02531). Both students see the same few labelled images.

Command:   python -m experiments.research.distillation [--seeds 5] [--out DIR]

Reported:  no figure; an idea in twenty lines.

Ours:      taught 84.12 ± 1.79 % of the test digits, alone 80.84 ± 0.87 (5 seeds); the rows
           research/distillation of RESULTS.md and their claim.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax

import cnnjax as cj
from cnnjax.cli import command
from cnnjax.recipes import Claim, run_experiment, write_claims
from experiments import _studies
from experiments.research._ideas import IdeaOptions, planned, run_arms

NAME = "research/distillation"


@dataclass(frozen=True)
class DistillationOptions(IdeaOptions):
    """Options of the study."""

    teacher_epochs: int = 15
    """Of the teacher, which sees all of the training images."""
    images: int = 200
    """Training images that the students see."""


CLAIM = Claim(
    "A student that is taught by a larger net is better than one that learns of labels alone",
    f"{NAME}/taught",
    f"{NAME}/alone",
    "test_accuracy",
)


def distilled(teacher: cj.Model, temperature: float = 4.0, share: float = 0.9) -> Any:
    """The objective of a student of this teacher."""
    teach = teacher.functions().apply

    def objective(functions: Any, params: Any, state: Any, batch: Any, key: Any) -> Any:
        outputs, state = functions.apply_train(params, state, batch["inputs"], key)
        taught = teach(teacher.params, teacher.state, batch["inputs"])
        soft = jax.nn.softmax(taught / temperature)
        far = temperature**2 * cj.metrics.softmax_cross_entropy(outputs / temperature, soft)
        usual = cj.metrics.cross_entropy(outputs, batch["labels"])
        losses = share * far + (1 - share) * usual
        return losses, cj.training.Aux(outputs, state, {"cross_entropy": usual})

    return objective


def train_teacher(options: DistillationOptions) -> cj.Run:
    """The larger net, on all of the training images."""
    settings, own = training(options.teacher_epochs), replace(options, epochs=None)
    plan = planned(f"{NAME}/teacher", "the teacher", own, settings, model="mnist_convnet")
    return run_experiment(plan, options.out)


def train_student(teachers: Mapping[int, cj.Model], options: DistillationOptions) -> cj.Run:
    """A small net on few of them, taught where there are teachers, {seed: teacher}."""
    data, name = cj.data.load(options.data), "taught" if teachers else "alone"
    train, count = data.train, options.images
    few = cj.data.Splits(train.subset(slice(count)), train.subset(slice(count, None)), data.test)
    plan = planned(
        f"{NAME}/{name}", f"a student, {name}", options, training(30),
        model="mlp", arguments={"units": (32,)},
    )  # fmt: skip
    objective = distilled(teachers[options.seed]) if teachers else None
    return run_experiment(plan, options.out, splits=few, objective=objective)


def training(epochs: int) -> cj.TrainingConfig:
    """What all have in common."""
    moved = cj.augment.Augment(width_shift=2, height_shift=2)
    return cj.TrainingConfig(
        epochs=epochs, batch_size=50, optimizer="adam", augment=moved, monitor=None
    )


def main(options: DistillationOptions) -> dict[str, list[cj.Run]]:
    """Train for every seed the teacher, a student alone and one that is taught."""
    teachers = run_arms({"teacher": train_teacher}, options)["teacher"]
    models = {seed: run.model for seed, run in enumerate(teachers, start=options.seed)}
    taught = {"alone": partial(train_student, {}), "taught": partial(train_student, models)}
    students = run_arms(taught, options)
    folder = _studies.folder_of(options, NAME)
    _studies.draw(folder / "students.png", students, _studies.CURVES)
    write_claims(folder, [CLAIM])
    return {"teacher": teachers, **students}


if __name__ == "__main__":
    command(main, DistillationOptions, "research.distillation")
