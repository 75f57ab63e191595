"""Parameter paths: flatten, patterns, hints, differences, hashes."""

import hashlib

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cnnjax import paths

KEYS = st.text("abc123_", min_size=1, max_size=4)
TREES = st.recursive(
    st.integers(), lambda inner: st.dictionaries(KEYS, inner, min_size=1), max_leaves=8
).filter(lambda tree: isinstance(tree, dict))


@settings(deadline=None, max_examples=60, derandomize=True)
@given(TREES)
def test_unflatten_inverts_flatten(tree):
    flat = paths.flatten(tree)
    assert paths.unflatten(flat) == tree
    assert not any(isinstance(leaf, dict) for leaf in flat.values())


def test_flatten_sorts_and_joins():
    flat = paths.flatten({"b": 1, "a": {"z": 2, "y": {"x": 3}}})
    assert list(flat.items()) == [("a/y/x", 3), ("a/z", 2), ("b", 1)]
    assert list(paths.flatten({"kernel": 1}, prefix="conv/")) == ["conv/kernel"]


@pytest.mark.parametrize(
    ("path", "pattern", "expected"),
    [
        ("block1_conv1", "block[1-4]_*", True),
        ("block1_conv1/kernel", "block[1-4]_*", True),
        ("block5_conv1/kernel", "block[1-4]_*", False),
        ("conv1/kernel", "conv1", True),
        ("conv1/kernel", "conv1/bias", False),
        ("conv10/kernel", "conv1", False),
        ("a/b/c", "a/b", True),
        ("a/b/c", "b", False),
        ("Conv1", "conv1", False),
        ("anything/at/all", "*", True),
    ],
)
def test_matches_a_path_or_one_of_its_parents(path, pattern, expected):
    assert paths.matches(path, pattern) is expected


def test_select_joins_the_patterns():
    all_paths = ["conv1/kernel", "conv1/bias", "conv2/kernel", "dense/kernel"]
    assert paths.select(iter(all_paths), ("conv1", "*/kernel"), "frozen") == set(all_paths)
    assert paths.select(all_paths, ("dense",), "frozen") == {"dense/kernel"}
    assert paths.select(all_paths, (), "frozen") == set()


def test_select_names_the_pattern_that_matches_nothing_and_the_nearest_layer():
    with pytest.raises(
        ValueError, match=r"frozen='conv3' names no parameter\. Did you mean .*'conv1'"
    ):
        paths.select(["conv1/kernel", "dense/kernel"], ("conv1", "conv3"), "frozen")


def test_suggest_offers_the_near_names_else_all_else_says_so():
    assert paths.suggest("resnet5", ["vgg16", "resnet50"]) == "Did you mean 'resnet50'?"
    assert paths.suggest("conv", ["conv1", "conv2"]) == "Did you mean 'conv2' or 'conv1'?"
    assert paths.suggest("x", ["vgg16", "resnet50"], "models") == "Known models: vgg16, resnet50."
    assert paths.suggest("x", [], "models") == "There are no known models."


def test_differences_lists_missing_changed_and_extra():
    lines = paths.differences(
        {"same": 1, "gone": 2, "other": (3, 3)}, {"same": 1, "other": 4, "n": 5}
    )
    assert lines == ["- gone", "~ other: expected (3, 3), found 4", "+ n"]
    assert paths.differences({"a": 1}, {"a": 1}) == []


def test_map_flat_keeps_the_form():
    tree = {"conv1": {"kernel": 2, "bias": 3}, "scale": 4}
    mapped = paths.map_flat(lambda path, leaf: f"{path}:{leaf}", tree)
    assert mapped == {
        "conv1": {"kernel": "conv1/kernel:2", "bias": "conv1/bias:3"},
        "scale": "scale:4",
    }


def test_leaf_hash_is_sha256_of_dtype_shape_and_bytes():
    array = np.array([[1.0, 2.0]], np.float32)
    expected = hashlib.sha256(b"<f4(1, 2)" + array.tobytes()).hexdigest()
    assert paths.leaf_hash(array) == expected
    assert paths.leaf_hash(jnp.asarray(array)) == expected
    assert paths.leaf_hash(np.repeat(array, 2, axis=1)[:, ::2]) == expected  # strided in memory


@pytest.mark.parametrize(
    "other",
    [
        np.nextafter(np.float32([0.0, 1.0]), np.float32(2)),
        np.float32([-0.0, 1.0]),
        np.float64([0.0, 1.0]),
        np.float32([[0.0, 1.0]]),
        np.float32([0.0, 1.0]).view(np.int32),
    ],
    ids=["one ulp", "sign of zero", "dtype", "shape", "same bytes"],
)
def test_leaf_hash_sees_every_difference(other):
    assert paths.leaf_hash(other) != paths.leaf_hash(np.float32([0.0, 1.0]))


@pytest.mark.parametrize("array", [np.float32(3), np.zeros((0, 3)), jnp.ones(3, jnp.bfloat16)])
def test_leaf_hash_takes_scalars_empty_and_bfloat16_arrays(array):
    assert len(paths.leaf_hash(array)) == 64


def test_tree_hash_depends_on_paths_and_leaves_but_not_on_their_order():
    a, b = np.float32([1]), np.float32([2])
    expected = paths.tree_hash({"x": {"a": a, "b": b}})
    assert paths.tree_hash({"x": {"b": b, "a": a}}) == expected
    assert paths.tree_hash({"x": {"a": b, "b": a}}) != expected
    assert paths.tree_hash({"y": {"a": a, "b": b}}) != expected
