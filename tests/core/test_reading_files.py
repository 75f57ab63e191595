"""Files that others wrote."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cnnjax.core.reading import Unreadable, check_regular, is_regular, parse_json, read_json


def test_a_regular_file_is_one_also_behind_a_link(tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    file.write_text('{"a": [1, null, "x"]}')
    link = tmp_path / "link.json"
    link.symlink_to(file)
    assert is_regular(link)
    assert read_json(link) == {"a": [1, None, "x"]}


def test_what_is_no_regular_file_is_named(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path, kind in ((tmp_path / "pipe", "a pipe"), (tmp_path, "a directory")):
        assert not is_regular(path)
        with pytest.raises(Unreadable, match=rf"config .* is {kind}, not a regular file"):
            check_regular(path, "config")
    with pytest.raises(Unreadable, match="is a device"):
        check_regular("/dev/zero")
    with pytest.raises(FileNotFoundError, match=r"config .*none does not exist"):
        check_regular(tmp_path / "none", "config")
    assert not is_regular("a\0b")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{", "cannot be read"),
        (b"\xff\xfe{}", "cannot be read"),
        (b"[" * 200_000, "nested too deeply"),
        (b'{"a": {"b": 1, "b": 1}}', "'b' stands there twice"),
        (b" " * 101, "101 bytes, more than 100"),
    ],
)
def test_json_that_cannot_be_taken_is_an_error_of_one_line(
    tmp_path: Path, content: bytes, message: str
) -> None:
    file = tmp_path / "a.json"
    file.write_bytes(content)
    with pytest.raises(Unreadable, match=message) as caught:
        read_json(file, most=100 if len(content) < 200 else 1 << 20)
    assert "\n" not in str(caught.value)


def test_parsing_names_a_key_that_stands_twice() -> None:
    with pytest.raises(ValueError, match="'x' stands there twice"):
        parse_json('[{"x": 1, "y": 2, "x": 3}]')
