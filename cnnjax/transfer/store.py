"""Features in a file that is complete or known to be cut off at a certain row."""

from __future__ import annotations

import errno
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

from cnnjax.storage import write_file, write_text

FACTS_FILE = "features.json"

_RECORD_EVERY = 1.0  # seconds: what a killed process loses at most


def read_facts(folder: Path, facts: Mapping[str, Any]) -> dict[str, Any] | None:
    """Layer and shape of the features in a folder; None if it has none of these facts."""
    try:
        known: dict[str, Any] = json.loads((folder / FACTS_FILE).read_text(encoding="utf-8"))
        same = known["of"] == json.loads(json.dumps(facts))
        return known if same and len(known["shape"]) == 3 and known["layer"] else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


@dataclass(frozen=True)
class FeatureFile:
    """One part's features as a .npy file, its labels and its progress beside it.

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
        """The features, memory-mapped; None unless all rows are there."""
        if self._done() < self.shape[0]:
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
            with open(os.open(self.path, os.O_RDWR | os.O_CREAT, 0o666), "r+b") as file:
                writer = RowWriter(self, file)
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

    def _done(self) -> int:
        """Rows that are on the disk for certain."""
        try:
            rows = json.loads(self._progress.read_text(encoding="utf-8"))["rows"]
            size = self.path.stat().st_size
            with open(self.path, "rb") as file:
                header = self.header()
                whole = file.read(len(header)) == header
        except (OSError, ValueError, KeyError, TypeError):
            return 0
        if not whole or not isinstance(rows, int):
            return 0
        return max(min(rows, (size - len(header)) // self.row_bytes()), 0)

    @property
    def _progress(self) -> Path:
        return self.folder / f"{self.name}.json"

    def _check_space(self) -> None:
        """Before hours of work."""
        needed = (self.shape[0] - self._done()) * self.row_bytes()
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

    Attributes:
        done: rows that were written.
    """

    def __init__(self, target: FeatureFile, file: IO[bytes]):
        self._target, self._file = target, file
        self.done = target._done()
        self._recorded = time.perf_counter()
        if not self.done:
            file.write(target.header())

    def write(self, start: int, rows: np.ndarray) -> None:
        """Write float32 [n, h, w, C] at a row; all rows before it must be there."""
        begin = len(self._target.header()) + start * self._target.row_bytes()
        self._file.seek(begin)
        self._file.write(np.ascontiguousarray(rows, "<f4").tobytes())
        self.done = start + len(rows)
        if time.perf_counter() - self._recorded > _RECORD_EVERY:
            self.record()

    def record(self) -> None:
        """Bring all rows to the disk, and only then note how many there are."""
        self._file.flush()
        os.fsync(self._file.fileno())
        # Another process may be further on; its rows are on the disk too.
        self._target.record(max(self.done, self._target._done()))
        self._recorded = time.perf_counter()


def _save(path: Path, labels: np.ndarray) -> None:
    with open(path, "wb") as file:  # numpy.save would append .npy to the temporary name
        np.save(file, labels)
