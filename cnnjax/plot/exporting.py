"""Examples of a data set as image files, in folders of their classes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from cnnjax.core.places import expanded
from cnnjax.core.text import plain
from cnnjax.data import Dataset
from cnnjax.data.examples import choose_examples, class_names_of
from cnnjax.data.readers.folder_names import folder_names
from cnnjax.plot.images import save_pixels

_AT_ONCE = 256  # images decoded


def export_examples(
    data: Dataset,
    folder: str | Path,
    per_class: int = 8,
    seed: int = 0,
    classes: Sequence[str] | None = None,
) -> list[Path]:
    """Write examples as PNG files, FOLDER/CLASS/POSITION.png, bit for bit where they are uint8.

    Args:
        data: images of 1, 3 or 4 channels, with one class each.
        folder: made if needed; one that is there must be empty.
        per_class: examples of each class, >= 1; of a smaller class all are written.
        seed: of the choice, whole number in [0, 2^32): the examples of `contact_sheet`.
        classes: names of those to write; None: all.

    Returns:
        Paths of the files. CLASS is the class's name as `folder_names` makes it fit for any disk;
        POSITION that of the example in the data, with zeros before it.

    Raises:
        ValueError: for data of another kind, a folder that is not empty, per_class < 1, or an
            unknown class.
    """
    names = class_names_of(data)
    if not data.holds_images or not names:
        raise ValueError(f"only images with one class each are exported, not {data.name}")
    if data.input_shape[2] not in (1, 3, 4):
        raise ValueError(
            f"a PNG file has 1, 3 or 4 channels, and images of {data.name} have "
            f"{data.input_shape[2]}"
        )
    chosen = choose_examples(data.labels, names, per_class, seed, classes)
    folder = expanded(folder)
    if folder.is_dir() and any(folder.iterdir()):
        raise ValueError(f"{plain(folder)} is not empty: choose another folder to export to")
    places = dict(zip(names, folder_names(names), strict=True))
    digits = len(str(max(len(data) - 1, 0)))
    written: list[Path] = []
    for name, positions in chosen.items():
        for start in range(0, len(positions), _AT_ONCE):
            some = positions[start : start + _AT_ONCE]
            for position, image in zip(some, data.inputs[some], strict=True):
                pixels = np.clip(np.round(image), 0, 255).astype(np.uint8)
                file = save_pixels(folder / places[name], f"{position:0{digits}}", pixels)
                written.append(file)
    return written
