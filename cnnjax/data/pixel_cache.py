"""Decoded pixels on disk: written batch by batch, complete or absent, opened memory-mapped.

Beside them lies their checksum. It is compared at every opening of up to `CHECKED` bytes: reading
more than that would make every start slow, so of a larger cache only shape and size are looked at.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from cnnjax.storage import write_directory

_FILE = "images.npy"
_CHECKSUM = "images.crc32"

# About a tenth of a second.
CHECKED = 256 * 2**20


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
            lambda beside: write_pixels(beside, shape, batches),
            lambda there: open_pixels(there, shape) is not None,
        )
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(folder)) from error
    pixels = open_pixels(folder, shape)
    if pixels is None:
        raise OSError(f"the cache {folder} cannot be read back: is the disk full?")
    return pixels


def write_pixels(folder: Path, shape: tuple[int, ...], batches: Iterable[np.ndarray]) -> None:
    """Write what `open_pixels` opens; arguments as in `kept_pixels`."""
    # Not into a memory-mapped file, where a full disk would be the end of the process.
    head = {"descr": "|u1", "fortran_order": False, "shape": shape}
    with open(folder / _FILE, "wb") as file:
        np.lib.format.write_array_header_1_0(file, head)
        checksum = 0
        for batch in batches:
            pixels = np.ascontiguousarray(batch).data
            checksum = zlib.crc32(pixels, checksum)
            file.write(pixels)
    (folder / _CHECKSUM).write_text(f"{checksum}\n", encoding="ascii")


def open_pixels(folder: Path, shape: tuple[int, ...] | None = None) -> np.ndarray | None:
    """The pixels in a folder, memory-mapped; None where they are absent, damaged or others.

    A checksum is looked at as the module says.

    Args:
        folder: as `write_pixels` fills it; without a checksum, as older versions left it, the
            pixels are taken as they are.
        shape: that they should have; None: any.
    """
    try:
        pixels = np.load(folder / _FILE, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError):  # absent, or cut off by a full disk
        return None
    if pixels.shape != (shape or pixels.shape) or pixels.dtype != np.uint8:
        return None
    return pixels if _as_written(folder, pixels) else None


def _as_written(folder: Path, pixels: np.ndarray) -> bool:
    """Whether pixels have their checksum, as far as it is looked at."""
    if pixels.nbytes > CHECKED:
        return True
    try:
        kept = (folder / _CHECKSUM).read_bytes()
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return kept.strip() == b"%d" % zlib.crc32(np.ascontiguousarray(pixels).data)


def is_writable(folder: Path) -> bool:
    """Whether a folder is there, made if need be, and may be written to."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return False
    return os.access(folder, os.W_OK)
