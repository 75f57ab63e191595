"""Files and directories that are complete or absent, whatever interrupts their writing.

What a killed process leaves half written is called `.NAME.PLACE-PID-CHANCE.tmp`, by which it is
known for what it is, and goes when its directory is next written to.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import hashlib
import os
import re
import secrets
import shutil
import socket
import time
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from pathlib import Path

_REMAINS = re.compile(r"\..+\.(?P<place>[0-9a-f]{8})-(?P<pid>\d+)-[0-9a-f]{8}\.tmp")
_OLD_REMAINS = re.compile(r"\.(?P<name>.+)\.(?P<pid>\d+)")  # of versions before there was a rule

# Another machine's processes cannot be asked whether they live: so long none of them writes.
_ABANDONED_SECONDS = 7 * 86_400


def write_file(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a file beside the place of `path`, then put it there in one step.

    Args:
        path: what to write or replace.
        write: gets the path of a temporary file in the same directory.

    Raises:
        OSError: with `path`, not the temporary file's, in its text; for a pipe or a device, too.
    """
    _check_place(path)
    _sweep_once(path.parent)
    beside = _beside(path)
    try:
        write(beside)
        _to_disk(beside)
        os.replace(beside, path)
    except OSError as error:
        if error.errno is None:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        beside.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """`write_file` for text, in UTF-8."""
    write_file(path, lambda beside: beside.write_bytes(text.encode()))  # the same everywhere


def write_files(
    directory: Path, writers: Mapping[str, Callable[[Path], object]], order: Sequence[str]
) -> None:
    """Let several files be filled beside their places; only when all are, they go there.

    Args:
        directory: of all of them.
        writers: for each name a function that gets the path of a temporary file, in this order.
        order: in which they take their places.

    Raises:
        OSError: with the path of the file itself in its text; then nothing was replaced, unless
            the replacing failed.
    """
    for name in writers:
        _check_place(directory / name)
    _sweep_once(directory)
    beside = {name: _beside(directory / name) for name in writers}
    name = ""
    try:
        for name, write in writers.items():
            write(beside[name])
            _to_disk(beside[name])
        for name in order:
            os.replace(beside[name], directory / name)
    except OSError as error:
        if error.errno is None:
            raise
        raise OSError(error.errno, error.strerror, str(directory / name)) from error
    finally:
        for path in beside.values():
            path.unlink(missing_ok=True)


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
    with staged(path) as building:
        write(building)
        try:
            os.rename(building, path)
        except OSError:
            if not is_whole(path):
                shutil.rmtree(path, ignore_errors=True)
                os.rename(building, path)


@contextlib.contextmanager
def staged(path: Path) -> Iterator[Path]:
    """An empty directory beside the place of `path`, to be filled and moved there, or gone.

    Args:
        path: what is written; its parent is made if needed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    _sweep_once(path.parent)
    building = _beside(path)
    building.mkdir(0o700)
    try:
        yield building
    finally:
        shutil.rmtree(building, ignore_errors=True)


def is_remains(name: str, known: Container[str] = ()) -> bool:
    """Whether a file's or directory's name is that of something half written.

    Args:
        name: of it.
        known: names of files whose remains older versions left as `.NAME.PID`.

    >>> is_remains(".run.json.0123abcd-77-89abcdef.tmp"), is_remains("run.json")
    (True, False)
    >>> is_remains(".run.json.77"), is_remains(".run.json.77", known=("run.json",))
    (False, True)
    """
    return _remains(name, known) is not None


def sweep(folder: Path, known: Container[str] = ()) -> None:
    """Delete what processes that have ended left half written in a folder.

    Args:
        folder: it may be missing; folders in it are not looked into.
        known: as for `is_remains`.
    """
    try:
        entries = list(os.scandir(folder))
    except OSError:  # missing, or not readable: whoever writes there will hear of it
        return
    for entry in entries:
        found = _remains(entry.name, known)
        if found is None or not _abandoned(entry, found):
            continue
        if entry.is_dir(follow_symlinks=False):
            shutil.rmtree(entry.path, ignore_errors=True)
        else:
            with contextlib.suppress(OSError):
                os.unlink(entry.path)


# A directory of thousands of files is not listed for each of them.
_sweep_once = functools.lru_cache(maxsize=256)(sweep)


def _remains(name: str, known: Container[str]) -> re.Match[str] | None:
    if found := _REMAINS.fullmatch(name):
        return found
    old = _OLD_REMAINS.fullmatch(name)
    return old if old and old["name"] in known else None


def _abandoned(entry: os.DirEntry[str], found: re.Match[str]) -> bool:
    if os.name == "posix" and found.groupdict().get("place", _place()) == _place():
        return not _lives(int(found["pid"]))
    with contextlib.suppress(OSError):
        return time.time() - entry.stat(follow_symlinks=False).st_mtime > _ABANDONED_SECONDS
    return False


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):  # another user's, or a number that no process has
        pass
    return True


def _beside(path: Path) -> Path:
    name = path.name[:50]  # file systems take 255 bytes
    return path.with_name(f".{name}.{_place()}-{os.getpid()}-{secrets.token_hex(4)}.tmp")


@functools.cache
def _place() -> str:
    """Where the numbers of processes mean something: this machine, this container."""
    where = socket.gethostname()
    with contextlib.suppress(OSError):
        where += f" {os.stat('/proc/self/ns/pid').st_ino}"
    return text_hash(where)[:8]


def _to_disk(file: Path) -> None:
    """Without it a cut of power may leave the new name with nothing in it."""
    handle = os.open(file, os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


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


def text_hash(text: str | bytes) -> str:
    """SHA-256 of a text in UTF-8, the first 16 digits."""
    content = text.encode() if isinstance(text, str) else text
    return hashlib.sha256(content).hexdigest()[:16]
