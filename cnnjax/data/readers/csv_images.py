"""CSV files that name images and their labels."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from cnnjax.core.text import plain
from cnnjax.data.errors import DataNotFound
from cnnjax.data.readers.class_labels import labelled_rows
from cnnjax.data.readers.csv_rows import (
    LABEL_COLUMNS,
    PATH_COLUMNS,
    TEXT_COLUMNS,
    check_commas,
    column_of,
    find_column,
    header_of,
)
from cnnjax.data.readers.file_names import existing, found_below, listed
from cnnjax.data.readers.reader import Reader, Reading
from cnnjax.data.readers.scan import Candidate, Scan, checked_names, examine
from cnnjax.data.readers.split_names import SPLITS
from cnnjax.data.splits import Splits


def scan_table(
    table: str | Path,
    class_names: Sequence[str] | None = None,
    path_column: str | None = None,
    label_column: str | None = None,
    progress: Callable[[str], None] | None = None,
    tick: Callable[[int, int], None] | None = None,
) -> Scan:
    """Find the images that a CSV file names, and the files that are no good.

    Args:
        table: with a header; in every row the path of an image, absolute or below the table's
            folder, and its class; perhaps, in a column split or part, "train", "validation" or
            "test".
        class_names: the classes to use, in the order of their labels, two at least; None takes all,
            numbers by their size and names by the alphabet.
        path_column: None takes the first that is called path, file, filename or image.
        label_column: None takes the first that is called label or class.
        progress: told in a sentence when it takes long.
        tick: told how many files have been read, and of how many, after each.

    Returns:
        A Scan, its images in the order of the rows. Every file was read and decoded once; the
        result is kept as that of `scan_folder` is. Rows may repeat an image; of one that several
        splits or classes have all but those of the first are set aside, the test split first.

    Raises:
        DataNotFound: if there is no such table, or a file that it names is missing.
        ValueError: for a column that is missing or there twice, a row that is cut off or too long,
            a label that is missing or one number with another one (`labelled_rows`), a split or
            class that is unknown, a single class, one without an image to train on, or class_names
            that are no list.
    """
    class_names = checked_names(class_names)
    table = existing(table)
    names, rows = labelled_rows(table, *_columns(table, path_column, label_column), class_names)
    found: dict[str, list[Candidate]] = {split: [] for split in SPLITS}
    missing = []
    for row in rows:
        name = row.value.strip()
        file = found_below(table.parent, name)
        if not name or not os.path.exists(file) or os.path.isdir(file):
            missing.append((row.line, file))
        found[row.split].append(Candidate(row.split, row.label, str(file)))
    if missing:
        line, file = missing[0]
        raise DataNotFound(
            f"{table}, line {line}: {plain(file)} does not exist ({len(missing):,} of "
            f"{len(rows):,} files are missing); paths are absolute or start at {table.parent}"
        )
    splits = {split: candidates for split, candidates in found.items() if candidates}
    scan = examine(
        table.parent, names, list(splits), [c for split in splits.values() for c in split],
        table=table, progress=progress, tick=tick,
    )  # fmt: skip
    if empty := scan.lacking("train"):
        raise ValueError(f"{table}: train has no image of the class {listed(empty)}")
    return scan


def _columns(table: Path, path_column: str | None, label_column: str | None) -> tuple[str, str]:
    """Those of paths and labels."""
    header = header_of(table)
    columns = []
    for argument, given, known in (
        ("path_column", path_column, PATH_COLUMNS),
        ("label_column", label_column, LABEL_COLUMNS),
    ):
        column = find_column(header, known) if given is None else given
        if column is None:
            check_commas(table, header)
            there = f"it has {listed(map(repr, header))}" if header else "it is empty"
            texts = argument == "path_column" and find_column(header, TEXT_COLUMNS)
            hint = "cj.data.load_texts reads texts" if texts else f"give {argument}"
            raise ValueError(
                f"{table} has no column that is called {' or '.join(known)}: {there}; {hint}"
            )
        columns.append(column_of(table, header, column))
    path, label = columns
    return path, label


def _load(table: Path, reading: Reading) -> Splits:
    path_column, label_column = reading.path_column, reading.label_column
    scan = scan_table(table, reading.class_names, path_column, label_column, reading.progress)
    reading.sized(f"{table} names images")
    return reading.of_scan(scan, "images", path_column=path_column, label_column=label_column)


CSV_IMAGES = Reader(
    "NAME.csv (paths and labels of images)",
    lambda path: path.suffix.lower() == ".csv" and not path.is_dir(),
    _load,
    scan_table,
)
