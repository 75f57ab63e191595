"""Keras' weight files: legacy .h5, .weights.h5 and .keras, read and written by name only."""

from __future__ import annotations

import io
import re
import zipfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cnnjax.storage import write_file
from cnnjax.weights.stored import DamagedWeights, StoredLayer, StoredWeights, check_expansion

KERAS_MEMBER = "model.weights.h5"

# Deeper than any nesting of models, and an end to groups that are linked into themselves.
_MAX_DEPTH = 16


def read_keras(path: Path) -> StoredWeights:
    """Read a .keras archive's weights.

    Raises:
        DamagedWeights: if it is no archive of Keras, or one whose weights cannot be read.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            try:
                member = archive.getinfo(KERAS_MEMBER)
            except KeyError:
                raise DamagedWeights(
                    f"{path} holds no {KERAS_MEMBER}: it is no .keras file"
                ) from None
            check_expansion(member.file_size, member.compress_size, f"{path}: {KERAS_MEMBER}")
            data = archive.read(member)
    except (zipfile.BadZipFile, OSError, NotImplementedError, RuntimeError, EOFError) as error:
        raise DamagedWeights(f"{path} is not a readable .keras file: {error}") from None
    return _read_hdf5(io.BytesIO(data), path)


def read_hdf5(path: Path) -> StoredWeights:
    """Read a legacy .h5 or a Keras 3 .weights.h5 file; which one is told by its content.

    Raises:
        DamagedWeights: if it is neither, or damaged.
    """
    return _read_hdf5(path, path)


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

    def write(beside: Path) -> None:
        used: Counter[str] = Counter()
        with h5py.File(beside, "w") as file:
            file.create_group("vars")
            for name, kind, arrays in layers:
                number = used[kind]
                used[kind] += 1
                group = file.create_group(f"layers/{kind}_{number}" if number else f"layers/{kind}")
                variables = group.create_group("vars")
                variables.attrs["name"] = name
                for i, array in enumerate(arrays.values()):
                    variables[str(i)] = array

    write_file(path, write)


def _read_hdf5(source: Any, path: Path) -> StoredWeights:
    import h5py

    try:
        with h5py.File(source, "r") as file:
            root = file
            if isinstance(_member(file, "model_weights", path), h5py.Group):
                root = file["model_weights"]
            if "layer_names" in root.attrs or "layer_names0" in root.attrs:
                return StoredWeights(path, "Keras .h5", tuple(_legacy(root, path)), True)
            layers = tuple(_keras3(file, path))
    except DamagedWeights:
        raise
    # h5py raises any of these for a damaged file.
    except (OSError, KeyError, ValueError, TypeError, RuntimeError, AttributeError) as error:
        raise DamagedWeights(f"{path} is not a readable HDF5 file: {error}") from None
    if not layers:
        raise DamagedWeights(f"{path} is an HDF5 file, but holds no layers as Keras writes them")
    return StoredWeights(path, "Keras .weights.h5", layers, True)


def _legacy(root: Any, path: Path) -> Iterator[StoredLayer]:
    """The layers of a file of Keras 2, or of Keras 3's legacy format."""
    for name in _texts(root.attrs, "layer_names"):
        group = _member(root, name, path)
        if group is None:
            raise DamagedWeights(f"{path}: the layer {name!r} is listed and missing")
        arrays = {}
        for i, weight in enumerate(_texts(group.attrs, "weight_names")):
            arrays[str(i)] = _array(_member(group, weight, path), path, weight)
        if arrays:
            yield StoredLayer(name, "", arrays)


def _keras3(group: Any, path: Path, depth: int = 0) -> Iterator[StoredLayer]:
    """The layers below a group, nested models included, in the order of their numbers."""
    import h5py

    if depth > _MAX_DEPTH:
        raise DamagedWeights(f"{path}: groups are nested more than {_MAX_DEPTH} deep")
    for key in sorted(group, key=_kind_and_number):
        child = _member(group, key, path)
        if key == "vars" or not isinstance(child, h5py.Group):
            continue
        variables = _member(child, "vars", path)
        if isinstance(variables, h5py.Group) and len(variables):
            arrays = {
                name: _array(_member(variables, name, path), path, f"{child.name}/vars/{name}")
                for name in sorted(variables, key=int)
            }
            name = variables.attrs.get("name", key)
            yield StoredLayer(str(name), _kind_and_number(key)[0], arrays)
        yield from _keras3(child, path, depth + 1)


def _kind_and_number(key: str) -> tuple[str, int]:
    """ "conv2d_12" to ("conv2d", 12): as text, 10 would come before 2."""
    match = re.fullmatch(r"(.+?)_(\d+)", key)
    return (match[1], int(match[2])) if match else (key, 0)


def _member(group: Any, name: str, path: Path) -> Any:
    """A member of this very file; None where there is none."""
    import h5py

    node = group
    for part in name.split("/"):
        if not isinstance(node, h5py.Group) or part not in node:
            return None
        if not isinstance(node.get(part, getlink=True), h5py.HardLink):
            raise DamagedWeights(f"{path}: {name!r} is a link, which is not followed")
        node = node[part]
    return node


def _array(dataset: Any, path: Path, name: str) -> np.ndarray:
    """A dataset's values in float32."""
    import h5py

    if not isinstance(dataset, h5py.Dataset):
        raise DamagedWeights(f"{path}: the weight {name!r} is listed and missing")
    if dataset.external or dataset.is_virtual:
        raise DamagedWeights(f"{path}: {name!r} lies in another file, which is not opened")
    if dataset.dtype.kind != "f":
        raise DamagedWeights(f"{path}: {name!r} holds {dataset.dtype}, not floating-point numbers")
    check_expansion(dataset.nbytes, dataset.id.get_storage_size(), f"{path}: {name!r}")
    return np.asarray(dataset[()], np.float32)


def _texts(attributes: Any, name: str) -> list[str]:
    """A list of names; Keras cuts long ones into name0, name1, ..."""
    if name in attributes:
        values = list(attributes[name])
    else:
        values = []
        while f"{name}{len(values)}" in attributes:
            values.append(attributes[f"{name}{len(values)}"])
        values = [text for chunk in values for text in chunk]
    return [text.decode() if isinstance(text, bytes) else str(text) for text in values]
