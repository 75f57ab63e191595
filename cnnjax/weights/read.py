"""Read a weight file of any known format, told by its first bytes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from cnnjax.core import trees
from cnnjax.core.places import expanded
from cnnjax.core.reading import Unreadable, check_regular
from cnnjax.core.text import plain
from cnnjax.weights.archives import members
from cnnjax.weights.arrays import load_npz, load_safetensors, stored_arithmetic
from cnnjax.weights.foreign import (
    FORMATS,
    foreign_archive,
    foreign_directory,
    foreign_file,
)
from cnnjax.weights.keras_files import KERAS_MEMBER, read_hdf5, read_keras
from cnnjax.weights.stored import DamagedWeights, StoredLayer, StoredWeights, as_weight
from cnnjax.weights.torch_state import has_torch_names, torch_weights
from cnnjax.weights.torch_zip import is_torch_zip, read_torch


def read_weights(path: str | Path) -> StoredWeights:
    """Read the weights of a file.

    Args:
        path: of a Keras 3 .weights.h5 or .keras file, a legacy Keras .h5 file, a PyTorch .pth file
            of tensors, or a .npz or .safetensors file whose arrays are named layer/weight, e.g.
            "block1_conv1/kernel", or as a PyTorch state dict names them, e.g. "conv1.weight".

    Returns:
        Its layers with float32 arrays.

    Raises:
        FileNotFoundError: if there is none.
        DamagedWeights: if it is of another format or damaged.
    """
    path = expanded(path)
    if path.is_dir():
        raise FileNotFoundError(f"weight file {plain(path)} {plain(foreign_directory(path))}")
    try:
        with check_regular(path, "weight file").open("rb") as file:
            start = file.read(512)
    except (Unreadable, PermissionError) as error:
        raise DamagedWeights(error) from None
    if start.startswith(b"\x89HDF\r\n\x1a\n"):
        return read_hdf5(path)
    if start.startswith(b"PK\x03\x04"):
        entries = members(path)
        names = [entry.filename for entry in entries]
        if is_torch_zip(names):
            return read_torch(path, entries)
        if KERAS_MEMBER in names:
            return read_keras(path)
        if names and all(name.endswith(".npy") for name in names):
            return _by_name(path, load_npz(path))
        kind = foreign_archive(names) or f"is an archive without weights: expected {FORMATS}"
        raise DamagedWeights(f"{path} {kind}")
    if path.suffix == ".safetensors" and start[8:9] == b"{":
        stored = _by_name(path, load_safetensors(path))
        return replace(stored, arithmetic=stored_arithmetic(path))
    if what := foreign_file(path, start):
        raise DamagedWeights(f"{path} {what}")
    if path.suffix == ".safetensors":
        return _by_name(path, load_safetensors(path))
    raise DamagedWeights(f"{path} is no weight file: expected {FORMATS}")


def _by_name(path: Path, tree: Mapping[str, Any]) -> StoredWeights:
    """Layers from arrays named layer/weight, or collection/layer/weight as `cj.save` writes."""
    layers: dict[str, dict[str, np.ndarray]] = {}
    arrays = trees.flatten(tree)
    if has_torch_names(arrays):
        return torch_weights(path, arrays)
    for key, array in arrays.items():
        layer, _, weight = key.removeprefix("params/").removeprefix("batch_stats/").rpartition("/")
        if not layer:
            raise DamagedWeights(f"{path}: arrays must be named layer/weight, got {key!r}")
        weights = layers.setdefault(layer, {})
        if weight in weights:
            raise DamagedWeights(f"{path}: {layer}/{weight} is there twice")
        weights[weight] = as_weight(array, path, key)
    if not layers:
        raise DamagedWeights(f"{path} holds no arrays")
    stored = tuple(StoredLayer(name, "", arrays) for name, arrays in layers.items())
    return StoredWeights(path, stored, positional=False)
