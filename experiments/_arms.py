"""What the studies of pretrained bases share: arms that start from one model, and their gap."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

import cnnjax as cj
from cnnjax.metrics import deviation
from cnnjax.recipes import Claim, Experiment, Measured, run_experiment, write_claims
from experiments._backbones import BackboneOptions


@dataclass(frozen=True)
class ArmOptions(BackboneOptions):
    """Options of studies whose bases are small, and so are their images."""

    alpha: float = 0.25
    """Width of mobilenet: 0.25, 0.5, 0.75 or 1."""
    image_size: int | None = 96
    """Height and width of the images where nothing else says it."""


@dataclass(frozen=True)
class FineArmOptions(ArmOptions):
    """Options of studies that train the head first, and then more."""

    learning_rate: float = 1e-3
    """Of the head on the frozen base (RMSprop)."""
    fine_rate: float = 1e-4
    """Of everything after that, and of a random head from the beginning."""


def train_arm(
    options: BackboneOptions,
    task: Experiment,
    name: str,
    photos: cj.data.Splits,
    model: cj.Model,
    **training: Any,
) -> cj.Run:
    """Train one arm of a study.

    Args:
        options: of one seed; `out` gets a folder of the arm's name.
        task: what all arms have in common.
        name: of the arm, e.g. "200/trained/all".
        photos: what all arms are trained on.
        model: where the arm starts.
        training: what its training has otherwise.
    """
    arm = replace(task, name=f"{task.name}/{name}", training=replace(task.training, **training))
    out = Path(options.out) / name if options.out else None
    return run_experiment(arm, out, splits=photos, model=model)


def gap(run: cj.Run) -> float:
    """Accuracy on the training data minus that on the validation data, at the end."""
    return float(run.history["accuracy"][-1] - run.metrics["val_accuracy"])


def point(values: Sequence[float], x: float) -> tuple[float, float, float]:
    """A place, and there the mean and the deviation of some values, for `plot.mean_curves`."""
    return x, float(np.mean(values)), float(deviation(values))


def write_known(
    folder: Path, claims: Iterable[Claim | Measured], experiments: Collection[str]
) -> None:
    """Write the claims whose arms were trained; of none nothing is written.

    Args:
        folder: of the study.
        claims: all of the study.
        experiments: names of those that were trained.
    """
    known = [
        claim
        for claim in claims
        if isinstance(claim, Measured) or {claim.first, claim.second} <= {*experiments}
    ]
    if known:
        write_claims(folder, known)
