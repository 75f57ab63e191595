"""The raw files of well-known data sets, read member by member: nothing is unpacked to the disk.

Examples have the keys and the features that the builders of TensorFlow Datasets give them, so that
the order and the content of what is written are those of the official data sets.
"""

from __future__ import annotations

import io
import lzma
import re
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from cnnjax.data.pixels.image_files import UnreadableImage, opened_image, png_bytes
from cnnjax.data.readers.idx import read_idx

Example = tuple[int | str, dict[str, Any]]  # key, features

_DIGITS = 10  # classes of MNIST
_SIDE = 32  # of CIFAR's images
_LARGEST_MEMBER = 1 << 28  # bytes; CIFAR-100's training file has 154 million

_REVIEW = re.compile(r"aclImdb/(train|test)/(neg|pos|unsup)/\d+_\d+\.txt")
_PET = re.compile(r"PetImages[\\/](Cat|Dog)[\\/]\d+\.jpg")
_JPEG_QUALITY = 95
_LEFT_OUT = 1738  # files of cats_vs_dogs, as TFDS counts them

_DAMAGED_TAR = (tarfile.TarError, EOFError, zlib.error)
# RuntimeError: a password is needed; NotImplementedError: compressed in another way.
DAMAGED_ZIP = (
    *(zipfile.BadZipFile, EOFError, zlib.error, lzma.LZMAError),
    *(RuntimeError, NotImplementedError),
)


@dataclass(frozen=True)
class Contents:
    """What the raw files of a data set hold.

    Args:
        splits: examples by the name of the split; each is read when it is called.
        label_names: of the label features whose names stand in the files.
        remarks: filled while examples are read, with what was left out.
    """

    splits: Mapping[str, Callable[[], Iterator[Example]]]
    label_names: Mapping[str, list[str]] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)


def mnist(files: Mapping[str, Path]) -> Contents:
    """MNIST and what is kept like it: idx files of images and of labels."""

    def read(prefix: str) -> Iterator[Example]:
        images = read_idx(files[f"{prefix}-images-idx3-ubyte.gz"])
        labels = read_idx(files[f"{prefix}-labels-idx1-ubyte.gz"])
        if images.ndim != 3 or labels.ndim != 1 or len(images) != len(labels):
            where = files[f"{prefix}-images-idx3-ubyte.gz"].parent
            raise ValueError(
                f"{where}: {prefix} has images {list(images.shape)} and labels "
                f"{list(labels.shape)}; expected [N, H, W] and [N]"
            )
        if labels.size and labels.max() >= _DIGITS:
            where = files[f"{prefix}-labels-idx1-ubyte.gz"]
            raise ValueError(f"{where} has the label {labels.max()}; there are {_DIGITS} classes")
        for i, (image, label) in enumerate(zip(images, labels, strict=True)):
            yield i, {"image": png_bytes(image), "label": int(label)}

    return Contents({"train": partial(read, "train"), "test": partial(read, "t10k")})


def cifar10(files: Mapping[str, Path]) -> Contents:
    """CIFAR-10, its binary version."""
    return _cifar(
        files["cifar-10-binary.tar.gz"],
        "cifar-10-batches-bin",
        {"train": [f"data_batch_{i}.bin" for i in range(1, 6)], "test": ["test_batch.bin"]},
        {"label": ("batches.meta.txt", 10)},
    )


def cifar100(files: Mapping[str, Path]) -> Contents:
    """CIFAR-100, its binary version: a coarse and a fine label each."""
    return _cifar(
        files["cifar-100-binary.tar.gz"],
        "cifar-100-binary",
        {"train": ["train.bin"], "test": ["test.bin"]},
        {"coarse_label": ("coarse_label_names.txt", 20), "label": ("fine_label_names.txt", 100)},
    )


def _cifar(
    archive: Path,
    folder: str,
    parts: Mapping[str, list[str]],
    labels: Mapping[str, tuple[str, int]],
) -> Contents:
    """Records of one byte for each label and 3072 for an image, channel by channel."""
    meta = _members(archive, [f"{folder}/{file}" for file, _ in labels.values()])
    names = {}
    for label, (file, count) in labels.items():
        names[label] = meta[f"{folder}/{file}"].decode("ascii", "replace").split()
        if len(names[label]) != count:
            raise ValueError(
                f"{archive}: {file} names {len(names[label])} classes, expected {count}"
            )

    def read(split: str) -> Iterator[Example]:
        wanted = [f"{folder}/{name}" for name in parts[split]]
        found = _members(archive, wanted)
        length = len(labels) + 3 * _SIDE**2
        index = 0
        for member in wanted:
            content = found.pop(member)
            if not content or len(content) % length:
                raise ValueError(
                    f"{archive}: {member} has {len(content)} bytes, no multiple of {length}"
                )
            for record in np.frombuffer(content, np.uint8).reshape(-1, length):
                pixels = record[len(labels) :].reshape(3, _SIDE, _SIDE).transpose(1, 2, 0)
                numbers = dict(zip(labels, map(int, record), strict=False))
                for label, number in numbers.items():
                    if number >= len(names[label]):
                        raise ValueError(
                            f"{archive}: {member} has the {label} {number}; there are "
                            f"{len(names[label])} names"
                        )
                yield (
                    index,
                    {"id": f"{split}_{index:05d}", "image": png_bytes(pixels), **numbers},
                )
                index += 1

    return Contents({split: partial(read, split) for split in parts}, names)


def imdb_reviews(files: Mapping[str, Path]) -> Contents:
    """The Large Movie Review Dataset: one text file a review, in folders by part and label."""
    archive = files["aclImdb_v1.tar.gz"]

    def read(part: str, labels: tuple[str, ...]) -> Iterator[Example]:
        for name, content in _regular_members(archive):
            match = _REVIEW.fullmatch(name)
            if match is None or match[1] != part or match[2] not in labels:
                continue
            try:
                text = content().decode("utf-8").strip()
            except UnicodeDecodeError as error:
                raise ValueError(f"{archive}: {name} is not UTF-8: {error}") from None
            yield name, {"text": text, "label": -1 if match[2] == "unsup" else match[2]}

    return Contents(
        {
            "train": partial(read, "train", ("neg", "pos")),
            "test": partial(read, "test", ("neg", "pos")),
            "unsupervised": partial(read, "train", ("unsup",)),
        }
    )


def cats_vs_dogs(files: Mapping[str, Path]) -> Contents:
    """The photos of PetImages/, without those that are no JFIF files, as in the official set.

    A photo keeps its bytes unless it is grey or has another colour space than RGB: these are
    stored again in RGB, since the feature has three channels.
    """
    (archive,) = files.values()
    remarks: list[str] = []

    def read() -> Iterator[Example]:
        skipped = []
        try:
            with zipfile.ZipFile(archive) as opened:
                for member in opened.infolist():
                    match = _PET.fullmatch(safe_name(archive, member.filename))
                    if match is None or member.is_dir():
                        continue
                    name = member.filename.replace("\\", "/")
                    check_size(archive, name, member.file_size)
                    encoded = _jpeg(opened.read(member))
                    if encoded is None:
                        skipped.append(name)
                        continue
                    label = match[1].lower()
                    yield name, {"image": encoded, "image/filename": name, "label": label}
        except DAMAGED_ZIP as error:
            raise ValueError(f"{archive} is damaged: {error}") from None
        if skipped:
            some = ", ".join(skipped[:3]) + (", ..." if len(skipped) > 3 else "")
            remarks.append(
                f"{len(skipped):,} broken or mislabelled files were left out ({_LEFT_OUT:,} of the "
                f"official data set): {some}"
            )

    return Contents({"train": read}, remarks=remarks)


def _jpeg(content: bytes) -> bytes | None:
    """A photo as a JPEG in RGB; None for what is no JFIF file, or cannot be decoded."""
    if b"JFIF" not in content[:10]:
        return None
    try:
        with opened_image(content, "") as image:
            image.load()
            if image.mode == "RGB":
                return content
            recoded = io.BytesIO()
            image.convert("RGB").save(recoded, "JPEG", quality=_JPEG_QUALITY)
            return recoded.getvalue()
    except UnreadableImage:
        return None


def _members(archive: Path, wanted: list[str]) -> dict[str, bytes]:
    """The contents of these members; a ValueError names one that is missing."""
    found: dict[str, bytes] = {}
    for name, content in _regular_members(archive):
        if name in wanted:
            found[name] = content()
        if len(found) == len(wanted):
            break
    if missing := [name for name in wanted if name not in found]:
        raise ValueError(f"{archive} lacks the member {missing[0]}")
    return found


def _regular_members(archive: Path) -> Iterator[tuple[str, Callable[[], bytes]]]:
    """Name and reader of every file of a .tar.gz, in order; nothing is written anywhere."""
    try:
        with tarfile.open(archive, "r:gz") as opened:
            for member in opened:
                name = safe_name(archive, member.name)
                if not member.isfile():
                    continue

                def content(member: tarfile.TarInfo = member, name: str = name) -> bytes:
                    check_size(archive, name, member.size)
                    file = opened.extractfile(member)
                    assert file is not None  # of a regular file
                    return file.read()

                yield name, content
    except _DAMAGED_TAR as error:
        raise ValueError(f"{archive} is damaged or cut off: {error}") from None
    except OSError as error:
        if error.errno is not None:
            raise
        raise ValueError(f"{archive} is no .tar.gz file: {error}") from None


def safe_name(archive: Path, name: str) -> str:
    """The name of a member; a ValueError for one that leads out of the archive's folder."""
    parts = PurePosixPath(name.replace("\\", "/")).parts
    if ".." in parts or name.startswith(("/", "\\")) or re.match(r"[A-Za-z]:", name):
        raise ValueError(
            f"{archive} holds the member {name!r}, which leads out of its folder: it is not the "
            "file that it should be; delete it"
        )
    return name.removeprefix("./")


def check_size(archive: Path, name: str, size: int) -> None:
    """Before a member is read into memory."""
    if size > _LARGEST_MEMBER:
        raise ValueError(
            f"{archive}: {name} has {size:,} bytes, at most {_LARGEST_MEMBER:,} are due"
        )
