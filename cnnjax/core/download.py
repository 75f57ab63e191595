"""A file from the web: checked, resumed where it was cut, and in its place whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import http.client
import json
import os
import re
import shutil
import stat
import string
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from cnnjax.core.checks import is_number
from cnnjax.core.progress import progress_bar
from cnnjax.core.reading import read_json
from cnnjax.core.storage import alone, write_text
from cnnjax.core.text import plain

_SCHEMES = ("http", "https")
_CHUNK = 1 << 18
# Seconds before each repetition of a download that was cut.
_PAUSES = (0.2, 0.5, 1.0)
# Bytes after which an attempt was none of those that failed.
_WORTHWHILE = 1 << 20
# A server that sends less than so many bytes a second for so many seconds is given up: each wait
# for a few bytes is short, and all together would never end.
_SLOWEST, _PATIENCE = 1024, 60.0
# What names a version of a file, as it comes in a header and is sent back in one.
_VALIDATOR = re.compile(r'"[!#-~]{0,200}"|[A-Za-z0-9 ,:+-]{1,60}')


class DownloadError(OSError):
    """A file could not be had: one line with the file or address, the reason and the way out."""


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
    _check_numbers(md5, sha256, size, timeout)
    url = _checked_url(url)
    path = directory / _checked_name(url, name)
    job = _Job(url, path, md5, sha256, size, timeout)
    if not _found(job):
        directory.mkdir(parents=True, exist_ok=True)
        with alone(path.with_name(f".{path.name}.lock")):
            if not _found(job):  # nobody has placed it while this process waited
                _fetch(job, progress)
    return path


class _Cut(Exception):
    """The connection ended before the file did."""


@dataclass(frozen=True)
class _Kept:
    """What an earlier attempt left: so many bytes of the file that the validator names."""

    bytes: int
    validator: str
    total: int | None


@dataclass(frozen=True)
class _Job:
    """What to download, and the files that belong to it."""

    url: str
    path: Path
    md5: str | None
    sha256: str | None
    size: int | None
    timeout: float

    @property
    def part(self) -> Path:
        return self.path.with_name(f".{self.path.name}.part")

    @property
    def note(self) -> Path:
        """Says of what the part is a part."""
        return self.path.with_name(f".{self.path.name}.part.json")

    def error(self, reason: str) -> DownloadError:
        return DownloadError(
            f"cannot download {self.url}: {reason}; put the file by hand at {self.path}"
        )

    def late(self) -> DownloadError:
        return self.error(f"no answer within {self.timeout:g} s")

    def fault(self, file: Path) -> str | None:
        """What is wrong with a complete file, if anything."""
        if self.size is not None and (found := file.stat().st_size) != self.size:
            return f"has {found} bytes, expected {self.size}"
        for kind, expected in (("md5", self.md5), ("sha256", self.sha256)):
            if expected is not None and (digest := _digest(file, kind)) != expected.lower():
                return f"has the {kind} {digest}, expected {expected.lower()}"
        return None

    def kept(self) -> _Kept | None:
        """What can be gone on with; None without a validator, which alone tells that it fits."""
        try:
            note = read_json(self.note)
            have = self.part.stat().st_size
            url, validator, total = note["url"], note["validator"], note["total"]
        except (OSError, ValueError, KeyError, TypeError):
            return None
        if url != self.url or not isinstance(validator, str) or not _VALIDATOR.fullmatch(validator):
            return None
        if total is not None and (not isinstance(total, int) or isinstance(total, bool)):
            return None
        if total is None:
            total = self.size
        fits = self.size in (None, total) and (total is None or have <= total)
        return _Kept(have, validator, total) if have and fits else None

    def check_places(self) -> None:
        """Refuse to write through what somebody has put where the file or its part goes.

        Raises:
            DownloadError: for a link, a pipe, a device, or a second name of another file.
        """
        for file in (self.part, self.note, self.path):
            try:
                state = os.lstat(file)
            except FileNotFoundError:
                continue
            if file is self.path and stat.S_ISLNK(state.st_mode):
                continue  # is replaced, not followed
            if not stat.S_ISREG(state.st_mode) or state.st_nlink > 1:
                raise self.error(
                    f"{plain(file)} is no file of its own, but a link, a pipe, a device or a "
                    "directory: delete it"
                )

    def length(self) -> int:
        """Bytes of the part that there are."""
        return self.part.stat().st_size if self.part.is_file() else 0

    def discard(self) -> None:
        self.part.unlink(missing_ok=True)
        self.note.unlink(missing_ok=True)


def _check_numbers(md5: str | None, sha256: str | None, size: int | None, timeout: float) -> None:
    for kind, value, digits in (("md5", md5, 32), ("sha256", sha256, 64)):
        if value is not None and not re.fullmatch(f"[0-9a-fA-F]{{{digits}}}", value):
            raise ValueError(f"{kind}={value!r} is not {digits} hexadecimal digits")
    if size is not None and (isinstance(size, bool) or not isinstance(size, int)):
        raise ValueError(f"size={size!r} is no whole number: give the file's length in bytes")
    if size is not None and size < 0:
        raise ValueError(f"size={size} is negative: give the file's length in bytes or None")
    if not (is_number(timeout) and timeout > 0):
        raise ValueError(f"timeout={timeout} is no time to wait: give seconds above 0")


def _checked_url(url: str) -> str:
    """The address with everything escaped that HTTP does not carry."""
    try:
        parts = urllib.parse.urlsplit(url)
        usable = parts.scheme in _SCHEMES and bool(parts.hostname) and parts.port != 0
        quoted = urllib.parse.quote(url, safe=string.punctuation)
    except ValueError:  # a port or an IPv6 address that is none, half of a character
        usable = False
    if not usable:
        raise ValueError(f"url={url!r} is not an address: give http://HOST/... or https://HOST/...")
    return quoted


def _checked_name(url: str, name: str | None) -> str:
    if name is None:
        last = urllib.parse.urlsplit(url).path.rpartition("/")[2]
        name = urllib.parse.unquote(last)
    # The name may come from the address: it must not lead out of the directory.
    if name in ("", ".", "..") or re.search(r"[/\\:]", name) or not name.isprintable():
        raise ValueError(f"name={name!r} of {url} is not a plain file name: give one as name=")
    return name


def _digest(file: Path, kind: str) -> str:
    with open(file, "rb") as opened:
        # A machine in FIPS mode has MD5 only for what is no matter of security.
        return hashlib.file_digest(
            opened, lambda: hashlib.new(kind, usedforsecurity=False)
        ).hexdigest()


def _found(job: _Job) -> bool:
    """Whether the file is there; one that is there and wrong is the user's to delete."""
    if not job.path.is_file():
        return False
    if fault := job.fault(job.path):
        raise DownloadError(f"{job.path} {fault}; delete it to download it again from {job.url}")
    return True


def _fetch(job: _Job, progress: bool) -> None:
    """Download, verify, place."""
    job.check_places()
    with progress_bar(job.path.name, wanted=progress, of_bytes=True) as show:
        failures = 0
        while True:
            before = job.length()
            try:
                _attempt(job, show)
                break
            except _Cut as cut:
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


def _attempt(job: _Job, show: Callable[[int, int | None], object]) -> None:
    """Bring the part to its end over one connection.

    Raises:
        _Cut: if the connection ends before.
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
                _write_note(job, _validator(response), total)
            show(done, end)
            began, before = time.monotonic(), done
            while data := _read(response, job, None if end is None else end - done):
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
            raise _Cut(f"last after {done} of {total} bytes")
        if total is None and done == end and _goes_on(response):
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


def _check_space(job: _Job, needed: int | None) -> None:
    """Before a large download, not at its end."""
    if needed and needed > shutil.disk_usage(job.path.parent).free:
        raise OSError(errno.ENOSPC, f"no space for {needed} bytes", str(job.part))


def _answer(job: _Job, kept: _Kept | None) -> tuple[http.client.HTTPResponse, int, int | None]:
    """Ask for the file, or for the rest of it.

    Returns:
        The response, how many bytes of the part stay before it, the whole file's length if known.
    """
    if kept:
        ask = {"Range": f"bytes={kept.bytes}-", "If-Range": kept.validator}
        response = _open(job, ask)
        if response and response.status == 200:
            return response, 0, response.length
        if response and _continues(response, kept):
            total = kept.total
            if total is None and response.length is not None:
                total = kept.bytes + response.length
            return response, kept.bytes, total
        if response:
            response.close()
    response = _open(job, {})
    if response is None or response.status != 200:
        status = response.status if response else 416
        if response:
            response.close()
        raise job.error(f"the server answered {status} where 200 was due")
    return response, 0, response.length


def _continues(response: http.client.HTTPResponse, kept: _Kept) -> bool:
    """Whether a partial answer is the rest of what is kept: servers may ignore If-Range."""
    given = response.headers.get("Content-Range", "")
    match = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", given.strip())
    return (
        response.status == 206
        and match is not None
        and int(match[1]) == kept.bytes
        and (match[2] == "*" or kept.total in (None, int(match[2])))
        and _validator(response) in (None, kept.validator)
    )


def _validator(response: http.client.HTTPResponse) -> str | None:
    """What names this very version of the file; a weak ETag names only its meaning."""
    etag, date = (response.headers.get(name, "").strip() for name in ("ETag", "Last-Modified"))
    given = etag if etag.startswith('"') else date
    return given if _VALIDATOR.fullmatch(given) else None


def _write_note(job: _Job, validator: str | None, total: int | None) -> None:
    if validator is None:
        job.note.unlink(missing_ok=True)
        return
    note = {"url": job.url, "validator": validator, "total": total}
    write_text(job.note, json.dumps(note))


@contextlib.contextmanager
def _writing(job: _Job) -> Iterator[None]:
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


def _open(job: _Job, ask: dict[str, str]) -> http.client.HTTPResponse | None:
    """Send the request and wait for the head of the answer.

    Args:
        job: what to ask for.
        ask: headers that ask for a part, or none.

    Returns:
        The response; None if the server says that it has no such part (416).

    Raises:
        DownloadError: if the server is not reached, is silent or refuses.
        _Cut: if it was reached and the connection ended.
    """
    opener = urllib.request.build_opener(_Redirects)
    request = urllib.request.Request(job.url, headers={"User-Agent": "cnnjax", **ask})
    try:
        response = _within(job.timeout, lambda: opener.open(request, timeout=job.timeout))
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 416:
            return None
        raise job.error(f"the server answered {error.code} {_words(error.reason)}") from error
    except urllib.error.URLError as error:
        raise job.error(f"the server was not reached ({_words(error.reason)})") from error
    except TimeoutError as error:
        raise job.late() from error
    except (OSError, http.client.IncompleteRead) as error:
        raise _Cut(_words(error)) from error
    except (http.client.HTTPException, UnicodeError) as error:
        raise job.error(f"{type(error).__name__}: {_words(error)}") from error
    html = response.headers.get_content_type() in ("text/html", "application/xhtml+xml")
    if html and not urllib.parse.urlsplit(job.url).path.lower().endswith((".html", ".htm")):
        response.close()
        raise job.error("the answer is a web page, as of an error or a login, not the file")
    return response


def _read(response: http.client.HTTPResponse, job: _Job, limit: int | None) -> bytes:
    """What has come, at most `limit` bytes; nothing at the end of the answer."""
    try:
        # read() would wait for the whole chunk, and lose what it has if the connection is cut.
        return response.read1(_CHUNK if limit is None else min(_CHUNK, limit))
    except TimeoutError as error:
        raise _Cut(f"nothing came for {job.timeout:g} s") from error
    except (OSError, http.client.HTTPException) as error:
        raise _Cut(_words(error)) from error


def _goes_on(response: http.client.HTTPResponse) -> bool:
    """Whether an answer of unknown length has more; a server that only keeps the line has not."""
    try:
        return bool(response.read1(1))
    except (OSError, http.client.HTTPException):
        return False


def _words(error: object) -> str:
    """An error's text on one line; servers have their say in it."""
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return plain(" ".join(text.split()))


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows from http to http or https and from https to https only."""

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: http.client.HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        # Not req.type: that is the proxy's where there is one.
        before, after = (urllib.parse.urlsplit(url).scheme for url in (req.full_url, newurl))
        if after not in ("https", before):
            reason = f"{msg}, a redirection to {newurl}, which is not allowed"
            raise urllib.error.HTTPError(req.full_url, code, reason, headers, fp)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _within(
    seconds: float, work: Callable[[], http.client.HTTPResponse]
) -> http.client.HTTPResponse:
    """Ask a server in a thread that is not waited for any longer.

    Looking up a name has no timeout, each of its addresses has one, and so has each byte of a head.

    Raises:
        TimeoutError: if it takes longer; the thread is left behind and closes what it gets.
    """
    answers: list[http.client.HTTPResponse] = []
    errors: list[BaseException] = []
    late = threading.Event()

    def run() -> None:
        try:
            answers.append(work())
        except BaseException as error:
            errors.append(error)
        if late.is_set():
            for answer in answers:
                answer.close()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        thread.join(seconds)
        if thread.is_alive():
            raise TimeoutError
    except BaseException:
        late.set()
        raise
    if errors:
        raise errors[0]
    return answers[0]
