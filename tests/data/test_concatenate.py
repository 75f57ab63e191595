"""Data sets joined to one: names of classes, weights, files, and what does not fit."""

import re
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from cnnjax.data import Dataset, Decoding, FileImages, Loader, concatenate, from_arrays


def numbered(start, count, labels=0, names=(), **more):
    images = np.arange(start, start + count, dtype=np.float32).reshape(-1, 1, 1, 1)
    return from_arrays(images, np.full(count, labels), names, **more)


def test_examples_come_one_data_set_after_the_other():
    both = concatenate([numbered(0, 2), numbered(2, 3, 4)])
    assert both.inputs.ravel().tolist() == [0, 1, 2, 3, 4]
    assert (both.labels.tolist(), both.label_names) == ([0, 0, 4, 4, 4], ())
    assert both.name == "arrays + arrays"
    assert concatenate([both], "one").name == "one"
    assert concatenate([numbered(0, 2)]).fingerprint == numbered(0, 2).fingerprint


def test_classes_are_joined_by_their_names():
    first = from_arrays(np.zeros((3, 1, 1, 1)), [0, 1, 0], ("cat", "dog"))
    second = from_arrays(np.zeros((3, 1, 1, 1)), [0, 1, 2], ("owl", "dog", "cat"))
    both = concatenate([first, second])
    names = [both.label_names[k] for k in both.labels]
    assert both.label_names == ("cat", "dog", "owl")
    assert names == ["cat", "dog", "cat", "owl", "dog", "cat"]


def test_weights_go_along():
    both = concatenate([numbered(0, 1, weights=[2.0]), numbered(1, 2, weights=[0.5, 1])])
    assert both.weights.tolist() == [2.0, 0.5, 1.0]


@pytest.fixture
def in_files(tmp_path):
    for i in range(3):
        Image.fromarray(np.full((2, 2, 3), 10 * i, np.uint8)).save(tmp_path / f"{i}.png")
    files = tuple(f"{i}.png" for i in range(3))
    return Dataset(FileImages(tmp_path, files, files, Decoding((2, 2))), np.arange(3, dtype="i4"))


def test_files_stay_where_they_are_until_they_are_indexed(in_files):
    arrays = from_arrays(np.full((2, 2, 2, 3), 7, np.uint8), [5, 6])
    both = concatenate([arrays, in_files])
    values = [7, 7, 0, 10, 20]
    assert both.inputs.shape == (5, 2, 2, 3)
    assert both.inputs.nbytes == 5 * 12
    assert Loader(both, 2).decodes
    assert both.inputs[:][:, 0, 0, 0].tolist() == values
    assert both.inputs[-1][0, 0, 0] == 20
    assert both.inputs[[4, 0, 2]][:, 0, 0, 0].tolist() == [20, 7, 0]
    part = both.subset(np.array([3, 0, 4])).subset(slice(0, 2))
    assert part.inputs[:][:, 0, 0, 0].tolist() == [10, 7]
    assert part.labels.tolist() == [1, 5]
    assert np.asarray(part.inputs).shape == (2, 2, 2, 3)


def test_the_fingerprint_knows_parts_and_their_order(in_files):
    arrays = from_arrays(np.full((2, 2, 2, 3), 7, np.uint8), [5, 6])
    marks = {
        concatenate(parts).fingerprint
        for parts in (
            [arrays, in_files],
            [in_files, arrays],
            [in_files, in_files],
            [replace(arrays, inputs=arrays.inputs + 1), in_files],
        )
    }
    both = concatenate([arrays, in_files])
    marks |= {both.subset(order).fingerprint for order in ([0, 2], [2, 0])}
    assert len(marks) == 6
    assert concatenate([arrays, in_files]).fingerprint == both.fingerprint


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (from_arrays(np.zeros((1, 2, 1, 1)), [0]), "inputs of shape [1, 1, 1] in the first, [2, 1"),
        (from_arrays(np.zeros((1, 1, 1, 1), "u1"), [0]), "inputs of dtype float32 in the first, u"),
        (numbered(0, 1, names=("cat",)), "label_names: none in the first, some in the second"),
        (numbered(0, 1, weights=[1]), "weights: none in the first, some in the second"),
        (
            Dataset(np.zeros((1, 1, 1, 1), "f4"), np.zeros((1, 2), "f4")),
            "labels of shape [] in the first, [2] in the second",
        ),
    ],
)
def test_what_does_not_fit_is_named(other, message):
    wanted = re.escape(f"arrays and arrays cannot be joined: {message}")
    with pytest.raises(ValueError, match=wanted):
        concatenate([numbered(0, 1), other])


def test_names_of_values_must_be_the_same():
    values = Dataset(np.zeros((1, 1, 1, 1), "f4"), np.zeros((1, 1), "f4"), ("rain",))
    with pytest.raises(ValueError, match="label_names: rain in the first, wind in the second"):
        concatenate([values, replace(values, label_names=("wind",))])


@pytest.mark.parametrize("given", [[], numbered(0, 1), [np.zeros(3)]], ids=["none", "one", "array"])
def test_it_takes_a_list_of_data_sets(given):
    with pytest.raises(ValueError, match="datasets must be a list of Datasets, one at least, got"):
        concatenate(given)


def by_name(start):
    inputs = {"a": np.arange(start, start + 2.0)[:, None], "b": np.zeros((2, 1, 1, 1), np.uint8)}
    labels = {"kind": np.array([0, 1]), "size": np.array([0.5, start])}
    return from_arrays(inputs, labels, task={"kind": "classes", "size": "values"})


def test_inputs_and_labels_by_name_are_joined_name_by_name():
    both = concatenate([by_name(0), by_name(2)])
    assert both.inputs["a"].ravel().tolist() == [0, 1, 2, 3]
    assert both.inputs["b"].shape == (4, 1, 1, 1)
    assert both.labels["kind"].tolist() == [0, 1, 0, 1]
    assert both.labels["size"].ravel().tolist() == [0.5, 0, 0.5, 2]


def test_inputs_by_name_are_not_joined_with_a_single_one():
    with pytest.raises(ValueError, match=r"inputs\['a'\] of shape \[1\] in the first, none in the"):
        concatenate([by_name(0), numbered(0, 2)])
