"""Adversarial training: a net that stays right where every pixel may move a little against it.

The objective moves the inputs along the sign of the loss's gradient, in one step (FGSM, Goodfellow,
Shlens & Szegedy 2014, arXiv:1412.6572) or several (PGD, Madry et al. 2017, arXiv:1706.06083), and
trains on what comes of it. Both nets are then attacked by PGD.

Command:   python -m experiments.research.adversarial [--steps 5] [--out FILE]

Reported:  no figure; an idea in fifteen lines.

Ours:      the figure shows one seed; over several nothing is measured yet.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

import cnnjax as cj
from cnnjax.cli import command
from cnnjax.plot.figures import line_panels


@dataclass(frozen=True)
class Config:
    """Options of the example."""

    epochs: int = 10
    """Of each training."""
    epsilon: float = 0.1
    """How far a pixel in [0, 1] may move in training."""
    steps: int = 1
    """Of an attack in training: 1 is FGSM, more are PGD."""
    attack: int = 10
    """Steps of the PGD that both nets are tried with."""
    seed: int = 0
    """Of the trainings."""
    out: str = "adversarial.png"
    """The figure."""


def attacked(
    apply: Callable[[Any], Any], inputs: Any, labels: Any, epsilon: Any, steps: int
) -> Any:
    """Inputs in [0, 1] within epsilon of those given, moved uphill in so many steps."""
    uphill = jax.grad(lambda x: cj.metrics.cross_entropy(apply(x), labels).sum())
    moved, stride = inputs, epsilon * (1.0 if steps == 1 else 2.5 / steps)
    for _ in range(steps):
        moved = moved + stride * jnp.sign(uphill(moved))
        moved = jnp.clip(jnp.clip(moved, inputs - epsilon, inputs + epsilon), 0.0, 1.0)
    return jax.lax.stop_gradient(moved)


def adversarial(epsilon: float, steps: int = 1) -> Any:
    """The objective of a net that is attacked at every step of its training."""
    usual = cj.training.supervised(cj.metrics.cross_entropy)

    def objective(functions: Any, params: Any, state: Any, batch: Any, key: Any) -> Any:
        now = jax.lax.stop_gradient(params)

        def apply(inputs: Any) -> Any:
            return functions.apply(now, state, inputs)

        moved = attacked(apply, batch["inputs"], batch["labels"], epsilon, steps)
        return usual(functions, params, state, {**batch, "inputs": moved}, key)

    return objective


def accuracies(model: cj.Model, data: cj.data.Dataset, far: list[float], steps: int) -> list[float]:
    """Under attacks by PGD of so many steps."""
    apply, inputs = model.functions().apply, model.spec.preprocess(jnp.asarray(data.inputs))
    labels = jnp.asarray(data.labels)

    @jax.jit
    def right(params: Any, inputs: Any, epsilon: Any) -> Any:  # arrays that XLA is not to fold
        def logits(x: Any) -> Any:
            return apply(params, model.state, x)

        moved = attacked(logits, inputs, labels, epsilon, steps)
        return cj.metrics.correct(logits(moved), labels).mean()

    return [float(right(model.params, inputs, epsilon)) for epsilon in far]


def main(config: Config) -> tuple[dict[str, list[float]], Figure]:
    """Train a plain net and an adversarial one; draw their accuracy under attack."""
    data = cj.data.load("digits")
    model = cj.create_model("mnist_convnet", seed=config.seed)
    settings = cj.TrainingConfig(
        epochs=config.epochs, batch_size=32, optimizer="adam", seed=config.seed, monitor=None
    )
    robust = adversarial(config.epsilon, config.steps)
    runs = {
        "plain": cj.fit(model, data.train, settings),
        "adversarial": cj.fit(model, data.train, settings, objective=robust),
    }
    far = [0.0, *(config.epsilon * np.array([0.25, 0.5, 1.0, 1.5])).tolist()]
    test = data.parts["test"]
    reached = {k: accuracies(run.model, test, far, config.attack) for k, run in runs.items()}
    lines = {name: np.array(values) for name, values in reached.items()}
    figure = line_panels({"attacked by PGD": lines}, "epsilon", "accuracy", np.array(far))
    figure.savefig(Path(config.out))
    for name, values in reached.items():
        print(name, "  ".join(f"{e:g}: {v:.1%}" for e, v in zip(far, values, strict=True)))
    return reached, figure


if __name__ == "__main__":
    command(main, Config, "research.adversarial")
