"""The classes of the rows of a CSV file: labels as names, or as whole numbers."""

from __future__ import annotations

import re
from collections.abc import Sequence
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import NamedTuple

from cnnjax.data.readers.csv_rows import (
    SPLIT_COLUMNS,
    column_of,
    find_column,
    header_of,
    read_rows,
)
from cnnjax.data.readers.file_names import listed, nearest, normal
from cnnjax.data.readers.split_names import split_named

# A column with more different values than this share of the rows holds no classes.
_MOST_CLASSES = 0.5

# What programs write for a label that is not there, in small letters.
_MISSING = ("", "nan", "<na>", "nat", "null", "#n/a")

_MOST_DIGITS = 30  # of a label that is a number
_PLAIN = re.compile(r"[+-]?(0|[1-9][0-9]*)?(\.[0-9]*)?([eE][+-]?[0-9]+)?")


class Row(NamedTuple):
    """A row of a CSV file: its line, the value that has a class, the class, the split."""

    line: int
    value: str
    label: int
    split: str


def labelled_rows(
    path: Path,
    value_column: str,
    label_column: str,
    class_names: Sequence[str] | None = None,
) -> tuple[tuple[str, ...], list[Row]]:
    """The rows of a CSV file with their classes and, by a column split or part, their splits.

    Labels are compared without blanks around them, in the composed form of Unicode. Where all are
    whole numbers, `1`, `1.0`, `+1` and `1e0` are the class "1"; where one begins with a zero, as
    in `01`, they are codes and stay as they are.

    Args:
        path: of the file.
        value_column, label_column: as the header has them.
        class_names: the classes to use, in the order of their labels, two at least; rows of others
            are passed over. None takes all, numbers by their size and names by the alphabet.

    Returns:
        The names of the classes, and the rows in their order; all of "train" without such a column.

    Raises:
        ValueError: for a row or label that is no good, labels of one number that are written in
            different ways and no plain numbers, a split or class that is unknown, or a class
            without a row to train on.
    """
    columns = [value_column, label_column]
    header = header_of(path)
    divided = find_column(header, SPLIT_COLUMNS)
    if divided is not None and divided not in columns:
        columns.append(column_of(path, header, divided))
    read = list(read_rows(path, columns))
    where = f"{path}, column {label_column!r}"
    texts = {line: normal(label.strip()) for line, (_, label, *_) in read}
    names, numbers = _classes(texts, where, class_names)
    rows = [
        Row(
            line, value, numbers[texts[line]], _split(path, line, split[0]) if split else "train"
        )
        for line, (value, _, *split) in read
        if texts[line] in numbers
    ]  # fmt: skip
    trained = {row.label for row in rows if row.split == "train"}
    if lacking := [name for number, name in enumerate(names) if number not in trained]:
        raise ValueError(f"{path}: train has no row of the class {listed(lacking)}")
    return names, rows


def _classes(
    texts: dict[int, str], where: str, class_names: Sequence[str] | None
) -> tuple[tuple[str, ...], dict[str, int]]:
    """Names of the classes in a column, and the class of each label as it is written there.

    Args:
        texts: {line: label}.
        where: stands for the column in errors.
        class_names: as in `labelled_rows`.
    """
    names = _names_of(texts, where)
    there = sorted(set(names.values()))
    if class_names is None:
        chosen = _all_classes(texts, names, where)
        return chosen, {text: chosen.index(name) for text, name in names.items()}
    given = [normal(name.strip()) for name in class_names]
    if len(set(given)) < len(given):
        raise ValueError(f"class_names holds a name twice: {listed(class_names)}")
    numbers: dict[str, int] = {}
    for number, wanted in enumerate(given):
        name = names.get(wanted, wanted)
        if name not in there:
            name = _plain_number(name) or name
        if name not in there:
            raise ValueError(f"{where}: no row has the label {name!r}. {nearest(name, there)}")
        of_class = {text: number for text, its_name in names.items() if its_name == name}
        if taken := numbers.keys() & of_class.keys():
            raise ValueError(f"class_names holds {taken.pop()} twice, as numbers are compared")
        numbers |= of_class
    if len(given) < 2:
        raise ValueError(f"{where}: class_names={list(class_names)}, two classes are needed")
    return tuple(given), numbers


def _names_of(texts: dict[int, str], where: str) -> dict[str, str]:
    """The name of the class that each label as written stands for.

    Raises:
        ValueError: for two labels that are one number, and not both written as plain numbers.
    """
    lines: dict[str, int] = {}
    for line, text in texts.items():
        lines.setdefault(text, line)
    plain = {text: _plain_number(text) for text in lines if text.lower() not in _MISSING}
    if all(name is not None for name in plain.values()):
        return {text: plain.get(text) or text for text in lines}
    first: dict[Decimal, str] = {}
    for text, line in lines.items():
        number = _number(text)
        if number is not None and (other := first.setdefault(number, text)) != text:
            raise ValueError(
                f"{where} has the labels {other!r} (line {lines[other]:,}) and {text!r} (line "
                f"{line:,}), which are one number: write them in one way"
            )
    return {text: text for text in lines}


def _plain_number(text: str) -> str | None:
    """A number as Python writes it where it is whole, as it stands where it has a fraction.

    None for what is no number, or one that a code may be: with zeros before it, or other digits
    than those of ASCII.
    """
    number = _number(text)
    if number is None or not _PLAIN.fullmatch(text):
        return None
    return str(int(number)) if number == number.to_integral_value() else text


def _number(text: str) -> Decimal | None:
    """A finite number of no more digits than an array's can have."""
    if len(text) > _MOST_DIGITS:
        return None
    try:
        number = Decimal(text)
    except InvalidOperation:
        return None
    return number if number.is_finite() and abs(number.adjusted()) <= _MOST_DIGITS else None


def _all_classes(texts: dict[int, str], names: dict[str, str], where: str) -> tuple[str, ...]:
    """Numbers by their size, others by the alphabet."""
    for line, text in texts.items():
        if not text:
            raise ValueError(f"{where}, line {line}: the label is empty")
        if text.lower() in _MISSING:
            raise ValueError(f"{where}, line {line}: {text!r} stands for a label that is missing")
    found = sorted(set(names.values()))
    if len(found) < 2:
        raise ValueError(f"{where}: all rows have the label {found[0]!r}, two classes are needed")
    if len(found) > max(_MOST_CLASSES * len(texts), 2):
        raise ValueError(
            f"{where} holds {len(found):,} different values in {len(texts):,} rows: these are no "
            "classes (if they are, name them: class_names=)"
        )
    numbers = {name: number for name in found if (number := _number(name)) is not None}
    if len(numbers) == len(found):
        for name, number in numbers.items():
            if number != number.to_integral_value():
                raise ValueError(f"{where}: {name} is a number with a fraction, and no class")
        found.sort(key=numbers.__getitem__)
    return tuple(found)


def _split(path: Path, line: int, name: str) -> str:
    split = split_named(name)
    if split is None:
        raise ValueError(
            f"{path}, line {line}: {name!r} is no split; expected train, validation or test"
        )
    return split
