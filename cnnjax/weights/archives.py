"""Zip archives of others: their list of members, checked before anything is unpacked."""

from __future__ import annotations

import struct
import zipfile
import zlib
from collections import Counter
from pathlib import Path

from cnnjax.core.text import plain
from cnnjax.weights.hdf5_child import MAX_NAME, MAX_OBJECTS
from cnnjax.weights.stored import Allowance, DamagedWeights

# What zipfile raises for archives that are not as they were written.
ZIP_ERRORS = (
    zipfile.BadZipFile,
    OSError,
    ValueError,  # of sizes and names
    NotImplementedError,  # of a compression
    RuntimeError,  # of a password
    EOFError,
    zlib.error,
    struct.error,
    KeyError,
    OverflowError,
    MemoryError,
)

# Of a member's entry in the list at the end of an archive, in which names and comments stand.
_ENTRY_BYTES = 46 + MAX_NAME
_END, _END_64 = b"PK\x05\x06", b"PK\x06\x06"


def members(path: Path) -> list[zipfile.ZipInfo]:
    """The members of an archive.

    Raises:
        DamagedWeights: if it is none, has too many members, two of one name, or would unpack to
            far more than it is.
    """
    try:
        _check_count(path)
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except DamagedWeights:
        raise
    except ZIP_ERRORS as error:
        raise DamagedWeights(
            f"{path} is not a readable .keras, .npz or .pth file: {error}"
        ) from None
    names = [entry.filename for entry in entries]
    name, times = Counter(names).most_common(1)[0] if names else ("", 0)
    if times > 1:
        raise DamagedWeights(f"{path}: the member {plain(repr(name), 80)} is there {times} times")
    if any(len(name) > MAX_NAME for name in names):
        raise DamagedWeights(f"{path}: names are longer than {MAX_NAME} characters")
    size = path.stat().st_size
    allowance = Allowance(path, size)
    for entry in entries:
        if entry.compress_size > size:
            raise DamagedWeights(f"{path}: {entry.filename!r} claims more bytes than there are")
        allowance.take(entry.file_size, plain(entry.filename, 80))
    return entries


def read_member(path: Path, name: str, most: int) -> bytes | None:
    """A small member of an archive; None where there is none.

    Raises:
        DamagedWeights: if it is not readable, or has more bytes than that.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            if name not in archive.namelist():
                return None
            with archive.open(name) as file:
                content = file.read(most + 1)
    except ZIP_ERRORS as error:
        raise DamagedWeights(f"{path}: its member {name} is not readable: {error}") from None
    if len(content) > most:
        raise DamagedWeights(f"{path}: its member {name} has more than {most:,} bytes")
    return content


def _check_count(path: Path) -> None:
    """Refuse a list of too many members by its size: zipfile makes an object of each."""
    size = path.stat().st_size
    with path.open("rb") as file:
        file.seek(max(0, size - (1 << 16) - 200))
        tail = file.read()
    end = tail.rfind(_END)
    if end < 0 or len(tail) < end + 16:
        return  # zipfile says what is wrong
    length = int.from_bytes(tail[end + 12 : end + 16], "little")
    large = tail.rfind(_END_64, 0, end)
    count = int.from_bytes(tail[end + 10 : end + 12], "little")
    if large >= 0 and 0xFFFFFFFF in (length, count | 0xFFFF0000):
        count = int.from_bytes(tail[large + 32 : large + 40], "little")
        length = int.from_bytes(tail[large + 40 : large + 48], "little")
    if length > min(size, MAX_OBJECTS * _ENTRY_BYTES) or count > MAX_OBJECTS:
        raise DamagedWeights(f"{path} has more than {MAX_OBJECTS:,} members, or a damaged list")
