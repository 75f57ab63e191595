"""Texts: a vocabulary, and where texts with labels come from."""

from cnnjax.data.texts.load_texts import TEXTS, from_texts, load_texts
from cnnjax.data.texts.templates import Sample, template_samples
from cnnjax.data.texts.text_files import read_text
from cnnjax.data.texts.text_parts import TextPart, describe_texts, holds_texts
from cnnjax.data.vocabulary import Vocabulary, words_of

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
