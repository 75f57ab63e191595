"""Several inputs and labels by name of a source of another library."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import cnnjax as cj

RNG = np.random.default_rng(3)
PHOTOS = RNG.integers(0, 256, (12, 4, 4, 3), dtype=np.uint8)
AGES = RNG.normal(size=12).astype(np.float32)
WORDS = RNG.integers(0, 9, (12, 3))
KINDS = np.arange(12) % 3
TASKS = {"kind": "classes", "size": "values"}
PICKS = {"inputs": {"photo": "image", "age": "age", "words": "text"}}
LABELS = {"kind": "label", "size": lambda row: 2 * row["age"]}


class Rows:
    """Examples as mappings, as those of Hugging Face."""

    def __init__(self, change: Callable[[int, dict], dict] | None = None):
        self.change = change

    def __len__(self) -> int:
        return 12

    def __getitem__(self, i: int) -> dict[str, Any]:
        row = {"image": PHOTOS[i], "age": float(AGES[i]), "text": WORDS[i], "label": int(KINDS[i])}
        return self.change(i, row) if self.change else row


def read(source: Any = None, **changes: Any) -> cj.data.Dataset:
    arguments = {**PICKS, "labels": LABELS, "task": TASKS, "name": "rows", **changes}
    return cj.data.from_source(source or Rows(), **arguments)


@pytest.mark.parametrize("threaded", [True, False])
def test_what_is_named_is_read_as_its_arrays_would_be_given(threaded: bool) -> None:
    arrays = {"photo": PHOTOS, "age": AGES, "words": WORDS}
    wanted = cj.data.from_arrays(arrays, {"kind": KINDS, "size": 2 * AGES}, task=TASKS)
    found = read(threaded=threaded)
    assert found.fingerprint == wanted.fingerprint
    assert found.input_shape == {"photo": (4, 4, 3), "age": (1,), "words": (3,)}
    assert found.labels["size"].shape == (12, 1)


def test_labels_that_are_arrays_need_not_be_read() -> None:
    found = read(labels={"kind": KINDS[::-1].copy(), "size": "age"})
    np.testing.assert_array_equal(found.labels["kind"], KINDS[::-1])
    single = read(labels="label", task=None, label_names=("a", "b", "c"))
    np.testing.assert_array_equal(single.labels, KINDS)


@pytest.mark.parametrize(
    ("change", "arguments", "message"),
    [
        (
            lambda i, row: {**row, "text": WORDS[i][:2] if i == 5 else WORDS[i]},
            {},
            r"^rows\[5\], inputs\['words'\] is int32 of shape \[2\], and the first example int32",
        ),
        (
            lambda i, row: {**row, "age": np.random.default_rng().normal()},
            {},
            r"^rows\[0\], inputs\['age'\] is another one each time it is read, as by random aug",
        ),
        (None, {"inputs": {"age": "ages"}}, r"^rows\[0\], inputs\['age'\]: it has no 'ages' for"),
        (
            None,
            {"memory_budget": 100},
            r"^rows: several inputs or labels by name are read into memory, and take [\d,]+ bytes, "
            r"more than memory_budget=100: raise it, or give batches by cj\.data\.stream$",
        ),
        (None, {"labels": None}, "^rows: say by labels= which part of an example its labels are$"),
        (None, {"labels": {"kind": "label"}}, "^rows: labels must be given by name, one array for"),
    ],
    ids=["shapes", "random", "unknown", "budget", "no-labels", "tasks"],
)
def test_what_cannot_be_read_is_named(change: Any, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read(Rows(change), **arguments)
