"""Files that are complete or absent, whatever interrupts their writing."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path


def write_file(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a file beside the place of `path`, then put it there in one step.

    Args:
        path: what to write or replace.
        write: gets the path of a temporary file in the same directory.

    Raises:
        OSError: with `path`, not the temporary file's, in its text.
    """
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        write(beside)
        os.replace(beside, path)
    except OSError as error:
        if error.errno is None:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        beside.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """`write_file` for text, in UTF-8."""
    write_file(path, lambda beside: beside.write_text(text, encoding="utf-8"))


def text_hash(text: str) -> str:
    """SHA-256 of a text, the first 16 digits."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]
