"""Which data sets can be prepared: their raw files, and what is read from these."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from cnnjax.core.text import suggest
from cnnjax.data.prepare import photos, raw


@dataclass(frozen=True)
class RawFile:
    """A file to download.

    Args:
        url: where it is.
        name: what it is called.
        size: its length in bytes.
        sha256: of its content, hexadecimal.
    """

    url: str
    name: str
    size: int
    sha256: str


@dataclass(frozen=True)
class Recipe:
    """How a data set is made.

    Args:
        title: what it is, in a line.
        examples: how many it has, in all splits.
        read: its examples, from the paths of its raw files by their names: contents for a
            directory of TFDS, or photos for class folders.
        files_of: the data set of TFDS from whose raw files this one is cut, into class folders;
            None: it is one of TFDS itself, and written as those are.
        by_hand: names of Kaggle's archives, which ask who one is, any of which does as well.
    """

    title: str
    examples: int
    read: Callable[[Mapping[str, Path]], raw.Contents | photos.Photos]
    files_of: str | None = None
    by_hand: tuple[str, ...] = ()


RECIPES = {
    "mnist": Recipe("handwritten digits, 28x28 grey, 10 classes", 70_000, raw.mnist),
    "fashion_mnist": Recipe("images of clothes, 28x28 grey, 10 classes", 70_000, raw.mnist),
    "cifar10": Recipe("photos, 32x32 colour, 10 classes", 60_000, raw.cifar10),
    "cifar100": Recipe("photos, 32x32 colour, 100 classes", 60_000, raw.cifar100),
    "imdb_reviews": Recipe(
        "film reviews, 25,000 to train on, 25,000 to test", 100_000, raw.imdb_reviews
    ),
    "cats_vs_dogs": Recipe("photos of any size, 2 classes", 23_262, raw.cats_vs_dogs),
    "cats_vs_dogs_small": Recipe(
        "2,000, 1,000 and 1,000 of these photos, in class folders",
        4_000,
        photos.cats_vs_dogs_small,
        files_of="cats_vs_dogs",
        by_hand=("train.zip",),
    ),
}

# What is no data set of TFDS, but a folder in its directory.
IN_FOLDERS = tuple(name for name, recipe in RECIPES.items() if recipe.files_of)


def raw_files(name: str) -> list[RawFile]:
    """The raw files of a data set, as TensorFlow Datasets knows them.

    Args:
        name: from `RECIPES`.

    Raises:
        ValueError: for another name.

    >>> [file.name for file in raw_files("cifar10")]
    ['cifar-10-binary.tar.gz']
    """
    import tensorflow_datasets as tfds

    check_name(name)
    known = tfds.builder_cls(RECIPES[name].files_of or name).url_infos.items()
    return [RawFile(url, info.filename, int(info.size), info.checksum) for url, info in known]


def check_name(name: str) -> None:
    """A ValueError that offers the nearest names if there is no recipe."""
    if name not in RECIPES:
        raise ValueError(
            f"there is no recipe for a data set {name!r}. "
            f"{suggest(name, list(RECIPES), 'data sets')}"
        )
