"""Mean teacher: few labels, many images, and a net that is to agree with its own average.

A step of one's own with two sets of parameters. The student learns from the labelled images, and to
predict of all images, randomly moved, what the teacher predicts of them, moved otherwise, which
counts more and more; the teacher is the moving average of the student (Tarvainen & Valpola 2017,
arXiv:1703.01780). The weights of the examples, 1 or 0, say which images have a label.

Command:   python -m experiments.research.mean_teacher [--seeds 5] [--out DIR]

Reported:  no figure; an idea in forty lines.

Ours:      78.92 ± 2.16 % of the test digits, and 78.55 ± 1.28 of an average that agrees with nobody
           (3 seeds): not decided; the rows research/mean_teacher of RESULTS.md and their claim.
"""

from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import cnnjax as cj
from cnnjax.cli import command
from cnnjax.recipes import Claim, build_model, run_experiment, write_claims
from experiments import _studies
from experiments.research._ideas import IdeaOptions, planned, run_arms

NAME = "research/mean_teacher"


@dataclass(frozen=True)
class MeanTeacherOptions(IdeaOptions):
    """Options of the study."""

    labelled: int = 50
    """Of the training images; the others have none."""
    weight: float = 100.0
    """Of the agreement."""
    rise: int = 400
    """Steps in which the weight of the agreement grows to that."""


CLAIM = Claim(
    "With images that have no label a net gets more right than with the labelled ones alone",
    f"{NAME}/mean_teacher",
    f"{NAME}/labels_alone",
    "test_accuracy",
)

VIEWS = cj.augment.Augment(width_shift=2, height_shift=2, rotation=10)


def mean_teacher(
    model: cj.Model, weight: float, rise: int, decay: float = 0.99
) -> cj.training.Step:
    """The step: student, teacher and the moments of Adam go through the training together."""
    functions, optimizer = model.functions(), optax.adam(1e-3)

    def init(model: cj.Model, key: Any) -> Any:
        return {
            "student": model.params,
            "teacher": model.params,
            "moments": optimizer.init(model.params),
            "steps": jnp.zeros(()),
        }

    def update(value: Any, batch: Any, key: Any) -> Any:
        def view(number: int) -> Any:
            which = (jax.random.fold_in(key, number), batch["epoch"], batch["index"])
            return functions.preprocess(cj.augment.for_batch(VIEWS, *which, batch["examples"]))

        taught = jax.nn.softmax(functions.apply(value["teacher"], {}, view(0)))
        seen = view(1)
        grown = weight * jnp.exp(-5 * (1 - jnp.minimum(value["steps"] / rise, 1.0)) ** 2)

        def loss(params: Any) -> Any:
            outputs = functions.apply(params, {}, seen)
            known = batch["weights"] * cj.metrics.cross_entropy(outputs, batch["labels"])
            apart = ((jax.nn.softmax(outputs) - taught) ** 2).mean(axis=1)
            labelled = jnp.maximum((batch["weights"] * batch["mask"]).sum(), 1.0)
            mean = (known * batch["mask"]).sum() / labelled
            right = cj.metrics.correct(outputs, batch["labels"])
            measured = {"accuracy": right, "apart": apart}
            return mean + grown * (apart * batch["mask"]).mean(), measured

        found = jax.value_and_grad(loss, has_aux=True)(value["student"])
        (value_of_loss, measured), gradient = found
        updates, moments = optimizer.update(gradient, value["moments"])
        student = optax.apply_updates(value["student"], updates)
        teacher = optax.incremental_update(student, value["teacher"], 1 - decay)
        nets = {"student": student, "teacher": teacher, "moments": moments}
        return {**nets, "steps": value["steps"] + 1}, {"loss": value_of_loss, **measured}

    return cj.training.Step(init, update, lambda value: {"params": value["teacher"]})


def train(arm: str, options: MeanTeacherOptions) -> cj.Run:
    """One training on all images, of which few have a label that counts."""
    data = cj.data.load(options.data)
    known = (np.arange(len(data.train)) < options.labelled).astype(np.float32)
    splits = cj.data.Splits(replace(data.train, weights=known), data.validation, data.test)
    settings = cj.TrainingConfig(epochs=40, batch_size=64, monitor=None)
    plan = planned(f"{NAME}/{arm}", f"digits, {arm}", options, settings, model="mnist_convnet")
    model = build_model(plan, splits)
    step = mean_teacher(model, options.weight if arm == "mean_teacher" else 0.0, options.rise)
    return run_experiment(plan, options.out, splits=splits, model=model, step=step)


def main(options: MeanTeacherOptions) -> dict[str, list[cj.Run]]:
    """Train with the labelled images alone, and with all."""
    runs = run_arms({arm: partial(train, arm) for arm in ("labels_alone", "mean_teacher")}, options)
    folder = _studies.folder_of(options, NAME)
    _studies.draw(folder / "curves.png", runs, {"accuracy on all training images": "accuracy"})
    write_claims(folder, [CLAIM])
    return runs


if __name__ == "__main__":
    command(main, MeanTeacherOptions, "research.mean_teacher")
