"""What a data set holds: sizes, classes, values, and what is in it twice; a chunk at a time."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from textwrap import indent
from typing import Any, Protocol

import numpy as np

from cnnjax.core.table import table
from cnnjax.core.text import plain
from cnnjax.data.dataset import Dataset
from cnnjax.data.examples import class_names_of
from cnnjax.data.foreign.stream import check_at_hand
from cnnjax.data.lazy import Lazy
from cnnjax.data.pixels.encoded_images import EncodedImages
from cnnjax.data.pixels.file_images import FileImages
from cnnjax.data.pixels.image_files import upright_size
from cnnjax.data.readers.scan import Scan
from cnnjax.data.splits import Splits

_VALUES_AT_ONCE = 2**21
_MOST_CLASSES = 20  # in a table with a line for each
_EXTREMES = 3


@dataclass(frozen=True)
class ImagePart:
    """A part of a data set of images.

    Args:
        title: what it is, e.g. "mnist 3.0.1 train", or "cifar10 3.0.2 train, JPEG" where the
            images were stored in a format that loses detail.
        examples: how many.
        shape: of an image, (H, W, C).
        dtype: "uint8" or "float32".
        counts: int64 [K], examples of each class; None where labels are no classes.
        low, high: the smallest and the largest value.
        mean, deviation: float64 [C], of the values divided by 255.
        repeated: images that are equal to one before them, to the pixel.
        fingerprint: of `Dataset`, as run records have it.
        formats: files by the ending of their names; empty for what is in no files of its own.
        heights, widths: (smallest, median, largest) of the files' images; None as above.
        cache: where the decoded pixels are kept, or will be; None: nowhere, they are in memory.
        cache_bytes: its size; 0 where it is not there yet.
    """

    title: str
    examples: int
    shape: tuple[int, ...]
    dtype: str
    counts: np.ndarray | None
    low: float
    high: float
    mean: np.ndarray
    deviation: np.ndarray
    repeated: int
    fingerprint: str
    formats: Mapping[str, int]
    heights: tuple[int, int, int] | None
    widths: tuple[int, int, int] | None
    cache: Path | None
    cache_bytes: int

    def lines(self) -> list[tuple[str, str]]:
        """What to print: names and values."""
        size = "x".join(map(str, self.shape))
        lines = [("images", f"{self.examples:,}, {self.dtype} {size}")]
        if self.heights and self.widths:
            formats = ", ".join(f"{count:,} {suffix}" for suffix, count in self.formats.items())
            lines.append(("files", formats))
            spans = (f"{a:,} to {c:,}, median {b:,}" for a, b, c in (self.heights, self.widths))
            lines.append(("sizes of files", "height {}; width {}".format(*spans)))
        return [
            *lines,
            ("values", f"{self.low:g} to {self.high:g}"),
            ("mean", "  ".join(f"{m:.4f}" for m in self.mean) + "  (of values / 255)"),
            ("deviation", "  ".join(f"{d:.4f}" for d in self.deviation)),
            ("repeated", f"{self.repeated:,} equal to one before them"),
            ("fingerprint", self.fingerprint),
            ("cache", cache_state(self.cache, self.cache_bytes)),
        ]


class Part(Protocol):
    """What any part of a data set has to say."""

    @property
    def title(self) -> str:
        """What it is."""

    @property
    def counts(self) -> np.ndarray | None:
        """int64 [K], examples of each class; None where labels are no classes."""

    def lines(self) -> list[tuple[str, str]]:
        """What to print: names and values."""


@dataclass(frozen=True)
class Description:
    """What a data set holds; `print` it.

    Args:
        class_names: K names; numbers where classes have none.
        parts: "train" and those of "validation" and "test" that there are; of images
            `ImagePart`, of texts `TextPart`.
        shared: for each two parts how many examples of the second are in the first as well, to the
            pixel or letter.
    """

    class_names: tuple[str, ...]
    parts: Mapping[str, Part]
    shared: Mapping[tuple[str, str], int]

    def __str__(self) -> str:
        lines = []
        for part in self.parts.values():
            lines.append(plain(part.title))
            lines.append(indent(table(part.lines(), "<"), "  "))
        counts = {name: p.counts for name, p in self.parts.items() if p.counts is not None}
        if counts:
            lines += _balance(counts, [plain(name) for name in self.class_names])
        for (first, second), count in self.shared.items():
            lines.append(f"duplicates between {first} and {second}: {count:,}")
        return "\n".join(lines)


def describe(
    data: Splits | Dataset, tick: Callable[[int, int], object] | None = None
) -> Description:
    """Look at every image of a data set once, a few megabytes at a time.

    Args:
        data: images with labels, of `load` or `from_arrays`.
        tick: told how many images were looked at, and of how many, after each chunk.

    Returns:
        Sizes, class balance, values, duplicates, fingerprints, and where the pixels are kept.

    Raises:
        ValueError: for what is no data set of images.

    >>> from cnnjax.data import load
    >>> found = describe(load("digits"))
    >>> found.parts["test"].examples, found.shared
    (359, {('train', 'test'): 0})
    """
    parts = data.parts if isinstance(data, Splits) else {"all": data}
    for part in parts.values():
        check_at_hand(part, "describe")
        if part.vocabulary is not None:
            raise ValueError(f"{part.name} holds texts: cj.data.describe_texts is for these")
        if part.parts:
            raise ValueError(
                f"describe is for images [N, H, W, C], {part.name} has several inputs by name "
                f"({', '.join(part.parts)}): .parts of a Dataset has one data set for each"
            )
        if not part.holds_images:
            raise ValueError(
                f"describe is for images [N, H, W, C], {part.name} has {list(part.inputs.shape)}"
            )
    total, before = sum(map(len, parts.values())), 0
    names = class_names_of(*parts.values())
    found: dict[str, ImagePart] = {}
    contents: dict[str, list[bytes]] = {}
    for name, part in parts.items():

        def told(done: int, before: int = before) -> None:
            if tick:
                tick(before + done, total)

        found[name], contents[name] = _describe_part(part, len(names), told)
        before += len(part)
    return Description(names, found, shared_contents(contents))


def _describe_part(
    data: Dataset, classes: int, told: Callable[[int], None]
) -> tuple[ImagePart, list[bytes]]:
    """What is in a part, and a hash of every image."""
    images = data.inputs
    channels, per_image = images.shape[-1], int(np.prod(images.shape[1:]))
    step = max(_VALUES_AT_ONCE // per_image, 1)
    low, high, contents = np.inf, -np.inf, []
    sums, squares = np.zeros(channels), np.zeros(channels)  # float64: exact for uint8
    for start in range(0, len(data), step):
        chunk = np.asarray(images[start : start + step])
        contents += [content_of(image.tobytes()) for image in chunk]
        low, high = min(low, chunk.min()), max(high, chunk.max())
        values = chunk.reshape(-1, channels).astype(np.float64)
        sums += np.ones(len(values)) @ values
        squares += np.ones(len(values)) @ np.square(values, out=values)
        told(min(start + step, len(data)))
    count = len(data) * per_image // channels
    mean = sums / count
    deviation = np.sqrt(np.maximum(squares / count - mean**2, 0))
    cache, size = _cache_of(images)
    part = ImagePart(
        title=data.name, examples=len(data), shape=data.input_shape, dtype=str(images.dtype),
        counts=_counts(data.labels, classes), low=float(low), high=float(high),
        mean=mean / 255, deviation=deviation / 255, repeated=len(contents) - len(set(contents)),
        fingerprint=data.fingerprint, cache=cache, cache_bytes=size, **_of_files(images),
    )  # fmt: skip
    return part, contents


def content_of(data: bytes) -> bytes:
    """16 bytes that are the same for the same content."""
    return hashlib.blake2b(data, digest_size=16).digest()


def shared_contents(contents: Mapping[str, Sequence[bytes]]) -> dict[tuple[str, str], int]:
    """For each two parts, how many of the second's are in the first as well.

    >>> shared_contents({"train": [b"a", b"b"], "test": [b"b", b"c", b"b"]})
    {('train', 'test'): 2}
    """
    sets = {name: set(items) for name, items in contents.items()}
    return {
        (first, second): sum(item in sets[first] for item in contents[second])
        for first, second in combinations(contents, 2)
    }


def cache_state(place: Path | None, size: int) -> str:
    """Where something is kept and how large it is, or that it is not there yet."""
    if place is None:
        return "none: in memory"
    return f"{place} ({size / 2**20:,.1f} MiB)" if size else f"not yet (will be {place})"


def set_aside_by_reason(scan: Scan) -> dict[str, int]:
    """How many files of a folder are no good, for each reason, the most frequent first.

    Args:
        scan: of `scan_folder`.
    """
    reasons: Counter[str] = Counter()
    for _, reason in scan.set_aside:
        copy = reason.startswith("the same content as ")
        reasons["the same content as another" if copy else reason.partition(" (")[0]] += 1
    return dict(reasons.most_common())


def _counts(labels: np.ndarray, classes: int) -> np.ndarray | None:
    return np.bincount(labels, minlength=classes) if classes else None


def _cache_of(images: np.ndarray | Lazy) -> tuple[Path | None, int]:
    """Where decoded pixels are or will be, and the size of the file."""
    if isinstance(images, EncodedImages) and images.pixels is None:
        file = images.cache_folder / "images.npy"
    else:
        pixels = images.pixels if isinstance(images, EncodedImages) else images
        mapped = getattr(pixels, "filename", None)
        if mapped is None:
            return None, 0
        file = Path(mapped)
    return file.parent, file.stat().st_size if file.is_file() else 0


def _of_files(images: np.ndarray | Lazy) -> dict[str, Any]:
    """Formats and sizes of images in files."""
    if not isinstance(images, FileImages):
        return {"formats": {}, "heights": None, "widths": None}
    formats = Counter(Path(file).suffix.lower() for file in images.files)
    sizes = np.array([upright_size(images.root / file) for file in images.files])
    heights, widths = (tuple(int(n) for n in np.percentile(side, (0, 50, 100))) for side in sizes.T)
    return {"formats": dict(formats.most_common()), "heights": heights, "widths": widths}


def _balance(counts: Mapping[str, np.ndarray], names: Sequence[str]) -> list[str]:
    """A line with the examples of each class in each part; of many classes the extreme ones."""
    if len(names) <= _MOST_CLASSES:
        return _table(counts, names, range(len(names)))
    lines = []
    for part, numbers in counts.items():
        least, median, most = np.percentile(numbers, (0, 50, 100))
        if least == most:
            lines.append(f"{part}: {len(names)} classes of {most:,.0f} examples each")
            continue
        lines.append(
            f"{part}: {len(names)} classes of {least:,.0f} to {most:,.0f} examples, median "
            f"{median:,.0f}; the smallest and the largest:"
        )
        order = np.argsort(numbers, kind="stable")
        lines += _table({part: numbers}, names, [*order[:_EXTREMES], *order[-_EXTREMES:]])
    return lines


def _table(
    counts: Mapping[str, np.ndarray], names: Sequence[str], chosen: Sequence[int]
) -> list[str]:
    rows = [["class", *counts]]
    for k in chosen:
        rows.append([names[k], *(f"{n[k]:,} {n[k] / n.sum():6.1%}" for n in counts.values())])
    return table(rows).split("\n")
