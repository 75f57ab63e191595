"""HDF5 read by a short-lived process, so that a damaged file cannot take this one with it."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from cnnjax.core.reading import parse_json
from cnnjax.weights import hdf5_child
from cnnjax.weights.stored import Allowance, DamagedWeights, from_bfloat16

# The least that a file gets, and how many bytes a second more for the large ones; a file of 550 MB
# (VGG19) takes 2 seconds from a local disk, and may take 60.
_SECONDS, _BYTES_A_SECOND = 2.0, 10_000_000

# Until Python and NumPy have started, from a disk that is slow or asleep.
_START_SECONDS = 120.0

_MAX_HEADER = 64 << 20


def read_guarded(path: Path, member: str = "") -> dict[str, Any]:
    """What `hdf5_child` finds in a file, with the values of the arrays.

    Args:
        path: of the HDF5 file, or of the archive that it is in.
        member: its name in the archive.

    Returns:
        The header; each of its arrays has its "values", in the dtype of the file, bfloat16 in
        float32.

    Raises:
        DamagedWeights: if it is none, or reading it fails, crashes or does not end.
    """
    seconds = _SECONDS + path.stat().st_size / _BYTES_A_SECOND
    process = _start(path.absolute(), member, seconds)
    assert process.stdout is not None
    clock = _Clock(process)
    try:
        clock.restart(_START_SECONDS)
        if process.stdout.read(1) != hdf5_child.READY:
            raise DamagedWeights(f"{path} cannot be read: {sys.executable} did not start h5py")
        clock.restart(4 * seconds)  # where other work waits, processor time is what counts
        return _received(process.stdout, path)
    except EOFError:
        process.kill()
        ended = process.wait()
        why = "does not end" if clock.over or ended in _OUT_OF_TIME else "crashes the HDF5 library"
        raise DamagedWeights(f"{path} is damaged: reading it {why}") from None
    finally:
        clock.stop()
        process.kill()
        process.wait()
        process.stdout.close()


# -SIGXCPU; named so that systems without it can import this.
_OUT_OF_TIME = (-24,)


def _start(path: Path, member: str, seconds: float) -> Any:
    """The process; -I: nothing that lies in the working directory is imported instead."""
    where = json.dumps([entry for entry in sys.path if entry])
    script = hdf5_child.__file__
    return subprocess.Popen(
        [sys.executable, "-I", script, str(path), member, str(seconds), where],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        # Its threads' stacks would count as memory.
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
    )


class _Clock:
    """Ends a process after a time; `over` says whether it had to."""

    def __init__(self, process: Any):
        self.process, self.over, self.timer = process, False, threading.Timer(0, self._end)

    def restart(self, seconds: float) -> None:
        self.timer.cancel()
        self.timer = threading.Timer(seconds, self._end)
        self.timer.daemon = True
        self.timer.start()

    def stop(self) -> None:
        self.timer.cancel()

    def _end(self) -> None:
        self.over = True
        self.process.kill()


def _received(stream: BinaryIO, path: Path) -> dict[str, Any]:
    """The header and the arrays, from the stream or from the file."""
    _check_status(stream, path)
    length = int.from_bytes(_exactly(stream, 8), "little")
    if length > _MAX_HEADER:
        raise DamagedWeights(f"{path} is damaged: its names take {length:,} bytes")
    header: dict[str, Any] = parse_json(bytes(_exactly(stream, length)))
    allowance = Allowance(path, path.stat().st_size)
    with path.open("rb") as file:
        for layer in header["layers"]:
            for array in layer["arrays"]:
                if array["offset"] is None:
                    _check_status(stream, path)
                else:
                    file.seek(array["offset"])
                source = stream if array["offset"] is None else file
                array["values"] = _values(source, array, allowance, path)
    return header


def _values(
    stream: BinaryIO, array: dict[str, Any], allowance: Allowance, path: Path
) -> np.ndarray:
    shape = tuple(array["shape"])
    half = array["dtype"] == "bfloat16"
    dtype = np.dtype("<u2" if half else array["dtype"]).newbyteorder("<")
    allowance.take(math.prod(shape) * dtype.itemsize, array["name"])
    values = np.empty(shape, dtype)
    _fill(stream, values.reshape(-1).view(np.uint8).data)
    return from_bfloat16(values) if half else values


def _check_status(stream: BinaryIO, path: Path) -> None:
    """Raise the error that comes instead of what is expected."""
    if bytes(_exactly(stream, 1)) == hdf5_child.DATA:
        return
    length = int.from_bytes(_exactly(stream, 8), "little")
    text = bytes(_exactly(stream, min(length, 1 << 16))).decode()
    if text.startswith("\0"):  # of the library
        raise DamagedWeights(f"{path} is not a readable HDF5 file: {text[1:]}")
    raise DamagedWeights(f"{path}: {text}")


def _exactly(stream: BinaryIO, size: int) -> memoryview:
    content = memoryview(bytearray(size))
    _fill(stream, content)
    return content


def _fill(stream: BinaryIO, content: memoryview) -> None:
    """Raises EOFError where the stream ends early."""
    done = 0
    while done < len(content):
        read = stream.readinto(content[done:])  # type: ignore[attr-defined]
        if not read:
            raise EOFError
        done += read
