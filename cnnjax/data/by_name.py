"""Several inputs, or labels, of every example: {name: array}."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from cnnjax.core.checks import PIXELS, check_channels_last, holds_pixels, holds_tokens


def over(function: Callable[[Any], Any], value: Any) -> Any:
    """A function of one array, of each where there are several by name."""
    if isinstance(value, Mapping):
        return {name: function(one) for name, one in value.items()}
    return function(value)


def named(value: Any, of: str) -> dict[str, Any]:
    """Arrays by what to call them in a message: "inputs" alone, or "inputs['age']" of several."""
    if isinstance(value, Mapping):
        return {f"{of}[{name!r}]": one for name, one in value.items()}
    return {of: value}


def checked_inputs(inputs: Mapping[str, Any], name: str) -> dict[str, np.ndarray]:
    """Arrays of one's own by name, checked.

    Args:
        inputs: {name: [N, ...]}: images [N, H, W, C] of 8 or 16 bits, floating numbers of any
            shape, whole numbers of 32 and more bits as token ids.
        name: of the data, for the message.

    Returns:
        Floating ones as float32, token ids as int32; [N] as [N, 1].

    Raises:
        ValueError: naming the input that cannot be.
    """
    checked: dict[str, np.ndarray] = {}
    for key, given in inputs.items():
        array, what = np.asanyarray(given), f"{name}: inputs[{key!r}]"
        if not isinstance(key, str) or not key:
            raise ValueError(f"{name}: inputs must have texts as names, got {key!r}")
        if array.ndim == 0 or len(array) == 0:
            raise ValueError(f"{what} is empty")
        if holds_tokens(array.dtype):
            array = array.astype(np.int32)
        elif not holds_pixels(array.dtype):
            raise ValueError(f"{what} must be {PIXELS}, or int32 token ids, got {array.dtype}")
        elif np.issubdtype(array.dtype, np.floating):
            if not np.isfinite(array).all():
                raise ValueError(f"{what} holds NaN or infinity")
            array = array.astype(np.float32, copy=False)
        if array.ndim == 4:
            check_channels_last(what, array.shape)
        checked[key] = array[:, None] if array.ndim == 1 else array
    if not checked:
        raise ValueError(f"{name}: inputs must have a name each, got none")
    return checked


def check_lengths(count: int, arrays: Mapping[str, Any], name: str) -> None:
    """Refuse arrays of other numbers of examples.

    Raises:
        ValueError: naming the first one.
    """
    for what, array in arrays.items():
        if len(array) != count:
            raise ValueError(f"{name}: {what} has {len(array)} examples, there are {count} labels")
