"""CSV files with a header: columns by name, and the classes that a column of labels holds."""

from __future__ import annotations

import contextlib
import csv
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cnnjax import paths
from cnnjax.data.tfds import DataNotFound

# By these names columns are found, whatever their letters' case.
PATH_COLUMNS = ("path", "file", "filename", "image")
LABEL_COLUMNS = ("label", "class")
TEXT_COLUMNS = ("text",)

# A column with more different values than this share of the rows holds no classes.
_MOST_CLASSES = 0.5


def existing(path: str | Path) -> Path:
    """The absolute path of a file that is there.

    Raises:
        DataNotFound: if it is not.
    """
    path = Path(path).expanduser().absolute()
    if not path.is_file():
        raise DataNotFound(f"data file {path} does not exist (looked in {path.parent})")
    return path


def header_of(path: Path) -> list[str]:
    """Names of the columns of a CSV file.

    Raises:
        ValueError: if it is none in UTF-8.
    """
    with _read(path) as rows:
        return next(rows, [])


def find_column(header: Sequence[str], names: Sequence[str]) -> str | None:
    """The first column that has one of some names, None if there is none.

    >>> find_column(["Label", "File"], PATH_COLUMNS)
    'File'
    """
    return next((column for column in header if column.strip().lower() in names), None)


def check_column(path: Path, header: Sequence[str], column: str) -> None:
    """Refuse a column that is not there, and offer the nearest."""
    if column not in header:
        raise ValueError(
            f"{path} has no column {column!r}. {paths.suggest(column, header, 'columns')}"
        )


def read_rows(path: Path, columns: Sequence[str]) -> Iterator[tuple[int, list[str]]]:
    """The values of some columns in every row, with the number of its line.

    Args:
        path: of the file.
        columns: names; each must be in the header.

    Raises:
        ValueError: for a row that is cut off, no rows at all, or what is no CSV file in UTF-8.
    """
    empty = True
    with _read(path) as rows:
        header: list[str] = next(rows, [])
        places = [header.index(column) for column in columns]
        for row in rows:
            if not row:  # an empty line
                continue
            if len(row) <= max(places):
                raise ValueError(f"{path}, line {rows.line_num}: the row is cut off")
            empty = False
            yield rows.line_num, [row[place] for place in places]
    if empty:
        raise ValueError(f"{path} holds no rows below its header")


def classes_of(labels: Sequence[str], where: str) -> tuple[str, ...]:
    """Names of the classes in a column: numbers by their size, others by the alphabet.

    Args:
        labels: a row's each, without white space around.
        where: the column and its file, for errors.

    Raises:
        ValueError: for an empty label, a single class, or values that are no classes.
    """
    found = sorted(set(labels))
    if "" in found:
        raise ValueError(f"{where}: the label of row {labels.index('') + 1} is empty")
    if len(found) < 2:
        raise ValueError(f"{where}: all rows have the label {found[0]!r}, two classes are needed")
    if len(found) > max(_MOST_CLASSES * len(labels), 2):
        raise ValueError(
            f"{where} holds {len(found):,} different values in {len(labels):,} rows: these are no "
            "classes"
        )
    numbers = [_number(label) for label in found]
    if None not in numbers:
        for label, number in zip(found, numbers, strict=True):
            if number != int(number or 0):
                raise ValueError(f"{where}: {label} is a number with a fraction, and no class")
        found.sort(key=float)
    return tuple(found)


def not_utf8(path: Path, error: UnicodeDecodeError) -> ValueError:
    """What to say of a file whose bytes are no text."""
    byte = error.object[error.start]
    return ValueError(
        f"{path} is not UTF-8 text (byte 0x{byte:02x} at position {error.start:,}): save it as such"
    )


@contextlib.contextmanager
def _read(path: Path) -> Iterator[Any]:
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            yield csv.reader(file, skipinitialspace=True)
    except UnicodeDecodeError as error:
        raise not_utf8(path, error) from None
    except csv.Error as error:
        raise ValueError(f"{path} is no readable CSV file: {error}") from None


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if np.isfinite(number) else None
