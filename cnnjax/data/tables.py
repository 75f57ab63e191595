"""CSV files with a header: columns by name, the classes of the rows and their parts."""

from __future__ import annotations

import contextlib
import csv
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from cnnjax import paths
from cnnjax.data.scan import PART_OF
from cnnjax.data.tfds import DataNotFound

# By these names columns are found, whatever their letters' case.
PATH_COLUMNS = ("path", "file", "filename", "image")
LABEL_COLUMNS = ("label", "class")
TEXT_COLUMNS = ("text",)
PART_COLUMNS = ("split", "part")

# A column with more different values than this share of the rows holds no classes.
_MOST_CLASSES = 0.5

_LONGEST = 2**31 - 1  # characters of a value; the csv module allows 131,072
_WRONG_MARKS = (";", "\t", "|")


class Row(NamedTuple):
    """A row of a CSV file: its line, the value that has a class, the class, the part."""

    line: int
    value: str
    label: int
    part: str


def labelled_rows(
    path: Path,
    value_column: str,
    label_column: str,
    class_names: Sequence[str] | None = None,
) -> tuple[tuple[str, ...], list[Row]]:
    """The rows of a CSV file with their classes and, by a column split or part, their parts.

    Args:
        path: of the file.
        value_column, label_column: as the header has them.
        class_names: the classes to use, in the order of their labels, two at least; rows of others
            are passed over. None takes all, numbers by their size and names by the alphabet.

    Returns:
        The names of the classes, and the rows in their order; all of "train" without such a column.

    Raises:
        ValueError: for a row or label that is no good, a part or class that is unknown, or a class
            without a row to train on.
    """
    columns = [value_column, label_column]
    header = header_of(path)
    divided = find_column(header, PART_COLUMNS)
    if divided is not None and divided not in columns:
        columns.append(column_of(path, header, divided))
    read = list(read_rows(path, columns))
    labels = {line: label.strip() for line, (_, label, *_) in read}
    names = _classes(labels, f"{path}, column {label_column!r}", class_names)
    numbers = {name: number for number, name in enumerate(names)}
    rows = [
        Row(line, value, numbers[labels[line]], _part(path, line, part[0]) if part else "train")
        for line, (value, _, *part) in read
        if labels[line] in numbers
    ]
    trained = {row.label for row in rows if row.part == "train"}
    if lacking := [name for name, number in numbers.items() if number not in trained]:
        raise ValueError(f"{path}: train has no row of the class {', '.join(lacking)}")
    return names, rows


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
        ValueError: if it is none in UTF-8, or its columns are not separated by commas.
    """
    with _read(path) as rows:
        header: list[str] = next(rows, [])
    for mark in _WRONG_MARKS:
        if len(header) == 1 and mark in header[0]:
            raise ValueError(f"{path} is separated by {mark!r}? Commas are needed")
    return header


def find_column(header: Sequence[str], names: Sequence[str]) -> str | None:
    """The first column that has one of some names, None if there is none.

    >>> find_column(["Label", "File"], PATH_COLUMNS)
    'File'
    """
    return next((column for column in header if column.strip().lower() in names), None)


def column_of(path: Path, header: Sequence[str], name: str) -> str:
    """The column of a name as the header has it: to the letter, else in any case.

    Raises:
        ValueError: if there is none, with the nearest, or more than one.
    """
    found = [column for column in header if column == name]
    found = found or [column for column in header if column.strip().lower() == name.strip().lower()]
    if len(found) > 1:
        raise ValueError(f"{path} has {len(found)} columns {name!r}: one is needed")
    if not found:
        raise ValueError(f"{path} has no column {name!r}. {paths.suggest(name, header, 'columns')}")
    return found[0]


def read_rows(path: Path, columns: Sequence[str]) -> Iterator[tuple[int, list[str]]]:
    """The values of some columns in every row, with the number of its line.

    Args:
        path: of the file.
        columns: names; each must be in the header.

    Raises:
        ValueError: for a row that has more or fewer values than the header (but for empty ones at
            the end), no rows at all, or what is no CSV file in UTF-8.
    """
    empty = True
    with _read(path) as rows:
        header: list[str] = next(rows, [])
        places = [header.index(column) for column in columns]
        due = _width(header)
        for row in rows:
            if not _width(row):  # an empty line
                continue
            if len(row) < due or _width(row) > len(header):
                hint = ": put texts with commas into quotes" if len(row) > due else ""
                raise ValueError(
                    f"{path}: line {rows.line_num} has {len(row)} values, the header has "
                    f"{due}{hint}"
                )
            empty = False
            yield rows.line_num, [row[place] for place in places]
    if empty:
        raise ValueError(f"{path} holds no rows below its header")


def _classes(
    labels: dict[int, str], where: str, class_names: Sequence[str] | None
) -> tuple[str, ...]:
    """Names of the classes in a column, of {line: label}; `where` stands for it in errors."""
    if class_names is None:
        return _all_classes(labels, where)
    if len(set(class_names)) < len(class_names):
        raise ValueError(f"class_names holds a name twice: {', '.join(class_names)}")
    there = sorted(set(labels.values()))
    for name in class_names:
        if name not in there:
            raise ValueError(
                f"{where}: no row has the label {name!r}. {paths.suggest(name, there)}"
            )
    if len(class_names) < 2:
        raise ValueError(f"{where}: class_names={list(class_names)}, two classes are needed")
    return tuple(class_names)


def _all_classes(labels: dict[int, str], where: str) -> tuple[str, ...]:
    """Numbers by their size, others by the alphabet."""
    for line, label in labels.items():
        if not label:
            raise ValueError(f"{where}, line {line}: the label is empty")
    found = sorted(set(labels.values()))
    if len(found) < 2:
        raise ValueError(f"{where}: all rows have the label {found[0]!r}, two classes are needed")
    if len(found) > max(_MOST_CLASSES * len(labels), 2):
        raise ValueError(
            f"{where} holds {len(found):,} different values in {len(labels):,} rows: these are no "
            "classes (if they are, name them: class_names=)"
        )
    numbers = [_number(label) for label in found]
    if None not in numbers:
        for label, number in zip(found, numbers, strict=True):
            if number != int(number or 0):
                raise ValueError(f"{where}: {label} is a number with a fraction, and no class")
        found.sort(key=float)
    return tuple(found)


def _part(path: Path, line: int, name: str) -> str:
    try:
        return PART_OF[name.strip().lower()]
    except KeyError:
        raise ValueError(
            f"{path}, line {line}: {name!r} is no part; expected train, validation or test"
        ) from None


def _width(row: Sequence[str]) -> int:
    """How many values there are without the empty ones at the end."""
    return max((place for place, value in enumerate(row, 1) if value.strip()), default=0)


def not_utf8(path: Path, error: UnicodeDecodeError) -> ValueError:
    """What to say of a file whose bytes are no text."""
    byte = error.object[error.start]
    return ValueError(
        f"{path} is not UTF-8 text (byte 0x{byte:02x} at position {error.start:,}): save it as such"
    )


@contextlib.contextmanager
def _read(path: Path) -> Iterator[Any]:
    csv.field_size_limit(_LONGEST)  # of the whole process: there is no other
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            rows = csv.reader(file, skipinitialspace=True, strict=True)
            yield rows
    except UnicodeDecodeError as error:
        raise not_utf8(path, error) from None
    except csv.Error as error:
        raise ValueError(
            f"{path} is no readable CSV file: line {rows.line_num}, {error} (of a text in quotes, "
            "quotes within are doubled)"
        ) from None


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if np.isfinite(number) else None
