"""What ties the files of a saved model together: a file with the hash of each."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path

from cnnjax.core.reading import Unreadable, check_form, is_regular, read_json
from cnnjax.core.storage import write_files
from cnnjax.core.text import plain

MANIFEST_FILE = "manifest.json"


class UnreadableModel(ValueError):
    """A directory that does not hold a model, or not one for this code."""


def write_tied(directory: Path, parts: Mapping[str, Callable[[Path], object]]) -> None:
    """Write files that belong together, and the manifest that says so.

    Args:
        directory: what is there of the same names is replaced.
        parts: a function for each name that writes its file to a path.
    """
    hashes: dict[str, str] = {}

    def hashed(name: str) -> Callable[[Path], object]:
        def write(path: Path) -> None:
            parts[name](path)
            hashes[name] = _file_hash(path)

        return write

    def manifest(path: Path) -> object:
        return path.write_text(json.dumps({"files": hashes}, indent=1) + "\n", encoding="utf-8")

    # The manifest is made last, and takes its place first: whenever this process is killed, it
    # does not fit files of which some are still those of before.
    writers = {**{name: hashed(name) for name in parts}, MANIFEST_FILE: manifest}
    write_files(directory, writers, order=[MANIFEST_FILE, *parts])


def read_manifest(directory: Path) -> dict[str, str]:
    """{name: hash} of the files of a saved model; {} of a version that wrote no manifest.

    Raises:
        UnreadableModel: if there is one that is damaged.
    """
    file = directory / MANIFEST_FILE
    try:
        content = read_json(file, "manifest")
        check_form(content, {"files": {"*": str}})
    except FileNotFoundError:
        return {}
    except (Unreadable, ValueError) as error:
        raise UnreadableModel(f"{plain(file)} is damaged ({error}): {_WAY_OUT}") from None
    hashes: dict[str, str] = content["files"]
    if not hashes or any(not re.fullmatch(r"[0-9a-f]{64}", value) for value in hashes.values()):
        raise UnreadableModel(f"{plain(file)} is damaged (it holds no hashes): {_WAY_OUT}")
    return hashes


def check_tied(directory: Path, hashes: Mapping[str, str], name: str) -> None:
    """Check that a file is the one that a manifest was written for.

    Raises:
        UnreadableModel: if it is not.
    """
    path = directory / name
    if hashes and (not is_regular(path) or hashes.get(name) != _file_hash(path)):
        raise UnreadableModel(
            f"{plain(path)} is not the file that the model was saved with: it was changed or "
            f"replaced since, or the saving was cut off; {_WAY_OUT}"
        )


_WAY_OUT = f"put back what was there, or delete {MANIFEST_FILE} to take the files as they are"


def _file_hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
