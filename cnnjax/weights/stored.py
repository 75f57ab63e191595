"""What a weight file holds, whatever its format."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from cnnjax.core.text import plain
from cnnjax.weights.hdf5_child import MAX_EXPANSION, SMALL

# Of a message, in which names of a file stand.
_MAX_MESSAGE = 2_000


class DamagedWeights(ValueError):
    """A weight file that cannot be read, or not as it was written; a message of one line."""

    def __init__(self, message: object):
        super().__init__(plain(message, _MAX_MESSAGE))


@dataclass(frozen=True)
class KerasLayer:
    """A layer as the configuration in a Keras file describes it.

    Args:
        name: of it.
        kind: its class, e.g. "Conv2D".
        place: its group in a file of Keras 3 and those above, without lists, e.g. ("sequential",
            "conv2d_1").
        inside: names of the models that it lies in, without the outermost.
        settings: by name, as in the file.
        uses: how often the file's net applies it, or a net that it lies in.
    """

    name: str
    kind: str
    place: tuple[str, ...]
    inside: tuple[str, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    uses: int = 1


@dataclass(frozen=True)
class StoredLayer:
    """One layer of a file.

    Args:
        name: of the layer, as in the file.
        kind: class of the layer in small letters, as Keras 3 notes it ("conv2d"; "gru/cell", of a
            recurrent one), or "".
        arrays: its weights in the file's order; by name where the file names them as cnnjax does,
            otherwise by their number "0", "1", ...
        place: the groups of the file that it lies in, with its own and without lists; of legacy
            files the group and the parts of its weights' names; () where there are no groups.
        described: what the file's configuration says of it; None where it says nothing.
    """

    name: str
    kind: str
    arrays: dict[str, np.ndarray]
    place: tuple[str, ...] = ()
    described: KerasLayer | None = None


@dataclass(frozen=True)
class StoredWeights:
    """The layers of a file that have weights.

    Args:
        path: of the file.
        layers: in the file's order.
        positional: whether layers and weights are known by their order, as Keras' own loading
            takes them, and not by their names.
        ordered: whether the layers' order is known to be Keras', from a list of them in the file;
            otherwise only that of layers of one kind in one group.
        net: all layers of the file's configuration, also those without weights; () without one.
        backend: under which Keras wrote the file, "" where unknown.
        torch: whether names and layouts are those of a PyTorch state dict.
        arithmetic: of the model that they were exported from, e.g. {"origin": "torch"}; {} where
            the file says nothing.
        config: what stands beside it on a hub, as timm writes it; {} where there is nothing.
        label: what records call it; "" for the name of the file.
        unwrapped: what was around it: keys of a checkpoint ('state_dict'), prefixes of all names.
    """

    path: Path
    layers: tuple[StoredLayer, ...]
    positional: bool
    ordered: bool = True
    net: tuple[KerasLayer, ...] = ()
    backend: str = ""
    torch: bool = False
    unwrapped: tuple[str, ...] = ()
    arithmetic: Mapping[str, str] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)
    label: str = ""

    @property
    def named(self) -> str:
        """What records call it."""
        return self.label or self.path.name


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
        if self.taken > SMALL and self.taken > MAX_EXPANSION * self.stored:
            raise DamagedWeights(
                f"{self.path}: with {what} it would unpack from {self.stored:,} to "
                f"{self.taken:,} bytes: this is no weight file"
            )


def as_weight(array: np.ndarray, path: Path, name: str) -> np.ndarray:
    """An array in float32.

    Raises:
        DamagedWeights: if it is not floating-point, or not finite.
    """
    if array.dtype == "V2":  # bfloat16, for which NumPy has no name
        array = from_bfloat16(array.view(np.uint16))
    if array.dtype.itemsize == 1 and (array.dtype.kind == "V" or array.dtype.name[:5] == "float"):
        raise DamagedWeights(
            f"{path}: {name!r} holds float8, which is not read: save it as float32"
        )
    if not jnp.issubdtype(array.dtype, jnp.floating):
        raise DamagedWeights(f"{path}: {name!r} holds {array.dtype}, not floating-point numbers")
    with np.errstate(over="ignore"):
        single = np.asarray(array, np.float32)
    if not np.isfinite(single).all():
        raise DamagedWeights(f"{path}: {name!r} holds NaN, infinity or more than float32 can hold")
    return single


def from_bfloat16(bits: np.ndarray) -> np.ndarray:
    """Uint16 to float32, of which bfloat16 is the upper half."""
    return (bits.astype(np.uint32) << 16).view(np.float32)
