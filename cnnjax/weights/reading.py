"""Read a weight file of any known format, told by its first bytes."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from cnnjax import paths
from cnnjax.weights.arrays import load_npz, load_safetensors
from cnnjax.weights.keras_files import KERAS_MEMBER, read_hdf5, read_keras
from cnnjax.weights.stored import DamagedWeights, StoredLayer, StoredWeights, as_weight

FORMATS = ".weights.h5, .h5, .keras, .npz or .safetensors"


def read_weights(path: str | Path) -> StoredWeights:
    """Read the weights of a file.

    Args:
        path: of a Keras 3 .weights.h5 or .keras file, a legacy Keras .h5 file, or a .npz or
            .safetensors file whose arrays are named layer/weight, e.g. "block1_conv1/kernel".

    Returns:
        Its layers with float32 arrays.

    Raises:
        FileNotFoundError: if there is none.
        DamagedWeights: if it is of another format or damaged.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        state = "is a directory" if path.is_dir() else "does not exist"
        raise FileNotFoundError(f"weight file {path} {state}")
    with path.open("rb") as file:
        start = file.read(8)
    if start == b"\x89HDF\r\n\x1a\n":
        return read_hdf5(path)
    if start[:4] == b"PK\x03\x04":
        members = _members(path)
        if KERAS_MEMBER in members:
            return read_keras(path)
        if all(member.endswith(".npy") for member in members):
            return _by_name(path, load_npz(path))
        raise DamagedWeights(f"{path} is an archive without weights: expected {FORMATS}")
    if start[:2] in (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05"):
        raise DamagedWeights(
            f"{path} is a pickle, which could run any code and is never loaded: save the weights "
            f"as {FORMATS}"
        )
    if path.suffix == ".safetensors":
        return _by_name(path, load_safetensors(path))
    raise DamagedWeights(f"{path} is no weight file: expected {FORMATS}")


def _members(path: Path) -> list[str]:
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.namelist()
    except (zipfile.BadZipFile, OSError) as error:
        raise DamagedWeights(f"{path} is not a readable .keras or .npz file: {error}") from None


def _by_name(path: Path, tree: Mapping[str, Any]) -> StoredWeights:
    """Layers from arrays named layer/weight, or collection/layer/weight as `cj.save` writes."""
    layers: dict[str, dict[str, np.ndarray]] = {}
    for key, array in paths.flatten(tree).items():
        layer, _, weight = key.removeprefix("params/").removeprefix("batch_stats/").rpartition("/")
        if not layer:
            raise DamagedWeights(f"{path}: arrays must be named layer/weight, got {key!r}")
        layers.setdefault(layer, {})[weight] = as_weight(array, path, key)
    if not layers:
        raise DamagedWeights(f"{path} holds no arrays")
    stored = tuple(StoredLayer(name, "", arrays) for name, arrays in layers.items())
    return StoredWeights(path, stored, positional=False)
