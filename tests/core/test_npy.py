"""Arrays of the .npy format by own code, against NumPy's writer; what NumPy's reader trips over."""

import io
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from cnnjax.core.npy import read_npy

TYPES = st.one_of(
    arrays.boolean_dtypes(),
    arrays.integer_dtypes(),
    arrays.unsigned_integer_dtypes(),
    arrays.floating_dtypes(sizes=(16, 32, 64)),
    arrays.complex_number_dtypes(sizes=(64, 128)),
    arrays.unicode_string_dtypes(max_len=5),
    arrays.byte_string_dtypes(max_len=5),
)


def npy(header: str | bytes, content: bytes = b"", version: tuple[int, int] = (1, 0)) -> bytes:
    text = header if isinstance(header, bytes) else header.encode()
    form = "<H" if version == (1, 0) else "<I"
    return b"\x93NUMPY" + bytes(version) + struct.pack(form, len(text)) + text + content


def read(content: bytes) -> np.ndarray:
    return read_npy(io.BytesIO(content), len(content), "x")


@settings(max_examples=80, deadline=None)
@given(
    array=arrays.arrays(TYPES, arrays.array_shapes(min_dims=0, max_dims=4, min_side=0)),
    order=st.sampled_from("CF"),
    version=st.sampled_from([(1, 0), (2, 0), (3, 0)]),
)
def test_what_numpy_wrote_comes_back(array, order, version):
    stream = io.BytesIO()
    wanted = np.asarray(array, order=order)
    np.lib.format.write_array(stream, wanted, version)
    found = read(stream.getvalue())
    assert (found.dtype, found.shape) == (wanted.dtype, wanted.shape)
    assert found.tobytes() == wanted.tobytes()
    if found.size:
        found[...] = found  # its memory can be written


GOOD = "{'descr': '|u1', 'fortran_order': False, 'shape': (3,), }\n"


def test_what_python_2_wrote_is_read():
    assert read(npy(GOOD.replace("3,", "3L,"), b"abc")).tolist() == [97, 98, 99]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is no array of a known version"),
        (b"\x93NUMPY\x01", "is no array of a known version"),
        (npy(GOOD, b"abc", (1, 0)).replace(b"NUMPY\1", b"NUMPY\4"), "is no array of a known"),
        (npy(GOOD, b"ab"), r"announces \|u1 \[3\], and has 2 bytes"),
        (npy(GOOD, b"abcd"), r"announces \|u1 \[3\], and has 4 bytes"),
        (npy(GOOD.replace("3,", "10**9,"), b"abc"), "has a damaged header"),
        (npy(GOOD.replace("3,", "1 << 40,"), b"abc"), "has a damaged header"),
        (npy(GOOD.replace("3,", "1099511627776,"), b"abc"), r"announces .* and has 3 bytes"),
        (npy(GOOD.replace("3,", "9" * 60 + ","), b"abc"), "announces the shape"),
        (npy(GOOD.replace("3,", "-3,"), b"abc"), "announces the shape"),
        (npy(GOOD.replace("3,", "True, 3"), b"abc"), "announces the shape"),
        (npy(GOOD.replace("3,", "3.0,"), b"abc"), "announces the shape"),
        (npy(GOOD.replace("(3,)", "(" + "1, " * 33 + ")"), b"a"), "announces the shape"),
        (npy(GOOD.replace("|u1", "|O"), b"abc"), "holds Python objects, which are pickles"),
        (npy(GOOD.replace("'|u1'", "[('a', '|u1')]"), b"abc"), "which is not read"),
        (npy(GOOD.replace("|u1", "|V1"), b"abc"), "which is not read"),
        (npy(GOOD.replace("|u1", "<M8[s]"), b"abc"), "which is not read"),
        (npy(GOOD.replace("|u1", "<f3"), b"abc"), "a type that there is not"),
        (npy(GOOD.replace("'|u1'", "None"), b"abc"), "which is not read"),
        (npy(GOOD.replace("'descr'", "'dtype'"), b"abc"), "has a damaged header"),
        (npy(GOOD.replace("False", "'no'"), b"abc"), "has a damaged header"),
        (npy(b"\xff\xfe" * 20), "has a damaged header"),
        (npy("(" * 5000), "has a damaged header"),
        (npy("{" + GOOD), "has a damaged header"),
        (npy("[]*9"), "has a damaged header"),
        (npy("{[]: 1}"), "has a damaged header"),
        (npy("__import__('os').getcwd()"), "has a damaged header"),
        (npy(" " * 20_000), "has a header of 20,000 bytes"),
        (npy(GOOD, b"abc", (2, 0))[:8] + b"\xff\xff\xff\xff", "has a header of 4,294,967,295 b"),
    ],
)
def test_what_is_no_array_is_named_in_one_line(content, message):
    with pytest.raises(ValueError, match=message) as caught:
        read(content)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


def test_an_array_that_is_cut_off_is_named():
    whole = npy(GOOD, b"abc")
    with pytest.raises(ValueError, match="'x' is cut off"):
        read_npy(io.BytesIO(whole[:-1]), len(whole), "x")
