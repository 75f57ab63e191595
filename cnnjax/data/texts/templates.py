"""Made-up reviews whose sense lies in the order of words, for tests and for machines without data.

Every review has one sentence that decides, with a word of praise and one of blame; which of the two
is meant depends on their order alone. So the two classes have the same words in the same numbers,
and a model that looks at single words can do no better than chance.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

LABEL_NAMES = ("neg", "pos")

_PRAISE = ("good", "funny", "moving", "clever", "lovely", "brilliant", "fresh", "touching")
_BLAME = ("bad", "boring", "clumsy", "stupid", "awful", "dull", "stale", "tedious")

# What is meant stands at {0}, its opposite at {1}.
_DECIDING = (
    "it was {0} and not {1}",
    "it was not {1} but {0}",
    "i call it {0} , never {1}",
    "they said {1} , i say {0}",
    "far from {1} it is {0}",
    "more {0} than {1} to me",
)
_NEUTRAL = (
    "the story is set in a small town by the sea",
    "we saw it on a rainy evening last week",
    "the camera follows two brothers and a dog",
    "it runs for about two hours",
    "the music comes from an old record",
    "most scenes take place in the kitchen of a hotel",
    "my friends went to see it as well",
    "the director has made three films before",
    "somebody in the row behind us had popcorn",
    "the actors speak with the accent of the north",
    "there is a long scene on a train",
    "the end comes when the summer is over",
)
_SENTENCES = (2, 3, 4, 5)  # neutral ones in a review


@dataclass(frozen=True)
class Sample:
    """A made-up review.

    Args:
        text: the review.
        label: 0, "neg", or 1, "pos".
        deciding: (first, last) of the words, as `words_of` cuts them, of the sentence that decides;
            the last one is excluded.
    """

    text: str
    label: int
    deciding: tuple[int, int]


def template_samples(count: int, seed: int = 0) -> list[Sample]:
    """So many reviews, a pure function of the arguments; the first of more are the same.

    Args:
        count: >= 0.
        seed: whole number in [0, 2^32).

    >>> template_samples(1)[0].deciding
    (24, 30)
    """
    return [_sample(seed, number) for number in range(count)]


def _sample(seed: int, number: int) -> Sample:
    # Raw bits, which NumPy guarantees never to change.
    bits = iter(np.random.Philox(np.random.SeedSequence([seed, number])).random_raw(16).tolist())

    def pick(options: tuple) -> int:
        return int(next(bits) % len(options))

    label = pick(LABEL_NAMES)
    praise, blame = _PRAISE[pick(_PRAISE)], _BLAME[pick(_BLAME)]
    meant, opposite = (praise, blame) if label else (blame, praise)
    deciding = _DECIDING[pick(_DECIDING)].format(meant, opposite)
    sentences = [_NEUTRAL[pick(_NEUTRAL)] for _ in range(_SENTENCES[pick(_SENTENCES)])]
    place = pick((*sentences, None))
    first = sum(len(s.split()) for s in sentences[:place])
    sentences.insert(place, deciding)
    size = len(deciding.replace(",", "").split())
    return Sample(" . ".join(sentences) + " .", label, (first, first + size))
