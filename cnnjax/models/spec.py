"""What belongs to a model beside its weights: sizes, preprocessing, labels, where it comes from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import jax.numpy as jnp
from jax import Array


def unit(images: Array) -> Array:
    """RGB or grey in [0, 255] to [0, 1]: x / 255."""
    return images / 255.0


def none(images: Array) -> Array:
    """No change: for data that is already what the model wants."""
    return images


PREPROCESSING: dict[str, Callable[[Array], Array]] = {"unit": unit, "none": none}


@dataclass(frozen=True)
class ModelSpec:
    """Facts about a model.

    Args:
        name: as in `create_model`, or the class of a user's module.
        input_shape: (H, W, C) without the batch.
        num_classes: size of the output; 1 for a single logit of two classes.
        arguments: what `create_model` built the module from; None for a user's own module.
        preprocessing: name of the function from pixels in [0, 255] to inputs, "unit" or "none".
        resize: how pictures of another size are brought to this one: "crop", "stretch" or "pad".
        label_names: one name per class, or () where unknown.
        paper: where the architecture is described.
    """

    name: str
    input_shape: tuple[int, ...]
    num_classes: int
    arguments: dict[str, Any] | None = field(default=None, hash=False)
    preprocessing: str = "unit"
    resize: str = "crop"
    label_names: tuple[str, ...] = ()
    paper: str = ""

    def __post_init__(self) -> None:
        if self.preprocessing not in PREPROCESSING:
            raise ValueError(
                f"preprocessing must be one of {', '.join(PREPROCESSING)}, "
                f"got {self.preprocessing!r}"
            )
        if self.label_names and len(self.label_names) != max(self.num_classes, 2):
            raise ValueError(
                f"label_names has {len(self.label_names)} names, the model has "
                f"{self.num_classes} classes"
            )

    def preprocess(self, images: Array) -> Array:
        """Pixels in [0, 255], uint8 or floating, to the model's inputs, float32."""
        return PREPROCESSING[self.preprocessing](jnp.asarray(images).astype(jnp.float32))

    def check_pixels(self, low: float, high: float, what: str) -> None:
        """Refuse floating images whose range shows that they are no pixels in [0, 255].

        Args:
            low, high: smallest and largest value.
            what: the images' name in the message.

        Raises:
            ValueError: for values outside [0, 255], or all within [0, 1].
        """
        if self.preprocessing != "none" and (low < 0 or high > 255 or 0 < high <= 1):
            raise ValueError(
                f"{what}: floating images must be pixels in [0, 255], these lie in "
                f"[{low:g}, {high:g}]: scale them back, or use a model with preprocessing='none'"
            )

    def label_name(self, label: int) -> str:
        """The name of a class, or its number."""
        return self.label_names[label] if self.label_names else str(label)
