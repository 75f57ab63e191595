"""Files of a hub of models (huggingface_hub): named by a text, cached, their revision pinned."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cnnjax.core.download_job import DownloadError
from cnnjax.core.text import first_sentence, plain

PREFIX = "hf://"

_PLACE = re.compile(
    r"hf://(?P<repository>[\w.-]+/[\w.-]+)(?:@(?P<revision>[^/@\s]+))?(?:/(?P<file>[^@\s]+))?"
)


@dataclass(frozen=True)
class HubPlace:
    """What a text names.

    Args:
        repository: "owner/name".
        revision: a branch, tag or commit; None for the main branch.
        file: path in the repository; "" where none is named.
    """

    repository: str
    revision: str | None = None
    file: str = ""

    def __str__(self) -> str:
        revision = f"@{self.revision}" if self.revision else ""
        return f"{PREFIX}{self.repository}{revision}" + (f"/{self.file}" if self.file else "")


def hub_place(text: str) -> HubPlace:
    """What a text like "hf://owner/name@revision/file" names.

    Raises:
        ValueError: if it is of another form.

    >>> hub_place("hf://timm/resnet18.a1_in1k@v1/model.safetensors").file
    'model.safetensors'
    """
    match = _PLACE.fullmatch(text)
    if match is None:
        raise ValueError(f"{plain(text)} must be hf://owner/name, or hf://owner/name@revision/file")
    return HubPlace(match["repository"], match["revision"], match["file"] or "")


def hub_file(place: HubPlace, candidates: Iterable[str] = ()) -> tuple[Path, HubPlace]:
    """A file of a repository, from the cache or downloaded.

    HF_HUB_OFFLINE=1 takes what is in the cache alone.

    Args:
        place: what is wanted.
        candidates: names of files where it names none; the first one that is there is taken.

    Returns:
        The file, and its place with the commit that it is from.

    Raises:
        DownloadError: if it cannot be had; of one line.
    """
    names = [place.file] if place.file else list(candidates)
    with _readable(place):
        from huggingface_hub import hf_hub_download
        from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

        cached = False
        for name in names:
            try:
                file = hf_hub_download(
                    place.repository, name, revision=place.revision, local_files_only=cached
                )
            except LocalEntryNotFoundError:
                if name == names[-1]:
                    raise
                cached = True  # a hub that cannot be reached is tried once
            except EntryNotFoundError:
                if name == names[-1]:
                    raise DownloadError(
                        f"{place} holds no {' or '.join(names)}: name the file, "
                        f"{PREFIX}{place.repository}/FILE"
                    ) from None
            else:
                return Path(file), HubPlace(place.repository, _commit(Path(file)), name)
    raise DownloadError(f"{place} names no file")


def hub_beside(place: HubPlace, name: str) -> Path | None:
    """Another file of the commit and directory of one that `hub_file` found; None without one.

    Args:
        place: as `hub_file` returned it.
        name: of the other file.
    """
    directory = place.file.rpartition("/")[0]
    path = f"{directory}/{name}" if directory else name
    with _readable(place):
        from huggingface_hub import hf_hub_download
        from huggingface_hub.errors import EntryNotFoundError

        try:
            return Path(hf_hub_download(place.repository, path, revision=place.revision))
        except EntryNotFoundError:  # also where only the weights are in the cache
            return None


def hub_directory(place: HubPlace, patterns: list[str]) -> Path:
    """A repository's files, from the cache or downloaded.

    Args:
        place: of the repository.
        patterns: of the files that are wanted.

    Raises:
        DownloadError: if they cannot be had.
    """
    with _readable(place):
        from huggingface_hub import snapshot_download

        return Path(
            snapshot_download(place.repository, revision=place.revision, allow_patterns=patterns)
        )


def upload(directory: Path, repository: str, message: str, private: bool) -> str:
    """Upload a directory's files, into a repository that is made where there is none.

    Args:
        directory: whose files.
        repository: "owner/name".
        message: of the commit.
        private: whether a new repository is.

    Returns:
        The commit.

    Raises:
        DownloadError: if the hub refuses it or cannot be reached.
    """
    place = hub_place(f"{PREFIX}{repository.removeprefix(PREFIX)}")
    with _readable(place):
        from huggingface_hub import HfApi

        api = HfApi()
        api.create_repo(place.repository, private=private, exist_ok=True)
        done: Any = api.upload_folder(
            repo_id=place.repository, folder_path=directory, commit_message=message
        )
        return str(done.oid)


def _commit(file: Path) -> str | None:
    """Of a file in the cache, which lies at snapshots/COMMIT/..."""
    parts = file.parts
    return parts[parts.index("snapshots") + 1] if "snapshots" in parts else None


@contextmanager
def _readable(place: HubPlace) -> Iterator[None]:
    """Errors of the library as one line that names the place."""
    try:
        import huggingface_hub  # noqa: F401
        from huggingface_hub.errors import (
            HfHubHTTPError,
            HFValidationError,
            LocalEntryNotFoundError,
            OfflineModeIsEnabled,
        )
    except ImportError:
        raise DownloadError(f"{place} needs the extra 'hub': pip install 'cnnjax[hub]'") from None
    # Of a hub that cannot be reached, too; which HTTP client it is of differs among releases.
    client_error: Any = HfHubHTTPError.__bases__[0]
    try:
        yield
    except (LocalEntryNotFoundError, OfflineModeIsEnabled):
        raise DownloadError(
            f"{place} is not in the cache, and the hub cannot be reached or HF_HUB_OFFLINE=1 "
            "forbids it"
        ) from None
    except (client_error, HFValidationError) as error:
        raise DownloadError(f"{place} cannot be had: {plain(first_sentence(error), 300)}") from None
