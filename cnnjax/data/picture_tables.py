"""CSV files that name pictures and their labels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from cnnjax import paths
from cnnjax.data.scan import PARTS, Candidate, Scan, examine
from cnnjax.data.tables import (
    LABEL_COLUMNS,
    PATH_COLUMNS,
    TEXT_COLUMNS,
    check_column,
    classes_of,
    existing,
    find_column,
    header_of,
    read_rows,
)
from cnnjax.data.tfds import DataNotFound

_PART_COLUMNS = ("split", "part")
_PART_OF = {name: part for part, names in PARTS.items() for name in names}


def scan_table(
    table: str | Path,
    class_names: Sequence[str] | None = None,
    path_column: str | None = None,
    label_column: str | None = None,
    progress: Callable[[str], None] | None = None,
    tick: Callable[[int, int], None] | None = None,
) -> Scan:
    """Find the pictures that a CSV file names, and the files that are no good.

    Args:
        table: with a header; in every row the path of a picture, absolute or below the table's
            folder, and its class; perhaps, in a column split or part, "train", "validation" or
            "test".
        class_names: the classes to use, in the order of their labels; None takes all, numbers by
            their size and names by the alphabet.
        path_column: None takes the first that is called path, file, filename or image.
        label_column: None takes the first that is called label or class.
        progress: told in a sentence when it takes long.
        tick: told how many files have been read, and of how many, after each.

    Returns:
        A Scan, its pictures in the order of the rows. Every file was read and decoded once; the
        result is kept as that of `scan_folder` is.

    Raises:
        DataNotFound: if there is no such table, or a file that it names is missing.
        ValueError: for a column that is missing, a part or class that is unknown, or a class
            without a picture to train on.
    """
    table = existing(table)
    columns, divided = _columns(table, path_column, label_column)
    rows = list(read_rows(table, columns))
    labels = [label.strip() for _, (_, label, *_) in rows]
    names = _classes(labels, class_names, f"{table}, column {columns[1]!r}")
    numbers = {name: number for number, name in enumerate(names)}
    found: dict[str, list[Candidate]] = {part: [] for part in PARTS}
    missing = []
    for (line, (path, _, *part)), label in zip(rows, labels, strict=True):
        if label not in numbers:
            continue
        name = _part(table, line, part[0]) if divided else "train"
        file = table.parent / path.strip()
        if not path.strip() or not file.is_file():
            missing.append((line, file))
        found[name].append(Candidate(name, numbers[label], file))
    if missing:
        line, file = missing[0]
        raise DataNotFound(
            f"{table}, line {line}: {file} does not exist ({len(missing):,} of {len(rows):,} files "
            f"are missing); paths are absolute or start at {table.parent}"
        )
    if not found["train"]:
        raise ValueError(f"{table} names no picture to train on: no row of the part 'train'")
    parts = {part: candidates for part, candidates in found.items() if candidates}
    scan = examine(
        table.parent, names, list(parts), [c for part in parts.values() for c in part],
        table=table, progress=progress, tick=tick,
    )  # fmt: skip
    if empty := scan.lacking("train"):
        raise ValueError(f"{table}: train has no picture of the class {', '.join(empty)}")
    return scan


def _columns(
    table: Path, path_column: str | None, label_column: str | None
) -> tuple[list[str], bool]:
    """Those of paths and labels and, if there is one, that of parts; whether there is."""
    header = header_of(table)
    columns = []
    for argument, given, known in (
        ("path_column", path_column, PATH_COLUMNS),
        ("label_column", label_column, LABEL_COLUMNS),
    ):
        column = find_column(header, known) if given is None else given
        if column is None:
            there = f"it has {', '.join(map(repr, header))}" if header else "it is empty"
            texts = argument == "path_column" and find_column(header, TEXT_COLUMNS)
            hint = "cj.data.load_texts reads texts" if texts else f"give {argument}"
            raise ValueError(
                f"{table} has no column that is called {' or '.join(known)}: {there}; {hint}"
            )
        check_column(table, header, column)
        columns.append(column)
    divided = find_column(header, _PART_COLUMNS)
    return (columns, False) if divided is None else ([*columns, divided], True)


def _classes(
    labels: Sequence[str], class_names: Sequence[str] | None, where: str
) -> tuple[str, ...]:
    if class_names is None:
        return classes_of(labels, where)
    if len(set(class_names)) < len(class_names):
        raise ValueError(f"class_names holds a name twice: {', '.join(class_names)}")
    there = sorted(set(labels))
    for name in class_names:
        if name not in there:
            raise ValueError(
                f"{where}: no row has the label {name!r}. {paths.suggest(name, there)}"
            )
    return tuple(class_names)


def _part(table: Path, line: int, name: str) -> str:
    try:
        return _PART_OF[name.strip().lower()]
    except KeyError:
        raise ValueError(
            f"{table}, line {line}: {name!r} is no part; expected train, validation or test"
        ) from None
