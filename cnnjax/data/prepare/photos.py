"""The small data set of cats and dogs, cut by file number from an archive of the large one."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from cnnjax.data.pixels.image_files import UnreadableImage, opened_image
from cnnjax.data.prepare.raw import DAMAGED_ZIP, check_size, safe_name

# As Kaggle packs the photos (train/cat.0.jpg) and as Microsoft does (PetImages/Cat/0.jpg).
_NUMBERED = re.compile(
    r"(?:(?:train/)?(?P<kaggle>cat|dog)\.|PetImages/(?P<microsoft>Cat|Dog)/)"
    r"(?P<number>0|[1-9]\d{0,6})\.jpg"
)

# Photos of each class, in the order of their numbers.
PARTS = {"train": 1000, "validation": 500, "test": 500}

_NAMED = 20  # photos that were passed over


@dataclass(frozen=True)
class Photos:
    """What an archive of photos is cut into.

    Args:
        files: (path below the data set's folder, content), read as they are asked for.
        remarks: filled while they are read, with what was passed over.
    """

    files: Iterator[tuple[str, bytes]]
    remarks: list[str] = field(default_factory=list)


def cats_vs_dogs_small(files: Mapping[str, Path], parts: Mapping[str, int] = PARTS) -> Photos:
    """The first photos of each class to train on, the next to validate, the next to test.

    Photos keep their bytes. A number that is missing, or whose file is no whole JPEG, is passed
    over for the next one, so that cat.0 to cat.999 are to train on where these are good.

    Args:
        files: the archive, by its name.
        parts: part -> photos of each class.

    Raises:
        ValueError: while the files are read, for an archive that is damaged, or lacks photos.
    """
    (archive,) = files.values()
    remarks: list[str] = []
    return Photos(_cut(archive, parts, remarks), remarks)


def _cut(
    archive: Path, parts: Mapping[str, int], remarks: list[str]
) -> Iterator[tuple[str, bytes]]:
    passed_over: list[str] = []
    try:
        with zipfile.ZipFile(archive) as opened:
            members = _numbered(archive, opened)
            for label in ("cat", "dog"):
                photos = _good(archive, opened, label, members[label], passed_over)
                for part, count in parts.items():
                    for done in range(count):
                        photo = next(photos, None)
                        if photo is None:
                            raise ValueError(_lacking(archive, label, parts, part, done))
                        number, content = photo
                        yield f"{part}/{label}s/{label}.{number}.jpg", content
    except DAMAGED_ZIP as error:
        raise ValueError(f"{archive} is damaged: {error}") from None
    if passed_over:
        more = ", ..." if len(passed_over) > _NAMED else ""
        remarks.append(
            f"{len(passed_over):,} numbers were passed over for the next ones: "
            f"{', '.join(passed_over[:_NAMED])}{more}"
        )


def _numbered(archive: Path, opened: zipfile.ZipFile) -> dict[str, dict[int, zipfile.ZipInfo]]:
    """The members that are photos by their names: class -> number -> member."""
    found: dict[str, dict[int, zipfile.ZipInfo]] = {"cat": {}, "dog": {}}
    for member in opened.infolist():
        name = safe_name(archive, member.filename).replace("\\", "/")
        match = _NUMBERED.fullmatch(name)
        if match is None or member.is_dir():
            continue
        label, number = (match["kaggle"] or match["microsoft"]).lower(), int(match["number"])
        if number in found[label]:
            raise ValueError(
                f"{archive} holds {label} {number} twice, as {found[label][number].filename} and "
                f"{name}: it is not the file that it should be; delete it"
            )
        found[label][number] = member
    return found


def _good(
    archive: Path,
    opened: zipfile.ZipFile,
    label: str,
    members: Mapping[int, zipfile.ZipInfo],
    passed_over: list[str],
) -> Iterator[tuple[int, bytes]]:
    """Number and content of every photo of a class that is whole, by number."""
    before = -1
    for number in sorted(members):
        member = members[number]
        missing = range(before + 1, number)
        if missing:
            last = f" to {label}.{missing[-1]}" if len(missing) > 1 else ""
            passed_over.append(f"{label}.{missing[0]}{last} (missing)")
        before = number
        check_size(archive, member.filename, member.file_size)
        content = opened.read(member)
        if fault := _fault(content):
            passed_over.append(f"{label}.{number} ({fault})")
        else:
            yield number, content


def _fault(content: bytes) -> str | None:
    """What is wrong with a photo, if anything."""
    if not content:
        return "empty"
    try:
        with opened_image(content, "") as image:
            if image.format not in ("JPEG", "MPO"):
                return f"a {image.format} file"
            image.load()
    except UnreadableImage:
        return "not readable"
    return None


def _lacking(archive: Path, label: str, parts: Mapping[str, int], part: str, done: int) -> str:
    before = [*parts][: [*parts].index(part)]
    there = done + sum(parts[name] for name in before)
    return (
        f"{archive} holds {there:,} good photos of {label}s, {sum(parts.values()):,} are needed "
        f"(train/{label}.0.jpg and so on, or PetImages/{label.title()}/0.jpg and so on)"
    )
