"""A convolution of a colour photo is a sum over its channels, drawn part by part.

The photo is split into its channels; each is correlated, by SciPy in float64, with its slice of one
kernel; the sum of these, plus the bias, is the output of the layer. That holds for every filter of
the layer, and one is drawn. The layer is the first of a net with random weights; or, with a file of
weights of VGG19, its block1_conv1, which takes the channels in the order blue, green, red and ends
in a ReLU.

Command:   python -m experiments.colour_channels [--photo FILE] [--weights VGG19.npz] [--out DIR]

Reported:  images, no figure.

Ours:      of the layer's largest output the sum differs by 2.3e-7, over the three filters of the
           random layer, and by 2.5e-7 over the 64 of VGG19 (two CPU cores).
"""

import warnings
from dataclasses import dataclass
from typing import Annotated

import jax.numpy as jnp
import numpy as np
import tyro
from matplotlib.figure import Figure
from scipy import signal

import cnnjax as cj
from cnnjax.cli import command
from cnnjax.core import trees
from cnnjax.core.checks import whole_number
from cnnjax.models.pretrained.fill import PartlyLoaded
from experiments._images import Gallery, ImageOptions, panels, read_photo

_COLOURS = {"red": (1, 0, 0), "green": (0, 1, 0), "blue": (0, 0, 1)}


@dataclass(frozen=True)
class Config(ImageOptions):
    """Options of the experiment."""

    weights: Annotated[str | None, tyro.conf.arg(metavar="FILE")] = None
    """Of VGG19, whose first layer is taken; one block of it is enough."""
    filter: int = 0
    """Number of the filter that is drawn."""
    size: int = 320
    """Longer side of the photo, in pixels."""


@dataclass(frozen=True)
class Layer:
    """The first layer of a net, with what it was given and what it made of it.

    Args:
        channels: names, in the order of the inputs.
        inputs: [H, W, 3].
        kernel: [h, w, 3, F].
        bias: [F].
        padding: "same" or "valid".
        rectified: whether the output is that of a ReLU.
        outputs: [H', W', F].
    """

    channels: tuple[str, ...]
    inputs: np.ndarray
    kernel: np.ndarray
    bias: np.ndarray
    padding: str
    rectified: bool
    outputs: np.ndarray


def first_layer(config: Config, photo: np.ndarray) -> Layer:
    """Of the net that the options name, applied to a photo [H, W, 3]."""
    shape = (photo.shape[0], photo.shape[1], 3)
    name, channels = "conv1", ("red", "green", "blue")
    if config.weights is None:
        model = cj.create_model("layers_walk", until=name, input_shape=shape, seed=config.seed)
    else:
        name, channels = "block1_conv1", ("blue", "green", "red")
        model = partial_vgg19(config.weights, shape)
    inputs = model.spec.preprocess(jnp.asarray(photo[None]))
    outputs = cj.explain.activations(model, inputs, [name])[name]
    parameters = trees.flatten(model.params)
    kernel, bias = (np.asarray(parameters[f"{name}/{part}"]) for part in ("kernel", "bias"))
    random = config.weights is None
    return Layer(
        channels,
        np.asarray(inputs[0]),
        kernel,
        bias,
        "valid" if random else "same",
        not random,
        np.asarray(outputs[0]),
    )


def partial_vgg19(weights: str, shape: tuple[int, int, int]) -> cj.Model:
    """With what a file has of it; the rest, which is not asked, is random."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PartlyLoaded)
        return cj.create_model(
            "vgg19", include_top=False, input_shape=shape, weights=weights, allow_partial=True
        )


def responses(layer: Layer, number: int) -> np.ndarray:
    """Of each channel to its slice of a filter's kernel, float64 [H', W', 3]."""
    planes = [
        signal.correlate2d(
            layer.inputs[..., c].astype(np.float64), layer.kernel[:, :, c, number], layer.padding
        )
        for c in range(len(layer.channels))
    ]
    return np.stack(planes, axis=-1)


def summed(layer: Layer, number: int) -> np.ndarray:
    """The responses of the channels and the bias, added: [H', W']."""
    total: np.ndarray = responses(layer, number).sum(axis=-1) + layer.bias[number]
    return np.maximum(total, 0) if layer.rectified else total


def difference(layer: Layer) -> float:
    """The largest, over all filters and places, relative to the layer's largest output."""
    filters = range(layer.outputs.shape[-1])
    most = max(np.abs(summed(layer, f) - layer.outputs[..., f]).max() for f in filters)
    return float(most / np.abs(layer.outputs).max())


def draw(photo: np.ndarray, layer: Layer, number: int) -> Figure:
    """Channels, slices and responses, a column each; at the right the whole of them."""
    kernel = layer.kernel[..., number]
    answers, total = responses(layer, number), summed(layer, number)
    tints = [_COLOURS[name] for name in layer.channels]
    places = [list(_COLOURS).index(name) for name in layer.channels]
    split = [photo[..., [p]] * np.array(t, np.uint8) for p, t in zip(places, tints, strict=True)]
    steepest = float(np.abs(kernel).max())
    rgb = kernel[..., [layer.channels.index(name) for name in _COLOURS]]
    images = [*split, photo, *(kernel[..., c] for c in range(3)), 0.5 + rgb / (2 * steepest)]
    images += [*(answers[..., c] for c in range(3)), total]
    strength = float(np.quantile(np.abs(answers), 0.99))
    limits = {4: steepest, 5: steepest, 6: steepest, 8: strength, 9: strength, 10: strength}
    limits[11] = float(np.quantile(np.abs(total), 0.99))
    end = ", then ReLU" if layer.rectified else ""
    titles = [*layer.channels, "photo"]
    titles += [f"kernel {number}, {name}" for name in layer.channels] + ["whole kernel"]
    titles += [f"response of {name}" for name in layer.channels]
    titles.append(f"sum + bias ({layer.bias[number]:+.2g}){end}\n= the layer's output")
    note = f"grey is 0; kernel from -{steepest:.2g} to {steepest:.2g}"
    return panels(images, titles, 4, width=3.0, limits=limits, title=note)


def main(config: Config) -> float:
    """Split, add up, compare, draw; returns the largest relative difference."""
    photo = read_photo(config, longest=config.size)
    layer = first_layer(config, photo)
    count = layer.outputs.shape[-1]
    number = whole_number("filter", config.filter, least=0, most=count - 1)
    gallery = Gallery(config, "colour_channels")
    gallery.add("channels", draw(photo, layer, number))
    largest = difference(layer)
    print(
        f"sum over channels plus bias against the layer's output, {count} filters: they differ by "
        f"{largest:.1e} of the largest output"
    )
    gallery.report()
    return largest


if __name__ == "__main__":
    command(main, Config, "colour_channels")
