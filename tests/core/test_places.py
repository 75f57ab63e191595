"""Paths that a person gives: every reader refuses one that cannot be in one sentence."""

from collections.abc import Callable
from pathlib import Path

import pytest

import cnnjax as cj
from cnnjax.data import load_series, read_idx, scan_folder
from cnnjax.weights.read import read_weights


@pytest.mark.parametrize(
    "read", [cj.load, load_series, read_idx, scan_folder, read_weights], ids=lambda f: f.__name__
)
@pytest.mark.parametrize(
    ("path", "message"),
    [("~nobody.here/a", "a user who has no home directory here"), ("a\0b", "null byte")],
)
def test_a_path_that_cannot_be_is_one_sentence(
    read: Callable[[str], object], path: str, message: str
) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        read(path)
    assert "\n" not in str(caught.value)


def test_paths_are_expanded_in_one_place() -> None:
    folder = Path(cj.__file__).parent
    bare = {
        file.relative_to(folder).as_posix()
        for file in folder.rglob("*.py")
        if "expanduser(" in file.read_text("utf-8")
    }
    assert bare == {"core/places.py", "core/runtime.py"}  # the latter's path is its own
