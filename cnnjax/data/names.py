"""What a name, folder or file is, and what to say of one that is nothing of all that is known."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from cnnjax.core.places import expanded
from cnnjax.core.text import plain, suggest
from cnnjax.data.prepare.known import IN_FOLDERS, RECIPES
from cnnjax.data.readers.digits import load_digits
from cnnjax.data.readers.formats import expected_files, reader_of
from cnnjax.data.readers.reader import Reader
from cnnjax.data.readers.tfds import prepared_versions, tfds_directory

EMBEDDED = {"digits": load_digits}
KNOWN = (*EMBEDDED, *(name for name in RECIPES if name != "imdb_reviews"))

# A TFDS name, perhaps with a configuration: never a path that leaves the data directory.
_NAME = re.compile(r"\w+(/\w[\w.\-]*)?")

_NO_NAMES = ("", ".", "..")  # of no data set nor folder: an empty variable, rather


def path_of(name: str) -> Path:
    """The path that a name may be; the folder of the process for an empty one, which is none.

    Raises:
        ValueError: for a user who is not there, as in ~nobody/data, or a null byte.
    """
    return expanded(name) if name else Path()


def place_of(name: str, data_dir: str | Path | None) -> Path:
    """The absolute path that a name may be; of a data set that was prepared in folders, theirs.

    Raises:
        ValueError: as `path_of`.
    """
    prepared = tfds_directory(data_dir) / name
    there = name in IN_FOLDERS and prepared.is_dir()
    return (prepared if there else path_of(name)).absolute()


def check_outside(target: Path, data: Path, option: str = "") -> None:
    """Refuse to write into the folder of a data set, where an image would be one of its images.

    Args:
        target: what is to be written.
        data: the folder, or anything else, within which nothing can lie.
        option: by which another place is given, for the message.
    """
    if data.is_dir() and target.absolute().resolve().is_relative_to(data.resolve()):
        raise ValueError(
            f"{plain(target)} lies in the folder of the data set, which it would change: give "
            f"another place{option}"
        )


def prepared_names(root: Path) -> list[str]:
    """Names of the data sets that a TFDS directory holds, of images or not."""
    if not root.is_dir():
        return []
    return sorted(
        p.name
        for p in root.iterdir()
        if p.is_dir() and (p.name in IN_FOLDERS or prepared_versions(p))
    )


def format_of(name: str, data_dir: str | Path | None) -> Reader | None:
    """The format of the file or folder of a name; None: it names a data set, or is none known."""
    if name in EMBEDDED or name in _NO_NAMES or is_prepared(name, data_dir):
        return None
    return reader_of(place_of(name, data_dir))


def is_folder(name: str, data_dir: str | Path | None) -> bool:
    """Whether a name is that of a folder, and not of a data set."""
    named = name in _NO_NAMES or is_prepared(name, data_dir)
    return not named and place_of(name, data_dir).is_dir()


def nowhere(name: str, root: Path) -> str:
    """What to say of a name that is neither that of a data set nor of a file or folder."""
    path = path_of(name).absolute()
    if name in (".", ".."):
        return f"data set {name!r} was not found: for that folder write {name}/"
    if path.is_file():
        return f"{path} is a file of no kind that is known: expected {expected_files()}"
    message = not_found(name, root, KNOWN, expected_files(), "digits")
    return message if path.exists() else f"{message}. Nor is there a folder or file {path}"


def is_prepared(name: str, data_dir: str | Path | None) -> bool:
    """Whether there is a TFDS data set of that name, or of a known one what is left of it."""
    if not _NAME.fullmatch(name):
        return False
    folder = tfds_directory(data_dir) / name
    known = name in RECIPES and name not in IN_FOLDERS
    return bool(prepared_versions(folder)) or (known and folder.is_dir())


def not_found(name: str, root: Path, known: Sequence[str], own: str, embedded: str) -> str:
    """Where a data set was looked for, and what to do.

    Args:
        name: of the data set.
        root: the TFDS directory.
        known: names that there are.
        own: how files of one's own are called.
        embedded: the data set that needs no files.
    """
    found = prepared_names(root)
    where = f"data set {name!r} was not found: looked in {root.absolute()}"
    where += f" (which holds {', '.join(found)})" if found else " (no data sets there)"
    known = [*dict.fromkeys((*known, *found))]
    if name not in known:
        return f"{where}. {suggest(name, known, 'data sets')} A file of your own: {own}"
    return f"{where}. {how_to_get(name)} Needs no files: --data {embedded}"


def how_to_get(name: str) -> str:
    """The command that prepares a TFDS data set; "NAME" stands for any."""
    if name in (*RECIPES, "NAME"):
        return (
            f"Prepare it once: cnnjax data prepare {name} (on a machine without network: prepare "
            "it on another, and give the directory with --data-dir or TFDS_DATA_DIR)."
        )
    return (
        'Prepare it once, on any machine with TensorFlow: python -c "import tensorflow_datasets '
        f"as tfds; tfds.builder('{name}', file_format='array_record').download_and_prepare()\"; "
        "then give its directory with --data-dir or TFDS_DATA_DIR."
    )
