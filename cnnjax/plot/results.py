"""Figures of a finished run: its mistakes, its confusions, its augmented images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from cnnjax import augment
from cnnjax.augment.config import AugmentConfig
from cnnjax.config import TrainingConfig
from cnnjax.core import rng
from cnnjax.data import Dataset
from cnnjax.models import Model, predict
from cnnjax.plot import figures, grids
from cnnjax.task import both_classes

_WORST = 16  # mistakes shown
_ORIGINALS, _COPIES = 4, 7  # of the image of augmentation


def draw_test(model: Model, test: Dataset, folder: Path, test_images: Any = None) -> None:
    """Confusion matrix and worst mistakes on the test data.

    Writes confusion_matrix.png, and mistakes.png where there are any; else an old one is removed.

    Args:
        model: whose answers they are.
        test: what it was asked.
        folder: made if needed.
        test_images: to show, [N, H, W, C]; None takes those of `test`.
    """
    probs = both_classes(predict(model, test.inputs))
    predicted = probs.argmax(axis=1)
    count = probs.shape[1]
    matrix = np.zeros((count, count), np.int64)
    np.add.at(matrix, (test.labels, predicted), 1)
    names = [model.spec.label_name(i) for i in range(count)]
    figures.save(figures.confusion_matrix(matrix, names), folder / "confusion_matrix.png")
    wrong = np.flatnonzero(predicted != test.labels)
    worst = wrong[np.argsort(-probs[wrong, predicted[wrong]], kind="stable")][:_WORST]
    if len(worst):
        shown = np.asarray((test.inputs if test_images is None else test_images)[worst])
        titles = [
            f"true {names[test.labels[i]]}\nsaid {names[predicted[i]]} ({probs[i].max():.2f})"
            for i in worst
        ]
        figure = grids.image_grid(grids.as_pixels(shown, grids.span_of(shown)), titles, width=1.6)
        figures.save(figure, folder / "mistakes.png")
    else:
        (folder / "mistakes.png").unlink(missing_ok=True)


def draw_augmentation(train: Dataset, config: TrainingConfig, folder: Path) -> None:
    """Training images beside copies of the first epochs.

    Writes augmentation.png; of texts and series, and without augmentation, nothing is drawn.
    """
    if config.augment is None or not train.holds_images:
        return
    rows = np.arange(0, len(train), max(len(train) // _ORIGINALS, 1))[:_ORIGINALS]
    originals = np.asarray(train.inputs[rows])
    key = rng.named(jax.random.key(config.seed), "augment")
    index = jnp.asarray(rows, jnp.int32)
    copies = []
    for epoch in map(jnp.int32, range(_COPIES)):
        which = (key, epoch, index)
        changed = augment.for_batch(config.augment, *which, jnp.asarray(originals, jnp.float32))
        if isinstance(config.augment, AugmentConfig):
            if config.augment.mixes:  # with each other here, in training with those of the batch
                changed, *_ = augment.mix(config.augment, *which, changed, index)
            changed = changed / config.augment.rescale
        copies.append(np.asarray(changed))
    figure = grids.augmentation(originals, np.stack(copies, axis=1))
    figures.save(figure, folder / "augmentation.png")
