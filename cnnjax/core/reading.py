"""Files that others wrote: regular ones only, JSON of bounded size, depth and known form."""

from __future__ import annotations

import json
import os
import stat
from collections import Counter
from pathlib import Path
from typing import Any

from cnnjax.core.text import plain

# Far above any description that cnnjax writes.
_MOST_BYTES = 64 << 20


class Unreadable(ValueError):
    """A file that is there and cannot be taken for what it should be."""


def is_regular(path: str | Path) -> bool:
    """Whether a path is a file with an end: no directory, pipe, socket or device.

    A pipe or a device, opened for reading, waits for ever or never ends.
    """
    try:
        return stat.S_ISREG(os.stat(path).st_mode)
    except (OSError, ValueError):  # ValueError: a name with a null byte
        return False


def check_regular(path: str | Path, what: str = "file") -> Path:
    """The path of a regular file.

    Args:
        path: of it.
        what: it should be, for the message, e.g. "weight file".

    Raises:
        FileNotFoundError: if there is none.
        Unreadable: if there is something that is no regular file.
    """
    path = Path(path)
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        raise FileNotFoundError(f"{what} {plain(path)} does not exist") from None
    except (OSError, ValueError) as error:
        raise Unreadable(f"{what} {plain(path)} cannot be read: {plain(error)}") from None
    if not stat.S_ISREG(mode):
        kinds = {stat.S_IFDIR: "a directory", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket"}
        kind = kinds.get(stat.S_IFMT(mode), "a device")
        raise Unreadable(f"{what} {plain(path)} is {kind}, not a regular file")
    return path


def read_json(path: str | Path, what: str = "file", most: int = _MOST_BYTES) -> Any:
    """The content of a JSON file.

    Args:
        path: of a regular file.
        what: it should be, for the message.
        most: bytes that it may have.

    Raises:
        FileNotFoundError: if there is none.
        Unreadable: if it is no regular file, too large, no JSON in UTF-8, nested too deeply, or
            names a key twice, of which one would be lost.
    """
    content = read_bytes(path, what, most)
    try:
        return parse_json(content)
    except ValueError as error:
        raise Unreadable(f"{what} {plain(path)} cannot be read: {plain(error)}") from None


def read_bytes(path: str | Path, what: str = "file", most: int = _MOST_BYTES) -> bytes:
    """The bytes of a regular file that is not larger than it may be.

    Args:
        path: of the file.
        what: it should be, for the message.
        most: bytes that it may have.

    Raises:
        FileNotFoundError: if there is none.
        Unreadable: if it is no regular file, too large, or the system cannot read it.
    """
    path = check_regular(path, what)
    try:
        size = path.stat().st_size
        if size > most:
            raise Unreadable(f"{what} {plain(path)} has {size:,} bytes, more than {most:,}")
        return path.read_bytes()
    except FileNotFoundError:
        raise
    except OSError as error:
        raise Unreadable(f"{what} {plain(path)} cannot be read: {plain(error)}") from None


def parse_json(text: str | bytes) -> Any:
    """JSON as a value.

    Raises:
        ValueError: in one line, if it is none, is nested too deeply, or names a key twice.

    >>> parse_json('{"a": 1, "a": 2}')
    Traceback (most recent call last):
        ...
    ValueError: the key 'a' stands there twice
    """
    try:
        if isinstance(text, bytes):
            text = text.decode("utf-8")
        return json.loads(text, object_pairs_hook=_once)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def check_form(content: Any, form: Any, where: str = "") -> None:
    """Check the types within what a JSON file holds, before anybody relies on them.

    Args:
        content: what was read.
        form: a type or a tuple of types (float takes whole numbers too); a list of one form, that
            of every entry; or a dictionary of forms by key, where "key?" may be missing or None and
            "*" stands for every key that is not named.
        where: the path of the content within the file, for the message.

    Raises:
        ValueError: naming the path of the first value that is of another type or missing.

    >>> check_form({"epochs": 2, "names": ["a", 7]}, {"epochs": int, "names?": [str]})
    Traceback (most recent call last):
        ...
    ValueError: names/1 is 7, not a text
    """
    if isinstance(form, list):
        _check_type(content, list, where)
        for number, entry in enumerate(content):
            check_form(entry, form[0], f"{where}/{number}".lstrip("/"))
    elif isinstance(form, dict):
        _check_type(content, dict, where)
        for key, inner in form.items():
            optional, name = key.endswith("?"), key.removesuffix("?")
            if name == "*":
                continue
            if name not in content and not optional:
                raise ValueError(f"it lacks {plain(f'{where}/{name}'.lstrip('/'))}")
            if not (optional and content.get(name) is None):
                check_form(content[name], inner, f"{where}/{name}".lstrip("/"))
        if "*" in form:
            named = {key.removesuffix("?") for key in form}
            for key in [key for key in content if key not in named]:
                check_form(content[key], form["*"], f"{where}/{key}".lstrip("/"))
    else:
        _check_type(content, form, where)


def _check_type(value: Any, form: Any, where: str) -> None:
    types = form if isinstance(form, tuple) else (form,)
    right = isinstance(value, types) or (float in types and isinstance(value, int))
    if not right or (isinstance(value, bool) and bool not in types):
        names = " or ".join(_TYPES.get(kind, kind.__name__) for kind in types)
        shown = plain(json.dumps(value), 60)
        raise ValueError(f"{plain(where) or 'its content'} is {shown}, not {names}")


_TYPES: dict[type, str] = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "a text",
    list: "a list",
    dict: "an object",
    type(None): "null",
}


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        twice = next(key for key, times in Counter(key for key, _ in pairs).items() if times > 1)
        raise ValueError(f"the key {plain(repr(twice), 60)} stands there twice")
    return content
