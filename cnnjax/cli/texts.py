"""What verbs do for a model of texts, where others take images."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cnnjax.cli.options import warnings_as_lines
from cnnjax.cli.running import print_table

_SHOWN = 40  # letters of a text in the place of a file's name


def add_text_option(verb: argparse.ArgumentParser) -> None:
    """The option for texts on the command line."""
    verb.add_argument(
        "--text", action="append", default=[], metavar="TEXT",
        help="for a run of texts, instead of images or beside .txt files; may be given again",
    )  # fmt: skip


def takes_texts(model: Any, options: argparse.Namespace, not_for_texts: Sequence[str]) -> bool:
    """Whether a model is asked about texts.

    Args:
        model: that is asked.
        options: of the verb.
        not_for_texts: names of options that are for images.

    Raises:
        ValueError: for an option of the other kind.
    """
    if not model.spec.inputs.tokens:
        if options.text:
            raise ValueError(f"--text is for a model of texts, and {model.spec.name} is none")
        return False
    given = [name for name in not_for_texts if getattr(options, name)]
    if given:
        raise ValueError(f"--{given[0]} is for images, and {model.spec.name} takes texts")
    return True


def print_answers(model: Any, files: Sequence[str], options: argparse.Namespace) -> None:
    """A line for every text: its beginning or its file, the best classes, their probabilities."""
    import cnnjax as cj

    names, texts = _texts(files, options)
    with warnings_as_lines():
        probs = cj.predict(model, texts)
    decoded = cj.decode_predictions(probs, options.top, model.spec.label_names)
    print_table(names, ["  ".join(f"{label} {p:.4f}" for _, label, p in best) for best in decoded])


def draw_answers(
    model: Any, files: Sequence[str], options: argparse.Namespace, folder: Path, target: Any
) -> Path:
    """The path of an image of the texts whose words are coloured by what they say."""
    from cnnjax import plot

    _, texts = _texts(files, options)
    with warnings_as_lines():
        return plot.draw_words(model, texts, folder, options.layer, target)


def _texts(files: Sequence[str], options: argparse.Namespace) -> tuple[list[str], list[str]]:
    """What to call each text, and the texts: those of --text, then those of files."""
    from cnnjax.data.texts import read_text

    names = [t if len(t) <= _SHOWN else f"{t[: _SHOWN - 3]}..." for t in options.text]
    return [*names, *files], [*options.text, *(read_text(Path(file)) for file in files)]
