"""Decoded pixels on disk: written batch by batch, complete or absent, opened memory-mapped.

Beside them lie checksums of their blocks and of the small files that belong to them, with the name
of the folder, so that files of another cache are not taken for these. They are compared at every
opening. Of pixels of more than `CHECKED` bytes, which would make every start slow, only where the
file is not the one that was compared last, by its number, size and times.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

import numpy as np

from cnnjax.core.reading import check_regular, read_json
from cnnjax.core.runtime import visible_cores
from cnnjax.core.storage import write_directory, write_text

_FILE = "images.npy"
_CHECKSUMS = "checksums.json"
_LAST_CHECK = "checked.txt"

# About a fifth of a second on two cores.
CHECKED = 2**30
_BLOCK = 8 * 2**20


def kept_pixels(folder: Path, shape: tuple[int, ...], batches: Iterable[np.ndarray]) -> np.ndarray:
    """Pixels by way of a folder that they are written to; a damaged one is replaced.

    Args:
        folder: to write; where it may not be written the pixels stay in memory.
        shape: [N, H, W, C], of all of them.
        batches: uint8 [n, H, W, C], in order.

    Returns:
        uint8 [N, H, W, C], memory-mapped or in memory.

    Raises:
        OSError: with the folder in its text, if it cannot be written to its end, as on a full disk.
    """
    if not is_writable(folder.parent):
        in_memory, start = np.empty(shape, np.uint8), 0
        for batch in batches:
            in_memory[start : start + len(batch)] = batch
            start += len(batch)
        return in_memory
    try:
        write_directory(
            folder,
            lambda beside: write_pixels(beside, folder.name, shape, batches),
            lambda there: open_pixels(there, shape) is not None,
        )
    except OSError as error:
        if error.errno is None:  # of what is decoded, and not of the folder
            raise
        raise OSError(error.errno, error.strerror, str(folder)) from error
    pixels = open_pixels(folder, shape)
    if pixels is None:
        raise OSError(f"the cache {folder} cannot be read back: is the disk full?")
    return pixels


def write_pixels(
    folder: Path,
    name: str,
    shape: tuple[int, ...],
    batches: Iterable[np.ndarray],
    others: Callable[[], dict[str, bytes]] = dict,
) -> None:
    """Write what `open_pixels` opens.

    Args:
        folder: to write into.
        name: that the folder will have.
        shape, batches: as in `kept_pixels`.
        others: asked after the last batch for contents of small files, by name.
    """
    # Not into a memory-mapped file, where a full disk would be the end of the process.
    head = {"descr": "|u1", "fortran_order": False, "shape": shape}
    with open(folder / _FILE, "wb") as opened:
        file = _Summed(opened)
        np.lib.format.write_array_header_1_0(file, head)
        for batch in batches:
            file.write(np.ascontiguousarray(batch).tobytes())
    files = {_FILE: file.checksums}
    for other, content in others().items():
        (folder / other).write_bytes(content)
        files[other] = _checksums(folder / other)
    kept = {"folder": name, "files": files}
    (folder / _CHECKSUMS).write_text(json.dumps(kept), encoding="utf-8")


def open_pixels(
    folder: Path, shape: tuple[int, ...] | None = None, others: Sequence[str] = ()
) -> np.ndarray | None:
    """The pixels in a folder, memory-mapped; None where they are absent, damaged or others.

    Args:
        folder: as `write_pixels` fills it.
        shape: that they should have; None: any.
        others: names of all small files, which have to be whole, too.
    """
    if not _as_written(folder, others):
        return None
    try:
        pixels = np.load(folder / _FILE, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    if pixels.shape != (shape or pixels.shape) or pixels.dtype != np.uint8:
        return None
    return pixels


def _as_written(folder: Path, others: Sequence[str]) -> bool:
    """Whether the files of a cache have their checksums, as far as these are looked at."""
    pixels, last_check = folder / _FILE, folder / _LAST_CHECK
    try:
        kept = read_json(folder / _CHECKSUMS, "checksums of a cache")
        files = {other: _checksums(folder / other) for other in others}
        identity = _identity(check_regular(pixels))
        large = pixels.stat().st_size > CHECKED
        trusted = large and last_check.is_file() and last_check.read_text("utf-8") == identity
        files[_FILE] = kept["files"][_FILE] if trusted else _checksums(pixels)
        if kept != {"folder": folder.name, "files": files}:
            return False
    except (OSError, ValueError, KeyError, TypeError):
        return False
    if large and not trusted:
        with suppress(OSError):  # where it may not be written: compared again next time
            write_text(last_check, identity)
    return True


def _identity(file: Path) -> str:
    """Changes with all that is done to a file but by a failing disk."""
    state = file.stat()
    return f"{state.st_ino} {state.st_size} {state.st_mtime_ns} {state.st_ctime_ns}"


def _checksums(file: Path) -> list[int]:
    """Of each block of a file; the last one is not full, maybe empty."""
    count = check_regular(file).stat().st_size // _BLOCK + 1

    def checksum(number: int) -> int:
        with open(file, "rb") as opened:
            opened.seek(number * _BLOCK)
            return zlib.crc32(opened.read(_BLOCK))

    if count == 1:
        return [checksum(0)]
    with ThreadPoolExecutor(visible_cores()) as threads:
        return list(threads.map(checksum, range(count)))


class _Summed:
    """A file that is written, and the checksums of its blocks as `_checksums` finds them."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._room = _BLOCK
        self.checksums = [0]

    def write(self, data: bytes) -> None:
        """Append these bytes."""
        self._file.write(data)
        rest = memoryview(data)
        while rest:
            some, rest = rest[: self._room], rest[self._room :]
            self.checksums[-1] = zlib.crc32(some, self.checksums[-1])
            self._room -= len(some)
            if not self._room:
                self._room = _BLOCK
                self.checksums.append(0)


def is_writable(folder: Path) -> bool:
    """Whether a folder is there, made if need be, and may be written to."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return False
    return os.access(folder, os.W_OK)
