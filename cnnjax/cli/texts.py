"""What verbs do for a model of texts, where others take images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cnnjax.cli.options import warnings_as_lines
from cnnjax.core.table import table

_SHOWN = 40  # letters of a text in the place of a file's name


def takes_texts(model: Any, options: Any, not_for_texts: Sequence[str]) -> bool:
    """Whether a model is asked about texts.

    Args:
        model: that is asked.
        options: of the verb; `text` among them.
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


def print_answers(model: Any, files: Sequence[str], texts: Sequence[str], top: int) -> None:
    """A line for every text: its beginning or its file, the best classes, their probabilities.

    Args:
        model: that is asked.
        files: of texts.
        texts: further ones.
        top: classes to name for each.
    """
    import cnnjax as cj

    names = [t if len(t) <= _SHOWN else f"{t[: _SHOWN - 3]}..." for t in texts]
    with warnings_as_lines():
        probs = cj.predict(model, read_texts(files, texts))
    decoded = cj.decode_predictions(probs, top, model.spec.label_names)
    best = ["  ".join(f"{label} {p:.4f}" for _, label, p in classes) for classes in decoded]
    print(table(zip([*names, *files], best, strict=True), "<"))


def read_texts(files: Sequence[str], texts: Sequence[str]) -> list[str]:
    """Texts, and then those of files."""
    from cnnjax.data.texts import read_text

    return [*texts, *(read_text(Path(file)) for file in files)]
