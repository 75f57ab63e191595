"""CSV files with a header: the one reader of all that is read from them."""

from __future__ import annotations

import contextlib
import csv
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from typing import TextIO

from cnnjax.data.readers.file_names import existing, nearest, normal

# By these names columns are found, whatever their letters' case.
PATH_COLUMNS = ("path", "file", "filename", "image")
LABEL_COLUMNS = ("label", "class")
TEXT_COLUMNS = ("text",)
SPLIT_COLUMNS = ("split", "part")

_LONGEST = 1 << 26  # characters of a value; the csv module allows 131,072
_WRONG_MARKS = (";", "\t", "|")
_UTF_16 = (b"\xff\xfe", b"\xfe\xff")


def header_of(path: Path) -> list[str]:
    """Names of the columns of a CSV file, without blanks around them.

    Raises:
        DataNotFound: if there is no such file.
        ValueError: if it is none in UTF-8.
    """
    with contextlib.closing(_rows(path)) as rows:
        _, header = next(rows, (1, []))
        return [normal(name).strip() for name in header]


def check_commas(path: Path, header: Sequence[str]) -> None:
    """Refuse a file whose header seems to be separated by another mark than commas."""
    for mark in _WRONG_MARKS:
        if len(header) == 1 and mark in header[0]:
            raise ValueError(f"{path} is separated by {mark!r}? Commas are needed")


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
    name = normal(name).strip()
    found = [column for column in header if column == name]
    found = found or [column for column in header if column.lower() == name.lower()]
    if len(found) > 1:
        raise ValueError(f"{path} has {len(found)} columns {name!r}: one is needed")
    if not found:
        check_commas(path, header)
        raise ValueError(f"{path} has no column {name!r}. {nearest(name, header, 'columns')}")
    return found[0]


def read_rows(
    path: Path, columns: Sequence[str], empty_lines: bool = True
) -> Iterator[tuple[int, list[str]]]:
    """The values of some columns in every row, with the number of its line.

    Args:
        path: of the file.
        columns: names as `header_of` gives them.
        empty_lines: whether lines without a value may stand between rows; at the end they may.

    Raises:
        DataNotFound: if there is no such file.
        ValueError: for a row that has more or fewer values than the header, no rows at all, or
            what is no CSV file in UTF-8. Empty values at the end do not count where the header has
            no name for them, or where all rows end so.
    """
    header = header_of(path)
    places = [header.index(column) for column in columns]
    width: _Width | None = None
    empty_line = 0
    with contextlib.closing(_rows(path)) as rows:
        next(rows)
        for line, row in rows:
            if not _width(row):
                empty_line = empty_line or line
                continue
            if empty_line and not empty_lines:
                raise ValueError(f"{path}, line {empty_line}: the line is empty, and rows follow")
            width = width or _Width(header, row)
            if not width.fits(row):
                named = _width(header)
                hint = ": put texts with commas into quotes" if len(row) > named else ""
                raise ValueError(
                    f"{path}: line {line} has {len(row)} values, the header has {named}{hint}"
                )
            yield line, [row[place] for place in places]
    if width is None:
        raise ValueError(f"{path} holds no rows below its header")


class _Width:
    """How long the rows of a file may be, by its header and its first row."""

    def __init__(self, header: Sequence[str], first: Sequence[str]) -> None:
        self.named = _width(header)
        self.longest = len(header)
        # Files whose rows all end with a comma are common. A single row that does is shifted.
        self.all_longer = len(first) if len(first) > self.longest else 0
        self.nameless = _width(first) > self.named

    def fits(self, row: Sequence[str]) -> bool:
        """Whether a row has a value for each column, and none beside them."""
        if len(row) < self.named or _width(row) > (self.longest if self.nameless else self.named):
            return False
        return len(row) == self.all_longer if self.all_longer else len(row) <= self.longest


def _width(row: Sequence[str]) -> int:
    """How many values there are without the empty ones at the end."""
    return max((place for place, value in enumerate(row, 1) if value.strip()), default=0)


def _rows(path: Path) -> Generator[tuple[int, list[str]]]:
    """The last line and the values of every row, by the csv module at its strictest."""
    existing(path)
    csv.field_size_limit(_LONGEST)  # of the whole process: there is no other
    last = 0
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(_lines(file), skipinitialspace=True, strict=True)
            for row in reader:
                yield reader.line_num, row
                last = reader.line_num
    except UnicodeDecodeError:
        raise _not_utf8_line(path) from None
    except csv.Error as error:
        raise ValueError(
            f"{path} is no readable CSV file: line {last + 1}, {error} (of a text in quotes, "
            "quotes within are doubled)"
        ) from None


def _lines(file: TextIO) -> Iterator[str]:
    """The lines of a file of text, of bounded length."""
    while line := file.readline(_LONGEST + 1):
        if "\0" in line:
            raise csv.Error("it holds a null byte, so it is no text in UTF-8")
        if len(line) > _LONGEST:
            raise csv.Error(f"it has more than {_LONGEST:,} characters")
        yield line


def _not_utf8_line(path: Path) -> ValueError:
    """What to say of a file of which a line is no text in UTF-8."""
    with open(path, "rb") as file:
        if file.read(2) in _UTF_16:
            return ValueError(f"{path} is not UTF-8 text, but UTF-16: save it as UTF-8")
        file.seek(0)
        for number, line in enumerate(file, 1):
            try:
                line.decode("utf-8")
            except UnicodeDecodeError as error:
                byte = line[error.start]
                return ValueError(
                    f"{path} is not UTF-8 text (byte 0x{byte:02x} in line {number:,}): save it as "
                    "such"
                )
    return ValueError(f"{path} is not UTF-8 text: it changes as it is read")


def not_utf8(path: Path, error: UnicodeDecodeError) -> ValueError:
    """What to say of a file whose bytes are no text."""
    byte = error.object[error.start]
    return ValueError(
        f"{path} is not UTF-8 text (byte 0x{byte:02x} at position {error.start:,}): save it as such"
    )
