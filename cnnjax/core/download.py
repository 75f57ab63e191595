"""A file from the web: checked, resumed where it was cut, and in its place whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import http.client
import json
import os
import re
import shutil
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from cnnjax.core.download_job import (
    DownloadError,
    Job,
    Kept,
    check_numbers,
    checked_name,
    checked_url,
)
from cnnjax.core.progress import progress_bar
from cnnjax.core.storage import alone, write_text
from cnnjax.core.web import Cut, ask_for, goes_on, read_some, validator

# Seconds before each repetition of a download that was cut.
_PAUSES = (0.2, 0.5, 1.0)
# Bytes after which an attempt was none of those that failed.
_WORTHWHILE = 1 << 20
# A server that sends less than so many bytes a second for so many seconds is given up: each wait
# for a few bytes is short, and all together would never end.
_SLOWEST, _PATIENCE = 1024, 60.0


def download(
    url: str,
    directory: Path,
    *,
    md5: str | None = None,
    sha256: str | None = None,
    size: int | None = None,
    name: str | None = None,
    timeout: float = 5.0,
    progress: bool = True,
) -> Path:
    """Download a file, or find it where an earlier call or the user has put it.

    A download that was cut goes on where it ended, in this call or in a later one, if the server
    can do that and its file is still the same. Processes that ask for one file at once download
    it once. Proxies are taken from the environment (http_proxy, https_proxy, no_proxy).

    Args:
        url: an http or https address.
        directory: where the file goes; made if it is missing.
        md5: the file's MD5 in hexadecimal digits, if known.
        sha256: the file's SHA-256 in hexadecimal digits, if known.
        size: the file's length in bytes, if known; never more than this is written.
        name: what to call the file; by default the last component of the address's path.
        timeout: seconds to wait for a connection and the head of the answer, then for each piece
            of the file; a server that sends next to nothing is given up after a minute.
        progress: show a bar while downloading, if stderr is a terminal.

    Returns:
        directory / name, whose size and checksums are as given.

    Raises:
        ValueError: if an argument cannot be meant.
        DownloadError: if the file cannot be had, or one that is there already is another one, or
            a link or pipe stands where the part of the file is kept.
        OSError: if the file cannot be written; with a full disk, what came is kept for later.
    """
    check_numbers(md5, sha256, size, timeout)
    url = checked_url(url)
    path = directory / checked_name(url, name)
    job = Job(url, path, md5, sha256, size, timeout)
    if not _found(job):
        directory.mkdir(parents=True, exist_ok=True)
        with alone(path.with_name(f".{path.name}.lock")):
            if not _found(job):  # nobody has placed it while this process waited
                _fetch(job, progress)
    return path


def _found(job: Job) -> bool:
    """Whether the file is there; one that is there and wrong is the user's to delete."""
    if not job.path.is_file():
        return False
    if fault := job.fault(job.path):
        raise DownloadError(f"{job.path} {fault}; delete it to download it again from {job.url}")
    return True


def _fetch(job: Job, progress: bool) -> None:
    """Download, verify, place."""
    job.check_places()
    with progress_bar(job.path.name, wanted=progress, of_bytes=True) as show:
        failures = 0
        while True:
            before = job.length()
            try:
                _attempt(job, show)
                break
            except Cut as cut:
                if job.length() >= before + _WORTHWHILE:
                    failures = 0  # a large file over a poor line comes after all
                failures += 1
                if failures > len(_PAUSES):
                    raise job.error(f"the connection was cut {failures} times ({cut})") from cut
                time.sleep(_PAUSES[failures - 1])
    if fault := job.fault(job.part):
        job.discard()
        raise job.error(f"what came {fault}, and was deleted")
    os.replace(job.part, job.path)
    job.note.unlink(missing_ok=True)


def _attempt(job: Job, show: Callable[[int, int | None], object]) -> None:
    """Bring the part to its end over one connection.

    Raises:
        Cut: if the connection ends before.
    """
    kept = job.kept()
    if kept and kept.bytes == kept.total:
        return  # the process ended just before it placed the file
    response, done, total = _answer(job, kept)
    with response:
        if total is not None and job.size not in (None, total):
            raise job.error(f"the server's file has {total} bytes, expected {job.size}")
        end = job.size if total is None else total
        mode = "ab" if done else "wb"
        with _writing(job), open(job.part, mode, buffering=0, opener=_own_file) as file:
            _check_space(job, None if end is None else end - done)
            if not done:  # only now that the old part is gone
                _write_note(job, validator(response), total)
            show(done, end)
            began, before = time.monotonic(), done
            while data := read_some(response, job, None if end is None else end - done):
                _write(file, data)
                done += len(data)
                show(done, end)
                waited = time.monotonic() - began
                if waited > _PATIENCE and done - before < _SLOWEST * waited:
                    raise job.error(
                        f"the server sent {done - before} bytes in {waited:.0f} s, less than "
                        f"{_SLOWEST} a second; a later call goes on with what is kept"
                    )
        if total is not None and done < total:
            raise Cut(f"last after {done} of {total} bytes")
        if total is None and done == end and goes_on(response):
            job.discard()
            raise job.error(f"the server sent more than the expected {end} bytes")


def _own_file(path: str, flags: int) -> int:
    """Open a file for writing, but none behind a link, and no pipe, which would wait for ever."""
    flags |= getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    handle = os.open(path, flags, 0o666)
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise OSError(errno.EINVAL, "not a regular file", path)
    return handle


def _check_space(job: Job, needed: int | None) -> None:
    """Before a large download, not at its end."""
    if needed and needed > shutil.disk_usage(job.path.parent).free:
        raise OSError(errno.ENOSPC, f"no space for {needed} bytes", str(job.part))


def _answer(job: Job, kept: Kept | None) -> tuple[http.client.HTTPResponse, int, int | None]:
    """Ask for the file, or for the rest of it.

    Returns:
        The response, how many bytes of the part stay before it, the whole file's length if known.
    """
    if kept:
        ask = {"Range": f"bytes={kept.bytes}-", "If-Range": kept.validator}
        response = ask_for(job, ask)
        if response and response.status == 200:
            return response, 0, response.length
        if response and _continues(response, kept):
            total = kept.total
            if total is None and response.length is not None:
                total = kept.bytes + response.length
            return response, kept.bytes, total
        if response:
            response.close()
    response = ask_for(job, {})
    if response is None or response.status != 200:
        status = response.status if response else 416
        if response:
            response.close()
        raise job.error(f"the server answered {status} where 200 was due")
    return response, 0, response.length


def _continues(response: http.client.HTTPResponse, kept: Kept) -> bool:
    """Whether a partial answer is the rest of what is kept: servers may ignore If-Range."""
    given = response.headers.get("Content-Range", "")
    match = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", given.strip())
    return (
        response.status == 206
        and match is not None
        and int(match[1]) == kept.bytes
        and (match[2] == "*" or kept.total in (None, int(match[2])))
        and validator(response) in (None, kept.validator)
    )


def _write_note(job: Job, validator: str | None, total: int | None) -> None:
    if validator is None:
        job.note.unlink(missing_ok=True)
        return
    note = {"url": job.url, "validator": validator, "total": total}
    write_text(job.note, json.dumps(note))


@contextlib.contextmanager
def _writing(job: Job) -> Iterator[None]:
    """Tell of a disk that takes no more; what comes over the network raises other errors."""
    try:
        yield
    except DownloadError:
        raise
    except OSError as error:
        reason = f"{error.strerror}: the download stopped; a later call goes on with what is kept"
        raise OSError(error.errno, reason, str(job.part)) from error


def _write(file: IO[bytes], data: bytes) -> None:
    view = memoryview(data)
    while view:  # an unbuffered write takes what fits, and the next one says why it was not all
        view = view[file.write(view) :]
