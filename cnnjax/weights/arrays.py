"""Arrays by path in .safetensors and .npz files."""

from __future__ import annotations

import ast
import math
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np

from cnnjax import paths
from cnnjax.core.reading import parse_json
from cnnjax.core.text import plain
from cnnjax.storage import write_bytes, write_file
from cnnjax.weights.archives import ZIP_ERRORS, members
from cnnjax.weights.hdf5_child import MAX_NAME, MAX_OBJECTS
from cnnjax.weights.stored import DamagedWeights

# Of the list of arrays in a .safetensors file; of the description of one in a .npz file.
_MAX_HEADER, _MAX_NPY_HEADER = 64 << 20, 10_000

# NumPy's.
_MAX_RANK = 32


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
                    arrays[name] = _read_npy(file, entry.file_size, name)
        return paths.unflatten(arrays)
    except DamagedWeights:
        raise
    except ZIP_ERRORS as error:
        raise DamagedWeights(f"{path} is not a readable .npz file: {error}") from None


def _read_npy(file: IO[bytes], size: int, name: str) -> np.ndarray:
    """One array; NumPy's own reader takes the memory first, and fails in many ways.

    Args:
        file: at the array's beginning.
        size: of it all, in bytes.
        name: of the array, for the message.

    Raises:
        ValueError: if it is none, or of Python objects.
    """
    magic = file.read(8)
    version = tuple(magic[6:])
    if magic[:6] != b"\x93NUMPY" or version not in ((1, 0), (2, 0), (3, 0)):
        raise ValueError(f"{name!r} has no header of a known version")
    digits = 2 if version == (1, 0) else 4
    length = int.from_bytes(file.read(digits), "little")
    if length > _MAX_NPY_HEADER:
        raise ValueError(f"{name!r} has a header of {length:,} bytes")
    descr, fortran_order, shape = _npy_header(file.read(length), name)
    dtype = _npy_dtype(descr, name)
    stored = size - len(magic) - digits - length
    if math.prod(shape) * dtype.itemsize != stored:
        raise ValueError(f"{name!r} claims the shape {shape}, which it does not hold")
    array = np.frombuffer(file.read(), dtype)  # all of it, so that its checksum is compared
    if array.nbytes != stored:
        raise ValueError(f"{name!r} is cut off")
    return array.reshape(shape[::-1]).T if fortran_order else array.reshape(shape)


def _npy_header(text: bytes, name: str) -> tuple[Any, bool, tuple[int, ...]]:
    """The three entries of a header, which is a Python dictionary."""
    try:
        content = ast.literal_eval(text.decode().strip())
    # MemoryError, RecursionError: of brackets in brackets.
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        raise ValueError(f"{name!r} has a damaged header") from None
    known = isinstance(content, dict) and set(content) == {"descr", "fortran_order", "shape"}
    shape = content["shape"] if known else None
    if not isinstance(shape, tuple) or not isinstance(content["fortran_order"], bool):
        raise ValueError(f"{name!r} has a damaged header")
    if not all(type(n) is int and n >= 0 for n in shape) or len(shape) > _MAX_RANK:
        raise ValueError(f"{name!r} claims the shape {plain(shape, 80)}")
    return content["descr"], content["fortran_order"], shape


def _npy_dtype(descr: Any, name: str) -> np.dtype:
    """Numbers alone, and the two bytes of bfloat16."""
    if not isinstance(descr, str) or not re.fullmatch(r"[<>|=]?[bfiuV][0-9]{1,2}|[<>|=]?\?", descr):
        raise ValueError(f"{name!r} holds {plain(descr, 80)}, which are no numbers")
    try:
        return np.dtype(descr)
    except (TypeError, ValueError):
        raise ValueError(f"{name!r} holds {descr}, which are no numbers") from None
