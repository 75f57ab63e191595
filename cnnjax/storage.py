"""Files and directories that are complete or absent, whatever interrupts their writing."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path


def write_file(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a file beside the place of `path`, then put it there in one step.

    Args:
        path: what to write or replace.
        write: gets the path of a temporary file in the same directory.

    Raises:
        OSError: with `path`, not the temporary file's, in its text; for a pipe or a device, too.
    """
    _check_place(path)
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


def write_directory(
    path: Path, write: Callable[[Path], object], is_whole: Callable[[Path], bool]
) -> None:
    """Let `write` fill a directory beside the place of `path`, then put it there in one step.

    Args:
        path: what to write; its parent is made if needed.
        write: gets the path of an empty directory.
        is_whole: whether what is there already may stay, put there by another process meanwhile;
            what is damaged is replaced.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    building = Path(tempfile.mkdtemp(prefix=f".{path.name}-", dir=path.parent))
    try:
        write(building)
        try:
            os.rename(building, path)
        except OSError:
            if not is_whole(path):
                shutil.rmtree(path, ignore_errors=True)
                os.rename(building, path)
    finally:
        shutil.rmtree(building, ignore_errors=True)


@contextlib.contextmanager
def alone(path: Path, waiting: Callable[[], object] = lambda: None) -> Iterator[None]:
    """Let one process in at a time, by a lock on a file that goes away afterwards.

    Args:
        path: of that file; its directory exists.
        waiting: called if another process is in.
    """
    try:
        import fcntl
    except ImportError:  # Windows: two at once may spoil what is half done, never what is whole
        yield
        return

    def lock(handle: int) -> None:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            waiting()
            fcntl.flock(handle, fcntl.LOCK_EX)

    handle = _locked(path, lock)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(handle)


def _locked(path: Path, lock: Callable[[int], object]) -> int:
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            # Some network file systems have no locks: there it is as on Windows.
            with contextlib.suppress(OSError):
                lock(handle)
            if os.path.samestat(os.fstat(handle), os.stat(path)):
                return handle
        except FileNotFoundError:
            pass
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)  # who held the lock before has removed the file: this lock locks nothing


def _check_place(path: Path) -> None:
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise OSError(errno.EINVAL, "not a regular file, which is not replaced", str(path))


def write_bytes(path: Path, data: bytes | memoryview) -> None:
    """`write_file` for bytes: where a library would die of a full disk, it writes into memory."""
    write_file(path, lambda beside: beside.write_bytes(data))


def text_hash(text: str) -> str:
    """SHA-256 of a text, the first 16 digits."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]
