"""PyTorch's zip files (.pth, .pt), read without unpickling."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np

from cnnjax.core.text import plain
from cnnjax.weights.archives import ZIP_ERRORS, read_member
from cnnjax.weights.hdf5_child import MAX_NAME
from cnnjax.weights.stored import Allowance, DamagedWeights, StoredWeights, from_bfloat16
from cnnjax.weights.torch_pickle import NoStateDict, Storage, Tensor, followed
from cnnjax.weights.torch_state import is_counter, torch_weights

# Of bytes, as NumPy writes it.
Order = Literal["<", ">"]

_PICKLE = "data.pkl"
_MAX_PICKLE = 16 << 20

# Under which checkpoints keep a state dict; averaged weights first, which are evaluated.
_WRAPPERS = (
    "state_dict_ema", "model_ema", "state_dict", "model_state_dict", "model", "module", "net",
)  # fmt: skip


def is_torch_zip(names: list[str]) -> bool:
    """Whether members are those that torch.save writes, of tensors and no TorchScript."""
    pickles = [name for name in names if name.rpartition("/")[2] == _PICKLE]
    return len(pickles) == 1 and not any(name.endswith("constants.pkl") for name in names)


def read_torch(path: Path, entries: list[zipfile.ZipInfo]) -> StoredWeights:
    """The tensors of a state dict, alone or in a checkpoint; nothing is unpickled.

    Args:
        path: of the archive.
        entries: its members, as `archives.members` checked them.

    Raises:
        DamagedWeights: if it holds anything but tensors and plain values, or is damaged.
    """
    sizes = {entry.filename: entry.file_size for entry in entries}
    name = next(name for name in sizes if name.rpartition("/")[2] == _PICKLE)
    folder = name.removesuffix(_PICKLE)
    try:
        content = followed(read_member(path, name, _MAX_PICKLE) or b"")
        tensors, unwrapped = _state_dict(content)
    except NoStateDict as error:
        raise DamagedWeights(f"{path} {error}") from None
    order = read_member(path, f"{folder}byteorder", 16) or b"little"
    if order not in (b"little", b"big"):
        raise DamagedWeights(f"{path}: its byte order is {plain(order, 40)}, not little or big")
    tensors = {name: tensor for name, tensor in tensors.items() if not is_counter(name)}
    reader = _Reader(path, folder, sizes, ">" if order == b"big" else "<")
    return torch_weights(path, reader.arrays(tensors), unwrapped)


def _state_dict(content: Any) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Tensors by name, and under which keys they were.

    Raises:
        NoStateDict: if there is none.
    """
    unwrapped: list[str] = []
    while isinstance(content, dict) and len(unwrapped) < 3:
        key = next((k for k in _WRAPPERS if isinstance(content.get(k), dict)), None)
        if key is None:
            break
        content = content[key]
        unwrapped.append(key)
    if not isinstance(content, dict):
        raise NoStateDict("holds no state dict, but a single value")
    others = [k for k, v in content.items() if not isinstance(v, Tensor) or not isinstance(k, str)]
    if others or not content:
        keys = ", ".join(plain(repr(key), 40) for key in others[:4]) or "nothing"
        raise NoStateDict(f"holds no state dict, which has tensors alone: there is {keys}")
    if any(len(name) > MAX_NAME for name in content):
        raise NoStateDict(f"has names longer than {MAX_NAME} characters")
    return content, tuple(unwrapped)


class _Reader:
    """Arrays of an archive's storages, each read once.

    Args:
        path: of the archive.
        folder: of its members.
        sizes: of all members in bytes.
        order: of bytes.
    """

    def __init__(self, path: Path, folder: str, sizes: Mapping[str, int], order: Order):
        self.path, self.folder, self.sizes, self.order = path, folder, sizes, order
        self.storages: dict[str, np.ndarray] = {}

    def arrays(self, tensors: Mapping[str, Tensor]) -> dict[str, np.ndarray]:
        """The arrays of tensors.

        Raises:
            DamagedWeights: if a storage is missing, of another size or not readable.
        """
        allowance = Allowance(self.path, self.path.stat().st_size)
        try:
            with zipfile.ZipFile(self.path) as archive:
                return {k: self._array(v, k, archive, allowance) for k, v in tensors.items()}
        except DamagedWeights:
            raise
        except ZIP_ERRORS as error:
            raise DamagedWeights(f"{self.path} is not a readable file: {error}") from None

    def _array(
        self, tensor: Tensor, name: str, archive: zipfile.ZipFile, allowance: Allowance
    ) -> np.ndarray:
        numbers = self._numbers(tensor.storage, archive)
        allowance.take(math.prod(tensor.shape) * numbers.itemsize, plain(name, 80))
        steps = [stride * numbers.itemsize for stride in tensor.strides]
        view = np.lib.stride_tricks.as_strided(
            numbers[tensor.offset :], tensor.shape, steps, writeable=False
        )
        array = np.ascontiguousarray(view).reshape(tensor.shape)
        return from_bfloat16(array) if tensor.storage.dtype == "bfloat16" else array

    def _numbers(self, storage: Storage, archive: zipfile.ZipFile) -> np.ndarray:
        """A storage as it is in the file; of bfloat16 its bits."""
        dtype = np.dtype("u2" if storage.dtype == "bfloat16" else storage.dtype)
        dtype = dtype.newbyteorder(self.order)
        member, size = f"{self.folder}data/{storage.key}", storage.count * dtype.itemsize
        if self.sizes.get(member) != size:
            raise DamagedWeights(
                f"{self.path} is damaged: its storage {plain(repr(storage.key), 40)} has "
                f"{self.sizes.get(member, 0):,} bytes, expected {size:,}"
            )
        if member not in self.storages:
            self.storages[member] = np.frombuffer(archive.read(member), np.uint8)
        return self.storages[member].view(dtype)
