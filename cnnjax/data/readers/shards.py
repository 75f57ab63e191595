"""Folders of array_record shards, as `cj.data.shard` writes them, and what their index says.

A folder holds `shards.json`; of every split its examples' labels and hashes, `train.npy`; and its
records, the files' contents as they were, in `train-00000-of-00012.array_record` and so on.
"""

from __future__ import annotations

import functools
import hashlib
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from cnnjax.core.checks import whole_number
from cnnjax.core.reading import Unreadable, read_json
from cnnjax.core.text import plain
from cnnjax.data.dataset import Dataset
from cnnjax.data.errors import DataNotFound
from cnnjax.data.pixels.decoding import AsStored, Decoding
from cnnjax.data.pixels.record_images import CONTENT, RecordImages
from cnnjax.data.readers.array_records import array_record
from cnnjax.data.readers.file_names import listed
from cnnjax.data.readers.reader import Reader, Reading, settings_of
from cnnjax.data.readers.scan import checked_names
from cnnjax.data.readers.split_names import SPLITS
from cnnjax.data.splits import Splits

INDEX, PLAN = "shards.json", "plan.json"
KIND = {"format": "cnnjax shards", "version": 1}

_MOST_OPEN, _OTHER_FILES = 4096, 512


def shard_name(split: str, number: int, count: int) -> str:
    """The file of a shard.

    >>> shard_name("train", 3, 12)
    'train-00003-of-00012.array_record'
    """
    return f"{split}-{number:05d}-of-{count:05d}.array_record"


@dataclass(frozen=True)
class ShardRecords:
    """The encoded images of a split; its files are opened when one of their records is asked for.

    Args:
        folder: of the shards.
        split: its name.
        starts: number of the first record of each shard, and, last, how many records there are.
        content: SHA-256 of `CONTENT` of all; other shards in the same place are opened anew.
    """

    folder: Path
    split: str
    starts: tuple[int, ...]
    content: str

    @property
    def title(self) -> str:
        """The folder and the split."""
        return f"{self.folder} {self.split}"

    def encoded(self, number: int) -> bytes:
        """The content of an image's file.

        Raises:
            DataNotFound: for a shard that is missing or damaged.
        """
        shard = bisect_right(self.starts, number) - 1
        file = self.folder / shard_name(self.split, shard, len(self.starts) - 1)
        try:
            reader = _opened(file, self.starts[1], self.content)
            return reader.read([number - self.starts[shard]])[0]
        except (RuntimeError, IndexError, ValueError) as error:
            raise DataNotFound(f"{_damaged(file)} ({plain(error)})") from None


@functools.lru_cache(maxsize=_MOST_OPEN)
def _opened(file: Path, size: int, content: str) -> Any:
    """A reader of single records, by whose own threads nothing is gained; it may be shared.

    Size of the shards and content of all tell what was written in the same place anew.
    """
    options = "readahead_buffer_size:0,max_parallelism:0"
    return array_record("shards").ArrayRecordReader(
        str(file), options, file_reader_buffer_size=32768
    )


def _let_open(count: int) -> None:
    """Let the process have so many shards open, and its other files, where it is let.

    Few systems let it have more than 1,024 unasked, and to open a shard takes as long as to read
    twenty images.
    """
    try:
        import resource
    except ImportError:  # Windows, which has no such limit
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = min(count, _MOST_OPEN) + _OTHER_FILES
    unlimited = resource.RLIM_INFINITY
    if soft != unlimited and soft < wanted:
        most = wanted if hard == unlimited else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def is_shards(path: Path) -> bool:
    """Whether a path is a folder that shards were written into, perhaps not to their end."""
    return (path / INDEX).is_file() or (path / PLAN).is_file()


def read_index(folder: Path, name: str = INDEX) -> dict[str, Any]:
    """What `shards.json` says, or the plan of shards that are being written.

    Raises:
        DataNotFound: if it is not there, as where the writing was interrupted.
        ValueError: if it is damaged, or of another version.
    """
    try:
        index = read_json(folder / name, "index of shards")
    except FileNotFoundError:
        raise DataNotFound(
            f"the shards in {folder} are not complete: run cnnjax data shard once more, which goes "
            "on where it was interrupted"
        ) from None
    if not isinstance(index, dict) or {key: index.get(key) for key in KIND} != KIND:
        raise Unreadable(f"{folder / name} is no index of shards of version {KIND['version']}")
    try:
        _check(index, written=name == INDEX)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise Unreadable(f"{folder / name} is damaged: {plain(repr(error))}") from None
    return index


def _check(index: Mapping[str, Any], *, written: bool) -> None:
    """Whether an index has what is read of it.

    Raises:
        KeyError, TypeError, AttributeError, ValueError: if it has not.
    """
    names, size, splits = index["class_names"], index["image_size"], index["splits"]
    if not all(isinstance(name, str) for name in names):
        raise TypeError("class_names are no texts")
    if size is not None:
        height, width, channels = size
        AsStored((height, width), channels)
    if "train" not in splits or not set(splits) <= set(SPLITS):
        raise ValueError(f"it has the splits {', '.join(map(str, splits)) or 'none'}")
    for of in splits.values():
        examples = whole_number("examples", of["examples"])
        shards = -(-examples // whole_number("examples_per_shard", of["examples_per_shard"]))
        if written and len([int(size) for size in of["bytes"]]) != shards:
            raise ValueError(f"it has {len(of['bytes'])} shards, and not {shards}")


def _load(folder: Path, reading: Reading) -> Splits:
    index = read_index(folder)
    array_record("shards")
    names, size = tuple(index["class_names"]), index["image_size"]
    described = {split: _described(folder, split, of) for split, of in index["splits"].items()}
    _let_open(sum(len(of["bytes"]) for of in index["splits"].values()))
    wanted = checked_names(reading.class_names)
    if wanted is not None and wanted != list(names):
        raise ValueError(
            f"class_names is {listed(wanted)}, and the shards in {folder} "
            f"have the classes {listed(names)}: shard the folder anew with these"
        )
    decoding: Decoding
    source = None
    if size is None:
        decoding = reading.sized(f"{folder} holds images")
        source = {"images": settings_of(decoding)}
    else:
        decoding = AsStored(size[:2], size[2])
    parts: Any = {}
    for split, (records, content) in described.items():
        images = RecordImages(records, np.arange(len(content)), content["hash"], decoding)
        images = images.cached(reading.memory_budget, reading.progress)
        labels = content["label"].astype(np.int32)
        parts[split] = Dataset(images, labels, names, f"{folder.name} {split}")
    return replace(Splits(**parts), source=source)


def _described(folder: Path, split: str, of: Mapping[str, Any]) -> tuple[ShardRecords, np.ndarray]:
    """The records of a split, labels and hashes.

    Raises:
        DataNotFound: if a file is missing or has another size than when it was written.
        ValueError: if labels and hashes are others.
    """
    file = folder / f"{split}.npy"
    try:
        content = np.load(file, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise DataNotFound(f"{_damaged(file)} ({plain(error)})") from None
    examples, shards = of["examples"], of["bytes"]
    starts = tuple(range(0, examples, of["examples_per_shard"]))
    whole = content.dtype == CONTENT and content.shape == (examples,)
    if not whole or hashlib.sha256(content.tobytes()).hexdigest() != of["content"]:
        raise DataNotFound(f"{_damaged(file)} (it is not the one that belongs to {INDEX})")
    for number, expected in enumerate(shards):
        file = folder / shard_name(split, number, len(shards))
        there = file.stat().st_size if file.is_file() else None
        if there != expected:
            has = "it is missing" if there is None else f"it has {there:,} bytes"
            raise DataNotFound(f"{_damaged(file)} ({has}, {expected:,} were written)")
    return ShardRecords(folder, split, (*starts, examples), of["content"]), content


def _damaged(file: Path) -> str:
    return f"{plain(file)} is damaged: copy it anew, or delete it and run cnnjax data shard"


SHARDS = Reader("a folder of shards (cnnjax data shard)", is_shards, _load)
