"""Adversarial training: a net that stays right where every pixel may move a little against it.

The objective moves the inputs along the sign of the loss's gradient, in one step (FGSM, Goodfellow,
Shlens & Szegedy 2014, arXiv:1412.6572) or several (PGD, Madry et al. 2017, arXiv:1706.06083), and
trains on what comes of it. Both nets are then attacked by PGD.

Command:   python -m experiments.research.adversarial [--seeds 3] [--steps 5] [--out DIR]

Reported:  no figure; an idea in fifteen lines.

Ours:      under PGD of 0.1 the net that was attacked gets 77.72 ± 2.28 % of the test digits right,
           the plain one 45.78 ± 0.90 %; without an attack 98.79 ± 0.43 and 97.86 ± 0.43 (3 seeds);
           the rows research/adversarial of RESULTS.md and their claims.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import cnnjax as cj
from cnnjax.cli import command
from cnnjax.metrics import deviation, percent
from cnnjax.plot import figures
from cnnjax.recipes import Claim, Measured, run_experiment, write_claims
from experiments._studies import folder_of
from experiments.research._ideas import IdeaOptions, measured, planned, run_arms

NAME = "research/adversarial"


@dataclass(frozen=True)
class AdversarialOptions(IdeaOptions):
    """Options of the study."""

    epsilon: float = 0.1
    """How far a pixel in [0, 1] may move in training."""
    steps: int = 1
    """Of an attack in training: 1 is FGSM, more are PGD."""
    attack: int = 10
    """Steps of the PGD that both nets are tried with."""


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


def train(arm: str, options: AdversarialOptions) -> cj.Run:
    """One training, plain or attacked."""
    settings = cj.TrainingConfig(epochs=10, batch_size=32, optimizer="adam", monitor=None)
    plan = planned(f"{NAME}/{arm}", f"digits, {arm}", options, settings, model="mnist_convnet")
    objective = adversarial(options.epsilon, options.steps) if arm == "attacked" else None
    return run_experiment(plan, options.out, objective=objective)


def accuracies(data: cj.data.Dataset, far: Sequence[float], steps: int, run: cj.Run) -> list[float]:
    """Under attacks by PGD of so many steps, at each distance."""
    model, labels = run.model, jnp.asarray(data.labels)
    apply, inputs = model.functions().apply, model.spec.preprocess(jnp.asarray(data.inputs))

    @jax.jit
    def right(params: Any, inputs: Any, epsilon: Any) -> Any:  # arrays that XLA is not to fold
        def logits(x: Any) -> Any:
            return apply(params, model.state, x)

        moved = attacked(logits, inputs, labels, epsilon, steps)
        return cj.metrics.correct(logits(moved), labels).mean()

    return [float(right(model.params, inputs, epsilon)) for epsilon in far]


def claims(plain: Sequence[float], robust: Sequence[float]) -> list[Claim | Measured]:
    """What an attacked training brings, and what it costs; accuracies under attack."""
    arms = [("attacked in training", robust), ("plain", plain)]
    return [
        Measured(
            "A net that was attacked in training is right more often under attack, by over 10 %",
            *arms[0], *arms[1], pairs="seeds", metric="test accuracy under PGD", by=0.1,
        ),
        Claim(
            "On images that are not attacked it is as good",
            f"{NAME}/attacked", f"{NAME}/plain", "test_accuracy", within=0.01,
        ),
    ]  # fmt: skip


def main(options: AdversarialOptions) -> dict[str, list[cj.Run]]:
    """Train both for every seed, attack them, draw their accuracy."""
    runs = run_arms({arm: partial(train, arm) for arm in ("plain", "attacked")}, options)
    far = [share * options.epsilon for share in (0.0, 0.25, 0.5, 1.0, 1.5)]
    test, folder = cj.data.load(options.data).parts["test"], folder_of(options, NAME)
    reached = measured(runs, partial(accuracies, test, far, options.attack))
    curves = {
        arm: np.array([far, np.mean(values, axis=0), deviation(np.array(values))])
        for arm, values in reached.items()
    }
    for arm, (_, means, _) in curves.items():
        told = "  ".join(f"{e:g}: {percent(v)}" for e, v in zip(far, means, strict=True))
        print(f"{arm:9} right under PGD of {told}")
    figures.save(figures.mean_curves({"accuracy": curves}, "epsilon of PGD"), folder / "attack.png")
    at = far.index(options.epsilon)
    write_claims(folder, claims(*([one[at] for one in reached[arm]] for arm in runs)))
    return runs


if __name__ == "__main__":
    command(main, AdversarialOptions, "research.adversarial")
