"""Text that comes from elsewhere, made fit for a terminal."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

# Long enough for any path that a person would read.
_MOST_CHARACTERS = 200


def plain(text: object, most: int = _MOST_CHARACTERS) -> str:
    r"""A foreign name as one short line: control characters escaped, its middle left out.

    File, class, layer and column names, settings and texts of servers come from anywhere. A
    terminal obeys the escape sequences in them; what is printed goes through here.

    Args:
        text: anything; its `str` is shown.
        most: characters of the result, at least 16.

    Returns:
        Text whose characters are all printable.

    >>> plain("cats\x1b[2J\n")
    'cats\\x1b[2J\\n'
    >>> plain("a" * 100, most=16)
    'aaaaaa...aaaaaaa'
    """
    whole = str(text)
    if len(whole) > most:
        kept = most - 3
        whole = f"{whole[: kept // 2]}...{whole[len(whole) - (kept - kept // 2) :]}"
    shown = "".join(c if c.isprintable() else _escaped(c) for c in whole)
    return shown if len(shown) <= 2 * most else f"{shown[: 2 * most - 3]}..."


def plain_lines(text: object, most: int = 20_000) -> str:
    """`plain` for a message of several lines: newlines stay.

    >>> plain_lines("two\\nlines\\x07")
    'two\\nlines\\\\x07'
    """
    whole = str(text)
    if len(whole) > most:
        whole = f"{whole[: most - 3]}..."
    return "\n".join(plain(line, max(len(line), 16)) for line in whole.split("\n"))


def first_sentence(error: BaseException) -> str:
    """An error of another's code as the end of a message of one sentence.

    >>> first_sentence(ValueError("no such shape (https://flax.readthedocs.io/...)\\nTraceback"))
    'no such shape'
    """
    line = str(error).strip().split("\n")[0].partition(" (https:")[0]
    return plain(line, 300) or type(error).__name__


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode()


def suggest(name: str, known: Iterable[str], what: str = "names") -> str:
    """A sentence that offers the nearest known names, or all of them if none is near.

    >>> suggest("resnet05", ["resnet50", "vgg16"])
    "Did you mean 'resnet50'?"
    """
    known = list(known)
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.6)
    if near:
        return "Did you mean " + " or ".join(repr(n) for n in near) + "?"
    return f"Known {what}: {', '.join(known)}." if known else f"There are no known {what}."
