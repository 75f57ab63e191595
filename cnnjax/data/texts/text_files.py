"""Where texts with labels come from: TFDS directories, class folders of .txt files, CSV files."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from cnnjax.core.places import expanded
from cnnjax.core.reading import check_regular, is_regular
from cnnjax.core.storage import text_hash
from cnnjax.core.text import counted, plain
from cnnjax.data.errors import DataNotFound
from cnnjax.data.readers.class_labels import Row, labelled_rows
from cnnjax.data.readers.csv_rows import PATH_COLUMNS, column_of, find_column, header_of, not_utf8
from cnnjax.data.readers.file_names import existing
from cnnjax.data.readers.folders import files_below, outside
from cnnjax.data.readers.layout import find_layout
from cnnjax.data.readers.scan import checked_names
from cnnjax.data.readers.tfds import find_split, label_names, read_texts, source_key
from cnnjax.data.texts.templates import LABEL_NAMES, template_samples
from cnnjax.data.vocabulary import words_of

# Of the made-up reviews: how many, and the seeds of the parts.
_TEMPLATES = {"train": (2000, 0), "test": (500, 1)}

_MOST_BYTES = 1 << 28  # of a text


class Texts(NamedTuple):
    """The texts of a part of a data set, with their labels [N]."""

    texts: Sequence[str]
    labels: np.ndarray


@dataclass(frozen=True)
class Found:
    """A source of texts that is there, not yet read.

    Args:
        name: of the data set, for people.
        data: for a record, by which it is found again.
        key: changes with the texts; "" where reading is as quick as a cache.
        read: reads {part: Texts} and the names of the classes.
    """

    name: str
    data: str
    key: str
    read: Callable[[], tuple[dict[str, Texts], tuple[str, ...]]]

    @property
    def cache_name(self) -> str:
        """How the names of folders begin in which these texts are kept as numbers."""
        return f"{self.name.partition(' ')[0]}-{text_hash(self.key)}"


def templates() -> Found:
    """The made-up reviews of `template_samples`: 2,000 to train on, 500 to test."""

    def read() -> tuple[dict[str, Texts], tuple[str, ...]]:
        parts = {}
        for part, (count, seed) in _TEMPLATES.items():
            samples = template_samples(count, seed)
            labels = np.array([s.label for s in samples], np.int32)
            parts[part] = Texts([s.text for s in samples], labels)
        return parts, LABEL_NAMES

    return Found("templates", "templates", "", read)


def tfds_texts(root: Path, name: str) -> Found:
    """A data set of 'text' and 'label' in a TFDS directory.

    Raises:
        DataNotFound: if it is incomplete or has no split "train".
        ValueError: if it is none of texts.
    """
    sources = {part: find_split(root, name, part) for part in ("train", "test")}
    there = {part: source for part, source in sources.items() if source is not None}
    if "train" not in there:
        raise DataNotFound(f"data set {name!r} in {root} has no split 'train'")

    def read() -> tuple[dict[str, Texts], tuple[str, ...]]:
        parts = {part: Texts(*read_texts(source, part)) for part, source in there.items()}
        return parts, label_names(there["train"])

    key = " ".join(source_key(source, part) for part, source in there.items())
    return Found(f"{name} {there['train'].name}", name, key, read)


def folder_texts(
    folder: Path, class_names: Sequence[str] | None, progress: Callable[[str], None] | None
) -> Found:
    """A folder with a folder of .txt files per class, or train/, validation/, test/ of these.

    Raises:
        DataNotFound: if there is no class folder with texts in it.
        ValueError: for an unknown class name, a single one, or one that only some parts have.
    """
    root = expanded(folder).absolute()
    layout = find_layout(root, checked_names(class_names), (".txt",))
    names = layout.class_names
    texts: dict[str, list[tuple[Path, int]]] = {part: [] for part in layout.splits}
    others = 0
    unread: list[Path] = []
    for part, folders in layout.folders.items():
        for label, class_folder in enumerate(folders):
            files = list(files_below(class_folder))
            named = [file for file in files if file.suffix.lower() == ".txt"]
            found = [file for file in named if is_regular(file)]
            if not found:
                raise DataNotFound(f"{root}: {part} has no .txt file of the class {names[label]}")
            texts[part] += [(file, label) for file in found]
            others += len(files) - len(named)
            unread += [file for file in named if not is_regular(file)]
    if progress and others:
        progress(f"{root}: set aside as no .txt: {counted(others, 'file')}")
    if progress and unread:
        progress(
            f"{root}: {len(unread):,} are links that lead nowhere, or no regular files, and are "
            f"set aside, the first: {plain(unread[0])}"
        )
    if progress:
        for place, why in outside(root, layout, (".txt",)):
            progress(f"{plain(root)}: {plain(place)} is set aside: {why}")

    def read() -> tuple[dict[str, Texts], tuple[str, ...]]:
        parts: dict[str, Texts] = {}
        for part, found in texts.items():
            labels = np.array([label for _, label in found], np.int32)
            parts[part] = Texts([read_text(file) for file, _ in found], labels)
        return parts, names

    digest = hashlib.sha256(str(root).encode("utf-8", "surrogateescape"))
    for file, label in itertools.chain(*texts.values()):
        state = file.stat()
        line = f"{file}\0{label} {state.st_size} {state.st_mtime_ns}\n"
        digest.update(line.encode("utf-8", "surrogateescape"))
    return Found(root.name, str(root), digest.hexdigest(), read)


def csv_texts(
    path: Path, text_column: str, label_column: str, class_names: Sequence[str] | None
) -> Found:
    """A CSV file with a header, a text and the name or number of its class in every row.

    Raises:
        DataNotFound: if there is no such file.
    """
    path = existing(path)

    def read() -> tuple[dict[str, Texts], tuple[str, ...]]:
        columns = _columns(path, text_column, label_column)
        names, rows = labelled_rows(path, *columns, class_names)
        parts: dict[str, list[Row]] = {}
        for row in rows:
            if not words_of(row.value):
                raise ValueError(f"{path}, line {row.line}: the text holds no word")
            parts.setdefault(row.split, []).append(row)
        texts = {}
        for part, of_part in parts.items():
            labels = np.array([row.label for row in of_part], np.int32)
            texts[part] = Texts([row.value for row in of_part], labels)
        return texts, names

    content = hashlib.sha256(path.read_bytes()).hexdigest()
    chosen = list(class_names) if class_names is not None else None
    key = f"{content} {text_column!r} {label_column!r} {chosen!r}"
    return Found(path.name, str(path), key, read)


def read_text(path: Path) -> str:
    """The text of a file.

    Raises:
        DataNotFound: if there is no such file.
        ValueError: if it is no regular file, too large, not UTF-8, or has no words.
    """
    try:
        size = check_regular(path, "text file").stat().st_size
        if size > _MOST_BYTES:
            raise ValueError(f"{path} has {size:,} bytes, more than {_MOST_BYTES:,}: no one text")
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise DataNotFound(f"{path}: no such file") from None
    except UnicodeDecodeError as error:
        raise not_utf8(path, error) from None
    if "\0" in text:
        raise ValueError(f"{path} holds null bytes: it is no text in UTF-8")
    if not words_of(text):
        raise ValueError(f"{path} is empty: it holds no word")
    return text


def _columns(path: Path, text_column: str, label_column: str) -> tuple[str, str]:
    """The columns of texts and labels of a CSV file, as its header has them."""
    header = header_of(path)
    images = find_column(header, PATH_COLUMNS)
    if images is not None and find_column(header, [text_column.strip().lower()]) is None:
        raise ValueError(
            f"{path} has no column {text_column!r}, and its column {images!r} seems to name "
            "images: cj.data.load reads these; or give text_column"
        )
    return column_of(path, header, text_column), column_of(path, header, label_column)
