"""Answers of web servers, whatever they do: never waited for too long, never led astray."""

from __future__ import annotations

import http.client
import threading
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from typing import IO

from cnnjax.core.download_job import (
    VALIDATOR,
    Job,
)
from cnnjax.core.text import plain

_CHUNK = 1 << 18


class Cut(Exception):
    """The connection ended before the file did."""


def validator(response: http.client.HTTPResponse) -> str | None:
    """What names this very version of the file; a weak ETag names only its meaning."""
    etag, date = (response.headers.get(name, "").strip() for name in ("ETag", "Last-Modified"))
    given = etag if etag.startswith('"') else date
    return given if VALIDATOR.fullmatch(given) else None


def ask_for(job: Job, ask: dict[str, str]) -> http.client.HTTPResponse | None:
    """Send the request and wait for the head of the answer.

    Args:
        job: what to ask for.
        ask: headers that ask for a part, or none.

    Returns:
        The response; None if the server says that it has no such part (416).

    Raises:
        DownloadError: if the server is not reached, is silent or refuses.
        Cut: if it was reached and the connection ended.
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
        raise Cut(_words(error)) from error
    except (http.client.HTTPException, UnicodeError) as error:
        raise job.error(f"{type(error).__name__}: {_words(error)}") from error
    html = response.headers.get_content_type() in ("text/html", "application/xhtml+xml")
    if html and not urllib.parse.urlsplit(job.url).path.lower().endswith((".html", ".htm")):
        response.close()
        raise job.error("the answer is a web page, as of an error or a login, not the file")
    return response


def read_some(response: http.client.HTTPResponse, job: Job, limit: int | None) -> bytes:
    """What has come, at most `limit` bytes; nothing at the end of the answer."""
    try:
        # read() would wait for the whole chunk, and lose what it has if the connection is cut.
        return response.read1(_CHUNK if limit is None else min(_CHUNK, limit))
    except TimeoutError as error:
        raise Cut(f"nothing came for {job.timeout:g} s") from error
    except (OSError, http.client.HTTPException) as error:
        raise Cut(_words(error)) from error


def goes_on(response: http.client.HTTPResponse) -> bool:
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
