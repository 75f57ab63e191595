"""Standard output and standard error of a command, on which no foreign text gives orders."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TextIO

from cnnjax.core.text import plain_lines


class PlainStream:
    r"""A text stream on which every character but a newline is shown, not obeyed.

    Whoever prints prints through it: this package, libraries, warnings, tracebacks. What the
    stream's encoding lacks is escaped too.

    Args:
        behind: the stream that it writes to; a `PlainStream` has that, for who draws on a terminal.
    """

    def __init__(self, behind: TextIO):
        self.behind = behind

    def write(self, text: str) -> int:
        """Write a text, escaped as `plain_lines` does."""
        encoding = self.behind.encoding or "utf-8"
        shown = plain_lines(text, sys.maxsize).encode(encoding, "backslashreplace")
        self.behind.write(shown.decode(encoding))
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """Write each of them."""
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.behind, name)


def drawable(stream: TextIO) -> TextIO:
    """The stream behind a `PlainStream`, for a bar, which moves the cursor."""
    while isinstance(stream, PlainStream):
        stream = stream.behind
    return stream


@contextmanager
def plain_output() -> Iterator[None]:
    """Have all that is printed go through a `PlainStream`.

    After an error it stays so, as the interpreter prints that one's text last.
    """
    _open_closed_descriptors()
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = (_plain(stream) for stream in before)
    try:
        yield
    except Exception:
        before = sys.stdout, sys.stderr
        raise
    finally:
        sys.stdout, sys.stderr = before


def _plain(stream: TextIO | None) -> Any:
    if stream is None:  # closed when the process began
        return open(os.devnull, "w", encoding="utf-8")
    return stream if isinstance(stream, PlainStream) else PlainStream(stream)


def _open_closed_descriptors() -> None:
    """Have 0, 1 and 2 lead nowhere where they are closed.

    A file that is opened later would get one of these numbers, and what libraries print with it.
    """
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest number that is free
