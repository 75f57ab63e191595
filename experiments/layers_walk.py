"""A photo through the layers of a small net, every intermediate image drawn.

conv 3x3 - pool 3 - relu - conv - pool 2 - relu - conv - relu - conv - relu - flatten - dense 8 with
relu, three filters a layer, so that each map is an image. The random weights are stored once and
loaded by the layers' names into nets of one layer, two layers, and so on; each one's output is
drawn from its smallest to its largest value. (The net of convolution and pooling alone pools 2x2.)
Then ReLU is swapped for sigmoid and tanh, with the same weights; and a single convolution whose
weights are all 0.12 is drawn for kernels of 3x3, 2x2 and 24x24, which blur the more, the larger.

Command:   python -m experiments.layers_walk [--photo FILE] [--out DIR]

Reported:  images, no figure.

Ours:      the same images; the weights of every prefix are bitwise those stored.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

import cnnjax as cj
from cnnjax.cli import command
from cnnjax.core.table import table
from cnnjax.models.pretrained.fill import PartlyLoaded
from cnnjax.nn import conv2d
from cnnjax.weights import save_npz
from experiments._images import Gallery, ImageOptions, panels, read_photo, scaled

# Each prefix ends with one of these; (layer, size of the first pooling).
PREFIXES = (
    ("conv1", 3),
    ("pool1", 2),
    ("activation1", 3),
    ("conv2", 3),
    ("pool2", 3),
    ("activation2", 3),
    ("conv3", 3),
    ("activation3", 3),
    ("conv4", 3),
    ("activation4", 3),
    ("dense", 3),
)
ACTIVATIONS = ("relu", "sigmoid", "tanh")
KERNEL_SIZES = (3, 2, 24)
WEIGHT = 0.12


@dataclass(frozen=True)
class Config(ImageOptions):
    """Options of the experiment."""

    size: int = 320
    """Longer side of the photo, in pixels."""


def stored_weights(shape: tuple[int, int, int], seed: int, file: Path) -> Path:
    """Random weights of the whole net, in a file."""
    file.parent.mkdir(parents=True, exist_ok=True)
    save_npz(cj.create_model("layers_walk", input_shape=shape, seed=seed).variables, file)
    return file


def prefix(
    shape: tuple[int, int, int],
    file: Path,
    until: str,
    first_pool: int = 3,
    activation: str = "relu",
) -> cj.Model:
    """The net up to a layer, with the stored weights of the layers that it has."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PartlyLoaded)  # that the file has more layers is the point
        return cj.create_model(
            "layers_walk",
            input_shape=shape,
            until=until,
            first_pool=first_pool,
            activation=activation,
            weights=file,
            allow_partial=True,
        )


def outputs(photo: np.ndarray, file: Path, activation: str = "relu") -> dict[str, np.ndarray]:
    """{description: output of a prefix}, each [h, w, 3], or [8] at the end."""
    shape = (photo.shape[0], photo.shape[1], 3)
    found = {}
    for until, first_pool in PREFIXES:
        model = prefix(shape, file, until, first_pool, activation)
        output = np.asarray(model(model.spec.preprocess(jnp.asarray(photo[None]))))[0]
        note = " (2x2)" if first_pool == 2 else ""
        found[f"{_named(until, activation)}{note}"] = output
    return found


def _named(layer: str, activation: str) -> str:
    return layer.replace("activation", activation)


def image(output: np.ndarray) -> np.ndarray:
    """An output from its smallest to its largest value; the eight numbers as a row of squares."""
    if output.ndim == 3:
        return scaled(output)
    squares = np.full((12, 11 * len(output) + 1, 3), 0.5)  # on a grey ground
    for i, value in enumerate(scaled(output)):
        squares[1:11, 11 * i + 1 : 11 * i + 11] = value
    return squares


def draw_layers(photo: np.ndarray, found: dict[str, np.ndarray]) -> Figure:
    """The photo and every intermediate image."""
    shapes = ["x".join(map(str, output.shape)) for output in found.values()]
    titles = [f"{name}\n{shape}" for name, shape in zip(found, shapes, strict=True)]
    size = "x".join(map(str, photo.shape))
    images = [photo, *map(image, found.values())]
    return panels(images, [f"photo\n{size}", *titles], 4, width=3.2)


def draw_activations(found: dict[str, dict[str, np.ndarray]]) -> Figure:
    """The images behind each activation, a row for each function."""
    images, titles = [], []
    for name, outputs_of in found.items():
        chosen = {k: v for k, v in outputs_of.items() if k.startswith((name, "dense"))}
        images += [image(output) for output in chosen.values()]
        titles += [f"{name}: dense" if layer == "dense" else layer for layer in chosen]
    return panels(images, titles, len(images) // len(found), width=2.8)


def draw_kernel_sizes(photo: np.ndarray) -> Figure:
    """One convolution with all weights the same, for each size of its kernel."""
    inputs = jnp.asarray(photo[None], jnp.float32) / 255
    images, titles = [photo], ["photo"]
    for size in KERNEL_SIZES:
        kernel = jnp.full((size, size, 3, 3), WEIGHT, jnp.float32)
        images.append(scaled(np.asarray(conv2d(inputs, kernel))[0]))
        titles.append(f"{size}x{size}, all weights {WEIGHT}")
    return panels(images, titles, 2, width=4.2)


def rows(found: dict[str, np.ndarray]) -> list[list[Any]]:
    """Of the table."""
    return [
        [name, "x".join(map(str, x.shape)), float(x.min()), float(x.max()), float((x == 0).mean())]
        for name, x in found.items()
    ]


HEAD: Sequence[str] = ("last layer", "output", "smallest", "largest", "share of zeros")


def main(config: Config) -> dict[str, dict[str, np.ndarray]]:
    """Store the weights, load each prefix, draw; returns {activation: {layer: output}}."""
    photo = read_photo(config, longest=config.size)
    gallery = Gallery(config, "layers_walk")
    shape = (photo.shape[0], photo.shape[1], 3)
    file = stored_weights(shape, config.seed, gallery.folder / "weights.npz")
    found = {name: outputs(photo, file, name) for name in ACTIVATIONS}
    gallery.add("layers", draw_layers(photo, found["relu"]))
    gallery.add("activations", draw_activations(found))
    gallery.add("kernel_sizes", draw_kernel_sizes(photo))
    for name, results in found.items():
        print(f"\n{name}\n{table([HEAD, *rows(results)], rules=[1])}")
    gallery.report()
    return found


if __name__ == "__main__":
    command(main, Config, "layers_walk")
