"""Paths that a person gives."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cnnjax.core.text import plain

# Marks the type of a field on the command line as a path, in which ~ is the home directory.
PLACE = "place"
Place = Annotated[str, PLACE]


def expanded(path: str | Path) -> Path:
    """A path with ~ and ~USER replaced by the home directory.

    Raises:
        ValueError: if it is empty, has a null byte, or names a user that there is not.

    >>> expanded("runs/a")
    PosixPath('runs/a')
    >>> expanded("~nobody.here/a")
    Traceback (most recent call last):
        ...
    ValueError: the path ~nobody.here/a begins with a user who has no home directory here
    """
    text = str(path)
    if not text:
        raise ValueError("the path is empty")
    if "\0" in text:
        raise ValueError(f"the path {plain(text)} has a null byte, which no path may have")
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise ValueError(
            f"the path {plain(text)} begins with a user who has no home directory here"
        ) from None
