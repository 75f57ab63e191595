"""Augmentation: pure functions (key, example) -> example, and of two images of a batch."""

from cnnjax.augment.augment import Augment, apply, check_channels, for_batch
from cnnjax.augment.labels import check_labels_stay_true, move_labels, moved_labels
from cnnjax.augment.mixing import mix
from cnnjax.augment.named import Named
from cnnjax.augment.parameters import Parameters, draw
from cnnjax.augment.sequences import Chain, Jitter, WindowWarp, WordDropout, warp
from cnnjax.augment.transforms import transform, transform_labels

__all__ = [
    "Augment",
    "Chain",
    "Jitter",
    "Named",
    "Parameters",
    "WindowWarp",
    "WordDropout",
    "apply",
    "check_channels",
    "check_labels_stay_true",
    "draw",
    "for_batch",
    "mix",
    "move_labels",
    "moved_labels",
    "transform",
    "transform_labels",
    "warp",
]
