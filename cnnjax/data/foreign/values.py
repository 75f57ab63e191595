"""Values of other libraries as the arrays that models are given."""

from __future__ import annotations

from typing import Any

import numpy as np

from cnnjax.core.checks import channels_first
from cnnjax.data.pixels.image_modes import pixels_of

_GREY = ("1", "L", "LA", "La", "I", "F", "I;16", "I;16B", "I;16L", "I;16N")


def as_array(value: Any) -> np.ndarray:
    """A value as an array: of an image of Pillow uint8 [H, W, 1 or 3], of a tensor its content.

    Raises:
        ValueError: for what holds no numbers.
    """
    if hasattr(value, "getbands"):  # an image of Pillow, which need not be imported for it
        return pixels_of(value, 1 if value.mode in _GREY else 3)
    if hasattr(value, "detach"):  # a tensor of torch, of any device
        value = value.detach().cpu()
    array = np.asarray(value)
    if array.dtype.kind not in "biuf":
        raise ValueError(f"{type(value).__name__} holds no numbers (dtype {array.dtype})")
    return array


def as_inputs(value: Any, channels: bool | None) -> np.ndarray:
    """One example's inputs: images with their channels last, in a dtype that a data set has.

    Args:
        value: an image, a tensor, an array or a list of numbers.
        channels: whether they stand first, as in `from_source`; None: they must not.

    Returns:
        uint8, uint16, int16, int32 (one-dimensional: token ids) or float32.

    Raises:
        ValueError: for channels that stand first where they must not, whole numbers that are no
            pixels, and floating ones that are not finite.
    """
    array = as_array(value)
    if array.ndim == 0:
        raise ValueError("its inputs are a single number, which has no axis")
    if np.issubdtype(array.dtype, np.integer) and array.ndim == 2:
        array = array[..., None]  # a grey image, also one of a list, whose dtype is wide
    if channels:
        if array.ndim != 3:
            raise ValueError(
                f"channels_first=True is for images [C, H, W], and its inputs are of shape "
                f"{list(array.shape)}"
            )
        array = np.moveaxis(array, 0, -1)
    elif channels is None and channels_first(array.shape):
        raise ValueError(
            f"its inputs of shape {list(array.shape)} have their channels first, as PyTorch has "
            "them: give channels_first=True, which puts them last"
        )
    return in_a_known_dtype(array, array.ndim)


def in_a_known_dtype(array: np.ndarray, axes: int) -> np.ndarray:
    """Inputs in a dtype that a data set has.

    Args:
        array: of one example, or of several.
        axes: of one example; of one only it holds token ids, where they are whole numbers.

    Returns, raises: as `as_inputs`.
    """
    if array.dtype in (np.uint8, np.uint16, np.int16):
        return array
    if np.issubdtype(array.dtype, np.floating):
        if not np.isfinite(array).all():
            raise ValueError("its inputs hold NaN or infinity")
        return array.astype(np.float32)
    low, high = int(array.min(initial=0)), int(array.max(initial=0))
    if axes == 1:
        if not -(2**31) <= low <= high < 2**31:
            raise ValueError(f"its token ids lie in [{low}, {high}], which int32 does not hold")
        return array.astype(np.int32)
    if not 0 <= low <= high <= 255:  # as of lists, which have no dtype of their own
        raise ValueError(
            f"its inputs are {array.dtype} in [{low}, {high}], and pixels are uint8 in [0, 255], "
            "uint16, int16 or floating"
        )
    return array.astype(np.uint8)
