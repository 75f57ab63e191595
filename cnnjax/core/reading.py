"""Files that others wrote: regular ones only, JSON of bounded size, depth and known form."""

from __future__ import annotations

import json
import os
import stat
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
    path = check_regular(path, what)
    try:
        size = path.stat().st_size
        if size > most:
            raise Unreadable(f"{what} {plain(path)} has {size:,} bytes, more than {most:,}")
        return parse_json(path.read_bytes())
    except Unreadable:
        raise
    except (OSError, ValueError) as error:
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


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for i, key in enumerate(keys) if key in keys[:i])
        raise ValueError(f"the key {plain(repr(twice), 60)} stands there twice")
    return content
