"""NumPy's .npy format, read by own code: nothing is believed or reserved before it is checked."""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Callable
from typing import IO, Any

import numpy as np

from cnnjax.core.text import plain

# NumPy's own bounds.
_MAX_HEADER, _MAX_RANK = 10_000, 32

# Booleans, whole and floating numbers, complex ones, texts of Unicode and of bytes.
_NUMBERS_AND_TEXTS = re.compile(r"[<>|=]?([biufc][0-9]{1,2}|[US][0-9]{1,6})|[<>|=]?\?")
_OBJECTS = re.compile(r"[<>|=]?O[0-9]*")


def read_npy(
    file: IO[bytes],
    size: int,
    name: str,
    types: re.Pattern[str] = _NUMBERS_AND_TEXTS,
    room: Callable[[int], Any] = bytearray,
) -> np.ndarray:
    """An array of numbers or texts.

    NumPy's own reader takes the memory that a header announces before it looks at what is there,
    and fails in many ways.

    Args:
        file: at the array's beginning.
        size: of it all, in bytes.
        name: of the array, for the message.
        types: those that are taken, as NumPy writes them: "<f4".
        room: a buffer of so many bytes, for the array.

    Returns:
        The array; its memory is its own.

    Raises:
        ValueError: in one line, if it is none, holds Python objects (which are pickles, and not
            loaded) or records, or has more or fewer bytes than its header announces.

    >>> import io
    >>> stream = io.BytesIO()
    >>> np.save(stream, np.arange(3, dtype=np.uint8))
    >>> read_npy(io.BytesIO(stream.getvalue()), len(stream.getvalue()), "x").tolist()
    [0, 1, 2]
    """
    magic = file.read(8)
    if len(magic) < 8 or magic[:6] != b"\x93NUMPY" or magic[6:] not in (b"\1\0", b"\2\0", b"\3\0"):
        raise ValueError(f"{plain(name)!r} is no array of a known version of .npy")
    digits = 2 if magic[6] == 1 else 4
    length = int.from_bytes(file.read(digits), "little")
    if length > _MAX_HEADER:
        raise ValueError(f"{plain(name)!r} has a header of {length:,} bytes")
    descr, fortran_order, shape = _header(file.read(length), name)
    dtype = _dtype(descr, name, types)
    stored = size - len(magic) - digits - length
    if math.prod(shape) * dtype.itemsize != stored:
        raise ValueError(
            f"{plain(name)!r} announces {descr} {list(shape)}, and has {max(stored, 0):,} bytes"
        )
    content = room(stored)
    if _fill(file, memoryview(content)) < stored:
        raise ValueError(f"{plain(name)!r} is cut off")
    file.read(1)  # the end: only there a checksum is compared
    array = np.frombuffer(content, dtype)
    return array.reshape(shape[::-1]).T if fortran_order else array.reshape(shape)


def _fill(file: IO[bytes], memory: memoryview) -> int:
    done = 0
    while done < len(memory):
        part = file.read(min(len(memory) - done, 1 << 22))
        if not part:
            break
        memory[done : done + len(part)] = part
        done += len(part)
    return done


def _header(text: bytes, name: str) -> tuple[Any, bool, tuple[int, ...]]:
    """The three entries of a header, which is a Python dictionary."""
    wrong = ValueError(f"{plain(name)!r} has a damaged header")
    try:
        # Python 2 wrote whole numbers with an L.
        source = re.sub(r"(?<=\d)L(?=[,)])", "", text.decode("utf-8").strip())
        content = ast.literal_eval(source)
    # MemoryError, RecursionError: of brackets in brackets.
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        raise wrong from None
    if not isinstance(content, dict) or set(content) != {"descr", "fortran_order", "shape"}:
        raise wrong
    shape = content["shape"]
    if not isinstance(shape, tuple) or not isinstance(content["fortran_order"], bool):
        raise wrong
    if not all(type(n) is int and 0 <= n < 2**63 for n in shape) or len(shape) > _MAX_RANK:
        raise ValueError(f"{plain(name)!r} announces the shape {plain(shape, 80)}")
    return content["descr"], content["fortran_order"], shape


def _dtype(descr: Any, name: str, types: re.Pattern[str]) -> np.dtype:
    if isinstance(descr, str) and _OBJECTS.fullmatch(descr):
        raise ValueError(f"{plain(name)!r} holds Python objects, which are pickles: not loaded")
    if not isinstance(descr, str) or not types.fullmatch(descr):
        raise ValueError(f"{plain(name)!r} holds {plain(descr, 80)}, which is not read")
    try:
        return np.dtype(descr)
    except (TypeError, ValueError):
        raise ValueError(f"{plain(name)!r} holds {descr}, a type that there is not") from None
