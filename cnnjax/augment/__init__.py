"""Augmentation: pure functions (key, image) -> image, and of two pictures of a batch."""

from cnnjax.augment.augment import Augment, apply, for_batch
from cnnjax.augment.mixing import mix
from cnnjax.augment.parameters import Parameters, draw
from cnnjax.augment.transforms import transform

__all__ = ["Augment", "Parameters", "apply", "draw", "for_batch", "mix", "transform"]
