"""`shard`: a data set of images as array_record files, which networks and many processes read well.

The work can be interrupted at any time. A file is there as a whole or not at all, `plan.json` says
what belongs into them, and `shards.json`, by which they are a data set, comes last.
"""

from __future__ import annotations

import functools
import hashlib
import io
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cnnjax.core.checks import positive, whole_number
from cnnjax.core.places import expanded
from cnnjax.core.storage import alone, is_remains, write_bytes, write_file, write_text
from cnnjax.core.text import plain
from cnnjax.data.dataset import Dataset
from cnnjax.data.examples import check_filed, class_names_of
from cnnjax.data.foreign.source_inputs import spread
from cnnjax.data.names import check_outside, place_of
from cnnjax.data.pixels.decoding import AsStored, decoders
from cnnjax.data.pixels.encoded_images import EncodedImages
from cnnjax.data.pixels.image_files import png_bytes
from cnnjax.data.pixels.record_images import CONTENT, content_hash
from cnnjax.data.readers.array_records import array_record
from cnnjax.data.readers.shards import (
    INDEX,
    KIND,
    PLAN,
    read_index,
    shard_name,
)
from cnnjax.data.sources import load
from cnnjax.data.splits import Splits

_LOCK = ".lock"
_READ_AT_ONCE = 256
_MEASURED = 64  # examples whose mean size stands for that of all


def shard(
    source: str | Path | Splits,
    out: str | Path | None = None,
    *,
    data_dir: str | Path | None = None,
    class_names: Sequence[str] | None = None,
    examples_per_shard: int | None = None,
    shard_mb: float = 128,
    progress: Callable[[str], None] | None = None,
    tick: Callable[[int, int], object] | None = None,
) -> Path:
    """Write a data set of images as array_record shards, which `load` reads.

    The contents of image files stay as they are, byte for byte, in the order of the data set, so
    that a training on the shards has the bits of one on the files. Images that lie in no files of
    their own are stored as PNG. Interrupted and started again it goes on, and ends in the same
    files.

    Args:
        source: what `load` takes; or splits with classes.
        out: the folder to write, new or begun before; None: NAME-shards, beside a folder or file.
        data_dir, class_names: as in `load`.
        examples_per_shard: >= 1; None: as many as come to `shard_mb` on average.
        shard_mb: MiB of a shard, > 0.
        progress: told in a sentence when something takes long.
        tick: told how many examples are written, and of how many, after each shard.

    Returns:
        The absolute path of the folder.

    Raises:
        FileExistsError: if there is something else in the folder, or another data set's shards.
        OSError: if a file cannot be written, as on a full disk.
        ValueError: for labels that are no classes, images that are neither grey nor RGB of 8 bits,
            a folder within that of the data, a file that was changed meanwhile, or where
            array_record is not installed.
    """
    array_record("shards")
    if examples_per_shard is not None:
        examples_per_shard = whole_number("examples_per_shard", examples_per_shard)
    positive("shard_mb", shard_mb)
    target = _target(source, out, data_dir)
    splits = (
        source if isinstance(source, Splits) else _encoded(source, data_dir, class_names, progress)
    )
    names = class_names_of(*splits.parts.values())
    parts = {name: _Part(data) for name, data in splits.parts.items()}
    plan = {
        **KIND,
        "class_names": list(names),
        "image_size": _image_size(splits),
        "splits": {
            name: part.planned(examples_per_shard or part.examples_in(shard_mb * 2**20))
            for name, part in parts.items()
        },
    }
    plan = json.loads(json.dumps(plan))
    _begin(target, plan)
    with alone(target / _LOCK, lambda: progress and progress(f"another process writes {target}")):
        _write(target, plan, parts, tick)
    return target


def _target(source: str | Path | Splits, out: str | Path | None, data_dir: Any) -> Path:
    if isinstance(source, Splits):
        if out is None:
            raise ValueError("out is needed for splits, which have no place of their own")
        return expanded(out).absolute()
    place = place_of(str(source), data_dir)
    beside = place.parent / f"{place.name}-shards"
    target = beside if out is None else expanded(out).absolute()
    check_outside(target, place)
    return target


def _encoded(
    source: str | Path,
    data_dir: Any,
    class_names: Sequence[str] | None,
    progress: Callable[[str], None] | None,
) -> Splits:
    """The splits, of which nothing is decoded; so any size will do."""
    return load(
        source,
        data_dir=data_dir,
        image_size=(1, 1),
        class_names=class_names,
        memory_budget=0,
        progress=progress,
    )


def _image_size(splits: Splits) -> tuple[int, ...] | None:
    """(H, W, C) of all images; None where they may have any size."""
    sizes = {None if _any_size(data) else data.input_shape for data in splits.parts.values()}
    if len(sizes) > 1:
        raise ValueError(
            "images lie in files of any size in one part of the data set, and in arrays in "
            "another: give all of them in one way"
        )
    return sizes.pop()


def _any_size(data: Dataset) -> bool:
    """Whether the images of a data set may have any size."""
    images = data.inputs
    return isinstance(images, EncodedImages) and not isinstance(images.decoding, AsStored)


class _Part:
    """A split that is about to be written: what is in it, by number."""

    def __init__(self, data: Dataset):
        if not data.label_names or not class_names_of(data):
            raise ValueError(f"{data.name} has no classes with names, as shards have")
        check_filed(data)
        if data.weights is not None:
            raise ValueError(f"{data.name} has weights of examples, which shards do not keep")
        self.data = data

    def encoded(self, rows: Sequence[int]) -> Iterator[bytes]:
        """What is written of some examples."""
        images = self.data.inputs
        if isinstance(images, EncodedImages):
            return decoders().map(images.encoded, rows)
        return (png_bytes(np.asarray(images[row])) for row in rows)

    def examples_in(self, size: float) -> int:
        """How many come to a size in bytes, by some of them."""
        some = spread(len(self.data), _MEASURED)
        return max(int(size * len(some) / sum(map(len, self.encoded(some)))), 1)

    @functools.cached_property
    def content(self) -> np.ndarray:
        """Label and hash of every example."""
        content = np.empty(len(self.data), CONTENT)
        content["label"] = self.data.labels
        images = self.data.inputs
        if isinstance(images, EncodedImages):
            content["hash"] = images.content_hashes
        else:
            for row, encoded in enumerate(self.encoded(range(len(self.data)))):
                content["hash"][row] = np.frombuffer(content_hash(encoded), np.uint8)
        return content

    def planned(self, size: int) -> dict[str, Any]:
        """What the plan says, of shards of so many examples."""
        counts = np.bincount(self.data.labels, minlength=len(self.data.label_names))
        return {
            "examples": len(self.data),
            "examples_per_shard": size,
            "examples_per_class": counts.tolist(),
            "content": hashlib.sha256(self.content.tobytes()).hexdigest(),
        }

    def write(self, file: Path, rows: range) -> None:
        """Some examples, as a shard; OSError if the file cannot be written."""
        try:
            self._write(file, rows)
        except RuntimeError as error:  # of array_record
            raise OSError(f"a shard cannot be written: {plain(error)}") from None

    def _write(self, file: Path, rows: range) -> None:
        # As they are: JPEG and PNG are compressed. Each by itself, for random access.
        writer = array_record("shards").ArrayRecordWriter(str(file), "group_size:1,uncompressed")
        try:
            for start in range(0, len(rows), _READ_AT_ONCE):
                some = rows[start : start + _READ_AT_ONCE]
                for row, encoded in zip(some, self.encoded(some), strict=True):
                    if content_hash(encoded) != self.content["hash"][row].tobytes():
                        raise ValueError(
                            f"image {row:,} of {self.data.name} was changed while it was written: "
                            "start again"
                        )
                    writer.write(encoded)
        finally:
            writer.close()


def _begin(target: Path, plan: Mapping[str, Any]) -> None:
    """Make the folder, or see that it was made for the same.

    Raises:
        FileExistsError: if it holds something else.
    """
    for name in (INDEX, PLAN):
        if (target / name).exists():
            if _planned(read_index(target, name)) != plan:
                raise FileExistsError(
                    f"{plain(target)} holds shards of other images, or of other settings: give "
                    "another folder, or delete it"
                )
            return
    if os.path.lexists(target) and not (target.is_dir() and not _foreign(target)):
        raise FileExistsError(f"{plain(target)} holds something else: give another folder")
    target.mkdir(parents=True, exist_ok=True)
    write_text(target / PLAN, json.dumps(plan, indent=1))


def _foreign(target: Path) -> list[str]:
    return [name for name in os.listdir(target) if name != _LOCK and not is_remains(name)]


def _planned(index: dict[str, Any]) -> dict[str, Any]:
    """An index without what is known of the files that were written."""
    splits = {
        name: {key: value for key, value in split.items() if key != "bytes"}
        for name, split in index["splits"].items()
    }
    return {**index, "splits": splits}


def _write(
    target: Path,
    plan: dict[str, Any],
    parts: Mapping[str, _Part],
    tick: Callable[[int, int], object] | None,
) -> None:
    """All files that are not there yet, the index last."""
    index = read_index(target) if (target / INDEX).exists() else plan
    done, total = 0, sum(len(part.data) for part in parts.values())
    for split, part in parts.items():
        of, written = index["splits"][split], []
        size = of["examples_per_shard"]
        starts = range(0, of["examples"], size)
        for number, start in enumerate(starts):
            file = target / shard_name(split, number, len(starts))
            rows = range(start, min(start + size, of["examples"]))
            known = of["bytes"][number] if "bytes" in of else None
            if not file.is_file() or known not in (None, _size(file)):
                write_file(file, functools.partial(part.write, rows=rows))
            written.append(_size(file))
            done += len(rows)
            if tick:
                tick(done, total)
        content = io.BytesIO()
        np.save(content, part.content)
        write_bytes(target / f"{split}.npy", content.getvalue())
        plan["splits"][split]["bytes"] = written
    write_text(target / INDEX, json.dumps(plan, indent=1))
    (target / PLAN).unlink(missing_ok=True)


def _size(file: Path) -> int:
    return file.stat().st_size
