"""Augmentation: pure functions (key, image) -> image, and of two pictures of a batch."""

from cnnjax.augment.augment import Augment, apply, for_batch
from cnnjax.augment.labels import check_labels_stay_true
from cnnjax.augment.mixing import mix
from cnnjax.augment.parameters import Parameters, draw
from cnnjax.augment.transforms import transform

__all__ = [
    "Augment",
    "Parameters",
    "apply",
    "check_labels_stay_true",
    "draw",
    "for_batch",
    "mix",
    "transform",
]
