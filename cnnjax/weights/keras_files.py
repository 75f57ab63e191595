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

from cnnjax.storage import write_bytes
from cnnjax.weights.stored import Allowance, DamagedWeights, StoredLayer, StoredWeights, as_weight

KERAS_MEMBER = "model.weights.h5"

# Groups of a file of Keras 3 that hold no layers: weights of this one, and what trains it.
_NO_LAYERS = ("vars", "optimizer", "_metrics", "metrics")

# Deeper than any nesting of models, and an end to groups that are linked into themselves.
_MAX_DEPTH = 16


def read_keras(path: Path) -> StoredWeights:
    """Read a .keras archive's weights.

    Raises:
        DamagedWeights: if it is no archive of Keras, or one whose weights cannot be read.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            member = archive.getinfo(KERAS_MEMBER)
            Allowance(path, path.stat().st_size).take(member.file_size, KERAS_MEMBER)
            data = archive.read(member)
    except (zipfile.BadZipFile, OSError, NotImplementedError, RuntimeError, EOFError) as error:
        raise DamagedWeights(f"{path} is not a readable .keras file: {error}") from None
    return _read(io.BytesIO(data), path, len(data))


def read_hdf5(path: Path) -> StoredWeights:
    """Read a legacy .h5 or a Keras 3 .weights.h5 file; which one is told by its content.

    Raises:
        DamagedWeights: if it is neither, or damaged.
    """
    return _read(path, path, path.stat().st_size)


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


def _read(source: Any, path: Path, size: int) -> StoredWeights:
    import h5py

    try:
        with h5py.File(source, "r") as file:
            reader = _Reader(path, Allowance(path, size))
            root = file
            if isinstance(reader.member(file, "model_weights"), h5py.Group):
                root = file["model_weights"]
            legacy = "layer_names" in root.attrs or "layer_names0" in root.attrs
            layers = tuple(reader.legacy(root) if legacy else reader.keras3(file))
    except DamagedWeights:
        raise
    # h5py raises any of these for a damaged file.
    except (
        OSError, KeyError, ValueError, TypeError, RuntimeError, AttributeError, MemoryError,
    ) as error:  # fmt: skip
        raise DamagedWeights(f"{path} is not a readable HDF5 file: {error}") from None
    if not layers:
        raise DamagedWeights(f"{path} is an HDF5 file, but holds no layers as Keras writes them")
    return StoredWeights(path, layers, positional=True)


class _Reader:
    """The layers of an open file; nothing outside of it is touched, nothing is visited twice."""

    def __init__(self, path: Path, allowance: Allowance):
        self.path, self.allowance = path, allowance
        self.visited: set[int] = set()

    def legacy(self, root: Any) -> Iterator[StoredLayer]:
        """The layers of a file of Keras 2, or of Keras 3's legacy format."""
        for name in self._names(root.attrs, "layer_names"):
            group = self.member(root, name)
            if group is None:
                raise DamagedWeights(f"{self.path}: the layer {name!r} is listed and missing")
            # A nested model is one group, whose weights are named layer/weight.
            layers: dict[str, dict[str, np.ndarray]] = {}
            for weight in self._names(group.attrs, "weight_names"):
                array = self._array(self.member(group, weight), weight)
                if array is not None:
                    arrays = layers.setdefault(weight.rpartition("/")[0], {})
                    arrays[str(len(arrays))] = array
            for prefix, arrays in layers.items():
                inner = prefix.rpartition("/")[2]
                yield StoredLayer(inner if len(layers) > 1 else name, "", arrays)

    def keras3(self, group: Any, depth: int = 0, above: str = "") -> Iterator[StoredLayer]:
        """The layers below a group, nested models included, in the order of their numbers.

        Args:
            group: where to look.
            depth: of it in the file.
            above: kind of the layer that the group belongs to, of which its "cell" is a part.
        """
        import h5py

        if depth > _MAX_DEPTH:
            raise DamagedWeights(f"{self.path}: groups are nested more than {_MAX_DEPTH} deep")
        for key in sorted(group, key=_kind_and_number):
            child = self.member(group, key)
            if key in _NO_LAYERS or not isinstance(child, h5py.Group):
                continue
            self._visit(child)
            kind = f"{above}/{key}" if key == "cell" else _kind_and_number(key)[0]
            variables = self.member(child, "vars")
            if isinstance(variables, h5py.Group):
                found = {
                    k: self._array(self.member(variables, k), f"{child.name}/vars/{k}")
                    for k in sorted(variables, key=lambda k: (len(k), k))  # 10 after 2
                }
                # Counters and random states are no weights.
                arrays = {k: array for k, array in found.items() if array is not None}
                if arrays:
                    name = str(variables.attrs.get("name", key))
                    yield StoredLayer(name, kind, arrays)
            yield from self.keras3(child, depth + 1, kind)

    def member(self, group: Any, name: str) -> Any:
        """A member of this very file; None where there is none."""
        import h5py

        node = group
        for part in name.split("/"):
            if not isinstance(node, h5py.Group) or part not in node:
                return None
            if not isinstance(node.get(part, getlink=True), h5py.HardLink):
                raise DamagedWeights(f"{self.path}: {name!r} is a link, which is not followed")
            node = node[part]
        return node

    def _visit(self, node: Any) -> None:
        import h5py

        address = h5py.h5o.get_info(node.id).addr
        if address in self.visited:
            raise DamagedWeights(f"{self.path}: {node.name!r} is there more than once")
        self.visited.add(address)

    def _array(self, dataset: Any, name: str) -> np.ndarray | None:
        """A dataset's values in float32; None where they are whole numbers."""
        import h5py

        if not isinstance(dataset, h5py.Dataset):
            raise DamagedWeights(f"{self.path}: the weight {name!r} is listed and missing")
        if dataset.external or dataset.is_virtual:
            raise DamagedWeights(f"{self.path}: {name!r} lies in another file, which is not opened")
        if dataset.dtype.kind in "iub":
            return None
        self._visit(dataset)
        self.allowance.take(dataset.nbytes, name)
        return as_weight(dataset[()], self.path, name)

    def _names(self, attributes: Any, name: str) -> list[str]:
        names = _texts(attributes, name)
        if len(set(names)) < len(names):
            raise DamagedWeights(f"{self.path}: {name} lists a name more than once")
        return names


def _kind_and_number(key: str) -> tuple[str, int]:
    """ "conv2d_12" to ("conv2d", 12): as text, 10 would come before 2."""
    match = re.fullmatch(r"(.+?)_(\d+)", key)
    return (match[1], int(match[2])) if match else (key, 0)


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
