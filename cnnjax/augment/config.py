"""Settings of an augmentation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from cnnjax.core.checks import (
    at_least_zero,
    factors,
    flag,
    is_number,
    number,
    one_of,
    optional,
    positive,
    whole,
    within,
)
from cnnjax.core.settings import check_fields, setting

FILL_MODES = ("nearest", "constant", "reflect", "wrap")

_MOST_EXACT = 2**24  # up to it float32, in which pixels are placed, has every whole number


def _zoom(name: str, value: Any) -> Any:
    if not isinstance(value, int | float):
        return factors(name, value)
    if isinstance(value, bool) or not 0 <= value < 1:
        raise ValueError(
            f"{name} must lie in [0, 1), or be a pair of factors (low, high), got {value!r}"
        )
    return value


def _shares(name: str, value: Any) -> tuple[float, float]:
    low, high = factors(name, value)
    if high > 1:
        raise ValueError(f"{name} must be shares of an image, at most 1, got {value!r}")
    return low, high


@dataclass(frozen=True)
class AugmentConfig:
    """The settings of `cnnjax.augment.Augment`, which documents and applies them."""

    width_shift: float = setting(0.0, at_least_zero)
    height_shift: float = setting(0.0, at_least_zero)
    horizontal_flip: bool = setting(False, flag)
    vertical_flip: bool = setting(False, flag)
    crop_padding: int = setting(0, whole(0))
    resized_crop: tuple[float, float] | None = setting(None, optional(_shares))
    fill_mode: str = setting("nearest", one_of(*FILL_MODES))
    fill_value: float = setting(0.0, number)
    rotation: float = setting(0.0, at_least_zero)
    shear: float = setting(0.0, within("[0, 90)"))
    zoom: float | tuple[float, float] = setting(0.0, _zoom)
    channel_shift: float = setting(0.0, at_least_zero)
    brightness: tuple[float, float] | None = setting(None, optional(factors))
    rescale: float = setting(1.0, positive)
    mixup: float = setting(0.0, at_least_zero)
    cutmix: float = setting(0.0, at_least_zero)

    def __post_init__(self) -> None:
        check_fields(self)
        for name, value in vars(self).items():
            numbers = value if isinstance(value, tuple) else (value,)
            if any(abs(n) > _MOST_EXACT for n in numbers if is_number(n)):
                raise ValueError(f"{name} must be at most {_MOST_EXACT} in size, got {value!r}")

    @property
    def mixes(self) -> bool:
        """Whether examples of a batch are mixed with each other."""
        return self.mixup > 0 or self.cutmix > 0
