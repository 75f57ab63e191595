"""Arrays by path in .safetensors and .npz files."""

from __future__ import annotations

import math
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np

from cnnjax import paths
from cnnjax.storage import write_bytes, write_file
from cnnjax.weights.stored import Allowance, DamagedWeights


def save_safetensors(tree: Mapping[str, Any], path: str | Path) -> None:
    """Write nested arrays, named by their paths, with the hash of each in the header.

    The file is complete or absent: it is written beside its place and renamed.

    Args:
        tree: nested dictionaries of arrays, e.g. {"params": {"conv1": {"kernel": ...}}}.
        path: of the file.
    """
    from safetensors.numpy import save

    arrays = {k: np.asarray(v, order="C") for k, v in paths.leaves(tree).items()}
    hashes = {k: paths.leaf_hash(v) for k, v in arrays.items()}
    # Written by Python, whose errors name the file: safetensors has one of its own for all.
    write_bytes(Path(path), save(arrays, metadata=hashes or None))


def load_safetensors(path: str | Path) -> dict[str, Any]:
    """Read what `save_safetensors` wrote, with every hash checked.

    Raises:
        DamagedWeights: if the file is no .safetensors file, or an array differs from its hash.
        FileNotFoundError: if there is none.
    """
    from safetensors import SafetensorError, safe_open

    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"weight file {path} does not exist")
    try:
        with safe_open(path, framework="numpy") as file:
            hashes = file.metadata() or {}
            arrays = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    # AttributeError, TypeError: a type that NumPy does not have.
    except (SafetensorError, OSError, ValueError, AttributeError, TypeError) as error:
        raise DamagedWeights(f"{path} is not a readable .safetensors file: {error}") from None
    for key, array in arrays.items():
        if key in hashes and paths.leaf_hash(array) != hashes[key]:
            raise DamagedWeights(f"{path} is damaged: {key} differs from its stored hash")
    try:
        return paths.unflatten(arrays)
    except ValueError as error:
        raise DamagedWeights(f"{path} is not a file of weights: {error}") from None


def save_npz(tree: Mapping[str, Any], path: str | Path) -> None:
    """Write nested arrays by their paths, complete or not at all."""
    arrays: dict[str, Any] = {k: np.asarray(v) for k, v in paths.leaves(tree).items()}

    def write(beside: Path) -> None:
        with beside.open("wb") as file:  # a name without .npz would be lengthened
            np.savez(file, **arrays)

    write_file(Path(path), write)


def load_npz(path: str | Path) -> dict[str, Any]:
    """Read a .npz file of arrays by path, e.g. "block1_conv1/kernel"; nothing is unpickled.

    Raises:
        DamagedWeights: if it is no such file.
    """
    path = Path(path)
    allowance = Allowance(path, path.stat().st_size)
    arrays: dict[str, np.ndarray] = {}
    try:
        with zipfile.ZipFile(path) as archive:
            for member in archive.infolist():
                name = member.filename.removesuffix(".npy")
                allowance.take(member.file_size, name)
                with archive.open(member) as file:
                    _check_header(file, member.file_size, path, name)
                with archive.open(member) as file:
                    arrays[name] = np.lib.format.read_array(file, allow_pickle=False)
        return paths.unflatten(arrays)
    except DamagedWeights:
        raise
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error, RuntimeError) as error:
        raise DamagedWeights(f"{path} is not a readable .npz file: {error}") from None


def _check_header(file: IO[bytes], size: int, path: Path, name: str) -> None:
    """Refuse an array that claims to be larger than its member: memory is taken before it is read.

    Args:
        file: at the array's beginning.
        size: of the member, in bytes.
        path, name: of the file and the array, for the message.
    """
    version = np.lib.format.read_magic(file)
    read = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }.get(version)
    if read is None:
        raise DamagedWeights(f"{path}: {name!r} has a header of version {version}")
    shape, _, dtype = read(file)
    if math.prod(shape) * dtype.itemsize > size:
        raise DamagedWeights(f"{path}: {name!r} claims the shape {shape}, which it does not hold")
