"""Receptive fields: computed from kernels and strides, measured by gradients, drawn on a photo.

The part of the input that one output pixel of a layer sees: by the arithmetic of the layer table,
and as the extent of the gradient of the central pixel with respect to the input (in a net of the
same layers with positive weights and without anything that could hide a pixel).

Command:   python -m experiments.receptive_field [--model mobilenet --size 384] [--layers NAME ...]
           [--photo FILE] [--out DIR]

Reported:  no figure; computed and measured fields must be equal for every layer.

Ours:      equal for every layer of VGG16 (3x3 to 212x212) and MobileNet (3x3 to 315x315).
"""

from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
import tyro
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

import cnnjax as cj
from cnnjax.cli import command
from cnnjax.core.table import table
from cnnjax.explain import Box
from cnnjax.models import Model, ReceptiveField, receptive_fields
from experiments._images import Gallery, ImageOptions, panels, read_photo

SOME_LAYERS = {
    "vgg16": ("block1_conv1", "block1_pool", "block2_pool", "block3_pool", "block4_pool",
              "block5_conv3", "block5_pool"),
    "mobilenet": ("conv1", "conv_dw_2", "conv_dw_4", "conv_dw_6", "conv_dw_9", "conv_dw_12",
                  "conv_dw_13"),
}  # fmt: skip


@dataclass(frozen=True)
class Config(ImageOptions):
    """Options of the experiment."""

    model: str = "vgg16"
    """Name of a model; its weights do not matter."""
    size: int = 256
    """Height and width of the input, in pixels."""
    layers: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME ...")] = ()
    """Which layers; default: some from each depth."""


def build(config: Config) -> Model:
    """The model, without a head that knows but one size."""
    known = cj.models.BUILDERS.get(config.model)  # an unknown name gets its error below
    headless: dict[str, Any] = (
        {"include_top": False} if known and "include_top" in known.arguments else {}
    )
    channels = known.input_shape[2] if known else 3
    return cj.create_model(
        config.model, input_shape=(config.size, config.size, channels), **headless
    )


def chosen_layers(config: Config, fields: dict[str, ReceptiveField | None]) -> tuple[str, ...]:
    """Those asked for, or some of each depth."""
    if config.layers:
        return config.layers
    known = [name for name, field in fields.items() if field is not None and not field.all]
    return SOME_LAYERS.get(config.model) or tuple(known[:: max(len(known) // 7, 1)])


def measured(model: Model, layers: tuple[str, ...]) -> dict[str, Box]:
    """What the central pixel of each layer sees."""
    return {layer: cj.explain.receptive_box(model, layer) for layer in layers}


def draw_boxes(photo: np.ndarray, boxes: dict[str, Box], name: str) -> Figure:
    """The photo with the part that the central pixel of each layer sees."""
    figure = Figure((8.6, 6), dpi=120, layout="constrained")
    axes = figure.add_subplot()
    axes.imshow(photo)
    axes.set_axis_off()
    for number, (layer, box) in enumerate(boxes.items()):
        height, width = box.size
        label = f"{layer}: {height}x{width}"
        corner = (box.left - 0.5, box.top - 0.5)
        # White below, so that the colours are seen on any ground.
        axes.add_patch(Rectangle(corner, width, height, fill=False, edgecolor="white", lw=3.2))
        axes.add_patch(
            Rectangle(
                corner, width, height, fill=False, edgecolor=f"C{number}", lw=1.8, label=label
            )
        )
    axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), fontsize=8)
    axes.set_title(f"{name}: what the central pixel of a layer sees", fontsize=10)
    return figure


def draw_parts(photo: np.ndarray, boxes: dict[str, Box]) -> Figure:
    """Only what each pixel sees, each part as large as the others."""
    parts = [photo[b.top : b.bottom, b.left : b.right] for b in boxes.values()]
    titles = [f"{layer}\n{b.size[0]}x{b.size[1]}" for layer, b in boxes.items()]
    return panels(parts, titles, min(len(parts), 4), width=2.2)


def main(config: Config) -> dict[str, Box]:
    """Measure, compare, draw."""
    model = build(config)
    fields = receptive_fields(model)
    boxes = measured(model, chosen_layers(config, fields))
    photo = read_photo(config, size=(config.size, config.size))
    rows = []
    for layer, box in boxes.items():
        field = fields[layer]
        computed = field.size if field else None
        whole = box.size == (config.size, config.size)
        same = computed == ("all" if computed == "all" and whole else box.size)
        text = computed if isinstance(computed, str) else "x".join(map(str, computed or "-"))
        jump = "x".join(map(str, field.jump)) if field and not field.all else "-"
        note = "yes" if same else "cut off at the border" if _touches(box, config.size) else "no"
        rows.append([layer, text, "x".join(map(str, box.size)), jump, note])
    gallery = Gallery(config, "receptive_field")
    gallery.add("boxes", draw_boxes(photo, boxes, config.model))
    gallery.add("parts", draw_parts(photo, boxes))
    head = ("layer", "computed", "measured", "step", "equal")
    print(table([head, *rows], rules=[1]))
    gallery.report()
    return boxes


def _touches(box: Box, size: int) -> bool:
    return min(box.top, box.left) == 0 or max(box.bottom, box.right) == size


if __name__ == "__main__":
    command(main, Config, "receptive_field")
