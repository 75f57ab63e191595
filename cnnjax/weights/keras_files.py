"""Keras' weight files: legacy .h5, .weights.h5 and .keras, read and written by name only."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from cnnjax.core.storage import write_bytes
from cnnjax.weights.archives import read_member
from cnnjax.weights.guarded import read_guarded
from cnnjax.weights.keras_config import MAX_BYTES, described, layers_of_config
from cnnjax.weights.stored import DamagedWeights, StoredLayer, StoredWeights, as_weight

KERAS_MEMBER = "model.weights.h5"
_CONFIG_MEMBER = "config.json"


def read_keras(path: Path) -> StoredWeights:
    """Read a .keras archive's weights, in the order of its configuration.

    Raises:
        DamagedWeights: if it is no archive of Keras, or one whose weights cannot be read.
    """
    config = read_member(path, _CONFIG_MEMBER, MAX_BYTES)
    return _stored(path, read_guarded(path, KERAS_MEMBER), config)


def read_hdf5(path: Path) -> StoredWeights:
    """Read a legacy .h5 or a Keras 3 .weights.h5 file; which one is told by its content.

    Raises:
        DamagedWeights: if it is neither, or damaged.
    """
    header = read_guarded(path)
    return _stored(path, header, header["config"])


def _stored(path: Path, header: Mapping[str, Any], config: str | bytes | None) -> StoredWeights:
    """Layers from what was read, in Keras' order where the file tells it."""
    if not header["layers"]:
        raise DamagedWeights(f"{path} is an HDF5 file, but holds no layers as Keras writes them")
    layers = [
        StoredLayer(
            layer["name"],
            layer["kind"],
            {
                str(number): as_weight(array["values"], path, array["name"])
                for number, array in enumerate(layer["arrays"])
            },
            tuple(layer["place"]),
        )
        for layer in header["layers"]
    ]
    legacy, net = header["legacy"], layers_of_config(config, path)
    layers, placed = described(layers, net, path, legacy)
    nested = any(layer.place[:1] == other.place[:1] for layer, other in pairwise(layers))
    return StoredWeights(
        path,
        tuple(layers),
        positional=True,
        ordered=placed or (legacy and not nested),
        net=net,
        backend=_backend(header["backend"], path),
    )


def _backend(found: Sequence[str | None], path: Path) -> str:
    """What the file and its group of weights say; Keras goes by the latter."""
    known = list(dict.fromkeys(one.lower() for one in found if one))
    if len(known) > 1 and "theano" in known:
        raise DamagedWeights(f"{path}: it says both backend={known[0]!r} and {known[1]!r}")
    return known[-1] if known else ""


def write_weights_h5(
    layers: Sequence[tuple[str, str, Mapping[str, np.ndarray]]], path: Path
) -> None:
    """Write a file that `keras.Model.load_weights` takes.

    Args:
        layers: (name, kind in Keras' small letters, weights in Keras' order) of every layer with
            weights, in the order of `keras.Model.layers`.
        path: ends with ".weights.h5".
    """
    import h5py

    used: Counter[str] = Counter()
    # HDF5 ends the process where it cannot write what is left to write, as on a full disk.
    with h5py.File(path.name, "w", driver="core", backing_store=False) as file:
        file.create_group("vars")
        for name, kind, arrays in layers:
            number = used[kind]
            used[kind] += 1
            layer, slash, below = kind.partition("/")
            layer = f"{layer}_{number}" if number else layer
            variables = file.create_group(f"layers/{layer}{slash}{below}/vars")
            variables.attrs["name"] = name
            for i, array in enumerate(arrays.values()):
                variables[str(i)] = array
        file.flush()
        image = file.id.get_file_image()
    write_bytes(path, image)
