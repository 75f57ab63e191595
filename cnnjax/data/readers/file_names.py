"""Names of files and folders as systems write them: one form of Unicode, and no clutter."""

from __future__ import annotations

import functools
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from cnnjax.core.places import expanded
from cnnjax.core.reading import check_regular
from cnnjax.core.text import plain, suggest
from cnnjax.data.errors import DataNotFound

# What macOS, Windows, Linux, Synology's and QNAP's systems and notebooks leave in folders, beside
# what begins with a dot; in small letters.
_CLUTTER = frozenset({
    "__macosx", "icon\r", "temporary items", "network trash folder",
    "$recycle.bin", "recycler", "recycled", "system volume information", "thumbs.db",
    "ehthumbs.db", "ehthumbs_vista.db", "desktop.ini",
    "lost+found", "__pycache__",
    "@eadir", "@tmp", "@recycle", "@recently-snapshot", "@transcode", "@__thumb", "#recycle",
    "#snapshot",
})  # fmt: skip
_SHOWN = 20  # names in a message
_FOUND_BY_CHKDSK = re.compile(r"found\.\d{3}")


def normal(name: str) -> str:
    """A name in the composed form of Unicode (NFC): macOS and archives made there decompose it.

    >>> normal("cafe\\u0301") == "caf\\u00e9"
    True
    """
    return unicodedata.normalize("NFC", name)


def is_clutter(name: str) -> bool:
    """Whether a file or folder of this name is hidden, or left there by a system: no data.

    >>> [name for name in (".DS_Store", "__MACOSX", "@eaDir", "cats") if not is_clutter(name)]
    ['cats']
    """
    lower = name.lower()
    return lower.startswith(".") or lower in _CLUTTER or bool(_FOUND_BY_CHKDSK.fullmatch(lower))


def listed(names: Iterable[str]) -> str:
    """Foreign names in a message: no more than a person reads, fit for a terminal.

    >>> listed(["a", "b"]), listed("x" * 22)[-12:]
    ('a, b', 'x and 2 more')
    """
    names = list(names)
    more = f" and {len(names) - _SHOWN:,} more" if len(names) > _SHOWN else ""
    return ", ".join(plain(name, 60) for name in names[:_SHOWN]) + more


def nearest(name: str, known: Iterable[str], what: str = "names") -> str:
    """`suggest` for foreign names, of which there may be thousands."""
    known = list(known)
    hint = suggest(name, map(plain, known), what)
    return f"Known {what}: {listed(known)}." if hint.startswith("Known ") else hint


def existing(path: str | Path) -> Path:
    """The absolute path of a data file that is there.

    Raises:
        DataNotFound: if it is not.
        Unreadable: if it is a folder, a pipe or a device.
    """
    path = expanded(path).absolute()
    if not os.path.lexists(path):
        raise DataNotFound(f"data file {plain(path)} does not exist (looked in {path.parent})")
    try:
        return check_regular(path, "data file")
    except FileNotFoundError:
        raise DataNotFound(f"data file {plain(path)} is a link that leads nowhere") from None


def found_below(folder: Path, path: str) -> Path:
    """Where a file is that a table names, in whatever form of Unicode the disk has its name.

    Args:
        folder: where relative paths begin.
        path: as the table has it.

    Returns:
        `folder / path`, of which each part that is not there is replaced by the one name in its
        folder that is equal in the composed form.
    """
    whole = folder / path
    if path.isascii() or os.path.lexists(whole):
        return whole
    place = Path(whole.anchor)
    for part in whole.parts[1:]:
        name = part
        if not os.path.lexists(place / part) and os.path.isdir(place):
            name = _names_in(place, os.stat(place).st_mtime_ns).get(normal(part), part)
        place /= name
    return place


@functools.lru_cache(maxsize=64)
def _names_in(folder: Path, changed: int) -> dict[str, str]:
    """{composed form: name} of a folder's content at a time; no names that share a form."""
    names = os.listdir(folder)
    shared = Counter(map(normal, names))
    return {normal(name): name for name in names if shared[normal(name)] == 1}
