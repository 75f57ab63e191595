"""Images of what filters look for, and of what a model takes for a class."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import jax.numpy as jnp
import numpy as np

from cnnjax.explain.ascent import Patterns
from cnnjax.explain.classes import find_class_patterns
from cnnjax.explain.filters import find_patterns
from cnnjax.models import Model
from cnnjax.plot import grids
from cnnjax.plot.images import save_image
from cnnjax.task import both_classes, probabilities

_ACROSS = 4  # images of classes in a row


def draw_filters(
    model: Model,
    layer: str,
    folder: str | Path,
    filters: Sequence[int] | None = None,
    size: int = 64,
    steps: int = 40,
    seed: int = 0,
    recipe: str = "classic",
) -> tuple[Patterns, Path]:
    """Patterns that excite the filters of a layer, 8 to a row, as an image and arrays.

    Writes filters_LAYER_RECIPE.png, where dead filters are crossed out, and beside it an .npz with
    `patterns` [F, size, size, C], `filters` [F] and `dead`.

    Args:
        model, layer, filters, size, steps, seed, recipe: as `explain.filter_patterns` takes them.
        folder: made if needed.

    Returns:
        (the patterns, path of the image).

    Raises:
        ValueError: as `explain.filter_patterns` does.
    """
    found = find_patterns(model, layer, filters, size, steps, seed, recipe)
    title = f"{layer}, filters {_ranges(found.numbers)}, {recipe}"
    marked = [i for i, number in enumerate(found.numbers) if number in found.dead]
    figure = grids.pattern_grid(found.images, title, marked=marked)
    arrays = {"patterns": found.images, "filters": found.numbers, "dead": np.array(found.dead, int)}
    caption = f"Patterns that excite the filters of {layer} (dead ones are crossed out)"
    return found, save_image(folder, f"filters_{layer}_{recipe}", figure, arrays, caption)


def draw_classes(
    model: Model,
    classes: Sequence[int | str],
    folder: str | Path,
    steps: int = 256,
    seed: int = 0,
    recipe: str = "fourier",
) -> tuple[Patterns, Path]:
    """Images that a model takes for classes, with the probability that it gives them.

    Writes classes_RECIPE.png, and beside it an .npz with `patterns` [K, size, size, C], `classes`
    [K], `probabilities` [K] of each class for the image as it is drawn, and `dead`.

    Args:
        model, classes, steps, seed, recipe: as `explain.class_patterns` takes them.
        folder: made if needed.

    Returns:
        (the patterns, path of the image).

    Raises:
        ValueError: as `explain.class_patterns` does.
    """
    found = find_class_patterns(model, classes, steps, seed, recipe)
    logits = model(model.spec.preprocess(jnp.asarray(255 * found.images), check=False))
    probs = both_classes(np.asarray(probabilities(logits)))
    given = np.take_along_axis(probs, np.array(found.numbers)[:, None], axis=1)[:, 0]
    titles = [
        f"{model.spec.label_name(number)} {probability:.2f}" + " (dead)" * (number in found.dead)
        for number, probability in zip(found.numbers, given, strict=True)
    ]
    figure = grids.image_grid(found.images, titles, _ACROSS)
    arrays = {
        "patterns": found.images, "classes": found.numbers, "probabilities": given,
        "dead": np.array(found.dead, int),
    }  # fmt: skip
    caption = "Images that the model takes for the class above them, with its probability"
    return found, save_image(folder, f"classes_{recipe}", figure, arrays, caption)


def _ranges(numbers: Sequence[int]) -> str:
    """`0 to 63` of neighbours, else the numbers themselves, cut short."""
    if len(numbers) > 2 and list(numbers) == list(range(numbers[0], numbers[0] + len(numbers))):
        return f"{numbers[0]} to {numbers[-1]}"
    shown = ", ".join(map(str, numbers[:16]))
    return f"{shown}, ..." if len(numbers) > 16 else shown
