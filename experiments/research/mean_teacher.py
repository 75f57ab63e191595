"""Mean teacher: few labels, many images, and a net that is to agree with its own average.

A step of one's own with two sets of parameters. The student learns from the labelled images, and to
predict of all images, randomly moved, what the teacher predicts of them, moved otherwise, which
counts more and more; the teacher is the moving average of the student (Tarvainen & Valpola 2017,
arXiv:1703.01780). The weights of the examples, 1 or 0, say which images have a label.

Command:   python -m experiments.research.mean_teacher [--out FILE]

Reported:  no figure; an idea in forty lines.

Ours:      the figure shows one seed; over several nothing is measured yet.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from matplotlib.figure import Figure

import cnnjax as cj
from cnnjax.cli import command
from cnnjax.plot.figures import line_panels


@dataclass(frozen=True)
class Config:
    """Options of the example."""

    epochs: int = 40
    """Of each training."""
    labelled: int = 50
    """Of the training images; the others have none."""
    weight: float = 100.0
    """Of the agreement."""
    rise: int = 400
    """Steps in which the weight of the agreement grows to that."""
    seed: int = 0
    """Of the trainings."""
    out: str = "mean_teacher.png"
    """The figure."""


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
            return mean + grown * (apart * batch["mask"]).mean(), apart

        (value_of_loss, apart), gradient = jax.value_and_grad(loss, has_aux=True)(value["student"])
        updates, moments = optimizer.update(gradient, value["moments"])
        student = optax.apply_updates(value["student"], updates)
        teacher = optax.incremental_update(student, value["teacher"], 1 - decay)
        measured = {"loss": value_of_loss, "apart": apart}
        nets = {"student": student, "teacher": teacher, "moments": moments}
        return {**nets, "steps": value["steps"] + 1}, measured

    return cj.training.Step(init, update, lambda value: {"params": value["teacher"]})


def main(config: Config) -> tuple[dict[str, float], Figure]:
    """Train with the labelled images alone, and with all; draw the validation."""
    data = cj.data.load("digits")
    known = (np.arange(len(data.train)) < config.labelled).astype(np.float32)
    train = replace(data.train, weights=known)
    settings = cj.TrainingConfig(
        epochs=config.epochs, batch_size=64, seed=config.seed, monitor=None
    )
    model = cj.create_model("mnist_convnet", seed=config.seed)
    runs = {
        name: cj.fit(
            model,
            cj.data.Splits(train, data.test),
            settings,
            step=mean_teacher(model, weight, config.rise),
        )
        for name, weight in {"labels alone": 0.0, "mean teacher": config.weight}.items()
    }
    lines = {name: run.history["val_accuracy"] for name, run in runs.items()}
    title = f"{config.labelled} of {len(train)} images are labelled"
    epochs = np.arange(1, config.epochs + 1)
    figure = line_panels({title: lines}, "epoch", "accuracy", epochs)
    figure.savefig(Path(config.out))
    reached = {name: float(values[-1]) for name, values in lines.items()}
    print("  ".join(f"{name} {value:.1%}" for name, value in reached.items()))
    return reached, figure


if __name__ == "__main__":
    command(main, Config, "research.mean_teacher")
