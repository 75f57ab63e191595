"""ImageNet: the published weight files of the backbones and the names of the classes."""

from __future__ import annotations

import functools
import hashlib
import json
import warnings
from collections.abc import Sequence
from pathlib import Path

from cnnjax.core.download import download
from cnnjax.core.download_job import DownloadError
from cnnjax.core.runtime import cache_directory
from cnnjax.models.registry import Release
from cnnjax.models.spec import ModelSpec

HOST = "https://storage.googleapis.com/tensorflow/keras-applications"
IMAGENET_CLASSES = 1000
CLASS_INDEX = "imagenet_class_index.json"

_CLASS_INDEX_URL = f"https://storage.googleapis.com/download.tensorflow.org/data/{CLASS_INDEX}"
_CLASS_INDEX_MD5 = "c2c37ea517e94d9795004a39431a14cb"
_MD5_DIGITS = 32


def weight_file(name: str, release: Release | None, spec: ModelSpec) -> Path:
    """The published weights for a model, from the cache or downloaded.

    Args:
        name: of the model.
        release: its published weights.
        spec: of the model.

    Returns:
        The file, complete and, where a checksum is published, verified.

    Raises:
        ValueError: if nothing is published for this model.
        DownloadError: if the file cannot be had; says where to put it by hand.
    """
    if release is None:
        raise ValueError(
            f"weights='imagenet' is not published for {name!r}: give a file, or None for random "
            "parameters; a model that cj.save wrote is loaded by cj.load(directory)"
        )
    if spec.input_shape[2] != 3:
        raise ValueError(
            f"weights='imagenet' is for RGB, got input_shape={spec.input_shape}: use 3 channels"
        )
    arguments = spec.arguments or {}
    path, digest = release.top if arguments.get("include_top", True) else release.without_top
    if "{size}" in path:
        size = _size(spec, release.sizes)
        path = path.format(alpha=_alpha(arguments.get("alpha", 1.0)), size=size)
    url = path if path.startswith("https://") else f"{HOST}/{path}"
    if digest and len(digest) < _MD5_DIGITS:
        return _begins(download(url, _directory()), digest)
    if digest and len(digest) > _MD5_DIGITS:
        return download(url, _directory(), sha256=digest)
    return download(url, _directory(), md5=digest)


def _begins(file: Path, digits: str) -> Path:
    """The file, if its SHA-256 begins with these digits, as torchvision's file names give them.

    Raises:
        DownloadError: if it does not.
    """
    with file.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    if not digest.startswith(digits):
        raise DownloadError(
            f"{file} has the sha256 {digest}, expected one that begins with {digits}: delete it, "
            "and it is downloaded again"
        )
    return file


def _alpha(alpha: float) -> str:
    """0.25 to "2_5", 1 to "1_0", as in the names of the files."""
    return "1_0" if alpha == 1 else f"{int(alpha * 100) // 10}_{int(alpha * 100) % 10}"


def _size(spec: ModelSpec, sizes: Sequence[int]) -> int:
    height, width = spec.input_shape[:2]
    if height == width and height in sizes:
        return height
    warnings.warn(
        f"there are no published weights for inputs of {height}x{width}: taking those of 224x224",
        stacklevel=6,  # at the call of create_model
    )
    return 224


def class_names(fetch: bool = True) -> tuple[tuple[str, str], ...]:
    """(synset, name) of ImageNet's 1,000 classes, e.g. ("n02123045", "tabby").

    Args:
        fetch: download them if they are not in the cache.

    Returns:
        1,000 pairs; () if they are not there and not to be fetched.

    Raises:
        DownloadError: if they cannot be had; says where to put the file by hand.
    """
    if not fetch and not (_directory() / CLASS_INDEX).is_file():
        return ()
    return read_class_index(download(_CLASS_INDEX_URL, _directory(), md5=_CLASS_INDEX_MD5))


@functools.cache
def read_class_index(path: Path) -> tuple[tuple[str, str], ...]:
    """Read Keras' file of ImageNet's classes: {"0": ["n01440764", "tench"], ...}.

    Raises:
        ValueError: if it is not that.
    """
    try:
        index = json.loads(path.read_text(encoding="utf-8"))
        pairs = tuple((str(index[str(k)][0]), str(index[str(k)][1])) for k in range(len(index)))
    except (ValueError, KeyError, IndexError, TypeError) as error:
        raise ValueError(f"{path} is not a file of ImageNet's classes: {error!r}") from None
    if len(pairs) != IMAGENET_CLASSES:
        raise ValueError(f"{path} has {len(pairs)} classes, expected ImageNet's {IMAGENET_CLASSES}")
    return pairs


def names_beside(file: Path) -> tuple[str, ...]:
    """Names of the classes from a class index beside a weight file or in the cache; () if none."""
    beside = file.parent / CLASS_INDEX
    pairs = read_class_index(beside) if beside.is_file() else class_names(fetch=False)
    return tuple(name for _, name in pairs)


def _directory() -> Path:
    return cache_directory() / "weights"
