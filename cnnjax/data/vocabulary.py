"""From texts to numbers of words and back, by the convention of Keras' IMDB data."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from cnnjax.core.checks import whole_number
from cnnjax.core.places import expanded
from cnnjax.core.reading import read_json
from cnnjax.core.storage import text_hash, write_text
from cnnjax.core.text import plain

# What the first numbers stand for. 3 stands for nothing, as in Keras' IMDB: the most frequent word
# has the number 4.
PADDING, START, UNKNOWN = 0, 1, 2
RESERVED = 4
_MARKS = {PADDING: "", START: "", UNKNOWN: "<unknown>", 3: "<unused>"}

# Those that Keras' text_to_word_sequence leaves out; the apostrophe is not among them.
_SPACES = str.maketrans(dict.fromkeys('!"#$%&()*+,-./:;<=>?@[\\]^_`{|}~', " "))


def words_of(text: str) -> list[str]:
    """The words of a text: small letters, cut at white space and punctuation.

    As Keras' `text_to_word_sequence`, which cuts at fewer kinds of white space: blank, tab and
    newline alone.

    >>> words_of("It's <br /> NOT good, is it?")
    ["it's", 'br', 'not', 'good', 'is', 'it']
    """
    return text.lower().translate(_SPACES).split()


@dataclass(frozen=True)
class Vocabulary:
    """Which word has which number; make one with `of`, or `load` one.

    As in `keras.datasets.imdb.load_data`: 0 is padding, 1 the start of a text, 2 a word that is not
    in the vocabulary, and the word of rank r (from 1) has the number r + 3. So a vocabulary of
    10,000 numbers, `num_words=10000` there, holds 9,996 words.

    Args:
        words: the most frequent first.

    Raises:
        ValueError: if there are none, one is there twice, or one is no single word.
    """

    words: tuple[str, ...]

    def __post_init__(self) -> None:
        if not self.words:
            raise ValueError("a vocabulary needs at least one word")
        if len(set(self.words)) < len(self.words):
            twice = Counter(self.words).most_common(1)[0][0]
            raise ValueError(f"the vocabulary holds the word {twice!r} twice")
        if strange := next((w for w in self.words if words_of(w) != [w]), None):
            raise ValueError(
                f"{strange!r} is no word, as words_of cuts them: small letters, no white space, no "
                "punctuation"
            )

    def __repr__(self) -> str:
        return f"Vocabulary({len(self.words):,} words: {', '.join(self.words[:3])}, ...)"

    @classmethod
    def of(cls, texts: Iterable[str], size: int | None = None) -> Vocabulary:
        """The most frequent words of texts; of equally frequent ones the first in the alphabet.

        Args:
            texts: those of training.
            size: how many numbers there are to be, four of them for no word; None takes all words.

        Raises:
            ValueError: for what are no texts; if they have too few words, or none; for a size that
                is no whole number.

        >>> Vocabulary.of(["a film, a film", "a dog"]).words
        ('a', 'film', 'dog')
        """
        counts: Counter[str] = Counter()
        for text in _each_checked(texts):
            counts.update(words_of(text))
        if not counts:
            raise ValueError("the texts hold no words")
        largest = len(counts) + RESERVED
        if size is None:
            size = largest
        size = whole_number("size", size)
        if not RESERVED < size <= largest:
            raise ValueError(
                f"the texts have {len(counts):,} different words, so a vocabulary of them has "
                f"between {RESERVED + 1} and {largest:,} numbers, got {size:,}"
            )
        order = sorted(counts, key=lambda word: (-counts[word], word))
        return cls(tuple(order[: size - RESERVED]))

    @property
    def size(self) -> int:
        """How many numbers there are: words and the four that stand for none."""
        return len(self.words) + RESERVED

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the words in their order, the first 16 digits."""
        return text_hash(json.dumps(self.words))

    @cached_property
    def _numbers(self) -> dict[str, int]:
        return {word: number for number, word in enumerate(self.words, RESERVED)}

    def encode(self, text: str) -> list[int]:
        """The numbers of a text's words behind that of the start.

        >>> Vocabulary(("the", "film")).encode("The long film!")
        [1, 4, 2, 5]
        """
        find = self._numbers.get
        return [START, *(find(word, UNKNOWN) for word in words_of(text))]

    def encode_all(self, texts: Sequence[str], length: int) -> np.ndarray:
        """Texts as a model takes them, padded and cut at the front.

        Args:
            texts: N of them.
            length: >= 1; of a longer text the last `length` numbers are kept, as Keras'
                `pad_sequences` does.

        Returns:
            int32 [N, length].

        Raises:
            ValueError: for what is no list of texts, an empty text, or a length < 1.

        >>> Vocabulary(("the", "film")).encode_all(["film", "the long film"], 3).tolist()
        [[0, 1, 5], [4, 2, 5]]
        """
        check_texts(texts)
        length = whole_number("length", length)
        numbers = np.full((len(texts), length), PADDING, np.int32)
        for i, text in enumerate(texts):
            found = self.encode(text)
            if len(found) == 1:
                raise ValueError(f"texts[{i}] is empty: {text[:40]!r} holds no word")
            numbers[i, -len(found) :] = found[-length:]
        return numbers

    def decode(self, numbers: Iterable[int]) -> str:
        """The words of numbers; padding and start are left out.

        >>> Vocabulary(("the", "film")).decode([0, 1, 4, 2, 5])
        'the <unknown> film'

        Raises:
            ValueError: for a number that the vocabulary has not.
        """
        return " ".join(filter(None, map(self.word, numbers)))

    def word(self, number: int) -> str:
        """The word of a number: "" for padding and start, "<unknown>" for 2.

        Raises:
            ValueError: for a number that the vocabulary has not.
        """
        if not 0 <= number < self.size:
            raise ValueError(f"numbers of words lie in [0, {self.size}), got {number}")
        return _MARKS[int(number)] if number < RESERVED else self.words[int(number) - RESERVED]

    def save(self, path: str | Path) -> Path:
        """Write the words as JSON, complete or not at all."""
        path = expanded(path)
        write_text(path, json.dumps({"words": self.words}, indent=0) + "\n")
        return path

    @classmethod
    def load(cls, path: str | Path) -> Vocabulary:
        """Read what `save` wrote.

        Raises:
            FileNotFoundError: if there is no such file.
            ValueError: if it is none of a vocabulary, or no regular file.
        """
        path = expanded(path)
        try:
            content = read_json(path, "vocabulary")
            words = content.get("words") if isinstance(content, dict) else None
            if not isinstance(words, list) or not all(isinstance(w, str) for w in words):
                raise ValueError("it lacks a list of words")
            return cls(tuple(words))
        except ValueError as error:
            raise ValueError(f"{path} holds no vocabulary: {plain(error)}") from None


def check_texts(texts: Sequence[str]) -> None:
    """Refuse what is no list of texts.

    Raises:
        ValueError: for a single text, or something else than texts.
    """
    for _ in _each_checked(texts):
        pass


def _each_checked(texts: Iterable[str]) -> Iterator[str]:
    """Texts one by one, as they may be too many for memory; errors as in `check_texts`."""
    if isinstance(texts, str | bytes):
        raise ValueError(f"texts must be a list of texts, got a single one: [{str(texts)[:40]!r}]")
    for number, text in enumerate(texts):
        if not isinstance(text, str):
            raise ValueError(f"texts[{number}] must be a text, got {type(text).__name__}")
        yield text
