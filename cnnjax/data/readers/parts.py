"""What the parts of a divided data set are called."""

from __future__ import annotations

import re

from cnnjax.data.readers.file_names import normal

# The first name of each part is ours. The test part stands first, since of two files of one content
# the first is kept.
PARTS = {
    "test": ("test", "testing"),
    "validation": ("validation", "valid", "val", "dev"),
    "train": ("train", "training"),
}
_PART_OF = {name: part for part, names in PARTS.items() for name in names}

# Words that say nothing beside the name of a part, as in train_set, "Test Images" or val2017.
_FILLERS = ("set", "data", "dataset", "image", "images", "img", "imgs", "photos", "split")
_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")
_YEAR = re.compile(r"(?<!\d)(19|20)\d\d$")


def part_named(name: str) -> str | None:
    """The part that a folder, or a cell of a table, of this name stands for; None: none.

    >>> [part_named(name) for name in ("Valid", "test_set", "TrainImages", "seg_train", "cats")]
    ['validation', 'test', 'train', None, None]
    """
    name = _YEAR.sub("", normal(name).strip())
    if not re.fullmatch(r"[A-Za-z \-_.]+", name):
        return None
    words = [word for word in _words(name) if word not in _FILLERS]
    return _PART_OF.get(words[0]) if len(words) == 1 else None


def part_in(name: str) -> str | None:
    """The one part that is among the words of a name.

    >>> [part_in(name) for name in ("seg_train", "my test 2", "train and test", "cats")]
    ['train', 'test', None, None]
    """
    parts = {_PART_OF[word] for word in _words(name) if word in _PART_OF}
    return parts.pop() if len(parts) == 1 else None


def _words(name: str) -> list[str]:
    """The words of a name in small letters; "trainset" are two."""
    words = []
    for word in map(str.lower, _WORD.findall(name)):
        filler = next((f for f in _FILLERS if word.removesuffix(f) in _PART_OF), "")
        words.append(word.removesuffix(filler))
    return words
