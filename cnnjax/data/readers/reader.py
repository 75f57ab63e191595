"""What a format of data files is: how its files are known, and how they are read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from cnnjax.core.checks import at_least_zero
from cnnjax.data.pixels.decoding import Decoding
from cnnjax.data.pixels.encoded_images import MEMORY_BUDGET
from cnnjax.data.readers.scan import Scan
from cnnjax.data.splits import Splits


@dataclass(frozen=True)
class Reading:
    """What the caller of `load` wants of files; a format takes of it what concerns it.

    Args:
        decoding: size and colours of images that may have any; None: no size was asked for.
        class_names, path_column, label_column, memory_budget, progress: as in `load`.
    """

    decoding: Decoding | None = None
    class_names: Sequence[str] | None = None
    path_column: str | None = None
    label_column: str | None = None
    memory_budget: int = MEMORY_BUDGET
    progress: Callable[[str], None] | None = None

    def __post_init__(self) -> None:
        at_least_zero("memory_budget", self.memory_budget)

    def sized(self, what: str) -> Decoding:
        """The decoding; a ValueError that says what needs a size where none was asked for."""
        if self.decoding is None:
            raise ValueError(f"{what}, which may have any size: give image_size=(height, width)")
        return self.decoding

    def of_scan(self, scan: Scan, key: str, **facts: Any) -> Splits:
        """The images of a scan; how they were read is in the record under a key."""
        decoding = self.sized(str(scan.source))
        splits = scan.splits(decoding, self.memory_budget, self.progress)
        if self.progress:
            for line in scan.remarks():
                self.progress(line)
        read = {
            **settings_of(decoding),
            "class_names": list(scan.class_names),
            "files_set_aside": len(scan.set_aside),
            **facts,
        }
        return replace(splits, source={key: read})


@dataclass(frozen=True)
class Reader:
    """A format of data files, for `load`.

    Args:
        expected: how its files are called and what they hold, for messages.
        matches: whether a path has this format, by its name or what lies in it, and quickly; also
            of a file that is not there, for which `load` has the better message.
        load: the splits of an absolute path; their `source`, if any, is what a record is to say
            beside the path.
        scan: of images in files: which are good and which are set aside, of a path, with
            `progress` and `tick` as in `scan_folder`; None: there are no such files.
    """

    expected: str
    matches: Callable[[Path], bool]
    load: Callable[[Path, Reading], Splits]
    scan: Callable[..., Scan] | None = None


def settings_of(decoding: Decoding) -> dict[str, Any]:
    """For records."""
    settings = asdict(decoding)
    return {"image_size": list(settings.pop("size")), **settings}
