"""What a weight file holds, whatever its format."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import jax.numpy as jnp
import numpy as np

# Weights hardly compress. What unpacks to many times its file is no weight file but an attack on
# the memory; small ones may be all zeros.
_MAX_EXPANSION, _SMALL = 50, 1 << 20


class DamagedWeights(ValueError):
    """A weight file that cannot be read, or not as it was written."""


@dataclass(frozen=True)
class StoredLayer:
    """One layer of a file.

    Args:
        name: of the layer, as in the file.
        kind: class of the layer in small letters, as Keras 3 notes it ("conv2d"; "gru/cell", of a
            recurrent one), or "".
        arrays: its weights in the file's order; by name where the file names them as cnnjax does,
            otherwise by their number "0", "1", ...
    """

    name: str
    kind: str
    arrays: dict[str, np.ndarray]


@dataclass(frozen=True)
class StoredWeights:
    """The layers of a file that have weights.

    Args:
        path: of the file.
        layers: in the file's order.
        positional: whether layers and weights are known by their order, as Keras' own loading
            takes them, and not by their names.
    """

    path: Path
    layers: tuple[StoredLayer, ...]
    positional: bool


class Allowance:
    """How much memory the arrays of a file may take, all together.

    Args:
        path: of the file, for messages.
        stored: bytes that it takes on the disk.
    """

    def __init__(self, path: Path, stored: int):
        self.path, self.stored, self.taken = path, stored, 0

    def take(self, size: int, what: str) -> None:
        """Count an array before it is read.

        Raises:
            DamagedWeights: if all of them together are out of proportion to the file.
        """
        self.taken += size
        if self.taken > _SMALL and self.taken > _MAX_EXPANSION * self.stored:
            raise DamagedWeights(
                f"{self.path}: with {what} it would unpack from {self.stored:,} to "
                f"{self.taken:,} bytes: this is no weight file"
            )


def as_weight(array: np.ndarray, path: Path, name: str) -> np.ndarray:
    """An array in float32.

    Raises:
        DamagedWeights: if it is not floating-point, or not finite.
    """
    if not jnp.issubdtype(array.dtype, jnp.floating):
        raise DamagedWeights(f"{path}: {name!r} holds {array.dtype}, not floating-point numbers")
    with np.errstate(over="ignore"):
        single = np.asarray(array, np.float32)
    if not np.isfinite(single).all():
        raise DamagedWeights(f"{path}: {name!r} holds NaN, infinity or more than float32 can hold")
    return single
