"""What the splits of a divided data set are called."""

from __future__ import annotations

import re

from cnnjax.data.readers.file_names import normal

# The first name of each split is ours. The test split stands first, since of two files of one
# content the first is kept.
SPLITS = {
    "test": ("test", "testing"),
    "validation": ("validation", "valid", "val", "dev"),
    "train": ("train", "training"),
}
_SPLIT_OF = {name: split for split, names in SPLITS.items() for name in names}

# Words that say nothing beside the name of a split, as in train_set, "Test Images" or val2017.
_FILLERS = ("set", "data", "dataset", "image", "images", "img", "imgs", "photos", "split")
_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")
_YEAR = re.compile(r"(?<!\d)(19|20)\d\d$")


def split_named(name: str) -> str | None:
    """The split that a folder, or a cell of a table, of this name stands for; None: none.

    >>> [split_named(name) for name in ("Valid", "test_set", "TrainImages", "seg_train", "cats")]
    ['validation', 'test', 'train', None, None]
    """
    name = _YEAR.sub("", normal(name).strip())
    if not re.fullmatch(r"[A-Za-z \-_.]+", name):
        return None
    words = [word for word in _words(name) if word not in _FILLERS]
    return _SPLIT_OF.get(words[0]) if len(words) == 1 else None


def split_in(name: str) -> str | None:
    """The one split that is among the words of a name.

    >>> [split_in(name) for name in ("seg_train", "my test 2", "train and test", "cats")]
    ['train', 'test', None, None]
    """
    splits = {_SPLIT_OF[word] for word in _words(name) if word in _SPLIT_OF}
    return splits.pop() if len(splits) == 1 else None


def _words(name: str) -> list[str]:
    """The words of a name in small letters; "trainset" are two."""
    words = []
    for word in map(str.lower, _WORD.findall(name)):
        filler = next((f for f in _FILLERS if word.removesuffix(f) in _SPLIT_OF), "")
        words.append(word.removesuffix(filler))
    return words
