"""Texts whose words are coloured by how much they speak for a class."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cnnjax import explain
from cnnjax.data.vocabulary import START, words_of
from cnnjax.explain.targets import Target, chosen_classes
from cnnjax.explain.words import checked_tokens
from cnnjax.models import Model
from cnnjax.plot.images import save_image
from cnnjax.task import both_classes, probabilities

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# In points. A letter of DejaVu Sans Mono, matplotlib's own, is .602 times its size wide.
_WIDTH, _MARGIN, _SIZE, _LINE = 720.0, 14.0, 9.0, 15.0
_LETTER = 0.602 * _SIZE

# Longer texts are cut to so many words, those with the most heat.
_SHOWN = 150


def draw_words(
    model: Model,
    texts: Sequence[str] | np.ndarray,
    folder: str | Path,
    layer: str | None = None,
    target: Target = None,
    name: str = "words",
    caption: str = "",
) -> Path:
    """Draw texts with coloured words: by `word_cam`, or by `word_occlusion` where no layer has it.

    Args:
        model: a classifier of texts with a vocabulary.
        texts: N texts, or their numbers, int32 [N, T].
        folder: where NAME.png and NAME.npz (heat [N, T], classes, probabilities) are written.
        layer: of `word_cam`; None takes `model.spec.cam_layer`, and where there is none occlusion.
        target: as in `explain.grad_cam`.
        name: of the files.
        caption: of `save_image`.

    Returns:
        The path of the image.

    Raises:
        ValueError: for what `word_cam` refuses, or a model without a vocabulary.
    """
    tokens = checked_tokens(model, texts)
    if model.spec.vocabulary is None:
        raise ValueError(f"{model.spec.name} has no vocabulary, so its numbers have no words")
    if layer is None and not model.spec.cam_layer:
        heat = explain.word_occlusion(model, tokens, target)
    else:
        heat = explain.word_cam(model, tokens, layer, target)
    logits = model(tokens)
    probs = both_classes(np.asarray(probabilities(logits)))
    classes = chosen_classes(model, logits, target)
    chosen = np.take_along_axis(probs, classes[:, None], axis=1)[:, 0]
    titles = [
        f"{model.spec.label_name(int(k))} {p:.2f}" for k, p in zip(classes, chosen, strict=True)
    ]
    rows = []
    for i, numbers in enumerate(tokens):
        places = np.flatnonzero(numbers > START)
        words = [model.spec.vocabulary.word(int(k)) for k in numbers[places]]
        if not isinstance(texts, np.ndarray):  # the words as they are, also unknown ones
            words = words_of(texts[i])[-len(places) :]
        rows.append((words, heat[i, places]))
    stored = {"heat": heat, "classes": classes, "probabilities": chosen}
    return save_image(folder, name, coloured_words(rows, titles), stored, caption)


def coloured_words(
    texts: Sequence[tuple[Sequence[str], np.ndarray]], titles: Sequence[str]
) -> Figure:
    """A figure of texts, each word on a ground as red as it is hot.

    Args:
        texts: of each the words and their heat in [0, 1].
        titles: a line above each.
    """
    import matplotlib

    from cnnjax.plot.shown_figure import ShownFigure

    placed: list[tuple[float, float, str, float | None]] = []
    y = _MARGIN
    for (words, heat), title in zip(texts, titles, strict=True):
        y += _LINE
        placed.append((_MARGIN, y, title, None))
        for x, line, word, warmth in _lines(*_hottest(words, heat)):
            placed.append((x, y + _LINE * (line + 1.2), word, warmth))
        y = placed[-1][1] + _LINE
    figure = ShownFigure(figsize=(_WIDTH / 72, (y + _MARGIN) / 72), dpi=120)
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, _WIDTH), ylim=(y + _MARGIN, 0))
    axes.set_axis_off()
    colours = matplotlib.colormaps["Reds"]
    for x, down, text, value in placed:
        if value is None:
            axes.text(x, down, text, fontsize=_SIZE + 1, fontweight="bold")
            continue
        ground = {"facecolor": colours(0.75 * value), "edgecolor": "none", "pad": 1.2}
        axes.text(
            x, down, text, fontsize=_SIZE, family="DejaVu Sans Mono", bbox=ground, parse_math=False
        )
    return figure


def _hottest(words: Sequence[str], heat: np.ndarray) -> tuple[list[str], np.ndarray]:
    """The part of a long text that has the most heat, with dots where it was cut."""
    if len(words) <= _SHOWN:
        return list(words), heat
    sums = np.convolve(heat, np.ones(_SHOWN), "valid")
    first = int(np.argmax(sums))
    shown, kept = list(words[first : first + _SHOWN]), heat[first : first + _SHOWN]
    if first > 0:
        shown, kept = ["...", *shown], np.concatenate([[0], kept])
    if first + _SHOWN < len(words):
        shown, kept = [*shown, "..."], np.concatenate([kept, [0]])
    return shown, kept


def _lines(words: Sequence[str], heat: np.ndarray) -> list[tuple[float, int, str, float]]:
    """(x, number of the line, word, heat) of words that are broken into lines."""
    columns = int((_WIDTH - 2 * _MARGIN) / _LETTER)
    found, column, line = [], 0, 0
    for word, value in zip(words, heat, strict=True):
        if column and column + len(word) > columns:
            column, line = 0, line + 1
        found.append((_MARGIN + column * _LETTER, line, word[:columns], float(value)))
        column += len(word) + 1
    return found
