"""What a weight file holds, whatever its format."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

# Weights hardly compress. What unpacks to many times its size is no weight file but an attack on
# the memory; small ones may be all zeros.
_MAX_EXPANSION, _SMALL = 50, 1 << 20


class DamagedWeights(ValueError):
    """A weight file that cannot be read, or not as it was written."""


@dataclass(frozen=True)
class StoredLayer:
    """One layer of a file.

    Args:
        name: of the layer, as in the file.
        kind: class of the layer in small letters, as Keras 3 notes it ("conv2d"), or "".
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
        format: in words.
        layers: in the file's order.
        positional: whether layers and weights are known by their order, as Keras' own loading
            takes them, and not by their names.
    """

    path: Path
    format: str
    layers: tuple[StoredLayer, ...]
    positional: bool


def check_expansion(size: int, stored: int, what: str) -> None:
    """Refuse what would take far more memory than it takes in the file.

    Args:
        size: bytes in memory.
        stored: bytes in the file.
        what: its name in the message.

    Raises:
        DamagedWeights: if weights never have this ratio.
    """
    if size > _SMALL and size > _MAX_EXPANSION * stored:
        raise DamagedWeights(
            f"{what} would unpack from {stored:,} to {size:,} bytes: this is no weight file"
        )
