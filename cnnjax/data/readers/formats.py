"""The formats that data files may have: those of this folder, and those that callers add."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from cnnjax.data.readers.csv_images import CSV_IMAGES
from cnnjax.data.readers.folders import FOLDERS, scan_folder
from cnnjax.data.readers.idx import IDX
from cnnjax.data.readers.npz import NPZ
from cnnjax.data.readers.reader import Reader, Reading
from cnnjax.data.readers.scan import Scan
from cnnjax.data.readers.shards import SHARDS
from cnnjax.data.splits import Splits

# Of several that match a path the last one reads it: one of the caller's before ours, and a folder
# of idx files, or of shards, as such.
_READERS = [FOLDERS, IDX, NPZ, CSV_IMAGES, SHARDS]

_Load = Callable[[Path, Reading], Splits]


def reader(expected: str, matches: Callable[[Path], bool]) -> Callable[[_Load], _Load]:
    """Have `load` and the commands read one more format of files, by the function below.

    Args:
        expected: how its files are called and what they hold, for messages about unknown files; a
            format of the same words is replaced, as when a notebook's cell is run again.
        matches: whether a path has the format; asked before the formats that come with cnnjax.

    Returns:
        A decorator of a function of the path and a `Reading`, which returns Splits.

    >>> from cnnjax.data import Splits, from_arrays, load
    >>> @reader("NAME.raw (two bytes)", lambda path: path.suffix == ".raw")
    ... def load_raw(path, reading):
    ...     pixels = np.frombuffer(path.read_bytes(), np.uint8)
    ...     return Splits(from_arrays(pixels.reshape(2, 1, 1, 1), [0, 1]))
    """

    def added(load: _Load) -> _Load:
        _READERS[:] = [known for known in _READERS if known.expected != expected]
        _READERS.append(Reader(expected, matches, load))
        return load

    return added


def reader_of(path: Path) -> Reader | None:
    """The format of a file or folder; None where it is unknown."""
    return next((known for known in reversed(_READERS) if known.matches(path)), None)


def scan_of(path: Path) -> Callable[..., Scan]:
    """Who looks through the files of a path: that of its format, else that of folders."""
    known = reader_of(path)
    return known.scan if known is not None and known.scan is not None else scan_folder


def expected_files() -> str:
    """What files of one's own may be, for messages."""
    *others, last = (known.expected for known in _READERS)
    return f"{', '.join(others)}, or {last}"
