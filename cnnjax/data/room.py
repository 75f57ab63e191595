"""Room for an array that is read whole: in memory, or beyond the memory budget on disk."""

from __future__ import annotations

import mmap
import os
import tempfile

from cnnjax.core.runtime import cache_directory


class NoRoom(OSError):
    """The cache cannot be written, as on a full disk."""


def room(size: int, budget: int) -> bytearray | mmap.mmap:
    """A buffer of so many bytes, to be filled.

    Args:
        size: of the buffer.
        budget: up to which it lies in memory. A larger one is a file without a name in the cache,
            mapped to memory, from which the system takes what it needs and writes it back; it is
            gone with the last array in it.

    Raises:
        NoRoom: if the disk is full, or may not be written.
    """
    if size <= budget:
        return bytearray(size)
    folder = cache_directory() / "data"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            if hasattr(os, "posix_fallocate"):  # a full disk would end the process later on
                os.posix_fallocate(file.fileno(), 0, size)
            else:
                file.truncate(size)
            return mmap.mmap(file.fileno(), size)
    except OSError as error:
        raise NoRoom(error.errno, error.strerror, str(folder)) from error
