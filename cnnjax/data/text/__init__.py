"""Texts: a vocabulary, and where texts with labels come from."""

from cnnjax.data.text.info import TextPart, describe_texts, holds_texts
from cnnjax.data.text.load import TEXTS, from_texts, load_texts
from cnnjax.data.text.sources import read_text
from cnnjax.data.text.templates import Sample, template_samples
from cnnjax.data.text.vocabulary import Vocabulary, words_of

__all__ = [
    "TEXTS",
    "Sample",
    "TextPart",
    "Vocabulary",
    "describe_texts",
    "from_texts",
    "holds_texts",
    "load_texts",
    "read_text",
    "template_samples",
    "words_of",
]
