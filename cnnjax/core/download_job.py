"""One download: what it was asked for, what is kept of it, and its errors."""

from __future__ import annotations

import hashlib
import os
import re
import stat
import string
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from cnnjax.core.checks import is_number
from cnnjax.core.reading import read_json
from cnnjax.core.text import plain

_SCHEMES = ("http", "https")


# What names a version of a file, as it comes in a header and is sent back in one.
VALIDATOR = re.compile(r'"[!#-~]{0,200}"|[A-Za-z0-9 ,:+-]{1,60}')


class DownloadError(OSError):
    """A file could not be had: one line with the file or address, the reason and the way out."""


@dataclass(frozen=True)
class Kept:
    """What an earlier attempt left: so many bytes of the file that the validator names."""

    bytes: int
    validator: str
    total: int | None


@dataclass(frozen=True)
class Job:
    """What to download, and the files that belong to it."""

    url: str
    path: Path
    md5: str | None
    sha256: str | None
    size: int | None
    timeout: float

    @property
    def part(self) -> Path:
        """What has come of the file so far."""
        return self.path.with_name(f".{self.path.name}.part")

    @property
    def note(self) -> Path:
        """Says of what the part is a part."""
        return self.path.with_name(f".{self.path.name}.part.json")

    def error(self, reason: str) -> DownloadError:
        """The error that names the address, the reason and the way out."""
        return DownloadError(
            f"cannot download {self.url}: {reason}; put the file by hand at {self.path}"
        )

    def late(self) -> DownloadError:
        """The error of a server that did not answer in time."""
        return self.error(f"no answer within {self.timeout:g} s")

    def fault(self, file: Path) -> str | None:
        """What is wrong with a complete file, if anything."""
        if self.size is not None and (found := file.stat().st_size) != self.size:
            return f"has {found} bytes, expected {self.size}"
        for kind, expected in (("md5", self.md5), ("sha256", self.sha256)):
            if expected is not None and (digest := _digest(file, kind)) != expected.lower():
                return f"has the {kind} {digest}, expected {expected.lower()}"
        return None

    def kept(self) -> Kept | None:
        """What can be gone on with; None without a validator, which alone tells that it fits."""
        try:
            note = read_json(self.note)
            have = self.part.stat().st_size
            url, validator, total = note["url"], note["validator"], note["total"]
        except (OSError, ValueError, KeyError, TypeError):
            return None
        if url != self.url or not isinstance(validator, str) or not VALIDATOR.fullmatch(validator):
            return None
        if total is not None and (not isinstance(total, int) or isinstance(total, bool)):
            return None
        if total is None:
            total = self.size
        fits = self.size in (None, total) and (total is None or have <= total)
        return Kept(have, validator, total) if have and fits else None

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
        """Forget what is kept."""
        self.part.unlink(missing_ok=True)
        self.note.unlink(missing_ok=True)


def check_numbers(md5: str | None, sha256: str | None, size: int | None, timeout: float) -> None:
    """Refuse what is no hash, size or time to wait; arguments as in `download`."""
    for kind, value, digits in (("md5", md5, 32), ("sha256", sha256, 64)):
        if value is not None and not re.fullmatch(f"[0-9a-fA-F]{{{digits}}}", value):
            raise ValueError(f"{kind}={value!r} is not {digits} hexadecimal digits")
    if size is not None and (isinstance(size, bool) or not isinstance(size, int)):
        raise ValueError(f"size={size!r} is no whole number: give the file's length in bytes")
    if size is not None and size < 0:
        raise ValueError(f"size={size} is negative: give the file's length in bytes or None")
    if not (is_number(timeout) and timeout > 0):
        raise ValueError(f"timeout={timeout} is no time to wait: give seconds above 0")


def checked_url(url: str) -> str:
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


def checked_name(url: str, name: str | None) -> str:
    """A plain file name, by default the last part of the address."""
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
