"""Arrays in .safetensors files: round trips, hashes, damage."""

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from safetensors.numpy import load_file, save_file

from cnnjax.core import trees
from cnnjax.weights import DamagedWeights, load_safetensors, save_safetensors

DTYPES = st.sampled_from([np.float32, np.float64, np.float16, np.int32, np.uint8, np.bool_])
ARRAYS = DTYPES.flatmap(
    lambda dtype: hnp.arrays(
        dtype, hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=3)
    )
)
NAMES = st.text("abc_1", min_size=1, max_size=5)
TREES = st.dictionaries(NAMES, st.dictionaries(NAMES, ARRAYS, min_size=1, max_size=3), max_size=3)


def described(tree):
    return {
        path: (str(np.asarray(leaf).dtype), np.shape(leaf), np.asarray(leaf).tobytes())
        for path, leaf in trees.flatten(tree).items()
    }


@settings(deadline=None, max_examples=40, derandomize=True)
@given(TREES)
def test_arrays_come_back_bitwise(tmp_path_factory, tree):
    file = tmp_path_factory.mktemp("weights") / "a.safetensors"
    save_safetensors(tree, file)
    assert described(load_safetensors(file)) == described(tree)


@pytest.mark.parametrize(
    "array",
    [
        np.float32(3),
        np.arange(6, dtype=np.float32).reshape(2, 3).T,
        np.arange(6, dtype=np.float32)[::-2],
        np.zeros((0, 3), np.float32),
        jnp.arange(3.0),
        jnp.ones((2, 2), jnp.bfloat16),
        np.float32([np.nan, np.inf, -0.0, 1e-42]),
    ],
    ids=["scalar", "transposed", "strided", "empty", "jax", "bfloat16", "special values"],
)
def test_any_array_comes_back_bitwise(tmp_path, array):
    save_safetensors({"layer": {"weight": array}}, tmp_path / "a.safetensors")
    loaded = load_safetensors(tmp_path / "a.safetensors")
    assert described(loaded) == described({"layer": {"weight": array}})


TREE = {"conv1": {"kernel": np.arange(12, dtype=np.float32).reshape(3, 4), "bias": np.ones(4)}}


def test_the_file_is_plain_safetensors(tmp_path):
    save_safetensors(TREE, tmp_path / "a.safetensors")
    arrays = load_file(tmp_path / "a.safetensors")
    assert set(arrays) == {"conv1/kernel", "conv1/bias"}
    assert arrays["conv1/kernel"].tolist() == TREE["conv1"]["kernel"].tolist()


def test_files_of_others_have_no_hashes_and_are_read(tmp_path):
    save_file({"a/b": np.ones(3)}, tmp_path / "a.safetensors")
    assert described(load_safetensors(tmp_path / "a.safetensors")) == described(
        {"a": {"b": np.ones(3)}}
    )


def test_a_flipped_byte_of_an_array_is_detected(tmp_path):
    file = tmp_path / "a.safetensors"
    save_safetensors(TREE, file)
    content = file.read_bytes()
    start = 8 + int.from_bytes(content[:8], "little")
    assert len(content) - start == 12 * 4 + 4 * 8
    for position in range(start, len(content)):
        flipped = bytearray(content)
        flipped[position] ^= 1
        file.write_bytes(flipped)
        with pytest.raises(DamagedWeights, match=r"is damaged: conv1/(kernel|bias) differs from"):
            load_safetensors(file)


@pytest.mark.parametrize("keep", [0, 4, 100, -1])
def test_a_file_that_is_cut_off_is_named(tmp_path, keep):
    file = tmp_path / "a.safetensors"
    save_safetensors(TREE, file)
    file.write_bytes(file.read_bytes()[:keep])
    with pytest.raises(
        DamagedWeights, match=r"a\.safetensors is not a readable \.safetensors file"
    ):
        load_safetensors(file)


@pytest.mark.parametrize("content", [b"no weights at all\n" * 9, b"\xff" * 100, b"{}" * 50])
def test_what_is_no_safetensors_file_is_named(tmp_path, content):
    (tmp_path / "a.safetensors").write_bytes(content)
    with pytest.raises(
        DamagedWeights, match=r"a\.safetensors is not a readable \.safetensors file"
    ):
        load_safetensors(tmp_path / "a.safetensors")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=rf"weight file {tmp_path}/a\.st does not exist"):
        load_safetensors(tmp_path / "a.st")


def test_a_failed_save_leaves_the_old_file_and_nothing_else(tmp_path):
    file = tmp_path / "a.safetensors"
    save_safetensors(TREE, file)
    with pytest.raises(Exception, match=r"U4|str|dtype"):
        save_safetensors({"bad": np.array(["text"])}, file)
    assert described(load_safetensors(file)) == described(TREE)
    assert [p.name for p in tmp_path.iterdir()] == ["a.safetensors"]
