"""Parameter paths: flatten, patterns, hints, differences, hashes."""

import hashlib

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cnnjax.core import trees
from cnnjax.core.text import suggest

# Names that hold what stands between names, and what stands for it.
NAMES = st.one_of(st.text("a/~.012\n ", max_size=4), st.text(max_size=4))
INNER = st.recursive(st.integers(), lambda inner: st.dictionaries(NAMES, inner), max_leaves=8)
TREES = st.dictionaries(NAMES, INNER)


@settings(deadline=None, max_examples=100, derandomize=True)
@given(TREES)
@pytest.mark.thorough
def test_unflatten_inverts_flatten(tree):
    flat = trees.flatten(tree)
    assert trees.unflatten(flat) == tree
    assert not any(isinstance(leaf, dict) and leaf for leaf in flat.values())
    assert trees.leaves(tree) == {k: v for k, v in flat.items() if v != {}}
    assert trees.map_flat(lambda _, leaf: leaf, tree) == tree


@settings(deadline=None, max_examples=100, derandomize=True)
@given(st.lists(NAMES, min_size=1, max_size=4))
def test_split_inverts_join(names):
    assert trees.split(trees.join(names)) == tuple(names)


@settings(deadline=None, max_examples=100, derandomize=True)
@given(TREES, TREES)
@pytest.mark.thorough
def test_other_trees_have_other_texts(one, other):
    """As one text, line by line, as it is hashed."""
    texts = [
        "".join(f"{path} {leaf}\n" for path, leaf in trees.flatten(tree).items())
        for tree in (one, other)
    ]
    assert (texts[0] == texts[1]) == (one == other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"a/b": 1}, {"a": {"b": 1}}),
        ({"a~1b": 1}, {"a/b": 1}),
        ({"a~01b": 1}, {"a~1b": 1}),
        ({"": {"a": 1}}, {"/a": 1}),
        ({"a": {"": 1}}, {"a": 1}),
        ({"a\nb": 1}, {"a": {"b": 1}}),
    ],
)
def test_names_that_look_like_paths_or_escapes_do_not_collide(one, other):
    assert list(trees.flatten(one)) != list(trees.flatten(other))
    assert trees.tree_hash(one) != trees.tree_hash(other)


def test_a_name_cannot_forge_the_next_line_of_a_hash():
    first, second = np.float32([1]), np.float32([2])
    forged = f"a {trees.leaf_hash(first)}\nb"
    assert trees.tree_hash({forged: second}) != trees.tree_hash({"a": first, "b": second})


def test_ordinary_names_are_joined_as_they_are():
    assert trees.join(("block1", "conv.0", "kernel")) == "block1/conv.0/kernel"
    assert trees.join(("SpectralNorm_0", "Dense_0/kernel/u")) == "SpectralNorm_0/Dense_0~1kernel~1u"


@pytest.mark.parametrize("name", [1, None, ("a", "b")])
def test_a_name_that_is_no_text_is_refused(name):
    with pytest.raises(ValueError, match="must be texts, got"):
        trees.flatten({name: 1})


@pytest.mark.parametrize(
    "flat", [{"a": 1, "a/b": 2}, {"a/b": 2, "a": 1}, {"a": {}, "a/b": 1}, {"a": {"c": 1}, "a/b": 1}]
)
def test_a_value_with_values_below_it_is_refused(flat):
    with pytest.raises(ValueError, match=r"lies below 'a'|others lie below it"):
        trees.unflatten(flat)


def test_flatten_sorts_and_joins():
    flat = trees.flatten({"b": 1, "a": {"z": 2, "y": {"x": 3}}})
    assert list(flat.items()) == [("a/y/x", 3), ("a/z", 2), ("b", 1)]
    assert list(trees.flatten({"kernel": 1}, prefix="conv/")) == ["conv/kernel"]


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
        # A name that holds a "/": by its parts as before, or as it is written.
        ("Norm_0/Dense_0~1kernel~1u", "Norm_0/Dense_0", True),
        ("Norm_0/Dense_0~1kernel~1u", "Norm_0/Dense_0/kernel/u", True),
        ("Norm_0/Dense_0~1kernel~1u", "Norm_0/Dense_0~1kernel~1u", True),
        ("Norm_0/Dense_0~1kernel~1u", "Norm_0/*/sigma", False),
        ("Norm_0/Dense_0/kernel", "Norm_0/Dense_0~1kernel", False),
    ],
)
def test_matches_a_path_or_one_of_its_parents(path, pattern, expected):
    assert trees.matches(path, pattern) is expected


def test_select_joins_the_patterns():
    all_paths = ["conv1/kernel", "conv1/bias", "conv2/kernel", "dense/kernel"]
    assert trees.select(iter(all_paths), ("conv1", "*/kernel"), "frozen") == set(all_paths)
    assert trees.select(all_paths, ("dense",), "frozen") == {"dense/kernel"}
    assert trees.select(all_paths, (), "frozen") == set()


def test_select_names_the_pattern_that_matches_nothing_and_the_nearest_layer():
    with pytest.raises(
        ValueError, match=r"frozen='conv3' names no parameter\. Did you mean .*'conv1'"
    ):
        trees.select(["conv1/kernel", "dense/kernel"], ("conv1", "conv3"), "frozen")


def test_suggest_offers_the_near_names_else_all_else_says_so():
    assert suggest("resnet5", ["vgg16", "resnet50"]) == "Did you mean 'resnet50'?"
    assert suggest("conv", ["conv1", "conv2"]) == "Did you mean 'conv2' or 'conv1'?"
    assert suggest("x", ["vgg16", "resnet50"], "models") == "Known models: vgg16, resnet50."
    assert suggest("conv", ["conv1", "conv1"]) == "Did you mean 'conv1'?"
    assert suggest("x", [], "models") == "There are no known models."


def test_differences_lists_missing_changed_and_extra():
    lines = trees.differences(
        {"same": 1, "gone": 2, "other": (3, 3)}, {"same": 1, "other": 4, "n": 5}
    )
    assert lines == ["- gone", "~ other: expected (3, 3), found 4", "+ n"]
    assert trees.differences({"a": 1}, {"a": 1}) == []


def test_map_flat_keeps_the_form():
    tree = {"conv1": {"kernel": 2, "bias": 3}, "scale": 4}
    mapped = trees.map_flat(lambda path, leaf: f"{path}:{leaf}", tree)
    assert mapped == {
        "conv1": {"kernel": "conv1/kernel:2", "bias": "conv1/bias:3"},
        "scale": "scale:4",
    }


def test_leaf_hash_is_sha256_of_dtype_shape_and_bytes():
    array = np.array([[1.0, 2.0]], np.float32)
    expected = hashlib.sha256(b"<f4(1, 2)" + array.tobytes()).hexdigest()
    assert trees.leaf_hash(array) == expected
    assert trees.leaf_hash(jnp.asarray(array)) == expected
    assert trees.leaf_hash(np.repeat(array, 2, axis=1)[:, ::2]) == expected  # strided in memory


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
    assert trees.leaf_hash(other) != trees.leaf_hash(np.float32([0.0, 1.0]))


@pytest.mark.parametrize("array", [np.float32(3), np.zeros((0, 3)), jnp.ones(3, jnp.bfloat16)])
def test_leaf_hash_takes_scalars_empty_and_bfloat16_arrays(array):
    assert len(trees.leaf_hash(array)) == 64


def test_tree_hash_depends_on_paths_and_leaves_but_not_on_their_order():
    a, b = np.float32([1]), np.float32([2])
    expected = trees.tree_hash({"x": {"a": a, "b": b}})
    assert trees.tree_hash({"x": {"b": b, "a": a}}) == expected
    assert trees.tree_hash({"x": {"a": b, "b": a}}) != expected
    assert trees.tree_hash({"y": {"a": a, "b": b}}) != expected
