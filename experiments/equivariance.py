"""Equivariance and invariance: what a moved photo does to the maps of a net, in numbers.

A convolution moves its map with the image; pooling makes small shifts harmless; both claims are
made for scale and small deformations (here turns and shears) too. For a model (the deep CIFAR-10
net with random weights, or a trained one) and parts of a photo, each layer's map of the moved
image is compared with the map moved along (equivariance) and with the map where it stood
(invariance); 1 in the figures of invariance is the change to another image.

Command:   python -m experiments.equivariance [--run RUN] [--photo FILE] [--out DIR]

Reported:  no figure; equal to rounding away from the border for convolution.

Ours:      cifar_deep with random weights: a shift by the product of the strides before a layer
           moves its map to 2e-7 of its size, any other shift leaves 5 % behind a pooling; scales
           from 0.8 to 1.25, turns and shears up to 20 degrees leave 1 to 9 %. A shift of 1 pixel
           changes the maps of conv1 by 13 % of the change to another image, pooled 2x2, 4x4 and
           8x8 by 10, 9 and 8 %; from 4 pixels on only the largest pooling still helps.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from matplotlib.figure import Figure

import cnnjax as cj
from cnnjax.cli import command
from cnnjax.core.table import table
from cnnjax.data import resize_image
from cnnjax.explain import Change, Move, activations, equivariance
from cnnjax.nn import max_pool
from experiments._images import Gallery, ImageOptions, panels, read_photo, scaled

SHIFTS = (1, 2, 3, 4, 5, 6, 7, 8)
SCALES = (0.8, 0.9, 0.95, 1.05, 1.1, 1.25)
TURNS = (1, 2, 5, 10, 20)
SHEARS = (1, 2, 5, 10, 20)
POOLS = (1, 2, 4, 8)


@dataclass(frozen=True)
class Config(ImageOptions):
    """Options of the experiment."""

    run: Annotated[str | None, tyro.conf.arg(metavar="DIR")] = None
    """A run directory or saved model; default: cifar_deep with random weights."""
    size: int = 128
    """Height and width of the inputs for the random model."""
    layers: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME ...")] = ()
    """Which layers; default: those with weights and the poolings."""


def build(config: Config) -> cj.Model:
    """The model that is examined."""
    if config.run:
        return cj.load(config.run)
    return cj.create_model(
        "cifar_deep", input_shape=(config.size, config.size, 3), seed=config.seed
    )


def parts_of(photo: np.ndarray, model: cj.Model, count: int = 6) -> jax.Array:
    """Inputs from different parts of a photo, in two rows: [N, H, W, C], preprocessed."""
    height, width, channels = model.spec.input_shape
    side = min(photo.shape[0] // 2, photo.shape[1] // (count // 2))
    drawn = []
    for i in range(count):
        top = (i % 2) * (photo.shape[0] - side)
        left = (i // 2) * (photo.shape[1] - side) // max(count // 2 - 1, 1)
        drawn.append(resize_image(photo[top : top + side, left : left + side], (height, width)))
    pixels = np.stack(drawn)
    if channels == 1:
        pixels = pixels.mean(axis=-1, keepdims=True).astype(np.uint8)
    return model.spec.preprocess(jnp.asarray(pixels))


def chosen_layers(config: Config, model: cj.Model) -> tuple[str, ...]:
    """Those asked for; else all with weights, and poolings."""
    if config.layers:
        return config.layers
    rows = cj.summary(model).rows
    return tuple(row.name for row in rows if row.parameters or "Pooling" in row.kind)


def measured(
    model: cj.Model, images: jax.Array, layers: Sequence[str], moves: dict[str, Move]
) -> dict[str, dict[str, Change]]:
    """{move: {layer: change}}."""
    return {name: equivariance(model, images, move, layers) for name, move in moves.items()}


def to_another(model: cj.Model, images: jax.Array, layers: Sequence[str]) -> dict[str, float]:
    """Relative change of each layer's output to that for another image."""
    outputs = activations(model, images, layers)
    return {name: change(x, jnp.roll(x, 1, axis=0)) for name, x in outputs.items()}


def change(before: jax.Array, after: jax.Array) -> float:
    """||after - before|| / ||before||."""
    norm = jnp.linalg.norm
    return float(norm(jnp.ravel(after - before)) / norm(jnp.ravel(before)))


def pooled_changes(model: cj.Model, images: jax.Array, layer: str) -> dict[str, list[float]]:
    """For each size of max pooling behind a layer: change by shift, as a share of that to another.

    The same maps are pooled in windows of 1 (none), 2, 4 and 8 pixels.
    """
    before = activations(model, images, [layer])[layer]
    margin = max(SHIFTS) + 8
    inner = slice(margin, -margin or None)

    def pooled(maps: jax.Array, size: int) -> jax.Array:
        maps = maps[:, inner, inner]
        return max_pool(maps, size) if size > 1 else maps

    moved = {s: activations(model, Move(right=s)(images), [layer])[layer] for s in SHIFTS}
    found = {}
    for size in POOLS:
        maps = pooled(before, size)
        whole = change(maps, jnp.roll(maps, 1, axis=0))
        changes = [change(maps, pooled(moved[s], size)) / whole for s in SHIFTS]
        found[f"max pooling {size}x{size}" if size > 1 else "no pooling"] = changes
    return found


def draw_translation(model: cj.Model, images: jax.Array, layer: str, shift: int) -> Figure:
    """An image and a map of it, before and after a shift."""
    move = Move(down=shift, right=shift)
    moved = move(images[:1])
    pair = [activations(model, x, [layer])[layer][0] for x in (images[:1], moved)]
    best = int(jnp.var(pair[0], axis=(0, 1)).argmax())
    before, after = (np.asarray(x[..., best]) for x in pair)
    found = equivariance(model, images, move, [layer])[layer]
    drawn = [scaled(np.asarray(images[0])), scaled(np.asarray(moved[0])), before, after]
    titles = [
        "image",
        f"moved by {shift} pixels",
        f"{layer}, map {best}",
        f"of the moved image; the map\nmoved along differs by {found.equivariance:.1g}",
    ]
    drawn = [p[..., 0] if p.ndim == 3 and p.shape[-1] == 1 else p for p in drawn]
    return panels(drawn, titles, 4, width=2.8)


def draw_shifts(
    changes: dict[str, dict[str, Change]],
    other: dict[str, float],
    pooled: dict[str, list[float]],
    layer: str,
) -> Figure:
    """How the maps change where they stand, against the shift."""
    figure = Figure((11, 4.4), dpi=120, layout="constrained")
    left: Any = figure.add_subplot(1, 2, 1)
    for number, name in enumerate(other):
        shares = [row[name].invariance / other[name] for row in changes.values()]
        left.plot(SHIFTS, shares, ".-", color=_shade(number, len(other)), label=name)
    left.set(title="each layer", xlabel="shift (pixels)", ylabel="change / change to another image")
    right: Any = figure.add_subplot(1, 2, 2)
    for number, (name, shares) in enumerate(pooled.items()):
        right.plot(SHIFTS, shares, ".-", color=_shade(number, len(pooled)), label=name)
    right.set(title=f"maps of {layer}, pooled", xlabel="shift (pixels)")
    for axes in (left, right):
        axes.grid(alpha=0.3)
        axes.set_ylim(bottom=0)
        axes.legend(fontsize=8)
    return figure


def draw_deformations(changes: dict[str, dict[str, Change]], other: dict[str, float]) -> Figure:
    """What scale, turns and shears do: with the map moved along, and where it stands."""
    figure = Figure((14, 8), dpi=120, layout="constrained")
    groups: dict[str, dict[float, str]] = {
        "scale": {s: f"scale {s:g}" for s in SCALES},
        "turn (degrees)": {d: f"turn {d}" for d in TURNS},
        "shear (degrees)": {d: f"shear {d}" for d in SHEARS},
    }
    for row, kind in enumerate(("equivariance", "invariance")):
        first: Any = None
        for column, (title, names) in enumerate(groups.items()):
            axes: Any = figure.add_subplot(2, 3, 3 * row + column + 1, sharey=first)
            first = first or axes
            for number, layer in enumerate(other):
                values = [getattr(changes[name][layer], kind) for name in names.values()]
                if kind == "invariance":
                    values = [v / other[layer] for v in values]
                if not all(np.isnan(values)):
                    color = _shade(number, len(other))
                    axes.plot(list(names), values, ".-", color=color, label=layer)
            ylabel = {
                "equivariance": "map moved along: relative difference",
                "invariance": "where it stands: change / change to another",
            }[kind]
            axes.set(xlabel=title, ylabel=ylabel if column == 0 else "")
            axes.grid(alpha=0.3)
        first.set_ylim(bottom=0)  # not before all are drawn: it ends the scaling of the row
        axes.legend(fontsize=8, loc="center left", bbox_to_anchor=(1.01, 0.5))
    return figure


def _shade(number: int, count: int) -> Any:
    import matplotlib

    return matplotlib.colormaps["viridis"](0.9 * number / max(count - 1, 1))


def rows_of(changes: dict[str, dict[str, Change]], kind: str) -> list[list[Any]]:
    """Of a table: a row a move, a column a layer."""
    return [[move, *(getattr(c, kind) for c in row.values())] for move, row in changes.items()]


def main(config: Config) -> dict[str, dict[str, Change]]:
    """Measure, draw, print."""
    model = build(config)
    images = parts_of(read_photo(config), model)
    layers = chosen_layers(config, model)
    shifts = measured(model, images, layers, {f"shift {s}": Move(right=s) for s in SHIFTS})
    others = measured(
        model,
        images,
        layers,
        {
            **{f"scale {s:g}": Move(scale=s) for s in SCALES},
            **{f"turn {d}": Move(degrees=d) for d in TURNS},
            **{f"shear {d}": Move(shear=d) for d in SHEARS},
        },
    )
    other = to_another(model, images, layers)
    first = layers[0]
    pooled = pooled_changes(model, images, first)
    gallery = Gallery(config, "equivariance")
    gallery.add("translation", draw_translation(model, images, first, max(SHIFTS)))
    gallery.add("shifts", draw_shifts(shifts, other, pooled, first))
    gallery.add("deformations", draw_deformations(others, other))
    changes = {**shifts, **others}
    head = ("", *next(iter(changes.values())))
    print("equivariance: the map of the moved image against the map moved along, relative\n")
    print(table([head, *rows_of(changes, "equivariance")], rules=[1]))
    print("\ninvariance: against the map where it stood, relative\n")
    invariance = [*rows_of(changes, "invariance"), ["another image", *other.values()]]
    print(table([head, *invariance], rules=[1]))
    print(f"\nmax pooling of {first}: change by a shift / change to another image\n")
    rows = [[name, *values] for name, values in pooled.items()]
    print(table([["", *SHIFTS], *rows], rules=[1]))
    gallery.report()
    return changes


if __name__ == "__main__":
    command(main, Config, "equivariance")
