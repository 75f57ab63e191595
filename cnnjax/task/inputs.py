"""What a model is given, and what becomes of it before the first layer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
from jax import Array

from cnnjax.task.kinds import none
from cnnjax.task.names import known_or_own


@dataclass(frozen=True)
class Inputs:
    """What a model is given, and what becomes of it before the first layer.

    Args:
        name: in records and messages.
        preprocess: what is given, in the dtype, to what the module takes; pure.
        dtype: of what the module takes: "float32", of uint8 or floating data, or "int32", of token
            ids, which are whole numbers to the module too.
        pixels: whether floating data, and those of 16 bits, must be pixels in [0, 255].
        rgb: whether three channels are needed.
        check: (lowest, highest value) of floating data; raises a ValueError of one sentence for
            what cannot be.

    >>> import jax.numpy as jnp
    >>> Inputs("decibels", lambda power: 10 * jnp.log10(power)).preprocess(jnp.array(100.0)).item()
    20.0
    """

    name: str
    preprocess: Callable[[Array], Array]
    dtype: str = "float32"
    pixels: bool = False
    rgb: bool = False
    check: Callable[[float, float], None] | None = None

    def __post_init__(self) -> None:
        if self.dtype not in ("float32", "int32"):
            raise ValueError(f"dtype of inputs must be 'float32' or 'int32', got {self.dtype!r}")

    @property
    def tokens(self) -> bool:
        """Whether they are token ids."""
        return self.dtype == "int32"

    def check_range(
        self, low: float, high: float, what: str, *, one: bool = False, kind: str = "floating"
    ) -> None:
        """Refuse data whose range shows that they are not what is expected.

        Args:
            low, high: smallest and largest value.
            what: the data's name in the message.
            one: whether this is one image of several, which may be as dark as it likes.
            kind: of their numbers, in the message: "floating", or a dtype of 16 bits.

        Raises:
            ValueError: for pixels outside [0, 255], or all within [0, 1]; or as `check` says.
        """
        inside = low >= 0 and high <= 255  # NaN is not
        if self.pixels and (not inside or (not one and 0 < high <= 1)):
            raise ValueError(
                f"{what}: {kind} images must be pixels in [0, 255], these lie in "
                f"[{low:g}, {high:g}]: scale them back, or use a model with preprocessing='none' "
                "or a function of your own"
            )
        if self.check is not None:
            try:
                self.check(low, high)
            except ValueError as error:
                raise ValueError(f"{what}: {error}") from None


def _unit(images: Array) -> Array:
    """RGB or grey in [0, 255] to [0, 1]: x / 255."""
    return images / 255.0


def _tf(images: Array) -> Array:
    """RGB in [0, 255] to [-1, 1]: x / 127.5 - 1 (InceptionV3, Xception, MobileNet)."""
    return images / 127.5 - 1.0


def _tf128(images: Array) -> Array:
    """RGB or grey in [0, 255] to [-1, 1): x / 128 - 1 (EfficientNetV2-S)."""
    return images / 128.0 - 1.0


def _caffe(images: Array) -> Array:
    """RGB in [0, 255] to BGR less ImageNet's mean (103.939, 116.779, 123.68) (VGG, ResNet50)."""
    return images[..., ::-1] - _row((103.939, 116.779, 123.68), images)


def _torch(images: Array) -> Array:
    """RGB in [0, 255] to (x / 255 - mean) / deviation, with torchvision's of ImageNet."""
    mean, deviation = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    return (images / 255.0 - _row(mean, images)) / _row(deviation, images)


def _row(values: tuple[float, ...], images: Array) -> Array:
    """One value per channel, of the images' rank."""
    return jnp.array(values, images.dtype).reshape((1,) * (images.ndim - 1) + (-1,))


INPUTS = {
    inputs.name: inputs
    for inputs in (
        Inputs("unit", _unit, pixels=True),
        Inputs("none", none),
        Inputs("tokens", none, dtype="int32"),
        Inputs("tf", _tf, pixels=True),
        Inputs("tf128", _tf128, pixels=True),
        Inputs("caffe", _caffe, pixels=True, rgb=True),
        Inputs("torch", _torch, pixels=True, rgb=True),
    )
}


# What may be given as a preprocessing: a name, a function, or inputs of one's own.
Preprocessing = str | Inputs | Callable[[Array], Array]


def as_inputs(preprocessing: Preprocessing) -> Inputs:
    """Inputs, those of that name of preprocessing, or those of a function, under its own name.

    Raises:
        ValueError: for an unknown name, or inputs of one's own with a name of ours.

    >>> def reflectance(counts):
    ...     return counts / 10000
    >>> as_inputs(reflectance).name, as_inputs(reflectance).pixels
    ('reflectance', False)
    """
    if callable(preprocessing) and not isinstance(preprocessing, Inputs | str):
        name = getattr(preprocessing, "__name__", type(preprocessing).__name__)
        preprocessing = Inputs(name, preprocessing)
    return known_or_own(preprocessing, Inputs, INPUTS, "preprocessing")


def named_inputs(preprocessing: Preprocessing | Mapping[str, Preprocessing], names: Any) -> Inputs:
    """Inputs {name: array} as one, of which each has a preprocessing of its own.

    Args:
        preprocessing: of each by name, or one for all.
        names: of the inputs.

    Raises:
        ValueError: if a name has none, or is none of the inputs'.
    """
    if not isinstance(preprocessing, Mapping):
        preprocessing = dict.fromkeys(names, preprocessing)
    if set(preprocessing) != set(names):
        raise ValueError(
            f"preprocessing must be given for each of the inputs {', '.join(names)}, got it for "
            f"{', '.join(map(repr, preprocessing)) or 'none'}"
        )
    parts = tuple((name, as_inputs(preprocessing[name])) for name in names)
    title = ", ".join(f"{name} {one.name}" for name, one in parts)
    return Inputs(title, _Each(tuple((name, one.preprocess) for name, one in parts)))


@dataclass(frozen=True)
class _Each:
    """A function for each value of a dictionary."""

    functions: tuple[tuple[str, Callable[[Array], Array]], ...]

    def __call__(self, values: Any) -> Any:
        return {name: function(values[name]) for name, function in self.functions}
