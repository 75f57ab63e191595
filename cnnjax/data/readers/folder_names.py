"""Names of classes as names of folders that any system takes, and back."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Sequence
from urllib.parse import quote

from cnnjax.data.readers.file_names import is_clutter

# Of a name on disk; systems take 255, and files in the folder want some, too.
_MOST_BYTES = 200

# What stands for something on Windows, whatever comes behind a dot.
_DEVICES = frozenset({
    "con", "prn", "aux", "nul", *(f"{port}{n}" for port in ("com", "lpt") for n in range(10)),
})  # fmt: skip

# As they are in any file name; "%" and "~" are ours.
_SAFE = " !#$&'()+,;=@[]^`{}"


def folder_names(names: Sequence[str]) -> tuple[str, ...]:
    """Names of folders for classes: no two of one name, on systems that fold letters either.

    Letters and most signs stay. What a system does not take becomes the percent-code of its bytes
    in UTF-8, so that `urllib.parse.unquote` has the name back; so does the first sign of a name
    that `load` would pass over, as __MACOSX, and whatever is no small ASCII letter or digit in
    names that differ in nothing but capitals or the form of their accents. A name of more than 200
    bytes is cut, with "~" and the number of its class behind it.

    Args:
        names: of classes, all different.

    Returns:
        One each, in their order.

    >>> folder_names(["cat", "and/or", "..", "Ant", "ant"])
    ('cat', 'and%2For', '%2E%2E', '%41nt', 'ant')
    """
    shared = Counter(map(_folded, names))
    found = []
    for number, name in enumerate(names):
        folder = _strictly(name) if shared[_folded(name)] > 1 else _quoted(name)
        if len(folder.encode()) > _MOST_BYTES:
            cut = folder.encode()[:_MOST_BYTES].decode(errors="ignore")
            folder = f"{cut.rpartition('%')[0] if '%' in cut[-3:] else cut}~{number}"
        found.append(folder)
    return tuple(found)


def _folded(name: str) -> str:
    """What systems take for one name."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def _quoted(name: str) -> str:
    """Coded where it must be: signs, what is not printed, a dot or blank at an end, devices."""
    shown = "".join(c if c.isalnum() or c in "-_. " or _plain(c) else _code(c) for c in name)
    if not shown:
        return "%"
    if name.partition(".")[0].strip().lower() in _DEVICES or is_clutter(name):
        shown = _code(name[0]) + shown[1:]
    if shown[0] in ". ":
        shown = _code(shown[0]) + shown[1:]
    if shown[-1] in ". ":
        shown = shown[:-1] + _code(shown[-1])
    return shown


def _strictly(name: str) -> str:
    return "".join(c if c in "abcdefghijklmnopqrstuvwxyz0123456789" else _code(c) for c in name)


def _plain(character: str) -> bool:
    foreign = not character.isascii() and character.isprintable()
    return foreign or character in _SAFE


def _code(character: str) -> str:
    """Of the bytes in UTF-8; `quote` leaves some signs alone."""
    code = quote(character, safe="", errors="surrogatepass")
    return code if code != character else f"%{ord(character):02X}"
