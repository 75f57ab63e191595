"""A data set written as folders of images, which every program opens."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from cnnjax.core.places import expanded
from cnnjax.core.storage import staged
from cnnjax.core.text import plain
from cnnjax.data.examples import check_filed, choose_examples, class_names_of
from cnnjax.data.pixels.image_files import png_bytes
from cnnjax.data.readers.folder_names import folder_names
from cnnjax.data.splits import Splits


def export_folders(
    splits: Splits,
    folder: str | Path,
    *,
    classes: Sequence[str] | None = None,
    per_class: int | None = None,
    seed: int = 0,
) -> Path:
    """Write a data set as class folders of PNG files: train/cat/00017.png for its 17th image.

    Folders have the very names of the classes, so that `load` has them again.

    Args:
        splits: grey or RGB images with classes, of one size or any.
        folder: which there is not yet; it appears whole or not at all.
        classes: those wanted, two at least; None: all.
        per_class: images of each in every part, chosen by the seed; None: all.
        seed: of the choice.

    Returns:
        The absolute path of the folder.

    Raises:
        FileExistsError: if there is something of that name.
        ValueError: for an unknown class or a single one, a class that cannot be the name of a
            folder on every system (see `plot.export_examples` for these), labels that are no
            classes, or images that are neither grey nor RGB or no whole numbers.
    """
    target = expanded(folder).absolute()
    if os.path.lexists(target):
        raise FileExistsError(f"{plain(target)} exists: give the name of a new folder")
    names = class_names_of(*splits.parts.values())
    _check(splits, names, classes)
    with staged(target) as staging:
        built = staging / target.name
        for part, data in splits.parts.items():
            most = len(data) if per_class is None else per_class
            chosen = choose_examples(data.labels, names, most, seed, classes)
            for name, positions in chosen.items():
                (built / part / name).mkdir(parents=True)
                for i in np.sort(positions):
                    place = built / part / name / f"{i:05d}.png"
                    place.write_bytes(png_bytes(data.inputs[int(i)]))
        os.rename(built, target)
    return target


def _check(splits: Splits, names: Sequence[str], classes: Sequence[str] | None) -> None:
    wanted = names if classes is None else classes
    if not names:
        raise ValueError(f"{splits.train.name} has no classes that could be folders")
    if len(wanted) < 2:
        raise ValueError(
            f"classes must be two at least, got {', '.join(map(str, wanted)) or 'none'}"
        )
    known = [name for name in names if name in wanted]
    for name, folder in zip(known, folder_names(known), strict=True):
        if folder != name:
            raise ValueError(f"the class {plain(name)!r} cannot be the name of a folder")
    for part in splits.parts.values():
        check_filed(part)
