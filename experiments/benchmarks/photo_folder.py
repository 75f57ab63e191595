"""A folder of as many photos as a benchmark wants, made of a few thousand real ones.

Each photo is brought to one size and stored as JPEG once. Its copies differ by a comment with their
number, so that no two files have one content; what they cost to read and decode is the same.
"""

from __future__ import annotations

import io
from pathlib import Path

from PIL import Image

from cnnjax.core.storage import staged

_SUFFIXES = (".jpg", ".jpeg")
_QUALITY = 90
_IN_A_FOLDER = 1000  # as in a class of ImageNet


def photo_folder(target: Path, photos: Path, count: int, side: int) -> Path:
    """Make a folder of class folders of 1,000 JPEGs, two at least; one that is there stays.

    Args:
        target: the folder.
        photos: a folder that holds JPEGs, at any depth.
        count: files to make, >= 2.
        side: of each, in pixels.

    Returns:
        The folder.
    """
    if target.is_dir():
        return target
    sources = sorted(file for file in photos.rglob("*") if file.suffix.lower() in _SUFFIXES)
    if not sources:
        raise FileNotFoundError(f"{photos} holds no JPEGs")
    classes = max(-(-count // _IN_A_FOLDER), 2)
    with staged(target) as staging:
        built = staging / target.name
        for label in range(classes):
            (built / f"class{label:04d}").mkdir(parents=True)
        for source in range(min(len(sources), count)):
            content = _encoded(sources[source], side)
            for number in range(source, count, len(sources)):
                file = built / f"class{number % classes:04d}" / f"{number:07d}.jpg"
                file.write_bytes(_commented(content, number))
        built.rename(target)
    return target


def _encoded(photo: Path, side: int) -> bytes:
    file = io.BytesIO()
    with Image.open(photo) as image:
        image.convert("RGB").resize((side, side)).save(file, "JPEG", quality=_QUALITY)
    return file.getvalue()


def _commented(content: bytes, number: int) -> bytes:
    """A JPEG with a number in a comment segment."""
    text = f"{number}".encode()
    return content[:2] + b"\xff\xfe" + (len(text) + 2).to_bytes(2) + text + content[2:]
