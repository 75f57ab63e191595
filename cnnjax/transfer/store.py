"""Features in a file that is complete or known to be cut off at a certain row.

Each row has a checksum, which depends on the row's number, the data, the model and the layer too:
rows that were damaged, or are another store's, are known when the file is opened.
"""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from cnnjax.core.checks import whole_number
from cnnjax.core.reading import read_json
from cnnjax.core.storage import write_file, write_text

FACTS_FILE = "features.json"

_RECORD_EVERY = 1.0  # seconds: what a killed process loses at most
_CHECKSUM = 8  # bytes of a row's
_AT_ONCE = 1 << 24  # bytes that are read to be checked


def read_facts(folder: Path, facts: Mapping[str, Any]) -> dict[str, Any] | None:
    """Layer and shape of the features in a folder; None if it has none of these facts."""
    try:
        known: dict[str, Any] = read_json(folder / FACTS_FILE)
        same = known["of"] == json.loads(json.dumps(facts))
        shape, layer = known["shape"], known["layer"]
        usable = len(shape) == 3 and all(whole_number("shape", n) for n in shape)
        return known if same and usable and isinstance(layer, str) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


@dataclass(frozen=True)
class FeatureFile:
    """One part's features as a .npy file, its labels, checksums and progress beside it.

    The rows are appended as plain writes, which fail on a full disk, where a memory map that grows
    would kill the process; how many are on the disk is recorded only after they are there.

    Args:
        folder: of all parts.
        name: of this part.
        shape: (N, h, w, C).
    """

    folder: Path
    name: str
    shape: tuple[int, ...]

    @property
    def path(self) -> Path:
        """The file with the features."""
        return self.folder / f"{self.name}.npy"

    def open(self) -> np.ndarray | None:
        """The features, memory-mapped; None unless all rows are there, each as it was written."""
        if self.sound() < self.shape[0]:
            return None
        try:
            found = np.load(self.path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError):
            return None
        return found if found.shape == self.shape and found.dtype == np.float32 else None

    @contextmanager
    def writing(
        self, labels: np.ndarray, facts: Mapping[str, Any], layer: str
    ) -> Iterator[RowWriter]:
        """A writer that goes on where the file stands, and records what is written when it ends.

        Args:
            labels: [N], stored as NAME.labels.npy.
            facts: what decides about the features of the folder, stored in it.
            layer: whose output they are.

        Raises:
            OSError: if something cannot be written, as on a full disk.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._check_space()
            known = {"of": dict(facts), "layer": layer, "shape": self.shape[1:]}
            write_text(self.folder / FACTS_FILE, json.dumps(known, indent=1) + "\n")
            # Without truncation: of two processes, which write the same, none undoes the other.
            with _opened(self.path) as file, _opened(self.checksums) as checksums:
                writer = RowWriter(self, file, checksums)
                try:
                    yield writer
                finally:
                    writer.record()
            write_file(
                self.folder / f"{self.name}.labels.npy", lambda beside: _save(beside, labels)
            )
        except OSError as error:
            if error.errno is None:
                raise
            raise OSError(
                error.errno,
                f"features cannot be written ({error.strerror}): mend that and call again, which "
                "goes on where this stopped",
                str(self.path),
            ) from None

    def row_bytes(self) -> int:
        """Of one image's features."""
        return 4 * int(np.prod(self.shape[1:]))

    def header(self) -> bytes:
        """What a .npy file of this shape begins with."""
        buffer = io.BytesIO()
        facts = {"descr": "<f4", "fortran_order": False, "shape": self.shape}
        np.lib.format.write_array_header_2_0(buffer, facts)
        return buffer.getvalue()

    def record(self, rows: int) -> None:
        """Note that so many rows are on the disk."""
        write_text(self._progress, json.dumps({"rows": rows, "of": self.shape[0]}) + "\n")

    def recorded(self) -> int:
        """Rows that are on the disk, as far as is noted."""
        try:
            rows = read_json(self._progress)["rows"]
            size = self.path.stat().st_size
            with open(self.path, "rb") as file:
                header = self.header()
                whole = file.read(len(header)) == header
        except (OSError, ValueError, KeyError, TypeError):
            return 0
        if not whole or not isinstance(rows, int):
            return 0
        return max(min(rows, self.shape[0], (size - len(header)) // self.row_bytes()), 0)

    def sound(self) -> int:
        """Rows from the first on that have their checksums, by reading them."""
        rows, length = self.recorded(), self.row_bytes()
        if not rows:
            return 0
        try:
            kept = self.checksums.read_bytes()
            with open(self.path, "rb") as file:
                file.seek(len(self.header()))
                step = max(_AT_ONCE // length, 1)
                for start in range(0, rows, step):
                    count = min(step, rows - start)
                    found = self.checksums_of(start, file.read(count * length))
                    wanted = kept[_CHECKSUM * start : _CHECKSUM * (start + count)]
                    if found != wanted:
                        return start + _equal(found, wanted)
        except OSError:
            return 0
        return rows

    def checksums_of(self, start: int, rows: bytes) -> bytes:
        """The checksums of consecutive rows.

        Args:
            start: number of the first.
            rows: as they are in the file.
        """
        length, key = self.row_bytes(), f"{self.folder.name} {self.name}".encode()[:64]
        view, found = memoryview(rows), []
        for number in range(len(rows) // length):
            digest = hashlib.blake2b(digest_size=_CHECKSUM, key=key)
            digest.update((start + number).to_bytes(8, "little"))
            digest.update(view[number * length : (number + 1) * length])
            found.append(digest.digest())
        return b"".join(found)

    @property
    def checksums(self) -> Path:
        """The file with the checksum of each row."""
        return self.folder / f"{self.name}.checksums"

    @property
    def _progress(self) -> Path:
        return self.folder / f"{self.name}.json"

    def _check_space(self) -> None:
        """Before hours of work."""
        needed = (self.shape[0] - self.recorded()) * self.row_bytes()
        free = shutil.disk_usage(self.folder).free
        if needed > free:
            raise OSError(
                errno.ENOSPC,
                f"{needed / 2**20:,.0f} MiB are needed, {free / 2**20:,.0f} MiB are free",
                str(self.folder),
            )


class RowWriter:
    """Writes rows of a `FeatureFile` that is open.

    Args:
        target: what is written.
        file: open for reading and writing.
        checksums: likewise.

    Attributes:
        done: rows that were written.
    """

    def __init__(self, target: FeatureFile, file: IO[bytes], checksums: IO[bytes]):
        self._target, self._file, self._checksums = target, file, checksums
        self.done = target.sound()
        self._recorded = time.perf_counter()
        if not self.done:
            file.write(target.header())

    def write(self, start: int, rows: np.ndarray) -> None:
        """Write float32 [n, h, w, C] at a row; all rows before it must be there."""
        begin = len(self._target.header()) + start * self._target.row_bytes()
        data = np.ascontiguousarray(rows, "<f4").tobytes()
        self._file.seek(begin)
        self._file.write(data)
        self._checksums.seek(_CHECKSUM * start)
        self._checksums.write(self._target.checksums_of(start, data))
        self.done = start + len(rows)
        if time.perf_counter() - self._recorded > _RECORD_EVERY:
            self.record()

    def record(self) -> None:
        """Bring all rows to the disk, and only then note how many there are."""
        for file in (self._file, self._checksums):
            file.flush()
            os.fsync(file.fileno())
        # Another process may be further on; its rows are on the disk too.
        self._target.record(max(self.done, self._target.recorded()))
        self._recorded = time.perf_counter()


def _opened(path: Path) -> IO[bytes]:
    return open(os.open(path, os.O_RDWR | os.O_CREAT, 0o666), "r+b")


def _equal(found: bytes, wanted: bytes) -> int:
    """How many checksums are equal from the first on."""
    same = [
        found[i : i + _CHECKSUM] == wanted[i : i + _CHECKSUM]
        for i in range(0, len(found), _CHECKSUM)
    ]
    return same.index(False) if False in same else len(same)


def _save(path: Path, labels: np.ndarray) -> None:
    with open(path, "wb") as file:  # numpy.save would append .npy to the temporary name
        np.save(file, labels)
