"""Arrays by path in .safetensors and .npz files."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from cnnjax import paths
from cnnjax.storage import write_file
from cnnjax.weights.stored import DamagedWeights, check_expansion


def save_safetensors(tree: Mapping[str, Any], path: str | Path) -> None:
    """Write nested arrays, named by their paths, with the hash of each in the header.

    The file is complete or absent: it is written beside its place and renamed.

    Args:
        tree: nested dictionaries of arrays, e.g. {"params": {"conv1": {"kernel": ...}}}.
        path: of the file.
    """
    from safetensors.numpy import save_file

    path = Path(path)
    arrays = {k: np.asarray(v, order="C") for k, v in paths.flatten(tree).items()}
    hashes = {k: paths.leaf_hash(v) for k, v in arrays.items()}
    write_file(path, lambda beside: save_file(arrays, beside, metadata=hashes or None))


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
    except (SafetensorError, OSError, ValueError) as error:
        raise DamagedWeights(f"{path} is not a readable .safetensors file: {error}") from None
    for key, array in arrays.items():
        if key in hashes and paths.leaf_hash(array) != hashes[key]:
            raise DamagedWeights(f"{path} is damaged: {key} differs from its stored hash")
    return paths.unflatten(arrays)


def save_npz(tree: Mapping[str, Any], path: str | Path) -> None:
    """Write nested arrays by their paths, complete or not at all."""
    arrays: dict[str, Any] = {k: np.asarray(v) for k, v in paths.flatten(tree).items()}

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
    try:
        with np.load(path, allow_pickle=False) as file:
            for member in file.zip.infolist():
                check_expansion(
                    member.file_size, member.compress_size, f"{path}: {member.filename}"
                )
            arrays = {key: file[key] for key in file.files}
    except DamagedWeights:
        raise
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise DamagedWeights(f"{path} is not a readable .npz file: {error}") from None
    return paths.unflatten(arrays)
