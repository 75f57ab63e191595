"""Read an HDF5 file of Keras in a process of its own, which the file may crash; a script.

Bytes that are not as they were written make the HDF5 library read beyond its memory or loop for
ever, and no exception comes of that. So `guarded` runs this file, which imports nothing of cnnjax
(that would take a second), and gets through its standard output: a byte as soon as the imports are
done, a header in JSON, and the values of every array, or where in the file they lie as they are.
"""

from __future__ import annotations

import io
import json
import os
import re
import sys
import zipfile
from collections.abc import Iterator
from typing import Any, BinaryIO

# Far above any net's. A name is looked up in time that grows with the number of its neighbours.
MAX_OBJECTS = 20_000
MAX_NAME = 1_000

# Deeper than any nesting of models, and an end to groups that are linked into themselves.
MAX_DEPTH = 16

# Weights hardly compress. What unpacks to many times its file is no weight file but an attack on
# the memory; small ones may be all zeros.
MAX_EXPANSION, SMALL = 50, 1 << 20

# A chunk is unpacked as a whole, however little of it belongs to the array.
_MAX_CHUNK = 4

# Bytes of an array that is not sent.
_LARGE = 1 << 20

# What the interpreter, NumPy and HDF5 take, with room to spare; arrays come on top.
_BASE_MEMORY = 2 << 30

# Groups of a file of Keras 3 that hold no layers: weights of this one, and what trains it.
_NO_LAYERS = ("vars", "optimizer", "_metrics", "metrics")

# Groups of lists of layers, by the version of Keras 3.
LISTS = ("layers", "_layer_checkpoint_dependencies")

READY, DATA, FAILED = b"R", b".", b"!"


class Refused(ValueError):
    """The file is readable, and no file of weights."""


def main(path: str, member: str, seconds: float, stream: BinaryIO) -> None:
    """Write what the file holds to the stream.

    Args:
        path: of the file.
        member: of an archive, which is the HDF5 file; "" where the file itself is.
        seconds: of processor time.
        stream: gets everything, as above.
    """
    import h5py

    stream.write(READY)
    stream.flush()
    _limit("RLIMIT_CORE", 0)
    _limit("RLIMIT_CPU", int(sum(os.times()[:2]) + seconds) + 1)
    size = os.path.getsize(path)
    _limit("RLIMIT_AS", _BASE_MEMORY + 2 * size)
    source: Any = path
    start: int | None = 0
    if member:
        with zipfile.ZipFile(path) as archive:
            source = io.BytesIO(archive.read(member))  # its checksum is compared
            start = _start(path, archive.getinfo(member))
    with h5py.File(source, "r") as file:
        reader = Reader(size)
        content = reader.header(file)
        arrays = [array for layer in content["layers"] for array in layer["arrays"]]
        datasets = [array.pop("dataset") for array in arrays]
        for array, dataset in zip(arrays, datasets, strict=True):
            offset = None if start is None else _offset(dataset)
            array["offset"] = None if start is None or offset is None else start + offset
        datasets = [d for d, a in zip(datasets, arrays, strict=True) if a["offset"] is None]
        header = json.dumps(content).encode()
        stream.write(DATA + len(header).to_bytes(8, "little") + header)
        largest = max((dataset.nbytes for dataset in datasets), default=0)
        _limit("RLIMIT_AS", _BASE_MEMORY + 2 * size + 4 * largest)
        for dataset in datasets:
            values = _values(dataset)
            stream.write(DATA)
            stream.write(values)
    stream.flush()


def _limit(name: str, value: int) -> None:
    """Where the system has limits, none above what it allows."""
    try:
        import resource

        kind = getattr(resource, name)
        most = resource.getrlimit(kind)[1]
        if most != resource.RLIM_INFINITY:
            value = min(value, most)
        resource.setrlimit(kind, (value, most))
    except (ImportError, ValueError, OSError):
        pass  # Windows has none, macOS not all: there the time alone is limited


def _start(path: str, entry: zipfile.ZipInfo) -> int | None:
    """Where a member's bytes begin in its archive; None where they are compressed."""
    if entry.compress_type != zipfile.ZIP_STORED:
        return None
    with open(path, "rb") as file:
        file.seek(entry.header_offset + 26)
        names = file.read(4)
    lengths = (int.from_bytes(names[:2], "little"), int.from_bytes(names[2:], "little"))
    return entry.header_offset + 30 + sum(lengths)


def _offset(dataset: Any) -> int | None:
    """Where a large array lies as it is; None where it is small, in pieces or converted."""
    import h5py

    plain = (h5py.h5t.IEEE_F32LE, h5py.h5t.IEEE_F16LE, h5py.h5t.IEEE_F64LE)
    contiguous = dataset.id.get_create_plist().get_layout() == h5py.h5d.CONTIGUOUS
    if dataset.nbytes < _LARGE or not contiguous or dataset.file.userblock_size:
        return None
    if not any(dataset.id.get_type().equal(kind) for kind in plain):
        return None
    offset: int | None = dataset.id.get_offset()
    return offset


def _values(dataset: Any) -> memoryview:
    """The bytes of a dataset, little-endian, in C order."""
    import numpy as np

    array = np.asarray(dataset[()])
    if array.dtype.kind != "V":
        array = array.astype(array.dtype.newbyteorder("<"), copy=False)
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data


class Reader:
    """The layers of an open file; nothing outside of it is touched, nothing is visited twice.

    Args:
        stored: bytes that the file takes on the disk.
    """

    def __init__(self, stored: int):
        self.stored, self.taken, self.counted = stored, 0, 0
        self.visited: set[int] = set()

    def header(self, file: Any) -> dict[str, Any]:
        """What the file says of itself and its layers, each of their arrays with its dataset."""
        import h5py

        root = file
        if isinstance(self.member(file, "model_weights"), h5py.Group):
            root = file["model_weights"]
        legacy = "layer_names" in root.attrs or "layer_names0" in root.attrs
        layers = list(self.legacy(root) if legacy else self.keras3(file, ""))
        return {
            "legacy": legacy,
            "backend": [_text(f.attrs, "backend") for f in ([file, root] if legacy else [file])],
            "config": _text(file.attrs, "model_config"),
            "layers": layers,
        }

    def legacy(self, root: Any) -> Iterator[dict[str, Any]]:
        """The layers of a file of Keras 2, or of Keras 3's legacy format."""
        for name in self.names(root.attrs, "layer_names"):
            group = self.member(root, name)
            if group is None:
                raise Refused(f"the layer {_short(name)} is listed and missing")
            # A nested model is one group, whose weights are named layer/weight.
            layers: dict[str, list[Any]] = {}
            for weight in self.names(group.attrs, "weight_names"):
                array = self.array(self.member(group, weight), weight)
                if array is not None:
                    layers.setdefault(weight.rpartition("/")[0], []).append(array)
            for prefix, arrays in layers.items():
                inner = [part for part in prefix.split("/") if part]
                own = inner[-1] if len(layers) > 1 and inner else name
                yield {"name": own, "kind": "", "place": [name, *inner], "arrays": arrays}

    def keras3(
        self, group: Any, place: str, depth: int = 0, above: tuple[str, str] = ("", "")
    ) -> Iterator[Any]:
        """The layers below a group, nested models included, in the order of their numbers.

        Args:
            group: where to look.
            place: its path in the file.
            depth: of it in the file.
            above: kind and name of the layer that the group belongs to, of which its "cell" is a
            part.
        """
        import h5py

        if depth > MAX_DEPTH:
            raise Refused(f"groups are nested more than {MAX_DEPTH} deep")
        for key in sorted(self.keys(group), key=kind_and_number):
            child = self.member(group, key)
            if key in _NO_LAYERS or not isinstance(child, h5py.Group):
                continue
            self.visit(child)
            variables = self.member(child, "vars")
            path = f"{place}/{key}" if place else key
            kind, name = kind_and_number(key)[0], key
            if isinstance(variables, h5py.Group):
                name = _text(variables.attrs, "name") or key
            if key == "cell":
                kind, name = f"{above[0]}/{key}", above[1]
            if isinstance(variables, h5py.Group):
                found = [
                    self.array(self.member(variables, k), f"{path}/vars/{k}")
                    for k in sorted(self.keys(variables), key=lambda k: (len(k), k))  # 10 after 2
                ]
                # Counters and random states are no weights.
                arrays = [array for array in found if array is not None]
                if arrays:
                    groups = [part for part in path.split("/") if part not in LISTS]
                    yield {"name": name, "kind": kind, "place": groups, "arrays": arrays}
            yield from self.keras3(child, path, depth + 1, (kind, name))

    def member(self, group: Any, name: str) -> Any:
        """A member of this very file; None where there is none."""
        import h5py

        node = group
        for part in name.split("/"):
            if not isinstance(node, h5py.Group) or part not in node:
                return None
            if not isinstance(node.get(part, getlink=True), h5py.HardLink):
                raise Refused(f"{_short(name)} is a link, which is not followed")
            node = node[part]
        return node

    def keys(self, group: Any) -> list[str]:
        """The names in a group, of which there may not be too many."""
        self.count(len(group))
        keys = list(group)
        if any(len(key) > MAX_NAME for key in keys):
            raise Refused(f"names are longer than {MAX_NAME} characters")
        return keys

    def names(self, attributes: Any, name: str) -> list[str]:
        """A list of names; Keras cuts long ones into name0, name1, ..."""
        if name in attributes:
            values = list(attributes[name])
        else:
            values, chunk = [], 0
            while f"{name}{chunk}" in attributes and chunk <= MAX_OBJECTS:
                values += list(attributes[f"{name}{chunk}"])
                chunk += 1
        self.count(len(values))
        names = [v.decode() if isinstance(v, bytes) else str(v) for v in values]
        if len(set(names)) < len(names):
            raise Refused(f"{name} lists a name more than once")
        if any(len(text) > MAX_NAME for text in names):
            raise Refused(f"names are longer than {MAX_NAME} characters")
        return names

    def count(self, number: int) -> None:
        """Groups and arrays, before they are looked at."""
        self.counted += number
        if self.counted > MAX_OBJECTS:
            raise Refused(f"it has more than {MAX_OBJECTS:,} groups and arrays")

    def visit(self, node: Any) -> None:
        """Once, and never again."""
        import h5py

        address = h5py.h5o.get_info(node.id).addr
        if address in self.visited:
            raise Refused(f"{_short(node.name)} is there more than once")
        self.visited.add(address)

    def array(self, dataset: Any, name: str) -> dict[str, Any] | None:
        """Name, dtype and shape of a dataset; None where it is whole numbers."""
        import h5py

        if not isinstance(dataset, h5py.Dataset):
            raise Refused(f"the weight {_short(name)} is listed and missing")
        if dataset.external or dataset.is_virtual:
            raise Refused(f"{_short(name)} lies in another file, which is not opened")
        dtype = dataset.dtype
        if dtype.kind in "iub":
            return None
        self.visit(dataset)
        self.take(dataset, name)
        stored_as = _text(dataset.attrs, "dtype")
        return {
            "dataset": dataset,
            "name": name,
            "dtype": _dtype_name(dtype, stored_as, name),
            "shape": list(dataset.shape),
        }

    def take(self, dataset: Any, name: str) -> None:
        """Count the memory of an array before it is read."""
        import h5py

        if dataset.shape is None:
            raise Refused(f"{_short(name)} is an array without a shape")
        self.taken += dataset.nbytes
        if self.taken > SMALL and self.taken > MAX_EXPANSION * self.stored:
            raise Refused(
                f"with {_short(name)} it would unpack from {self.stored:,} to {self.taken:,} "
                "bytes: this is no weight file"
            )
        plist = dataset.id.get_create_plist()
        if plist.get_layout() == h5py.h5d.CHUNKED:
            chunk = dataset.dtype.itemsize
            for length in plist.get_chunk():
                chunk *= length
            if chunk > SMALL and chunk > _MAX_CHUNK * dataset.nbytes:
                raise Refused(
                    f"{_short(name)} of {dataset.nbytes:,} bytes lies in pieces of {chunk:,} "
                    "bytes: this is no weight file"
                )


def _dtype_name(dtype: Any, stored_as: str | None, name: str) -> str:
    """The dtype of an array by its name; NumPy has none for two bytes of bfloat16."""
    if dtype.kind == "f" and dtype.itemsize in (2, 4, 8):
        return f"float{8 * dtype.itemsize}"
    if dtype.kind == "V" and not dtype.names and dtype.subdtype is None:
        if dtype.itemsize == 2 and stored_as in (None, "bfloat16"):
            return "bfloat16"
        if dtype.itemsize == 1:
            raise Refused(f"{_short(name)} holds float8, which is not read: save it as float32")
    raise Refused(f"{_short(name)} holds {stored_as or dtype}, not floating-point numbers")


def _text(attributes: Any, name: str) -> str | None:
    """An attribute that is text; None where there is none."""
    value = attributes.get(name)
    if value is None:
        return None
    if isinstance(value, bytes):
        return value.decode()
    if not isinstance(value, str):
        raise Refused(f"its attribute {name} is no text")
    return value


def _short(name: object) -> str:
    text = repr(str(name))
    return text if len(text) <= 120 else f"{text[:80]}...{text[-37:]}"


def kind_and_number(key: str) -> tuple[str, int]:
    """ "conv2d_12" to ("conv2d", 12): as text, 10 would come before 2."""
    match = re.fullmatch(r"(.+?)_([0-9]{1,9})", key)
    return (match[1], int(match[2])) if match else (key, 0)


def run(path: str, member: str, seconds: float, stream: BinaryIO) -> None:
    """`main`, whose errors go to the stream as well."""
    try:
        main(path, member, seconds, stream)
    except Refused as error:
        _fail(stream, str(error))
    # h5py raises any of these, and others, for a damaged file; the process ends here anyway.
    except Exception as error:
        _fail(stream, f"\0{error or type(error).__name__}")


def _fail(stream: BinaryIO, text: str) -> None:
    content = text[:2000].encode("utf-8", "backslashreplace")
    stream.write(FAILED + len(content).to_bytes(8, "little") + content)
    stream.flush()


if __name__ == "__main__":
    sys.path[:] = json.loads(sys.argv[4])
    run(sys.argv[1], sys.argv[2], float(sys.argv[3]), sys.stdout.buffer)
    os._exit(0)  # not through HDF5's cleanup of a damaged file
