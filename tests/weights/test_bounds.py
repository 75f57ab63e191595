"""Files that are out of bounds: too much, too deep, twice, announced and not there."""

import io
import json
import struct
import time
import zipfile

import h5py
import numpy as np
import pytest

from cnnjax.weights import DamagedWeights, load_safetensors, read_weights


@pytest.fixture(autouse=True)
def _quick():
    """What is refused is refused before the work."""
    start = time.monotonic()
    yield
    assert time.monotonic() - start < 8


def refused(path, match):
    with pytest.raises(DamagedWeights, match=match) as caught:
        read_weights(path)
    text = str(caught.value)
    assert text.isprintable()
    assert len(text) < 2100
    return text


# HDF5


def many(file, number, where):
    space = h5py.h5s.create(h5py.h5s.SCALAR)
    group = file.require_group(where)
    for i in range(number):
        h5py.h5d.create(group.id, str(i).encode(), h5py.h5t.IEEE_F32LE, space)


@pytest.mark.sample(1)
@pytest.mark.parametrize("where", ["layers/dense/vars", "layers"])
def test_too_many_arrays(where, tmp_path):
    path = tmp_path / "many.weights.h5"
    with h5py.File(path, "w") as file:
        many(file, 30_000, where)
    refused(path, "it has more than 20,000 groups and arrays")


def test_too_many_listed(tmp_path):
    path = tmp_path / "many.h5"
    with h5py.File(path, "w") as file:
        for chunk in range(12):
            file.attrs[f"layer_names{chunk}"] = [f"l{chunk}_{i}" for i in range(2_000)]
    refused(path, "it has more than 20,000 groups and arrays")


@pytest.mark.sample(1)
@pytest.mark.parametrize("name", ["x" * 5_000, "\x1b[2J" * 300])
def test_names_that_are_too_long(name, tmp_path):
    path = tmp_path / "long.weights.h5"
    with h5py.File(path, "w") as file:
        file[f"layers/{name}/vars/0"] = np.zeros(3, np.float32)
    refused(path, "names are longer than 1000 characters")


def test_groups_in_groups(tmp_path):
    path = tmp_path / "deep.weights.h5"
    with h5py.File(path, "w") as file:
        file["/".join(["layers", *"abcdefghijklmnopqrstuvw", "vars", "0"])] = np.zeros(3, "f4")
    refused(path, "groups are nested more than 16 deep")


def test_a_large_piece_for_a_few_numbers(tmp_path):
    path = tmp_path / "piece.weights.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset(
            "layers/dense/vars/0", (2,), "f4", maxshape=(None,), chunks=(1 << 28,),
            compression="gzip", fillvalue=1,
        )  # fmt: skip
    refused(path, r"'layers/dense/vars/0' of 8 bytes lies in pieces of 1,073,741,824 bytes")


def test_control_characters_are_shown_plainly(tmp_path):
    path = tmp_path / "\x1b[31mred.h5"
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = ["\x1b[2J\x07\n"]
    assert r"\x1b[31mred.h5" in refused(path, r"the layer '.*' is listed and missing")


@pytest.mark.sample(1)
@pytest.mark.parametrize("value", [3, np.zeros((2, 2)), np.zeros(3, "V4")])
def test_names_that_are_no_text(value, tmp_path):
    path = tmp_path / "numbers.h5"
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = value
    refused(path, "numbers.h5")


# Zip archives


def archive(path, *members):
    with zipfile.ZipFile(path, "w") as file:
        for name, content in members:
            file.writestr(name, content)
    return path


def npy(array, header=None):
    stream = io.BytesIO()
    np.save(stream, array)
    content = stream.getvalue()
    if header is None:
        return content
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + content[128:]


ONES = np.ones((2, 2), np.float32)


@pytest.mark.thorough
def test_too_many_members(tmp_path):
    path = tmp_path / "many.npz"
    with zipfile.ZipFile(path, "w") as file:
        for i in range(21_000):
            file.writestr(f"l{i}/kernel.npy", b"")
    refused(path, "has more than 20,000 members")


@pytest.mark.parametrize("name", ["a/kernel.npy", "model.weights.h5"])
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_member_twice(name, tmp_path):
    path = archive(tmp_path / "twice.npz", (name, npy(ONES)), ("b", b""), (name, npy(ONES + 1)))
    refused(path, f"the member '{name}' is there 2 times")


def test_an_array_twice_under_two_names(tmp_path):
    path = tmp_path / "twice.npz"
    np.savez(path, **{"params/a/kernel": ONES, "a/kernel": ONES + 1})
    refused(path, "a/kernel is there twice")


@pytest.mark.parametrize(
    "header",
    [
        b"{'descr': '<f4', 'fortran_order': False, 'shape': (2, 2",
        b"{'descr': '<f4', 'fortran_order': False, 'shape': (1 << 70,), }",
        b"{'descr': '<f4', 'fortran_order': False, 'shape': (4611686018427387905, 4), }",
        b"{'descr': '<f4', 'fortran_order': False, 'shape': (-2, -2), }",
        b"{'descr': '<f4', 'fortran_order': False, 'shape': (True, 4), }",
        b"{'descr': '<f4', 'fortran_order': 1, 'shape': (2, 2), }",
        b"{'descr': '<f4', 'shape': (2, 2), }",
        b"{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (2, 2), }",
        b"{'descr': '|O', 'fortran_order': False, 'shape': (2, 2), }",
        b"{'descr': '<f3', 'fortran_order': False, 'shape': (2, 2), }",
        b"{'descr': 'f4,f4', 'fortran_order': False, 'shape': (2, 2), }",
        b"{'descr': None, 'fortran_order': False, 'shape': (2, 2), }",
        b"(" * 9_000,
        b"-" * 9_000 + b"1",
        b"\xff\xfe",
        b"\x00",
        b"[]",
        b"",
        b"{{}: 1}",
        b"x" * 20_000,
    ],
)
def test_headers_that_no_array_has(header, tmp_path):
    path = archive(tmp_path / "m.npz", ("a/kernel.npy", npy(ONES, header)))
    refused(path, r"m\.npz is not a readable \.npz file: ")


@pytest.mark.parametrize("keep", [0, 3, 8, 9, 60, -1])
def test_arrays_that_are_cut_off(keep, tmp_path):
    path = archive(tmp_path / "m.npz", ("a/kernel.npy", npy(ONES)[:keep]))
    refused(path, r"m\.npz is not a readable \.npz file: ")


def test_arrays_as_numpy_writes_them(tmp_path):
    path = tmp_path / "m.npz"
    values = np.random.default_rng(0).normal(size=(3, 4, 5)).astype(np.float32)
    kinds = {
        "c": values, "fortran": np.asfortranarray(values), "big": values.astype(">f4"),
        "double": values.astype("f8"), "scalar": np.float32(2), "empty": values[:0],
        "strided": values[::2, ::-1],
    }  # fmt: skip
    np.savez_compressed(path, **{f"layer/{name}": array for name, array in kinds.items()})
    (layer,) = read_weights(path).layers
    for name, array in kinds.items():
        assert np.array_equal(layer.arrays[name], array), name


def test_a_wrong_checksum_of_a_member(tmp_path):
    path = archive(tmp_path / "m.npz", ("a/kernel.npy", npy(ONES)))
    content = bytearray(path.read_bytes())
    content[content.index(b"\x93NUMPY") + 130] ^= 1
    path.write_bytes(content)
    refused(path, "Bad CRC-32")


@pytest.mark.parametrize("field", [18, 22])  # sizes in the member's own header
def test_sizes_that_are_not_true(field, tmp_path):
    path = archive(tmp_path / "m.npz", ("a/kernel.npy", npy(ONES)))
    content = bytearray(path.read_bytes())
    at = content.index(b"PK\x01\x02") + field + 2
    content[at : at + 4] = (1 << 31).to_bytes(4, "little")
    path.write_bytes(content)
    refused(path, r"m\.npz")


# .safetensors


def safetensors(path, header, data=b"\0" * 16):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)
    return path


ENTRY = '{"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]}'


@pytest.mark.parametrize(
    ("header", "match"),
    [
        (f'{{"a/b": {ENTRY}, "a/b": {ENTRY}}}'.encode(), "the key 'a/b' stands there twice"),
        (b"[]", "not a readable .safetensors file"),
        (b"{" * 5_000, "not a readable .safetensors file"),
        (b'{"a": 3}', "not a readable .safetensors file"),
        (f'{{"a/b": {ENTRY.replace("16", "17")}}}'.encode(), "not a readable .safetensors file"),
        (f'{{"a/b": {ENTRY.replace("[2, 2]", "[9999999999, 9999999999]")}}}'.encode(), "readable"),
        (f'{{"{"x" * 1500}/b": {ENTRY}}}'.encode(), "names are longer than 1000 characters"),
        (f'{{"a\\u001b/b": {ENTRY.replace("F32", "I32")}}}'.encode(), r"'a\\x1b/b' holds int32"),
        (f'{{"a/b": {ENTRY.replace("F32", "F8_E4M3")}}}'.encode(), "holds F8_E4M3"),
    ],
)
def test_headers_of_safetensors(header, match, tmp_path):
    path = safetensors(tmp_path / "m.safetensors", header)
    refused(path, match)


def test_a_header_that_is_as_large_as_it_says_is_not_read_at_once(tmp_path):
    path = tmp_path / "m.safetensors"
    path.write_bytes((1 << 62).to_bytes(8, "little") + b"{}")
    refused(path, "its header is larger than it may be")
    with pytest.raises(DamagedWeights, match="its header is larger"):
        load_safetensors(path)
