"""Distillation: a small net learns what a larger one makes of the images, not their labels alone.

The teacher's logits are computed inside the objective, of the same, augmented images, softened by a
temperature T; the student's loss is `T^2 CE(softmax(t / T), s / T)` and a share of the usual one
(Hinton, Vinyals & Dean 2015, arXiv:1503.02531). Both students see the same few labelled images.

Command:   python -m experiments.research.distillation [--out FILE]

Reported:  no figure; an idea in twenty lines.

Ours:      the figure shows one seed; over several nothing is measured yet.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
from matplotlib.figure import Figure

import cnnjax as cj
from cnnjax.cli import command
from cnnjax.plot.figures import line_panels


@dataclass(frozen=True)
class Config:
    """Options of the example."""

    epochs: int = 30
    """Of the students."""
    teacher_epochs: int = 15
    """Of the teacher, which sees all of the training images."""
    images: int = 200
    """Training images that the students see."""
    seed: int = 0
    """Of the trainings."""
    out: str = "distillation.png"
    """The figure."""


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


def main(config: Config) -> tuple[dict[str, float], Figure]:
    """Train the teacher, a student alone and one that is taught; draw their validation."""
    data = cj.data.load("digits")
    few = cj.data.Splits(data.train.subset(slice(config.images)), validation=data.test)
    settings = cj.TrainingConfig(
        epochs=config.teacher_epochs, batch_size=50, optimizer="adam", seed=config.seed,
        augment=cj.augment.Augment(width_shift=2, height_shift=2), monitor=None,
    )  # fmt: skip
    teacher = cj.fit(cj.create_model("mnist_convnet", seed=config.seed), data.train, settings).model
    student = cj.create_model("mlp", units=(32,), seed=config.seed)
    settings = replace(settings, epochs=config.epochs)
    runs = {
        "alone": cj.fit(student, few, settings),
        "taught": cj.fit(student, few, settings, objective=distilled(teacher)),
    }
    lines = {name: run.history["val_accuracy"] for name, run in runs.items()}
    best = cj.evaluate(teacher, data.parts["test"])["accuracy"]
    lines["teacher"] = np.full(config.epochs, best)
    figure = line_panels({"": lines}, "epoch", "accuracy", np.arange(1, config.epochs + 1))
    figure.savefig(Path(config.out))
    reached = {name: float(values[-1]) for name, values in lines.items()}
    print("  ".join(f"{name} {value:.1%}" for name, value in reached.items()))
    return reached, figure


if __name__ == "__main__":
    command(main, Config, "research.distillation")
