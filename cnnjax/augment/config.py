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
    whole_number,
    within,
)
from cnnjax.core.settings import check_fields, setting

FILL_MODES = ("nearest", "constant", "reflect", "wrap")

# What mixup and CutMix draw a share for.
MIXES = ("example", "batch")

MOST_MAGNITUDE = 30  # of RandAugment, whose operations go through their ranges in as many steps

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


def _operations(name: str, value: Any) -> tuple[int, int]:
    if not isinstance(value, tuple | list) or len(value) != 2:
        raise ValueError(
            f"{name} must be a pair (operations, magnitude), e.g. (2, 9), got {value!r}"
        )
    count = whole_number(f"{name}'s number of operations", value[0])
    return count, whole_number(f"{name}'s magnitude", value[1], 0, MOST_MAGNITUDE)


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
    contrast: tuple[float, float] | None = setting(None, optional(factors))
    saturation: tuple[float, float] | None = setting(None, optional(factors))
    hue: float = setting(0.0, within("[0, 0.5]"))
    rand_augment: tuple[int, int] | None = setting(None, optional(_operations))
    erasing: float = setting(0.0, within("[0, 1]"))
    rescale: float = setting(1.0, positive)
    mixup: float = setting(0.0, at_least_zero)
    cutmix: float = setting(0.0, at_least_zero)
    mix_probability: float = setting(1.0, within("(0, 1]"))
    mix_switch: float = setting(0.5, within("(0, 1)"))
    mix_per: str = setting("example", one_of(*MIXES))

    def __post_init__(self) -> None:
        check_fields(self)
        both = self.mixup > 0 and self.cutmix > 0
        for name, needs, given in (
            ("mix_probability", "mixup or cutmix", self.mixes),
            ("mix_per", "mixup or cutmix", self.mixes),
            ("mix_switch", "mixup and cutmix both", both),
        ):
            if getattr(self, name) != getattr(type(self), name) and not given:
                raise ValueError(f"{name}={getattr(self, name)!r} needs {needs} above 0")
        for name, value in vars(self).items():
            numbers = value if isinstance(value, tuple) else (value,)
            if any(abs(n) > _MOST_EXACT for n in numbers if is_number(n)):
                raise ValueError(f"{name} must be at most {_MOST_EXACT} in size, got {value!r}")

    @property
    def needs_rgb(self) -> str:
        """The first setting that is for red, green and blue alone; "" where there is none."""
        of_colours = ("rand_augment", "saturation", "hue")
        return next((name for name in of_colours if getattr(self, name)), "")

    @property
    def mixes(self) -> bool:
        """Whether examples of a batch are mixed with each other."""
        return self.mixup > 0 or self.cutmix > 0
