"""Names of classes: those that a model gets, and probabilities by them, the largest first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from cnnjax.core.checks import whole_number
from cnnjax.models.imagenet import IMAGENET_CLASSES, class_names
from cnnjax.models.spec import ModelSpec
from cnnjax.task import JointTask, both_classes


def decode_predictions(
    probs: np.ndarray, top: int = 5, label_names: Sequence[str] = ()
) -> list[list[tuple[str, str, float]]]:
    """The most probable classes with their names.

    Args:
        probs: [N, K] probabilities; [N, 1] is read as two classes.
        top: how many per image, >= 1; cut to the number of classes.
        label_names: one name per class, e.g. `model.spec.label_names`. Where empty, 1,000 classes
            are taken for ImageNet's, whose names are downloaded once; others are numbered.

    Returns:
        Per image [(key, name, probability), ...], most probable first; the key is ImageNet's
        synset ("n02123045"), or else the number of the class.

    Raises:
        ValueError: if probs is not two-dimensional or are of several outputs, top is no such
            number, or the names do not fit.
        DownloadError: if ImageNet's names are needed and cannot be had.

    >>> decode_predictions(np.array([[0.1, 0.9]]), top=1, label_names=("cat", "dog"))
    [[('1', 'dog', 0.9)]]
    """
    if isinstance(probs, Mapping):
        name = next(iter(probs))
        raise ValueError(
            f"probs are of the outputs {', '.join(probs)}: give those of one, decode_predictions("
            f"probs[{name!r}], label_names=model.spec.label_names[{name!r}]), or take "
            "model.spec.task.decode(probs, model.spec.label_names), which has a line for each"
        )
    probs = np.asarray(probs)
    if probs.ndim != 2:
        raise ValueError(f"probs must be [N, num_classes], got shape {list(probs.shape)}")
    top = whole_number("top", top)
    probs = both_classes(probs)
    if label_names and len(label_names) != probs.shape[1]:
        raise ValueError(f"{len(label_names)} label_names for {probs.shape[1]} classes")
    keys = [str(k) for k in range(probs.shape[1])]
    names = list(label_names) or keys
    if not label_names and probs.shape[1] == IMAGENET_CLASSES:
        keys, names = map(list, zip(*class_names(), strict=True))
    order = np.argsort(-probs, axis=1, kind="stable")[:, :top]
    return [
        [(keys[k], names[k], float(row[k])) for k in best]
        for row, best in zip(probs, order, strict=True)
    ]


def named(spec: ModelSpec, names: Sequence[str]) -> ModelSpec:
    """A spec with the names of the classes that its model is trained on.

    Args:
        spec: whose own names, if it has any, stay.
        names: of the data's classes; () where they have none. Where the model has another number of
            classes, or several outputs, they do not say which is which, and none are taken.
    """
    if spec.label_names or not spec.num_classes or isinstance(spec.task, JointTask):
        return spec
    fit = len(names) == spec.task.names(spec.num_classes)
    return replace(spec, label_names=tuple(names)) if fit else spec
