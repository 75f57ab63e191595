"""Settings of an augmentation."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from cnnjax.core.checks import (
    check_at_least,
    check_factors,
    check_flags,
    check_numbers,
    check_one_of,
    is_number,
    plain_numbers,
)

FILL_MODES = ("nearest", "constant", "reflect", "wrap")


_MOST_EXACT = 2**24  # up to it float32, in which pixels are placed, has every whole number


@dataclass(frozen=True)
class AugmentConfig:
    """The settings of `cnnjax.augment.Augment`, which documents and applies them."""

    width_shift: float = 0.0
    height_shift: float = 0.0
    horizontal_flip: bool = False
    vertical_flip: bool = False
    crop_padding: int = 0
    fill_mode: str = "nearest"
    fill_value: float = 0.0
    rotation: float = 0.0
    shear: float = 0.0
    zoom: float | tuple[float, float] = 0.0
    channel_shift: float = 0.0
    brightness: tuple[float, float] | None = None
    rescale: float = 1.0
    mixup: float = 0.0
    cutmix: float = 0.0

    def __post_init__(self) -> None:
        plain_numbers(self)
        check_flags(self)
        amounts = ("rotation", "shear", "channel_shift", "mixup", "cutmix")
        check_at_least(self, 0, "width_shift", "height_shift", "crop_padding", *amounts)
        check_numbers(self, "fill_value", "rescale")
        check_one_of(self, "fill_mode", FILL_MODES)
        if self.shear >= 90:
            raise ValueError(f"shear must be below 90 degrees, got {self.shear!r}")
        if self.rescale <= 0:
            raise ValueError(f"rescale must be positive, got {self.rescale!r}")
        if self.brightness is not None:
            check_factors(self, "brightness")
        if not isinstance(self.zoom, int | float):
            check_factors(self, "zoom")
        elif isinstance(self.zoom, bool) or not 0 <= self.zoom < 1:
            raise ValueError(
                f"zoom must lie in [0, 1), or be a pair of factors (low, high), got {self.zoom!r}"
            )
        _of_float32(self)

    @property
    def mixes(self) -> bool:
        """Whether examples of a batch are mixed with each other."""
        return self.mixup > 0 or self.cutmix > 0


def _of_float32(config: Any) -> None:
    """Every number of an augmentation: beyond these, float32 and int32 do not have them all."""
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        numbers = value if isinstance(value, tuple) else (value,)
        if any(abs(n) > _MOST_EXACT for n in numbers if is_number(n)):
            raise ValueError(f"{field.name} must be at most {_MOST_EXACT} in size, got {value!r}")
