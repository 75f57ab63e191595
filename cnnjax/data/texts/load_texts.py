"""Texts with labels as data sets of numbers of words, encoded once into a memory-mapped cache."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from cnnjax.core.checks import whole_number
from cnnjax.core.reading import check_regular, read_json
from cnnjax.core.runtime import cache_directory
from cnnjax.core.storage import write_directory
from cnnjax.data.dataset import Dataset
from cnnjax.data.errors import DataNotFound
from cnnjax.data.label_kinds import class_labels
from cnnjax.data.names import is_folder, is_prepared, not_found, place_of
from cnnjax.data.readers.tfds import tfds_directory
from cnnjax.data.splits import Splits, set_aside
from cnnjax.data.texts import text_files
from cnnjax.data.vocabulary import RESERVED, Vocabulary

# Known by name.
TEXTS = ("templates", "imdb_reviews")

# Of the default vocabulary, where the texts have so many words.
_LARGEST = 10_000

_CACHE_FORMAT = 1


def load_texts(
    source: str | Path,
    *,
    vocabulary_size: int | None = None,
    length: int = 500,
    data_dir: str | Path | None = None,
    class_names: Sequence[str] | None = None,
    text_column: str = "text",
    label_column: str = "label",
    validation: float = 0.0,
    train_examples: int | None = None,
    seed: int = 0,
    progress: Callable[[str], None] | None = None,
) -> Splits:
    """Texts by name, file or folder, as numbers of words.

    The vocabulary is made of the texts of training (before any are set aside for validation).

    Args:
        source: "templates" (made up, needs no files); the name of a data set of 'text' and 'label'
            prepared by TensorFlow Datasets ("imdb_reviews", ...); the path of a .csv file, of which
            a column split or part may say "train", "validation" or "test"; or of a folder that
            holds a folder of .txt files per class, or train/, validation/ and test/ with these in
            each.
        vocabulary_size: how many numbers there are, words and the four that stand for none, as in
            `Vocabulary`; None takes 10,000, or as many as the texts of training have if they are
            fewer.
        length: of every text; shorter ones are padded and longer ones cut at the front, >= 1.
        data_dir: where TFDS keeps its data; None takes TFDS_DATA_DIR, else ~/tensorflow_datasets.
        class_names: of a folder or .csv file, the classes to use, in the order of their labels;
            None: all, sorted.
        text_column, label_column: of a .csv file, in any case.
        validation, train_examples, seed: as in `data.load`.
        progress: told in a sentence when something takes long.

    Returns:
        Splits of int32 [N, length] with their vocabulary.

    Raises:
        DataNotFound: with what was looked for, where, and how to get it.
        ValueError: for a file that does not hold what it should, a text without words, a vocabulary
            of more words than there are, or a size or length that is no whole number.

    >>> train = load_texts("templates", length=64).train
    >>> train.vocabulary.decode(train.inputs[0])[-40:]
    'the director has made three films before'
    """
    length = whole_number("length", length)
    if vocabulary_size is not None:
        vocabulary_size = whole_number("vocabulary_size", vocabulary_size)
    found = find_texts(source, data_dir, class_names, text_column, label_column, progress)
    name = f"{found.cache_name}-{vocabulary_size}-{length}-{_CACHE_FORMAT}"
    folder = cache_directory() / "texts" / name
    parts = _open(folder, found.name) if found.key else None
    if parts is None:
        if progress and found.key and folder.exists():
            progress(f"{folder} is damaged, or of an older cnnjax: it is made anew")
        if progress and found.key:
            progress(f"encoding the texts of {found.name} once, into {folder}")
        parts = _encode(found, vocabulary_size, length)
        if found.key:
            parts = _kept(folder, found.name, parts, progress)
    settings = {
        "vocabulary_size": vocabulary_size,
        "length": length,
        "class_names": list(class_names) if class_names is not None else None,
        "text_column": text_column,
        "label_column": label_column,
    }
    splits = Splits(**parts, source={"data": found.data, "texts": settings})
    return set_aside(splits, validation, train_examples, seed)


def from_texts(
    texts: Sequence[str],
    labels: Sequence[int] | np.ndarray,
    vocabulary: Vocabulary,
    *,
    length: int = 500,
    label_names: Sequence[str] = (),
    name: str = "texts",
) -> Dataset:
    """A data set of one's own texts, checked.

    Args:
        texts: N of them.
        labels: [N] whole numbers >= 0.
        vocabulary: of the texts of training, also for texts to test on.
        length: as in `load_texts`.
        label_names: one name per class.
        name: what to call it in records and messages.

    Raises:
        ValueError: for an empty text, labels that are no classes, or another number of them.

    >>> texts = ["a good film", "a bad film"]
    >>> from_texts(texts, [1, 0], Vocabulary.of(texts), length=4).inputs.tolist()
    [[1, 4, 7, 5], [1, 4, 6, 5]]
    """
    checked = class_labels(np.asanyarray(labels), name)
    if len(texts) != len(checked):
        raise ValueError(f"{name}: {len(texts)} texts but {len(checked)} labels")
    if len(texts) == 0:
        raise ValueError(f"{name}: the data set is empty")
    names = tuple(str(n) for n in label_names)
    if names and checked.max() >= len(names):
        raise ValueError(
            f"{name}: label {checked.max()} has no name, there are {len(names)} label_names"
        )
    return Dataset(vocabulary.encode_all(texts, length), checked, names, name, vocabulary)


def find_texts(
    source: str | Path,
    data_dir: str | Path | None = None,
    class_names: Sequence[str] | None = None,
    text_column: str = "text",
    label_column: str = "label",
    progress: Callable[[str], None] | None = None,
) -> text_files.Found:
    """Where the texts of a name, file or folder are; arguments and errors as in `load_texts`."""
    if not isinstance(source, str | Path):
        raise ValueError(
            f"source must be a name or a path, got {type(source).__name__}: texts in Python go "
            "through cj.data.from_texts"
        )
    name = str(source)
    if name == "templates":
        return text_files.templates()
    if name.lower().endswith(".csv"):
        return text_files.csv_texts(Path(name), text_column, label_column, class_names)
    if is_folder(name, data_dir):
        return text_files.folder_texts(place_of(name, data_dir), class_names, progress)
    root = tfds_directory(data_dir)
    if not is_prepared(name, data_dir):
        own = "NAME.csv, or a folder with a folder of .txt files per class"
        raise DataNotFound(not_found(name, root, TEXTS, own, "templates"))
    return text_files.tfds_texts(root, name)


def _encode(found: text_files.Found, size: int | None, length: int) -> dict[str, Dataset]:
    parts, names = found.read()
    vocabulary = Vocabulary.of(parts["train"].texts, size)
    if size is None and vocabulary.size > _LARGEST:
        vocabulary = Vocabulary(vocabulary.words[: _LARGEST - RESERVED])
    return {
        part: from_texts(
            texts.texts, texts.labels, vocabulary,
            length=length, label_names=names, name=f"{found.name} {part}",
        )
        for part, texts in parts.items()
    }  # fmt: skip


def _kept(
    folder: Path, name: str, parts: dict[str, Dataset], progress: Callable[[str], None] | None
) -> dict[str, Dataset]:
    """The same parts, memory-mapped from the cache that they were written to."""

    def write(beside: Path) -> None:
        for part, data in parts.items():
            np.save(beside / f"{part}.npy", data.inputs)
            np.save(beside / f"{part}-labels.npy", data.labels)
        train = parts["train"]
        if train.vocabulary is not None:
            train.vocabulary.save(beside / "vocabulary.json")
        facts = {
            "parts": list(parts),
            "label_names": train.label_names,
            "hashes": {file.name: _hash(file) for file in sorted(beside.iterdir())},
        }
        (beside / "facts.json").write_text(json.dumps(facts), encoding="utf-8")

    try:
        write_directory(folder, write, lambda folder: _open(folder, name) is not None)
    except OSError as error:
        if progress:
            progress(f"{folder} cannot be written ({error.strerror}): the texts stay in memory")
        return parts
    return _open(folder, name) or parts


def _open(folder: Path, name: str) -> dict[str, Dataset] | None:
    """What `_kept` wrote; None where it is absent or damaged."""
    try:
        facts = read_json(folder / "facts.json")
        if any(_hash(folder / file) != known for file, known in facts["hashes"].items()):
            return None
        vocabulary = Vocabulary.load(folder / "vocabulary.json")
        found = {
            part: Dataset(
                np.load(folder / f"{part}.npy", mmap_mode="r", allow_pickle=False),
                np.load(folder / f"{part}-labels.npy", allow_pickle=False),
                tuple(facts["label_names"]),
                f"{name} {part}",
                vocabulary,
            )
            for part in facts["parts"]
        }
    except (OSError, ValueError, EOFError, KeyError, TypeError, AttributeError):
        return None
    return found


def _hash(file: Path) -> str:
    """SHA-256 of a regular file."""
    with open(check_regular(file), "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
