"""Texts for people: foreign ones made fit for a terminal, near names, functions by name."""

from __future__ import annotations

import dataclasses
import difflib
import functools
import re
from collections.abc import Callable, Iterable
from typing import Any

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


def counted(count: int, one: str, several: str = "") -> str:
    """A number with its noun.

    Args:
        count: how many.
        one: the noun for one of them.
        several: for others; "" is with an s behind.

    >>> counted(1, "epoch"), counted(2000, "epoch"), counted(0, "class", "classes")
    ('1 epoch', '2,000 epochs', '0 classes')
    """
    return f"{count:,} {one if count == 1 else several or f'{one}s'}"


def nearest(name: str, known: Iterable[str], most: int = 3, cutoff: float = 0.6) -> list[str]:
    """The known names that are most like a name, best first.

    Args:
        name: perhaps misspelt.
        known: the names that there are.
        most: number of names returned.
        cutoff: likeness from which on a name counts, in [0, 1].
    """
    return difflib.get_close_matches(name, list(known), n=most, cutoff=cutoff)


def suggest(name: str, known: Iterable[str], what: str = "names") -> str:
    """A sentence that offers the nearest known names, or all of them if none is near.

    >>> suggest("resnet05", ["resnet50", "vgg16"])
    "Did you mean 'resnet50'?"
    """
    known = list(dict.fromkeys(known))
    if near := nearest(name, known):
        return "Did you mean " + " or ".join(map(repr, near)) + "?"
    return f"Known {what}: {', '.join(known)}." if known else f"There are no known {what}."


def qualified_name(function: Callable) -> str:
    """The module and name of a function, for records.

    The same in every process. Of a dataclass also its settings, of a `functools.partial` the
    function and its arguments.

    >>> import functools, math
    >>> qualified_name(functools.partial(math.pow, 2.0))
    'functools.partial(math.pow, 2.0)'
    """
    if isinstance(function, functools.partial):
        given = [_argument(value) for value in function.args]
        given += [f"{name}={_argument(value)}" for name, value in function.keywords.items()]
        return f"functools.partial({', '.join([qualified_name(function.func), *given])})"
    if dataclasses.is_dataclass(function) and not isinstance(function, type):
        return f"{function.__module__}.{without_address(repr(function))}"
    return f"{function.__module__}.{getattr(function, '__qualname__', type(function).__name__)}"


def without_address(text: str) -> str:
    """The text of an object without its place in memory, which is another one in every process.

    >>> without_address("<function f at 0x7f00>")
    '<function f>'
    """
    return re.sub(r" at 0x[0-9a-f]+", "", text)


def _argument(value: Any) -> str:
    return qualified_name(value) if callable(value) else without_address(repr(value))
