"""What a data set of texts holds: numbers, lengths, words, classes, and what is in it twice."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from cnnjax.core.runtime import cache_directory
from cnnjax.data.info import Description, content_of, shared_contents
from cnnjax.data.names import is_folder, is_prepared, path_of, place_of
from cnnjax.data.readers.csv_rows import PATH_COLUMNS, find_column, header_of
from cnnjax.data.readers.folders import files_below
from cnnjax.data.readers.tfds import find_split, has_features, tfds_directory
from cnnjax.data.texts.load_texts import TEXTS, find_texts
from cnnjax.data.texts.text_files import Found, Texts
from cnnjax.data.vocabulary import words_of

_ORDER = ("train", "validation", "test")

_LOOKED_AT = 1000  # files of a folder, to see what it holds


@dataclass(frozen=True)
class TextPart:
    """A part of a data set of texts.

    Args:
        title: what it is.
        examples: how many.
        counts: int64 [K], examples of each class.
        lengths: words of a text: the fewest, the median, the 95th percentile, the most.
        words: different words, as `words_of` cuts them.
        repeated: texts that are equal to one before them, to the letter.
        fingerprint: of the texts and labels. A run's record has another, which depends on the
            vocabulary and on where texts are cut.
        cache: folders of the texts as numbers, one for each vocabulary and length used so far;
            None: none is needed.
        cache_bytes: of all of them.
    """

    title: str
    examples: int
    counts: np.ndarray
    lengths: tuple[float, float, float, float]
    words: int
    repeated: int
    fingerprint: str
    cache: tuple[Path, ...] | None
    cache_bytes: int

    def lines(self) -> list[tuple[str, str]]:
        """What to print: names and values."""
        least, median, most_have, most = self.lengths
        return [
            ("texts", f"{self.examples:,}"),
            (
                "words of a text",
                f"{least:,.0f} to {most:,.0f}, median {median:,.0f}, 95 % have at most "
                f"{most_have:,.0f}",
            ),
            ("vocabulary", f"{self.words:,} different words"),
            ("repeated", f"{self.repeated:,} equal to one before them"),
            ("fingerprint", f"{self.fingerprint} (of the texts, not of their numbers)"),
            ("cache", self._cache_state()),
        ]

    def _cache_state(self) -> str:
        if self.cache is None:
            return "none: made up each time"
        if not self.cache:
            return "not yet"
        places = ", ".join(map(str, self.cache))
        return f"{places} ({self.cache_bytes / 2**20:,.1f} MiB)"


def describe_texts(
    source: str | Path,
    *,
    data_dir: str | Path | None = None,
    progress: Callable[[str], None] | None = None,
    **options: Any,
) -> Description:
    """Read every text of a data set once; no vocabulary is cut and no text.

    Args:
        source, data_dir, progress: as in `load_texts`.
        **options: class_names, text_column and label_column, as there.

    Returns:
        Sizes, class balance, lengths, vocabulary, duplicates and fingerprints.

    Raises:
        DataNotFound, ValueError: as `load_texts`.

    >>> describe_texts("templates").parts["test"].examples
    500
    """
    found = find_texts(source, data_dir=data_dir, progress=progress, **options)
    if progress and found.key:
        progress(f"reading the texts of {found.name}")
    read, names = found.read()
    parts = {part: read[part] for part in sorted(read, key=_ORDER.index)}
    contents = {
        part: [content_of(text.encode()) for text in texts.texts] for part, texts in parts.items()
    }
    described = {
        part: _describe_part(f"{found.name} {part}", texts, contents[part], len(names), found)
        for part, texts in parts.items()
    }
    return Description(names, described, shared_contents(contents))


def _describe_part(
    title: str, texts: Texts, contents: list[bytes], classes: int, found: Found
) -> TextPart:
    words: set[str] = set()
    lengths = np.empty(len(texts.texts), np.int64)
    digest = hashlib.sha256(np.ascontiguousarray(texts.labels).tobytes())
    for i, text in enumerate(texts.texts):
        of_text = words_of(text)
        lengths[i] = len(of_text)
        words.update(of_text)
        digest.update(contents[i])
    folders = _cache_of(found)
    size = sum(file.stat().st_size for folder in folders or () for file in folder.iterdir())
    least, median, most_have, most = np.percentile(lengths, (0, 50, 95, 100)).tolist()
    return TextPart(
        title, len(texts.texts), np.bincount(texts.labels, minlength=classes),
        (least, median, most_have, most), len(words), len(contents) - len(set(contents)),
        digest.hexdigest()[:16], folders, size,
    )  # fmt: skip


def _cache_of(found: Found) -> tuple[Path, ...] | None:
    """Folders of the same texts as numbers; None for those that are made up."""
    if not found.key:
        return None
    return tuple(sorted((cache_directory() / "texts").glob(f"{found.cache_name}-*")))


def holds_texts(source: str | Path, data_dir: str | Path | None = None) -> bool:
    """Whether a name, file or folder is one for `load_texts`, and not for `load`.

    Args:
        source, data_dir: as there; what is not found holds no texts.

    Raises:
        DataNotFound: if it is a TFDS data set, but none that can be read.
    """
    name = str(source)
    if name in TEXTS:
        return True
    path = path_of(name)
    if name.lower().endswith(".csv"):
        return path.is_file() and find_column(header_of(path), PATH_COLUMNS) is None
    if is_folder(name, data_dir):
        files = islice(files_below(place_of(name, data_dir)), _LOOKED_AT)
        endings = Counter(file.suffix.lower() for file in files).most_common(1)
        return bool(endings) and endings[0][0] == ".txt"
    if is_prepared(name, data_dir):
        version = find_split(tfds_directory(data_dir), name, "train")
        return version is not None and has_features(version, "text", "label")
    return False
