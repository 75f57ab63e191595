"""Files that others wrote."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cnnjax.core.reading import (
    Unreadable,
    check_form,
    check_regular,
    is_regular,
    parse_json,
    read_json,
)


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


# Forms

FORM = {"n": int, "x?": float, "names?": [str], "parts?": {"*": {"size": int}}, "any?": (dict, str)}


@pytest.mark.parametrize(
    "content",
    [
        {"n": 1},
        {"n": -1, "x": 2, "names": [], "parts": {}, "more": object},
        {"n": 1, "x": float("nan"), "names": ["a"], "parts": {"a": {"size": 1}}, "any": "x"},
        {"n": 1, "x": None, "names": None, "any": {}},
    ],
)
def test_what_has_the_form_is_taken(content: dict) -> None:
    check_form(content, FORM)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({}, "it lacks n"),
        ({"n": None}, "n is null, not a whole number"),
        ({"n": True}, "n is true, not a whole number"),
        ({"n": 1.0}, r"n is 1\.0, not a whole number"),
        ({"n": 1, "x": "2"}, 'x is "2", not a number'),
        ({"n": 1, "x": False}, "x is false, not a number"),
        ({"n": 1, "names": "ab"}, 'names is "ab", not a list'),
        ({"n": 1, "names": ["a", ["b"]]}, r'names/1 is \["b"\], not a text'),
        ({"n": 1, "parts": {"a": {"size": 1}, "b": {}}}, "it lacks parts/b/size"),
        ({"n": 1, "parts": [1]}, r"parts is \[1\], not an object"),
        ({"n": 1, "any": 3}, "any is 3, not an object or a text"),
        ([1], r"its content is \[1\], not an object"),
        (None, "its content is null, not an object"),
    ],
)
def test_what_has_not_is_named_by_its_path(content: object, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}$"):
        check_form(content, FORM)


def test_a_long_or_foreign_value_is_one_short_line() -> None:
    with pytest.raises(ValueError, match="not a whole number") as caught:
        check_form({"n": "\x1b[2J\n" * 1000}, FORM)
    assert "\n" not in str(caught.value)
    assert "\x1b" not in str(caught.value)
    assert len(str(caught.value)) < 250


def test_of_many_keys_the_one_that_stands_twice_is_found_at_once() -> None:
    text = "{" + ",".join(f'"{i}": 0' for i in (*range(100_000), 99_999)) + "}"
    with pytest.raises(ValueError, match="'99999' stands there twice"):
        parse_json(text)
