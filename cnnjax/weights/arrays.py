"""Arrays by path in .safetensors and .npz files."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from cnnjax.core import trees
from cnnjax.core.npy import read_npy
from cnnjax.core.reading import parse_json
from cnnjax.core.storage import write_bytes, write_file
from cnnjax.core.text import plain
from cnnjax.weights.archives import ZIP_ERRORS, members
from cnnjax.weights.hdf5_child import MAX_NAME, MAX_OBJECTS
from cnnjax.weights.stored import DamagedWeights

# Of the list of arrays in a .safetensors file.
_MAX_HEADER = 64 << 20

# With the bytes of bfloat16, for which NumPy has no name.
_NUMBERS = re.compile(r"[<>|=]?[bfiuV][0-9]{1,2}|[<>|=]?\?")


# In the header of a file, before the names of what the model computed with.
_SETTING = "cnnjax."
_SETTINGS = (f"{_SETTING}origin", f"{_SETTING}epsilon")


def save_safetensors(
    tree: Mapping[str, Any], path: str | Path, arithmetic: Mapping[str, str] | None = None
) -> None:
    """Write nested arrays, named by their paths, with the hash of each in the header.

    The file is complete or absent: it is written beside its place and renamed.

    Args:
        tree: nested dictionaries of arrays, e.g. {"params": {"conv1": {"kernel": ...}}}.
        path: of the file.
        arithmetic: with which the model computes that they are from, e.g. {"origin": "torch"};
            kept in the header.
    """
    from safetensors.numpy import save

    arrays = {k: np.asarray(v, order="C") for k, v in trees.leaves(tree).items()}
    hashes = {k: trees.leaf_hash(v) for k, v in arrays.items()}
    hashes |= {f"{_SETTING}{name}": text for name, text in (arithmetic or {}).items()}
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
        raise FileNotFoundError(f"weight file {plain(path)} does not exist")
    try:
        _check_safetensors(path)
        with safe_open(path, framework="numpy") as file:
            hashes = file.metadata() or {}
            arrays = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except DamagedWeights:
        raise
    # AttributeError, TypeError: a type that NumPy does not have.
    except (SafetensorError, OSError, ValueError, AttributeError, TypeError) as error:
        raise DamagedWeights(f"{path} is not a readable .safetensors file: {error}") from None
    for key, array in arrays.items():
        if key in hashes and trees.leaf_hash(array) != hashes[key]:
            raise DamagedWeights(f"{path} is damaged: {key} differs from its stored hash")
    try:
        return trees.unflatten(arrays)
    except ValueError as error:
        raise DamagedWeights(f"{path} is not a file of weights: {error}") from None


def stored_arithmetic(path: Path) -> dict[str, str]:
    """With what the model computed that a file's weights are from; {} where it says nothing."""
    with path.open("rb") as file:
        header = parse_json(file.read(int.from_bytes(file.read(8), "little")))
    metadata = header.get("__metadata__") if isinstance(header, dict) else None
    told = metadata.items() if isinstance(metadata, dict) else ()
    return {k.removeprefix(_SETTING): str(v) for k, v in told if k in _SETTINGS}


def save_npz(tree: Mapping[str, Any], path: str | Path) -> None:
    """Write nested arrays by their paths, complete or not at all."""
    arrays: dict[str, Any] = {k: np.asarray(v) for k, v in trees.leaves(tree).items()}

    def write(beside: Path) -> None:
        with beside.open("wb") as file:  # a name without .npz would be lengthened
            np.savez(file, **arrays)

    write_file(Path(path), write)


def _check_safetensors(path: Path) -> None:
    """What the format's own library takes without a word, or fails to call by its name.

    Raises:
        ValueError: if the header is none, names an array twice, or has too many or too long names.
        DamagedWeights: for an array of float8.
    """
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if length > min(_MAX_HEADER, path.stat().st_size - 8):
            raise ValueError("its header is larger than it may be")
        header = parse_json(file.read(length))
    if not isinstance(header, dict) or len(header) > MAX_OBJECTS:
        raise ValueError(f"its header lists no arrays, or more than {MAX_OBJECTS:,}")
    for name, entry in header.items():
        if len(name) > MAX_NAME:
            raise ValueError(f"names are longer than {MAX_NAME} characters")
        dtype = str(entry.get("dtype")) if isinstance(entry, dict) else ""
        if dtype.startswith("F") and dtype not in ("F16", "F32", "F64"):
            raise DamagedWeights(
                f"{path}: {name!r} holds {dtype} (float8 or smaller), which is not read: "
                "save it as float32"
            )


def load_npz(path: str | Path) -> dict[str, Any]:
    """Read a .npz file of arrays by path, e.g. "block1_conv1/kernel"; nothing is unpickled.

    Raises:
        DamagedWeights: if it is no such file.
    """
    path = Path(path)
    arrays: dict[str, np.ndarray] = {}
    try:
        entries = members(path)
        with zipfile.ZipFile(path) as archive:
            for entry in entries:
                name = entry.filename.removesuffix(".npy")
                if name in arrays:
                    raise ValueError(f"the array {name!r} is there twice")
                with archive.open(entry) as file:
                    arrays[name] = read_npy(file, entry.file_size, name, _NUMBERS)
        return trees.unflatten(arrays)
    except DamagedWeights:
        raise
    except ZIP_ERRORS as error:
        raise DamagedWeights(f"{path} is not a readable .npz file: {error}") from None
