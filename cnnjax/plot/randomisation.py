"""Whether heatmaps of photos mean anything, as images, arrays and a text of tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from jax import Array

from cnnjax import explain
from cnnjax.core.table import table
from cnnjax.models import Model
from cnnjax.plot import figures, grids
from cnnjax.plot.images import read_photos, save_image
from cnnjax.plot.overlays import drawn, placed


def draw_sanity(
    model: Model,
    files: Sequence[str | Path],
    folder: str | Path,
    maps: Mapping[str, np.ndarray],
    layer: str | None = None,
    target: int | str | None = None,
    groups: int = 8,
) -> tuple[list[Path], str]:
    """Randomisation of weights, deletion and insertion, for photos and their heatmaps.

    Args:
        model: with trained weights.
        files: images.
        folder: where randomisation.png (maps of the first photo), randomisation_curves.png and
            faithfulness.png are written, each with its .npz.
        maps: {method: heatmaps [N, H, W]} of `draw_methods`; those that are `randomised` (or
            if none is, all) are computed again with random weights.
        layer, target: as in `explain.grad_cam`.
        groups: of layers, as in `explain.randomisation`.

    Returns:
        Paths of the images; the tables.
    """
    photos = read_photos(model, files)
    names = [name for name in maps if explain.METHODS[name].randomised] or list(maps)
    methods = explain.methods_at(layer, names)
    cascading, independent = (
        explain.randomisation(model, photos.inputs, methods, target, kind, groups)
        for kind in ("cascading", "independent")
    )
    images = [
        drawn(name, photos.pixels[0], step[0])
        for name, steps in zip(names, cascading.heatmaps, strict=True)
        for step in steps
    ]
    titles = ["trained", *cascading.groups]
    labels = [name.replace("_", " ") for name in names]
    found = [
        save_image(
            folder, "randomisation",
            grids.image_grid(images, titles, len(titles), labels=labels),
            {name: steps[:, 0] for name, steps in zip(names, cascading.heatmaps, strict=True)},
            f"{photos.names[0]}: the same maps while the weights are randomised from the top down; "
            "a method that explains the model loses its image",
        )
    ]  # fmt: skip
    panels = {
        f"{r.kind}": dict(zip(labels, r.rank_correlation, strict=True))
        for r in (cascading, independent)
    }
    numbers = {
        f"{r.kind}_{measure}": getattr(r, measure)
        for r in (cascading, independent)
        for measure in ("rank_correlation", "ssim")
    }
    figure = figures.line_panels(
        panels, "randomised, from the top", "rank correlation", cascading.groups
    )
    caption = "How alike maps remain while weights are randomised (rank correlation, 1 is the same)"
    found.append(save_image(folder, "randomisation_curves", figure, numbers, caption))
    image, table = _faithfulness(model, photos.inputs, folder, maps, target)
    return [*found, image], "\n\n".join([str(cascading), str(independent), table])


def _faithfulness(
    model: Model,
    inputs: Array,
    folder: str | Path,
    maps: Mapping[str, np.ndarray],
    target: int | str | None,
) -> tuple[Path, str]:
    """Curves and a table of areas, beside those of an order by chance."""
    chance = np.random.default_rng(0).random((len(inputs), *inputs.shape[1:3]), np.float32)
    everyone = {**maps, "at random": chance}
    deleted = {name: explain.deletion(model, inputs, m, target) for name, m in everyone.items()}
    inserted = {name: explain.insertion(model, inputs, m, target) for name, m in everyone.items()}
    panels = {
        title: {name.replace("_", " "): c.probabilities.mean(0) for name, c in curves.items()}
        for title, curves in (("deletion", deleted), ("insertion", inserted))
    }
    fractions = next(iter(deleted.values())).fractions
    figure = figures.line_panels(
        panels, "share of the pixels", "probability of the class", fractions
    )
    rows = [("", "deletion", "insertion")]
    rows += [
        (name, f"{deleted[name].areas.mean():.3f}", f"{inserted[name].areas.mean():.3f}")
        for name in everyone
    ]
    title = (
        "areas under the curves, means over the images (deletion: less is better; insertion: more)"
    )
    arrays = {
        f"{kind}_{name.replace(' ', '_')}": curve.probabilities
        for kind, curves in (("deletion", deleted), ("insertion", inserted))
        for name, curve in curves.items()
    }
    covers = {curve.fill for curve in deleted.values()} | {c.fill for c in inserted.values()}
    caption = (
        "The class's probability as the hottest pixels are covered, and as they are shown "
        f"({', '.join(sorted(covers))})"
    )
    arrays["fractions"] = fractions
    image = save_image(folder, "faithfulness", figure, arrays, caption)
    return image, f"{title}\n{table(rows)}"


def pointing_table(
    model: Model,
    file: str | Path,
    boxes: Sequence[tuple[int | str, Sequence[int]]],
    layer: str | None = None,
    methods: Sequence[str] | None = None,
) -> str:
    """The pointing game on one photo with boxes around objects of several classes.

    Args:
        model: with a head.
        file: an image.
        boxes: (class, (x0, y0, x1, y1)) in the photo's pixels.
        layer, methods: as in `draw_methods`.

    Returns:
        A table: per method and box, whether the hottest place hits it, as `pointing_game` says, and
        the share of the heat that lies in it, beside the box's share of the photo.

    Raises:
        ValueError: for an unknown class, or a box outside the photo.
    """
    photos = read_photos(model, [file])
    size = photos.originals[0].shape[:2]
    rows = []
    for name, method in explain.methods_at(layer, methods).items():
        for target, box in boxes:
            heat = np.asarray(method(model, photos.inputs, target))[0]
            whole = np.nan_to_num(placed(heat, size, model.spec.resize))[None]
            found = explain.pointing_game(whole, [box])
            verdict = "hit" if found.hits[0] else "miss"
            share = f"{found.shares[0]:.2f} ({found.chances[0]:.2f})"
            rows.append((name, target, verdict, share))
    return (
        "pointing game: hottest place within 15 pixels of the box?, share of the heat in it, "
        f"(share of the image)\n{table(rows, '<')}"
    )
